"""Where the vertebrae of a spine stand: rigid local_to_spine transforms (LPS, mm)."""

from itertools import pairwise

import numpy as np
from scipy.spatial.transform import Rotation

from ..geometry import Array, affine
from .parameters import SpineParameters, VertebraParameters
from .sizes import MOBILE_LEVELS


def _rotation(sagittal_deg: float, coronal_deg: float, axial_deg: float) -> Array:
    # Positive sagittal angles lean the body's axis forward (towards -y).
    return np.asarray(
        Rotation.from_euler("xyz", [sagittal_deg, coronal_deg, axial_deg], degrees=True).as_matrix()
    )


def _half_height(p: VertebraParameters) -> float:
    return 0.25 * (p.size.height_anterior + p.size.height_posterior)


def vertebra_poses(parameters: SpineParameters) -> dict[str, Array]:
    """``local_to_spine`` (4, 4) of T12..L5 and of S1, with the centre of L3's body at the origin.

    Neighbouring bodies are joined through the middle of their disc, whose axis halves the angle
    between them.
    """
    rotations = {
        name: _rotation(v.sagittal_deg, v.coronal_deg, v.axial_deg)
        for name, v in parameters.vertebrae.items()
    }
    rotations["S1"] = _rotation(parameters.sacrum_tilt_deg, 0.0, 0.0)
    order = (*MOBILE_LEVELS, "S1")
    centres = {"T12": np.zeros(3)}
    for upper, lower in pairwise(order):
        p = parameters.vertebrae[upper]
        down_upper, down_lower = -rotations[upper][:, 2], -rotations[lower][:, 2]
        axis = down_upper + down_lower
        axis /= np.linalg.norm(axis)
        step = centres[upper] + _half_height(p) * down_upper + p.size.disc_below * axis
        # S1's frame has its origin on the sacral end plate.
        below = 0.0 if lower == "S1" else _half_height(parameters.vertebrae[lower])
        centres[lower] = step + below * down_lower
    return {name: affine(rotations[name], centres[name] - centres["L3"]) for name in order}
