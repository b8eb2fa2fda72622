"""Where the vertebrae of a spine stand: rigid local_to_spine transforms (LPS, mm)."""

from itertools import pairwise

import numpy as np
from scipy.spatial.transform import Rotation

from ..geometry import Array, affine
from .parameters import SpineParameters
from .sizes import MOBILE_LEVELS


def vertebra_poses(parameters: SpineParameters) -> dict[str, Array]:
    """``local_to_spine`` (4, 4) of T12..L5 and of S1, with the centre of L3's body at the origin.

    Neighbouring bodies are joined through the middle of their disc, whose axis halves the angle
    between them.
    """
    # Positive sagittal angles lean the body's axis forward (towards -y).
    angles = {
        name: (v.sagittal_deg, v.coronal_deg, v.axial_deg)
        for name, v in parameters.vertebrae.items()
    }
    angles["S1"] = (parameters.sacrum_tilt_deg, 0.0, 0.0)
    rotations = {
        name: Rotation.from_euler("xyz", deg, degrees=True).as_matrix()
        for name, deg in angles.items()
    }
    order = (*MOBILE_LEVELS, "S1")
    centres = {"T12": np.zeros(3)}
    for upper, lower in pairwise(order):
        p = parameters.vertebrae[upper]
        down_upper, down_lower = -rotations[upper][:, 2], -rotations[lower][:, 2]
        axis = down_upper + down_lower
        axis /= np.linalg.norm(axis)
        step = centres[upper] + p.size.half_height * down_upper + p.size.disc_below * axis
        # S1's frame has its origin on the sacral end plate.
        below = 0.0 if lower == "S1" else parameters.vertebrae[lower].size.half_height
        centres[lower] = step + below * down_lower
    return {name: affine(rotations[name], centres[name] - centres["L3"]) for name in order}
