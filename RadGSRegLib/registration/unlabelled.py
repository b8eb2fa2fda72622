"""Bone without a label beside the target: told from contrast, and taken apart into rigid pieces.

Where only the target is labelled, the vertebrae above and below it, the ribs and the other bones of
a joint are not far, but they do not move as one. They are as dense as the target is, and they are
taken apart where they are thin: by a watershed of the depth below the surface, with a marker in the
middle of every thick part.
"""

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from scipy import ndimage

from ..geometry import Array, Volume
from . import bounds

Mask = NDArray[np.bool_]
_EDGES = np.ones((3, 3, 3), dtype=bool)


def pieces_of(ct: Volume, free: Mask, target: Mask) -> tuple[list[Mask], Mask]:
    """The rigid pieces of unlabelled bone, largest first, and where contrast agent is.

    ``free`` (K, J, I) is where such bone may be; ``target`` the target's mask. Pieces hold what is
    inside the bone too, where it is less dense. Masks (K, J, I), on the CT's grid.
    """
    depth = ndimage.distance_transform_edt(np.pad(target, 1), sampling=ct.spacing[::-1])
    thick = float(depth.max())
    step = [max(int(thick / bounds.GRID_SHARE / s), 1) for s in ct.spacing[::-1]]
    hu = ndimage.uniform_filter(ct.array.astype(np.float32), step)
    coarse = tuple(slice(n // 2, None, n) for n in step)
    small, spacing = hu[coarse], ct.spacing[::-1] * step
    blurred = ndimage.gaussian_filter(small, bounds.BLUR_MM / spacing)
    agent = contrast(small, (blurred > bounds.LEAST_BONE_HU) & free[coarse], spacing)
    solid = _filled((blurred > bounds.LEAST_BONE_HU) & free[coarse] & ~agent, _axial(ct))
    solid = ndimage.binary_opening(solid & free[coarse])
    regions = _regions(solid, spacing, thick)
    dense = np.bincount(regions.ravel(), (small > bounds.BONE_HU).ravel())
    least = bounds.PIECE_SHARE * np.count_nonzero(target[coarse])
    order = [n for n in np.argsort(-dense) if n > 0 and dense[n] >= least]
    whole = _whole(regions, step, ct.array.shape)
    agent_whole = _whole(agent, step, ct.array.shape) > 0
    return [whole == n for n in order[: bounds.MOST_PIECES]], agent_whole


def _whole(mask: NDArray[np.generic], step: list[int], shape: tuple[int, ...]) -> NDArray[np.int_]:
    """A coarse array on the whole grid, each value as a block."""
    out = mask.astype(int)
    for axis, (n, length) in enumerate(zip(step, shape, strict=True)):
        index = np.minimum(np.arange(length) // n, out.shape[axis] - 1)
        out = np.take(out, index, axis)
    return out


def _axial(ct: Volume) -> int:
    """The array axis nearest to the patient's own."""
    return 2 - int(np.argmax(np.abs(ct.index_to_physical[2, :3] / ct.spacing)))


def contrast(hu: Array, dense: Mask, spacing: Array) -> Mask:
    """What of ``dense`` (K, J, I) is a vessel or gut full of contrast agent, and its rim.

    Such a lumen is as dense everywhere, and no shell of cortical bone lies around it. ``spacing``
    (3,) mm in the array's order.
    """
    size = [2 * max(round(bounds.LUMEN_MM / 2 / step), 1) + 1 for step in spacing]
    mean = ndimage.uniform_filter(hu, size)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(hu * hu, size) - mean * mean, 0.0))
    cores, _ = ndimage.label(dense & (spread < bounds.LUMEN_SPREAD_HU))
    out = np.zeros_like(dense)
    reach = max(size)
    for n, box in enumerate(ndimage.find_objects(cores), start=1):
        grown = tuple(slice(max(s.start - reach, 0), s.stop + reach) for s in box)
        core, inside = cores[grown] == n, hu[grown]
        level = float(np.median(inside[core]))
        volume = np.count_nonzero(core) * float(np.prod(spacing))
        if volume < bounds.LUMEN_MM3 or level > bounds.LUMEN_MOST_HU:
            continue
        rim = core
        for _ in range(max(size) // 2 + 1):
            rim = rim | (ndimage.binary_dilation(rim) & (inside < level + bounds.CORTEX_HU))
        shell = ndimage.binary_dilation(rim, _EDGES) & ~rim
        bright = float((inside[shell] > level + bounds.CORTEX_HU).mean()) if shell.any() else 0.0
        if inside[core].std() < bounds.LUMEN_SPREAD_HU and bright < bounds.CORTEX_SHARE:
            out[grown] |= rim
    return out & dense


def _filled(mask: Mask, axial: int) -> Mask:
    """A mask with what it encloses, also within slices across the patient's axis.

    That closes the spinal canal too, which is no harm: it is no denser than soft tissue.
    """
    out = ndimage.binary_fill_holes(mask)
    slices = np.moveaxis(out, axial, 0)  # a view
    for number, plane in enumerate(slices):
        slices[number] = ndimage.binary_fill_holes(plane)
    return np.asarray(out)


def _regions(solid: Mask, spacing: Array, thick: float) -> NDArray[np.int_]:
    """Regions (K, J, I) from 1 of solid bone, 0 outside.

    ``thick``: the target's largest depth, mm. Thin parts join the thick part that floods them
    first, or are a region of their own where none reaches them.
    """
    depth = ndimage.distance_transform_edt(solid, sampling=spacing)
    smooth = ndimage.gaussian_filter(depth, 1.0) * solid
    reach = [2 * max(round(bounds.MARKER_REACH * thick / step), 1) + 1 for step in spacing]
    peaks = solid & (smooth >= ndimage.maximum_filter(smooth, reach))
    peaks &= smooth >= bounds.MARKER_DEPTH * thick
    markers, count = ndimage.label(peaks, structure=_EDGES)
    parts, _ = ndimage.label(solid)
    alone = solid & ~np.isin(parts, np.unique(parts[peaks]))
    others, _ = ndimage.label(alone)
    if count == 0:
        return np.asarray(others)
    flooded = solid & ~alone
    seeds = np.where(flooded, markers, count + 1).astype(np.uint32)
    height = sitk.GetImageFromArray((smooth.max() - smooth).astype(np.float32))
    water = sitk.MorphologicalWatershedFromMarkers(
        height, sitk.GetImageFromArray(seeds), markWatershedLine=False
    )
    regions = np.where(flooded, sitk.GetArrayFromImage(water).astype(int), 0)
    regions = _joined(np.where(regions > count, 0, regions), smooth)
    return np.where(alone & (others > 0), others + count, regions)


def _joined(regions: NDArray[np.int_], depth: Array) -> NDArray[np.int_]:
    """Regions joined where the neck between two is nearly as thick as the thinner one."""
    top = ndimage.maximum(depth, regions, np.arange(regions.max() + 1))
    count = len(top)
    necks = np.zeros(count * count)
    for axis in range(3):
        a, d = np.moveaxis(regions, axis, 0), np.moveaxis(depth, axis, 0)
        meet = (a[1:] != a[:-1]) & (a[1:] > 0) & (a[:-1] > 0)
        low = np.minimum(d[1:], d[:-1])[meet]
        np.maximum.at(necks, a[1:][meet] * count + a[:-1][meet], low)
        np.maximum.at(necks, a[:-1][meet] * count + a[1:][meet], low)
    names = np.arange(count)
    for first, second in np.argwhere(necks.reshape(count, count) > 0):
        if necks[first * count + second] >= bounds.NECK * min(top[first], top[second]):
            names[names == names[second]] = names[first]
    return np.asarray(names[regions])
