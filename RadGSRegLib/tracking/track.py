"""A run of fluoroscopy to the bone's pose in every frame."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..cases import Run, TrackedFrame
from ..errors import InputError
from ..geometry import Array, Rigid
from ..registration import (
    RegistrationOptions,
    Scene,
    error_parts_mm,
    expected_error_mm,
    fitted,
    scaled,
    scene_of,
    sight_ct,
    with_depth_variance,
)
from ..system import Progress, one_torch_thread
from ..views import ViewFilter
from . import bounds
from .anchor import Anchor, find_anchor
from .fitting import Fit, Frames, scores_of, signs_of
from .following import Follower, Measured, Reference, evidence_of
from .motion import Agility, MotionModel, Moving, agility_of
from .types import Track, TrackOptions, rank_of


def track_case(
    run: Run,
    start_ct_to_world: ArrayLike | None = None,
    options: TrackOptions | None = None,
    progress: Progress | None = None,
    filters: Sequence[ViewFilter] = (),
    device: torch.device | str = "cpu",
) -> Track:
    """Find the pose of the case's bone in every frame of a run.

    The first frame that shows something is registered by itself, from clicks or a start; where that
    is not `ok`, others are. From there each frame is refined from where the motion leads and from
    the last pose, forwards and backwards. A bone that is lost is searched for again, and judged in
    full. All poses that are `ok` are smoothed together (math.md 7).

    Args:
        run: CT, labels, and X-rays in frames (`cases.read_run`).
        start_ct_to_world: (4, 4), an approximate pose in the first frame.
        options: None: the defaults.
        progress: told of the share done; may cancel.
        filters: what makes the X-rays better first.
        device: where to compute all but what is taken out of the CT.

    Returns:
        A pose, a status and a covariance for every frame, and the smoothed trajectory.

    Raises:
        InputError: where there is nothing to start from, or no frame shows anything.
        Cancelled: when ``progress`` says so.

    Example:
        >>> from dataclasses import replace
        >>> from RadGSRegLib.cases import run_of
        >>> from RadGSRegLib.registration import registration_options
        >>> from RadGSRegLib.tracking import TrackOptions, track_case
        >>> still = [[view.pixels for view in case.views]] * 3
        >>> near = replace(registration_options("fast"), rotation_range_deg=12.5)
        >>> track = track_case(run_of(case, still), options=TrackOptions(near))
        >>> [frame.status for frame in track.frames]
        ['ok', 'ok', 'ok']
    """
    began = time.perf_counter()
    asked, report = options or TrackOptions(), progress or Progress()
    frames = _asked(run, asked)
    start = None if start_ct_to_world is None else np.asarray(start_ct_to_world, dtype=float)
    with one_torch_thread():
        given = fitted(asked.registration, run.case)
        anchor = find_anchor(run, frames, start, given, report.part(0.0, 0.15), filters, device)
        way = _Way(run, frames, anchor, scaled(given), filters, device)
        measured = way.walked(report.part(0.15, 0.97))
        report(0.97, "smoothing the trajectory")
        measured = _without_jumps(measured, frames, way.centre_ct)
        smoothed = _smoothed(measured, frames, way.times, way.centre_ct)
        tracked = tuple(
            way.told(frame, measured[frame], smoothed[number])
            for number, frame in enumerate(frames)
        )
    total = time.perf_counter() - began
    return Track(
        case=run.case,
        frames=tracked,
        centre_ct=way.centre_ct,
        anchor=anchor.frame,
        timing_s={
            "register": anchor.seconds,
            "follow": total - anchor.seconds,
            "total": total,
        },
        parameters={
            **run.case.to_parameters(),
            "first": frames[0],
            "last": frames[-1],
            "registration": asdict(given),
        },
        seed=given.seed,
    )


def _asked(run: Run, options: TrackOptions) -> list[int]:
    last = run.frames - 1 if options.last is None else options.last
    if not 0 <= options.first <= last < run.frames:
        raise InputError(
            "--frames",
            f"asks for frames {options.first} to {last}, and the run has 0 to {run.frames - 1}",
        )
    return list(range(options.first, last + 1))


class _Way:
    """The frames of a run, followed both ways from the one that was registered."""

    def __init__(
        self,
        run: Run,
        frames: list[int],
        anchor: Anchor,
        options: RegistrationOptions,
        filters: Sequence[ViewFilter],
        device: torch.device | str,
    ) -> None:
        self._run, self._frames, self._anchor = run, frames, anchor
        case = replace(run.case, views=run.views(anchor.frame))
        self._scene: Scene = scene_of(case, options, filters, device)
        signs = signs_of(anchor.registration)
        self.centre_ct = anchor.registration.centre_ct
        self.times = times_in_frames(run)
        pictures = Frames(run, self._scene, signs, filters)
        self._follower = Follower(pictures, self.times, self.centre_ct, signs, options)
        self._one_plane = len(case.views) < 2

    def walked(self, progress: Progress) -> dict[int, Measured]:
        """What every frame says by itself."""
        anchor, frames = self._anchor, self._frames
        registration = anchor.registration
        here = frames.index(anchor.frame)
        if registration.status == "failed":
            return {
                frame: Measured(
                    "failed", f"no frame could be registered: {registration.reason}", "not found"
                )
                for frame in frames
            }
        assert registration.arrangement is not None
        fit = Fit(registration, registration.arrangement)
        reference = Reference.of(registration)
        first = Measured(registration.status, registration.reason, "registered", fit, in_full=True)
        measured = {anchor.frame: first}
        ahead, back = frames[here + 1 :], frames[:here][::-1]
        share = len(ahead) / max(len(frames) - 1, 1)
        if ahead:
            part = progress.part(0.0, 0.9 * share)
            measured |= self._follower.follow(anchor.frame, fit, reference, ahead, part)
        if back:
            part = progress.part(0.9 * share, 0.9)
            measured |= self._follower.follow(anchor.frame, fit, reference, back, part)
        self._fill(measured, progress.part(0.9, 1.0))
        return measured

    def _fill(self, measured: dict[int, Measured], progress: Progress) -> None:
        """Follow from believed frames into frames beside them that are not, the other way round."""
        for step in (-1, 1):
            for frame in list(measured):
                known = measured[frame]
                path = []
                beside = frame + step
                while beside in measured and self._may_gain(measured[beside]):
                    path.append(beside)
                    beside += step
                if known.status != "ok" or known.fit is None or not path:
                    continue
                reference = Reference.of(known.fit.registration)
                again = self._follower.follow(
                    frame, known.fit, reference, path, progress.part(0.5, 0.5), search=False
                )
                for other, new in again.items():
                    if rank_of(new.status) > rank_of(measured[other].status):
                        measured[other] = new

    @staticmethod
    def _may_gain(known: Measured) -> bool:
        return known.status != "ok" and known.found != "no picture"

    def told(self, frame: int, known: Measured, smoothed: Moving) -> TrackedFrame:
        """What is said of a frame."""
        run = self._run
        out = TrackedFrame(
            index=frame,
            time_s=None if run.times_s is None else run.times_s[frame],
            status=known.status,
            reason=known.reason,
            found=known.found,
            ct_to_world=None,
            covariance=None,
            smoothed_ct_to_world=smoothed.ct_to_world,
            smoothed_covariance=smoothed.pose_covariance,
            smoothed_error_mm=self._expected_mm(smoothed.pose_covariance),
        )
        if known.fit is not None:
            registration = known.fit.registration
            out = replace(
                out,
                ct_to_world=registration.ct_to_world,
                covariance=registration.covariance,
                scores=scores_of(registration),
                expected_error_mm=float(registration.quality["expected_error_mm"]),
                evidence=evidence_of(known),
            )
        return self._of_one_plane(out) if self._one_plane else out

    def _of_one_plane(self, frame: TrackedFrame) -> TrackedFrame:
        """A frame with what one plane leaves open; it is never `ok`."""
        (view,) = self._run.case.views
        spread = with_depth_variance(
            frame.smoothed_covariance,
            sight_ct(view.camera, frame.smoothed_ct_to_world, self.centre_ct),
            bounds.OPEN_DEPTH_MM**2,
        )
        frame = replace(
            frame, smoothed_covariance=spread, smoothed_error_mm=self._expected_mm(spread)
        )
        if frame.ct_to_world is None or frame.covariance is None:
            return frame
        along_ct = sight_ct(view.camera, frame.ct_to_world, self.centre_ct)
        covariance = with_depth_variance(frame.covariance, along_ct, bounds.OPEN_DEPTH_MM**2)
        parts = error_parts_mm(covariance, self._points_from_centre, along_ct)
        if frame.status == "ok":
            reason = (
                "one plane alone does not hold the depth, which stays near where the start put it: "
                f"expected {parts['in_plane_error_mm']:.2f} mm across the line of sight and "
                f"{parts['depth_error_mm']:.0f} mm along it"
            )
            frame = replace(frame, status="uncertain", reason=reason)
        return replace(
            frame,
            covariance=covariance,
            expected_error_mm=self._expected_mm(covariance),
            evidence={**frame.evidence, **parts},
        )

    @property
    def _points_from_centre(self) -> Array:
        return np.asarray(self._scene.bodies.surface_points_ct - self.centre_ct)

    def _expected_mm(self, covariance: Array) -> float:
        return expected_error_mm(covariance, self._scene.bodies.surface_points_ct, self.centre_ct)


def times_in_frames(run: Run) -> list[float]:
    """When frames were taken, in units of the usual time from one to the next."""
    if run.times_s is None:
        return [float(n) for n in range(run.frames)]
    times = np.asarray(run.times_s)
    return [float(t) for t in (times - times[0]) / np.median(np.diff(times))]


def _without_jumps(
    measured: Mapping[int, Measured], frames: Sequence[int], centre_ct: Array
) -> dict[int, Measured]:
    """Doubt a pose that lies far from the middle of those before and after it, farther than is
    usual in this run."""
    out = dict(measured)
    apart: dict[int, float] = {}
    for frame in frames[1:-1]:
        three = [measured[frame + n] for n in (-1, 0, 1)]
        if any(m.status != "ok" or m.fit is None for m in three):
            continue
        at = [Rigid(m.fit.registration.ct_to_world).apply(centre_ct) for m in three if m.fit]
        apart[frame] = float(np.linalg.norm(at[1] - 0.5 * (at[0] + at[2])))
    usual = float(np.median(list(apart.values()))) if apart else 0.0
    for frame, mm in apart.items():
        if mm > max(bounds.JUMP_MM, bounds.JUMP_TIMES * usual):
            reason = (
                f"the pose jumps: it is {mm:.1f} mm from the middle of those before and after it, "
                f"others {usual:.1f} mm"
            )
            out[frame] = replace(measured[frame], status="uncertain", reason=reason)
    return out


def _smoothed(
    measured: Mapping[int, Measured],
    frames: Sequence[int],
    times: Sequence[float],
    centre_ct: Array,
) -> list[Moving]:
    """The motion through all frames that are `ok`, near those that are uncertain where these lie
    where it leads; where none is `ok`, through those that there are."""
    known: dict[str, dict[int, tuple[Array, Array]]] = {"ok": {}, "uncertain": {}}
    for number, frame in enumerate(frames):
        fit = measured[frame].fit
        if fit is not None:  # no frame that failed has one
            pose = fit.registration.ct_to_world, fit.registration.covariance
            known[measured[frame].status][number] = pose
    at = [times[frame] for frame in frames]
    poses = known["ok"] or known["uncertain"]
    if not poses:
        nowhere = np.diag([np.pi**2] * 3 + [1e6] * 3)
        still = np.zeros((12, 12))
        still[:6, :6] = nowhere
        return [Moving(np.eye(4), np.zeros(6), still) for _ in frames]
    agility = agility_of(at, {n: pose for n, (pose, _) in poses.items()}, centre_ct)
    model = MotionModel(centre_ct, agility or Agility.usual())
    doubtful = known["uncertain"] if known["ok"] else {}
    wide = np.diag(
        [np.radians(bounds.DOUBTFUL_DEG) ** 2] * 3 + [bounds.DOUBTFUL_MM**2] * 3,
    )
    loosely = {number: (pose, own + wide) for number, (pose, own) in doubtful.items()}
    return model.smoothed(at, poses, loosely)
