"""Where a mask lies: its box, its centre, its surface."""

import numpy as np
from numpy.typing import NDArray

from .arrays import Array
from .volume import Volume

Mask = NDArray[np.bool_]
Box = tuple[slice, slice, slice]


def mask_box(mask: Mask, spacing: Array, margin_mm: float) -> Box:
    """The slices (k, j, i) around a mask that is not empty, ``margin_mm`` wider on every side.

    ``spacing`` (3,) mm along i, j and k, as `Volume.spacing`; the box stays inside the grid.
    """
    from scipy import ndimage

    inside = ndimage.find_objects(mask.astype(np.uint8))[0]
    pads = np.ceil(margin_mm / spacing[::-1]).astype(int)
    k, j, i = (
        slice(max(0, s.start - pad), min(n, s.stop + pad))
        for s, pad, n in zip(inside, pads, mask.shape, strict=True)
    )
    return k, j, i


def cut(volume: Volume, box: Box) -> Volume:
    """The part of a volume inside slices (k, j, i)."""
    k, j, i = box
    return volume.crop((i.start, j.start, k.start), (i.stop, j.stop, k.stop))


def centroid(grid: Volume, mask: Mask) -> Array:
    """The mean position (3,) mm of a mask's voxels on the grid of a volume."""
    indices = np.argwhere(mask)[:, ::-1].astype(float)
    return np.asarray(grid.physical_points(indices).mean(axis=0))


def surface_points(grid: Volume, mask: Mask) -> Array:
    """The centres (N, 3) mm of a mask's outermost voxels on the grid of a volume."""
    from scipy import ndimage

    box = mask_box(mask, grid.spacing, float(grid.spacing.max()))
    inside = mask[box]
    shell = inside & ~ndimage.binary_erosion(inside)
    return np.asarray(cut(grid, box).physical_points(np.argwhere(shell)[:, ::-1].astype(float)))
