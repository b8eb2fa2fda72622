"""Frames of a run against their truth, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..cases import TrackedFrame
from ..geometry import Array
from ..measures import (
    SUBMILLIMETRE_MM,
    drift_mm,
    in_plane_and_depth_mm,
    is_silent_failure,
    mtre,
    success_rate,
)
from ..tracking import Track
from .measure import number
from .truth import FrameTruth, Truth


@dataclass(frozen=True)
class FrameRow:
    """A frame of a run against its truth, mm. ``mtre_mm`` and ``expected_mm`` are of the pose as
    measured, None where there is none, the smoothed ones of the run's motion; ``blank``: the truth
    says that the frame shows nothing. The
    last four are of runs of one view: see `Row`."""

    run: str
    frame: int
    status: str
    found: str
    blank: bool
    mtre_mm: float | None = None
    expected_mm: float | None = None
    smoothed_mm: float | None = None
    smoothed_expected_mm: float | None = None
    score: float | None = None
    reason: str = ""
    in_plane_error_mm: float | None = None
    depth_error_mm: float | None = None
    expected_in_plane_mm: float | None = None
    expected_depth_mm: float | None = None

    @property
    def is_silent_failure(self) -> bool:
        """Whether the frame is `ok` and should not be."""
        wrong = is_silent_failure(self.status, number(self.mtre_mm))
        return wrong or (self.blank and self.status == "ok")


@dataclass(frozen=True)
class TrackFigures:
    """What came of a run, or of several; see docs/evaluation.md for every number. Shares and
    errors are over frames with a picture; None where nothing was measured. ``problem``: why
    the run was refused."""

    frames: int
    shown: int
    ok: int
    smsr: float | None
    median_mm: float | None
    p95_mm: float | None
    largest_mm: float | None
    smoothed_median_mm: float | None
    smoothed_p95_mm: float | None
    smoothed_largest_mm: float | None
    drift_mm: float | None
    within_twice_expected: float | None
    silent_failures: int
    frames_per_s: float | None
    name: str = ""
    realism: str = ""
    problem: str = ""


def frame_rows(track: Track, truth: Truth, points_ct: Array, name: str = "") -> list[FrameRow]:
    """Hold every frame that was followed against the truth, on points (N, 3) of the surface."""
    rows = []
    for frame in track.frames:
        known = truth.frames[frame.index]
        measured = frame.ct_to_world
        rows.append(
            FrameRow(
                run=name,
                frame=frame.index,
                status=frame.status,
                found=frame.found,
                blank=known.blank,
                mtre_mm=None if measured is None else mtre(points_ct, measured, known.ct_to_world),
                expected_mm=frame.expected_error_mm,
                smoothed_mm=mtre(points_ct, frame.smoothed_ct_to_world, known.ct_to_world),
                smoothed_expected_mm=frame.smoothed_error_mm,
                score=min(frame.scores.values(), default=None),
                reason=frame.reason,
                **_parts(track, frame, known, points_ct),
            )
        )
    return rows


def _parts(
    track: Track, frame: TrackedFrame, known: FrameTruth, points_ct: Array
) -> dict[str, float | None]:
    """The errors across and along the line of sight of the only view, and those expected."""
    if len(track.case.views) != 1 or frame.ct_to_world is None:
        return {}
    across, along = in_plane_and_depth_mm(
        points_ct, frame.ct_to_world, known.ct_to_world, track.case.views[0].camera.source_world
    )
    return {
        "in_plane_error_mm": across,
        "depth_error_mm": along,
        "expected_in_plane_mm": frame.evidence.get("in_plane_error_mm"),
        "expected_depth_mm": frame.evidence.get("depth_error_mm"),
    }


def track_drift_mm(track: Track, truth: Truth, points_ct: Array) -> float:
    """Return `measures.drift_mm` of the poses as measured."""
    known = [(f.ct_to_world, f.index) for f in track.frames if f.ct_to_world is not None]
    true = [truth.frames[index].ct_to_world for _, index in known]
    return drift_mm(points_ct, [pose for pose, _ in known], true)


def track_figures(
    rows: Sequence[FrameRow], drift: float | None, seconds: float | None
) -> TrackFigures:
    """Sum up frames; ``drift`` (mm) and ``seconds`` are those of all of them."""
    shown = [row for row in rows if not row.blank]
    sure = [row for row in shown if row.status == "ok" and row.expected_mm is not None]
    within = [number(row.mtre_mm) <= 2.0 * number(row.expected_mm) for row in sure]
    errors = [number(row.mtre_mm) for row in shown]
    measured = _spread([row.mtre_mm for row in shown])
    smoothed = _spread([row.smoothed_mm for row in shown])
    return TrackFigures(
        frames=len(rows),
        shown=len(shown),
        ok=sum(row.status == "ok" for row in shown),
        smsr=success_rate(errors, SUBMILLIMETRE_MM) if errors else None,
        median_mm=measured[0],
        p95_mm=measured[1],
        largest_mm=measured[2],
        smoothed_median_mm=smoothed[0],
        smoothed_p95_mm=smoothed[1],
        smoothed_largest_mm=smoothed[2],
        drift_mm=drift if drift is not None and np.isfinite(drift) else None,
        within_twice_expected=float(np.mean(within)) if within else None,
        silent_failures=sum(row.is_silent_failure for row in rows),
        frames_per_s=len(rows) / seconds if seconds else None,
    )


def _spread(values: Sequence[float | None]) -> tuple[float | None, float | None, float | None]:
    """Median, 95 % and largest of the values that there are."""
    there = [value for value in values if value is not None]
    if not there:
        return None, None, None
    return float(np.median(there)), float(np.quantile(there, 0.95)), float(max(there))
