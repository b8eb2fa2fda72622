"""Whether a calibration is to be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from ..geometry import Array, Camera, affine
from . import bounds
from .exposures import Calibration

# Steps of the nine parameters for differences: radians, mm, pixels.
_STEPS = np.array([1e-6] * 3 + [1e-3] * 3 + [1e-2] * 3)


def moved_camera(camera: Camera, change: ArrayLike) -> Camera:
    """Return a camera with its nine parameters changed, in the order of `Calibrated.covariance`."""
    by = np.asarray(change, dtype=float)
    turn = Rotation.from_rotvec(by[:3]).as_matrix() @ camera.world_to_camera[:3, :3]
    intrinsic = camera.intrinsic.copy()
    intrinsic[:2, :2] *= 1.0 + by[6] / camera.focal_px
    intrinsic[:2, 2] += by[7:]
    pose = affine(turn, -turn @ (camera.source_world + by[3:6]))
    return Camera(intrinsic, pose, camera.columns, camera.rows)


def spread_mm(camera: Camera, covariance: Array, point_world: ArrayLike) -> float:
    """Say how well a view knows where a point (3,) of the world is shown: standard deviation, mm
    at the point, root of the sum over both directions across the beam."""
    point = np.asarray(point_world, dtype=float).reshape(1, 3)
    rows = [
        (
            moved_camera(camera, step).project(point)[0]
            - moved_camera(camera, -step).project(point)[0]
        )
        / (2.0 * size)
        for step, size in zip(np.diag(_STEPS), _STEPS, strict=True)
    ]
    jacobian = np.array(rows).T
    pixels = float(np.sqrt(np.trace(jacobian @ covariance @ jacobian.T)))
    depth = float(point[0] @ camera.world_to_camera[2, :3] + camera.world_to_camera[2, 3])
    return pixels * depth / camera.focal_px


def verdict(done: Sequence[Calibration], known_mm: Mapping[str, float]) -> tuple[str, str]:
    """Judge a calibration: ``ok`` or ``uncertain``, and why.

    ``known_mm``: of each view, how well it knows where the beads' middle is shown (`spread_mm`).
    """
    poor = [c.view.name for c in done if known_mm[c.view.name] > bounds.WORST_MM]
    rough = [c.view.name for c in done if c.view.rms_px > bounds.MOST_RMS_PX]
    few = [c.view.name for c in done if len(c.view.pairs) < bounds.TRUSTED_PAIRS]
    for names, what in (
        (rough, f"leaves more than {bounds.MOST_RMS_PX:g} px between beads and shadows"),
        (few, f"shows fewer than {bounds.TRUSTED_PAIRS} of the beads"),
        (poor, f"is not known to {bounds.WORST_MM:g} mm at the beads"),
    ):
        if names:
            return "uncertain", f"{', '.join(names)} {what}"
    return "ok", "all beads that were found lie where the cameras show them"
