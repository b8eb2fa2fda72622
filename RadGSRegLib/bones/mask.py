"""Bone in a volume: what is above a threshold, in one piece."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ..errors import InputError
from ..geometry import Array, Volume
from . import bounds


@dataclass(frozen=True)
class BoneMask:
    """Hold the largest piece of bone of a volume.

    Args:
        mask: 1 (uint8) in the bone, else 0, on the volume's grid.
        threshold: what is above it was taken for bone, in the volume's unit (1/mm).
        volume_ml: how large the piece is, ml.
    """

    mask: Volume
    threshold: float
    volume_ml: float

    @property
    def is_one_vertebra(self) -> bool:
        """Whether it is small enough to be a single vertebra, so that its axes mean something."""
        return self.volume_ml <= bounds.MOST_ML


def bone_mask(
    volume: Volume,
    percentile: float = bounds.PERCENTILE,
    *,
    threshold: float | None = None,
    lower_world: ArrayLike | None = None,
    upper_world: ArrayLike | None = None,
) -> BoneMask:
    """Find the bone of a volume: the largest piece of what is above a threshold.

    Voxels belong to one piece where their faces touch. That leaves out at most 0.02 % of a
    phantom's vertebra (1 and 2 mm); edges and corners would only join more of what is beside it.
    Neighbouring vertebrae touch at their joints and are often one piece; a box keeps them apart.

    Args:
        volume: attenuation (1/mm) or any other unit in which bone is bright, world frame.
        percentile: the threshold is this percentile of all values of the volume, 0 to 100.
        threshold: the threshold itself, in the volume's unit; then ``percentile`` is not looked at.
        lower_world: (3,) mm, the lower corner of a box along the world's axes; only voxels whose
            centres are in it count. None: no limit.
        upper_world: (3,) mm, its upper corner.

    Returns:
        The mask on the grid of the volume, the threshold, and how large the piece is.

    Raises:
        InputError: for a percentile outside 0 to 100, a threshold that is no number, a volume with
            values that are not finite, a box in which no voxel lies, and where nothing is above the
            threshold or the percentile is the value of an empty background.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.bones import bone_mask
        >>> from RadGSRegLib.geometry import Volume
        >>> values = np.zeros((10, 10, 10))
        >>> values[2:7, 2:7, 2:7] = 0.05
        >>> values[9, 9, 9] = 0.05
        >>> bone = bone_mask(Volume(values, np.diag([2.0, 2.0, 2.0, 1.0])), threshold=0.03)
        >>> round(bone.volume_ml, 3)
        1.0
    """
    values = np.asarray(volume.array)
    if not np.isfinite(values).all():
        raise InputError("the volume", "holds values that are not finite")
    inside = _in_box(volume, lower_world, upper_world)
    level = _threshold(values, percentile, threshold)
    bright = (values > level) & inside
    if not bright.any():
        raise InputError(
            "the volume", f"has nothing above the threshold of {level:.4g}", "choose a lower one"
        )
    largest = _largest_piece(bright)
    cell_ml = abs(float(np.linalg.det(volume.index_to_physical[:3, :3]))) / 1000.0
    mask = volume.with_array(largest.astype(np.uint8))
    return BoneMask(mask, level, cell_ml * float(np.count_nonzero(largest)))


def _threshold(values: NDArray[Any], percentile: float, threshold: float | None) -> float:
    if threshold is not None:
        if not np.isfinite(threshold):
            raise InputError("the threshold", f"is {threshold}", "give a number")
        return float(threshold)
    if not 0.0 <= percentile <= 100.0:
        raise InputError("the percentile", f"is {percentile:g}", "give one from 0 to 100")
    level = float(np.percentile(values, percentile))
    if percentile > 0.0 and level == values.min() < values.max():
        raise InputError(
            "the volume",
            f"is empty in {percentile:g} % of its voxels or more, so that the percentile says "
            "nothing of bone",
            "give a threshold",
        )
    return level


def _in_box(
    volume: Volume, lower_world: ArrayLike | None, upper_world: ArrayLike | None
) -> NDArray[np.bool_]:
    """Which voxels (K, J, I) have their centres in a box along the world's axes."""
    inside = np.ones(volume.array.shape, dtype=bool)
    if lower_world is None and upper_world is None:
        return inside
    lower = _corner(lower_world, -np.inf)
    upper = _corner(upper_world, np.inf)
    i, j, k = (np.arange(n, dtype=float) for n in volume.size)
    matrix = volume.index_to_physical
    for axis in range(3):
        # A sum of three rows, so that no array of all positions is made for each axis.
        place = (
            matrix[axis, 0] * i[None, None, :]
            + matrix[axis, 1] * j[None, :, None]
            + matrix[axis, 2] * k[:, None, None]
            + matrix[axis, 3]
        )
        inside &= (place >= lower[axis]) & (place <= upper[axis])
    if not inside.any():
        corners = volume.physical_points(list(product(*((0, n - 1) for n in volume.size))))
        low, high = (_said(point) for point in (corners.min(axis=0), corners.max(axis=0)))
        raise InputError(
            f"the box from {_said(lower)} to {_said(upper)} mm",
            "holds no voxel of the volume",
            f"which lies from {low} to {high}",
        )
    return inside


def _corner(corner: ArrayLike | None, unlimited: float) -> Array:
    if corner is None:
        return np.full(3, unlimited)
    values = np.asarray(corner, dtype=float)
    if values.shape != (3,) or np.isnan(values).any():
        raise InputError("the box", "has a corner that is not three numbers", "give x, y, z in mm")
    return values


def _said(point: Array) -> str:
    return ", ".join(f"{value:.0f}" for value in point)


def _largest_piece(bright: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest set of voxels (K, J, I) whose faces touch."""
    pieces, _ = ndimage.label(bright)
    counts = np.bincount(pieces.ravel())
    counts[0] = 0
    return np.asarray(pieces == int(counts.argmax()))
