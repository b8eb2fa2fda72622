"""From the bent template to voxels of the CT: whose they are, and where the bone ends."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    affine_transform,
    binary_fill_holes,
    gaussian_filter,
    label,
    map_coordinates,
)

from ..geometry import Array, Volume, transform_points
from . import bounds
from .deform import Deformation
from .pose import Placement
from .template import LOWER_MM, SHAPE_XYZ, SPACING_MM, grid_points

_WORK_MM = 2.0
_MARGIN_MM = 8.0


@dataclass(frozen=True)
class Box:
    """Part of a CT: ``slices`` (k, j, i) of its array, and signed distances on them, in mm.

    ``target`` to the bent template's vertebra, ``others`` to the nearest other bone.
    """

    slices: tuple[slice, slice, slice]
    target: NDArray[np.float32]
    others: NDArray[np.float32]


def distances_on_ct(ct: Volume, placement: Placement, deformation: Deformation) -> Box | None:
    """The bent template's signed distances on the CT's own voxels; None if none is near."""
    mean = placement.template
    close = deformation.points[mean.target < _MARGIN_MM]
    low, high = close.min(0), close.max(0)
    # On a coarse upright grid first: a distance is smooth, a fine CT has millions of voxels.
    count = (np.ceil((high - low) / _WORK_MM) + 1).astype(int)
    axes = [low[a] + _WORK_MM * np.arange(count[a]) for a in range(3)]
    zz, yy, xx = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    at = _template_indices(placement, deformation, np.stack([xx, yy, zz], -1).reshape(-1, 3))
    fields = [
        map_coordinates(values, at, order=1, mode="nearest").reshape(zz.shape)
        for values in (mean.target, mean.others)
    ]
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    ends = transform_points(ct.physical_to_index, low + corners * (high - low))
    first = np.clip(np.floor(ends.min(0)).astype(int), 0, ct.size)
    last = np.clip(np.ceil(ends.max(0)).astype(int) + 1, 0, ct.size)
    if (last <= first).any():
        return None
    shape = tuple(int(n) for n in (last - first)[::-1])
    # Output index (k, j, i) to index (z, y, x) of the coarse grid, one affine map.
    to_mm = ct.index_to_physical
    matrix = (to_mm[:3, :3] / _WORK_MM)[::-1, ::-1]
    offset = ((transform_points(to_mm, first) - low) / _WORK_MM)[::-1]
    out = [
        affine_transform(f.astype(np.float32), matrix, offset, shape, order=1, cval=_MARGIN_MM)
        for f in fields
    ]
    slices = tuple(slice(int(a), int(b)) for a, b in zip(first[::-1], last[::-1], strict=True))
    return Box((slices[0], slices[1], slices[2]), out[0], out[1])


def find_mask(ct: Volume, box: Box) -> NDArray[np.bool_]:
    """The vertebra's voxels within the box: the bent template, with its surface moved to the bone's
    edge where the CT shows one.
    """
    hu = ct.array[box.slices].astype(np.float32)
    target, others = box.target, box.others
    around = (target > 2.5) & (target < 7.0) & (others > 3.0) & (hu > bounds.FAT_HU)
    soft = float(np.median(hu[around])) if around.any() else 40.0
    hu = gaussian_filter(hu, 0.45)
    rim = (target > -2.0) & (target < 1.0)
    cortex = float(np.percentile(hu[rim], 70)) if rim.any() else 400.0
    step = max(cortex - soft, bounds.LEAST_STEP_HU)
    evidence = np.clip(
        (hu - soft - bounds.EDGE_SHARE * step) / (0.5 * step), -bounds.EVIDENCE, bounds.EVIDENCE
    )
    # Marrow may be as dark as muscle: darkness speaks against bone only close to the surface.
    evidence[(evidence < 0) & (target < -bounds.MARROW_MM)] = 0.0
    vote = bounds.STEEPNESS * (bounds.OUTWARD_MM - target) + evidence
    vote = gaussian_filter(vote, bounds.SMOOTH_MM / ct.spacing[::-1])
    mask = (vote > 0) & (target < others)
    pieces, count = label(mask)
    if count > 1:
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        mask = pieces == sizes.argmax()
    return np.asarray(binary_fill_holes(mask))


def template_position(placement: Placement, deformation: Deformation, points: Array) -> Array:
    """Where points (N, 3) of the patch lie in the template's own frame (N, 3), mm."""
    at = _template_indices(placement, deformation, points)
    return np.asarray(at[::-1].T * SPACING_MM + LOWER_MM)


def _template_indices(placement: Placement, deformation: Deformation, points: Array) -> Array:
    """Template indices (3: z, y, x; N) of patch points (N, 3): the deformation, inverted."""
    back = np.linalg.inv(placement.matrix)
    straight = transform_points(back, points)
    bent = transform_points(back, deformation.points.reshape(-1, 3)).reshape(*SHAPE_XYZ[::-1], 3)
    moves = bent - grid_points()
    guess = straight.copy()
    for _ in range(8):
        at = ((guess - LOWER_MM) / SPACING_MM)[:, ::-1].T
        move = [map_coordinates(moves[..., a], at, order=1, mode="nearest") for a in range(3)]
        guess = straight - np.stack(move, -1)
    return np.asarray(((guess - LOWER_MM) / SPACING_MM)[:, ::-1].T)
