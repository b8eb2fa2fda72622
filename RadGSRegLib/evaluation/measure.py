"""One method's answer against the truth of its case."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..cases import Case
from ..geometry import Array, Volume, transform_points
from ..measures import (
    centre_error_mm,
    in_plane_and_depth_mm,
    is_false_alarm,
    is_silent_failure,
    mtre,
    reconstruction_quality,
    resample,
    rotation_error_deg,
    target_points,
)
from ..methods import Answer, Task
from .truth import Truth

POINTS = 2000
LEAST_POINTS = 1000
_GRID_MM = 1.0
_MARGIN_MM = 8.0


@dataclass(frozen=True)
class Row:
    """One run of one method on one case. Lengths in mm, angles in degrees, time in seconds.

    ``start`` is the kind of start; ``run`` 0 is from the case's own, others from drawn ones, and
    ``start_mtre_mm`` its error. ``status``, ``expected_error_mm`` and ``score`` are the method's
    own judgement with ``reason``, where it has one; ``problem`` is the sentence why it has refused.
    None: not asked for, or not answered. ``is_warm`` is False for the first run of a method, whose
    time holds one-off work. ``ssim`` and ``psnr_db`` are those of the reconstruction against the CT
    at its true pose. ``vertebra``: which it is, where several are registered together;
    ``left_out``: it was not registered, as an X-ray does not show it. Of one view alone also
    `measures.in_plane_and_depth_mm`, and what the method expects of both.
    """

    case: str
    realism: str
    method: str
    start: str = "center"
    run: int = 0
    start_mtre_mm: float | None = None
    is_warm: bool = True
    status: str = ""
    reason: str = ""
    problem: str = ""
    mtre_mm: float | None = None
    rotation_error_deg: float | None = None
    centre_error_mm: float | None = None
    expected_error_mm: float | None = None
    in_plane_error_mm: float | None = None
    depth_error_mm: float | None = None
    expected_in_plane_mm: float | None = None
    expected_depth_mm: float | None = None
    score: float | None = None
    registration_s: float | None = None
    reconstruction_s: float | None = None
    ssim: float | None = None
    psnr_db: float | None = None
    vertebra: str = ""
    left_out: bool = False

    @property
    def is_silent_failure(self) -> bool:
        """See `measures.is_silent_failure`; a pose that is not there is off."""
        return is_silent_failure(self.status, number(self.mtre_mm))

    @property
    def is_false_alarm(self) -> bool:
        """See `measures.is_false_alarm`."""
        return is_false_alarm(self.status, number(self.mtre_mm))

    def cells(self) -> dict[str, Any]:
        """List every column that a table may have, by its name in files."""
        return {
            **asdict(self),
            "level": self.realism,
            "time_s": self.registration_s,
            "silent_failure": self.is_silent_failure,
            "false_alarm": self.is_false_alarm,
        }


class Yardstick:
    """What answers about one case are held against.

    ``one_grid``: whether reconstructions are put on one grid of 1 mm before they are compared, as
    different methods need (SSIM and PSNR depend on the voxel's size), or stay on their own.
    """

    def __init__(self, case: Case, truth: Truth, *, one_grid: bool = True) -> None:
        self.case = case
        self.pose = truth.ct_to_world
        points = truth.points_ct
        if points is None or len(points) < LEAST_POINTS:
            points = target_points(case.labels, case.label, POINTS)
        self.points_ct = points
        self.grid = _grid(transform_points(self.pose, points))
        self._one_grid = one_grid

    def mtre(self, ct_to_world: Array) -> float:
        """Return the contract's mTRE of a pose (4, 4), mm."""
        return mtre(self.points_ct, ct_to_world, self.pose)

    def on_grid(self, volume: Volume) -> Volume:
        """Put a volume (world) on the grid of all comparisons; zero where it does not reach."""
        values = volume.with_array(np.asarray(volume.array, dtype=np.float32))
        return self.grid.with_array(resample(values, self.grid, np.eye(4)))

    def similarity(self, volume: Volume) -> dict[str, float]:
        """Return "ssim" and "psnr_db" of a reconstruction (world, any scale); one that misses the
        vertebra altogether scores 0 and 0 dB."""
        case = self.case
        compared = self.on_grid(volume) if self._one_grid else volume
        try:
            return reconstruction_quality(compared, case.ct, case.labels, case.label, self.pose)
        except ValueError:
            return dict.fromkeys(("ssim", "psnr_db"), 0.0)

    def measure(self, answer: Answer) -> dict[str, Any]:
        """Return the fields of a `Row` that an answer decides."""
        fields: dict[str, Any] = {
            "status": answer.status or "",
            "reason": answer.reason,
            "registration_s": answer.registration_s,
            "reconstruction_s": answer.reconstruction_s,
            "expected_error_mm": _optional(answer.quality.get("expected_error_mm")),
            "score": _optional(answer.quality.get("score")),
        }
        if len(self.case.views) == 1:
            fields |= self._of_one_view(answer)
        if answer.volume is not None:
            fields |= self.similarity(answer.volume)
        pose = answer.ct_to_world
        if pose is not None:
            fields["mtre_mm"] = self.mtre(pose)
            fields["rotation_error_deg"] = rotation_error_deg(pose, self.pose)
            fields["centre_error_mm"] = centre_error_mm(self.case.centre_ct, pose, self.pose)
        return fields

    def _of_one_view(self, answer: Answer) -> dict[str, Any]:
        """The errors across and along the beam, and those expected."""
        parts: tuple[float | None, float | None] = (None, None)
        if answer.ct_to_world is not None:
            source_world = self.case.views[0].camera.source_world
            parts = in_plane_and_depth_mm(
                self.points_ct, answer.ct_to_world, self.pose, source_world
            )
        return {
            "in_plane_error_mm": parts[0],
            "depth_error_mm": parts[1],
            "expected_in_plane_mm": _optional(answer.quality.get("in_plane_error_mm")),
            "expected_depth_mm": _optional(answer.quality.get("depth_error_mm")),
        }

    def failed(self, task: Task, reason: str, seconds: float) -> dict[str, Any]:
        """Return them for a refusal that counts as a failure: the vertebra stays where it began."""
        answer = Answer(task.start, seconds, status="failed", reason=reason)
        nothing = dict.fromkeys(("ssim", "psnr_db"), 0.0) if task.wants_volume else {}
        return self.measure(answer) | nothing


def number(value: float | None) -> float:
    """Return a value for arithmetic: NaN where there is none."""
    return float("nan") if value is None else float(value)


def _optional(value: Any) -> float | None:
    return None if value is None else float(value)


def _grid(points_world: Array) -> Volume:
    """Voxels of 1 mm, along the world's axes, around points (N, 3)."""
    low = np.floor(points_world.min(axis=0) - _MARGIN_MM)
    count = np.ceil((points_world.max(axis=0) + _MARGIN_MM - low) / _GRID_MM).astype(int) + 1
    matrix = np.diag([_GRID_MM, _GRID_MM, _GRID_MM, 1.0])
    matrix[:3, 3] = low
    return Volume(np.zeros(count[::-1], dtype=np.float32), matrix)
