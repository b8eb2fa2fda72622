"""One method's answer against the truth of its case."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...cases import Case
from ...geometry import Volume, transform_points
from ...measures import pose as metrics
from ...measures import volume as volumes
from ..protocol import POINTS, Truth
from .answers import Answer

Array = NDArray[np.float64]

LEAST_POINTS = 1000
_GRID_MM = 1.0
_MARGIN_MM = 8.0


@dataclass(frozen=True)
class Row:
    """One run of one method on one case. Lengths in mm, angles in degrees, time in seconds.

    ``run`` 0 is from the case's own start, others from drawn ones. None: not asked for, or (with
    ``problem``, the sentence why) not answered; a pose not answered counts as a failure.
    """

    case: str
    level: str
    method: str
    run: int
    start_mtre_mm: float | None
    mtre_mm: float | None
    rotation_error_deg: float | None
    ssim: float | None
    psnr_db: float | None
    registration_s: float | None
    reconstruction_s: float | None
    is_warm: bool
    status: str
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return asdict(self)


ROW_KEYS = tuple(f.name for f in fields(Row))


class Yardstick:
    """What answers about one case are held against."""

    def __init__(self, case: Case, truth: Truth) -> None:
        self.case = case
        self.pose = truth.ct_to_world
        points = truth.points_ct
        if points is None or len(points) < LEAST_POINTS:
            points = metrics.surface_points(case.labels, case.label, POINTS)
        self.points_ct = points
        self.grid = _grid(transform_points(self.pose, points))

    def mtre(self, ct_to_world: Array) -> float:
        """The contract's mTRE of a pose (4, 4), mm."""
        return metrics.mtre(self.points_ct, ct_to_world, self.pose)

    def rotation_error_deg(self, ct_to_world: Array) -> float:
        """How far a pose (4, 4) is turned from the true one."""
        return metrics.rotation_error_deg(ct_to_world, self.pose)

    def on_grid(self, volume: Volume) -> Volume:
        """A volume (world) on the grid that all are compared on; zero where it does not reach."""
        values = volume.with_array(np.asarray(volume.array, dtype=np.float32))
        return self.grid.with_array(volumes.resample(values, self.grid, np.eye(4)))

    def similarity(self, volume: Volume) -> tuple[float, float]:
        """SSIM and PSNR (dB) of a reconstruction (world, any scale), on a grid of 1 mm.

        One grid for all, since both depend on the voxel's size.
        """
        case = self.case
        found = volumes.reconstruction_quality(
            self.on_grid(volume), case.ct, case.labels, case.label, self.pose
        )
        return found["ssim"], found["psnr_db"]


def measure(answer: Answer, yardstick: Yardstick) -> dict[str, Any]:
    """The fields of a `Row` that an answer decides."""
    ssim, psnr = (None, None) if answer.volume is None else yardstick.similarity(answer.volume)
    pose = answer.ct_to_world
    return {
        "mtre_mm": None if pose is None else yardstick.mtre(pose),
        "rotation_error_deg": None if pose is None else yardstick.rotation_error_deg(pose),
        "ssim": ssim,
        "psnr_db": psnr,
        "registration_s": answer.registration_s,
        "reconstruction_s": answer.reconstruction_s,
        "status": answer.status or "",
    }


def _grid(points_world: Array) -> Volume:
    """Voxels of 1 mm, along the world's axes, around points (N, 3)."""
    low = np.floor(points_world.min(axis=0) - _MARGIN_MM)
    count = np.ceil((points_world.max(axis=0) + _MARGIN_MM - low) / _GRID_MM).astype(int) + 1
    matrix = np.diag([_GRID_MM, _GRID_MM, _GRID_MM, 1.0])
    matrix[:3, 3] = low
    return Volume(np.zeros(count[::-1], dtype=np.float32), matrix)
