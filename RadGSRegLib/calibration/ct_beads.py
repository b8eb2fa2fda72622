"""Beads in a CT: where they are, to a fraction of a voxel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import InputError
from ..geometry import Array, Volume
from . import bounds
from .types import Beads

# Parts of a voxel's edge in which a bead's volume is counted.
_FINER = 4

_Box = tuple[slice, slice, slice]


def find_ct_beads(ct: Volume, name: str = "CT", threshold_hu: float = bounds.STEEL_HU) -> Beads:
    """Find the metal balls of a CT.

    A bead is a round lump of voxels above the threshold. Its centre is that of what its voxels have
    above their surroundings; its diameter is that of a ball as large as what is brighter than half
    way from the surroundings to its middle. Where the scanner cuts steel off (at 3,071 HU), half
    way lies further out, and diameters come out up to 0.8 mm too large, centres of balls that stand
    half out of plastic up to 0.2 mm too deep. Screws, plates, fillings and whatever else is not
    round are left out.

    Args:
        ct: HU, voxels not wider than the beads.
        name: of the beads.
        threshold_hu: from where a voxel is metal.

    Returns:
        The beads, CT frame, mm, from the foot (low z) to the head.

    Raises:
        InputError: where there is no round lump of metal.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.calibration import find_ct_beads
        >>> from RadGSRegLib.geometry import Volume
        >>> k, j, i = np.indices((24, 24, 24)) * 0.5
        >>> ball = np.sqrt((k - 6.1) ** 2 + (j - 5.0) ** 2 + (i - 7.3) ** 2)
        >>> hu = 8000.0 * np.clip((1.5 - ball) / 0.5 + 0.5, 0.0, 1.0)
        >>> beads = find_ct_beads(Volume(hu, np.diag([0.5, 0.5, 0.5, 1.0])))
        >>> beads.centres_mm.round(1), beads.diameters_mm.round(1)
        (array([[7.3, 5. , 6.1]]), array([2.9]))
    """
    metal = np.asarray(ct.array > threshold_hu)
    # Corners join too: small balls in large voxels have few of them.
    numbers, count = ndimage.label(metal, np.ones((3, 3, 3)))
    rows = []
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        if _plausible_box(box, ct.spacing):
            row = _measured(ct, numbers, number, box)
            if row is not None:
                rows.append(row)
    if not rows:
        lumps = f"of {count} lumps of metal none is round" if count else "it shows no metal"
        raise InputError(name, f"holds no beads: {lumps}", "give a CT of the phantom, in HU")
    table = np.array(rows)
    table = table[np.lexsort(table[:, :3].round(6).T)]
    return Beads(name, table[:, :3], table[:, 3])


def _plausible_box(box: _Box, spacing: Array) -> bool:
    """Whether a lump is no wider than a bead, and about as wide as high, from its box alone."""
    wide = np.array([s.stop - s.start for s in box])[::-1] * spacing
    room = 2.0 * spacing.max()
    return bool(
        wide.max() <= bounds.LARGEST_MM + room
        and wide.max() - wide.min() <= room + 2.0 * bounds.ROUND * wide.max()
    )


def _measured(
    ct: Volume, numbers: NDArray[np.int32], number: int, box: _Box
) -> tuple[float, ...] | None:
    """Centre (x, y, z) mm and diameter of a lump; None where it is not a ball."""
    # What blur leaves around a lump, and as much again for its surroundings.
    blur_mm = max(bounds.BLUR_MM, float(ct.spacing.max()))
    margin = int(np.ceil(2.0 * blur_mm / ct.spacing.min())) + 1
    wider = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in box)
    hu = np.asarray(ct.array[wider], dtype=float)
    labels = numbers[wider]
    mine = labels == number
    near = ndimage.binary_dilation(mine, _ball_of(blur_mm, ct.spacing))
    metal = ndimage.binary_dilation((labels != 0) & ~mine)
    shell = ~near & ~metal
    if not shell.any() or (near & metal).any():
        return None
    # Of plastic and air around a bead the denser: its weight would pull the centre.
    around = float(np.quantile(hu[shell], bounds.DENSER))
    top = float(np.quantile(hu[mine], 0.9)) if mine.sum() >= 10 else float(hu[mine].max())
    weight = np.where(near, np.clip((hu - around) / (top - around), 0.0, 1.0), 0.0)
    # Noise of the surroundings adds up over many voxels.
    weight[weight < bounds.FAINT_SHARE] = 0.0
    start = np.array([s.start for s in wider])[::-1]
    places = ct.physical_points(np.argwhere(weight > 0)[:, ::-1] + start)
    weights = weight[weight > 0]
    centre = weights @ places / weights.sum()
    voxel_mm3 = abs(float(np.linalg.det(ct.index_to_physical[:3, :3])))
    full = ndimage.zoom(weight, _FINER, order=1, grid_mode=True, mode="grid-constant") > 0.5
    diameter = float((6.0 * full.sum() * voxel_mm3 / _FINER**3 / np.pi) ** (1.0 / 3.0))
    offsets = places - centre
    spread = np.linalg.eigvalsh((offsets.T * weights) @ offsets / weights.sum())
    # A ball of radius R has a variance of R^2 / 5 along each axis.
    axes = 2.0 * np.sqrt(5.0 * np.maximum(spread, 0.0))
    return (*centre, diameter) if _is_ball(diameter, axes, float(ct.spacing.max())) else None


def _is_ball(diameter: float, axes: Array, voxel_mm: float) -> bool:
    """Whether a lump of a diameter by its volume, mm, has the axes (3,) of a ball."""
    if not bounds.SMALLEST_MM <= diameter <= bounds.LARGEST_MM:
        return False
    unlike = float(axes.max() - axes.min())
    if unlike > bounds.ROUND * diameter + 0.25 * voxel_mm:
        return False
    # Blur widens a ball without adding to it.
    wide = float(axes.mean())
    return abs(wide - diameter) < bounds.SOLID * diameter + voxel_mm


def _ball_of(reach: float, spacing: Array) -> NDArray[np.bool_]:
    """The voxels within ``reach`` mm, as a mask to dilate with."""
    sides = [int(reach / s + 1e-9) for s in spacing[::-1]]
    k, j, i = np.ogrid[tuple(slice(-n, n + 1) for n in sides)]
    square = (k * spacing[2]) ** 2 + (j * spacing[1]) ** 2 + (i * spacing[0]) ** 2
    return np.asarray(square <= reach**2 + 1e-6)
