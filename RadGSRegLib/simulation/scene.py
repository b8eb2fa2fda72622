"""A CT taken apart: each vertebra by itself, and the rest with the holes filled.

Projection is linear, so a spine with moved vertebrae needs no resampling: the rest and every
vertebra's excess over the tissue that fills its place are projected each in its own pose, and the
line integrals add up. Where a vertebra is in the X-ray is therefore exactly where its pose says.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, find_objects, gaussian_filter

from ..errors import InputError
from ..geometry import Array as Matrix
from ..geometry import Volume, surface_points
from .materials import split_hu

Array = NDArray[np.float32]

# The rest fades out over so many mm at the edges of the CT.
_FADE_MM = 6.0


@dataclass(frozen=True)
class Piece:
    """Densities (K, J, I) g/cm^3 of soft tissue and bone that are added by one part of the body."""

    soft: Volume
    bone: Volume


@dataclass(frozen=True)
class Scene:
    """The rest of the CT, and the vertebrae by label. ``centroids`` (3,) CT mm of their masks."""

    rest: Piece
    vertebrae: dict[int, Piece]
    centroids: dict[int, Matrix]


def centroid(labels: Volume, label: int) -> Matrix:
    """The mean position (3,) mm of a label's voxels. Raises InputError where it has none."""
    kji = np.argwhere(labels.array == label)
    if len(kji) == 0:
        present = [int(v) for v in np.unique(labels.array) if v != 0]
        raise InputError("label map", f"holds no label {label}", f"it has {present}")
    return np.asarray(labels.physical_points(kji[:, ::-1].mean(0)[None].astype(float))[0])


def draw_surface_points(
    labels: Volume, label: int, count: int, generator: np.random.Generator
) -> Matrix:
    """Up to ``count`` (N, 3) mm voxel centres on the surface of a label, drawn without repeats."""
    mask = np.asarray(labels.array == label)
    if not mask.any():
        raise InputError("label map", f"holds no label {label}")
    points = surface_points(labels, mask)
    return np.asarray(points[np.sort(generator.permutation(len(points))[:count])])


def take_apart(ct: Volume, labels: Volume, coarse_mm: float = 2.0) -> Scene:
    """Split a CT (HU) by its label map.

    Raises InputError when the grids differ. The rest, which holds no vertebra any more, is thinned
    to voxels of about ``coarse_mm``.
    """
    if ct.array.shape != labels.array.shape or not np.allclose(
        ct.index_to_physical, labels.index_to_physical, atol=1e-3
    ):
        raise InputError("label map", "lies on another grid than the CT", "resample it first")
    hu = ct.array.astype(np.float32)
    numbers = [int(v) for v in np.unique(labels.array) if v != 0]
    occupied = labels.array != 0
    reach = binary_dilation(occupied, iterations=1 if ct.spacing.min() > 1.2 else 2)
    fill = _local_soft_tissue(hu, reach, ct.spacing)

    # A rim voxel goes with its vertebra only for what it has above soft tissue: partial volume.
    take = occupied | (reach & (hu > fill + 60.0))
    owner = labels.array.astype(np.int32).copy()
    for number, box in zip(numbers, _boxes(labels.array, numbers), strict=True):
        grown = binary_dilation(labels.array[box] == number, iterations=2)
        part = owner[box]
        part[grown & (part == 0)] = number
    owner[~take] = 0
    rest_hu = np.where(owner != 0, fill, hu)
    soft_ct, bone_ct = split_hu(hu)
    soft_rest, bone_rest = split_hu(rest_hu)
    vertebrae, centroids = {}, {}
    for number, box in zip(numbers, _boxes(labels.array, numbers), strict=True):
        mine = owner[box] == number
        matrix = ct.index_to_physical.copy()
        first = np.array([[box[2].start, box[1].start, box[0].start]], dtype=float) - 1.0
        matrix[:3, 3] = ct.physical_points(first)[0]
        soft = np.pad(np.where(mine, soft_ct[box] - soft_rest[box], 0.0), 1)
        bone = np.pad(np.where(mine, bone_ct[box] - bone_rest[box], 0.0), 1)
        vertebrae[number] = Piece(
            Volume(soft.astype(np.float32), matrix), Volume(bone.astype(np.float32), matrix)
        )
        centroids[number] = centroid(labels, number)
    rest = Piece(
        _thin(ct.with_array(soft_rest), coarse_mm), _thin(ct.with_array(bone_rest), coarse_mm)
    )
    return Scene(rest, vertebrae, centroids)


def covers_body(ct: Volume) -> bool:
    """Whether the field of the CT holds the whole cross-section of the body.

    True when most of the side faces (those not facing head or feet) show air.
    """
    axis = int(np.argmax(np.abs(ct.direction[2])))
    tissue = ct.array > -300
    sides = [2 - index_axis for index_axis in range(3) if index_axis != axis]
    faces = [np.take(tissue, end, axis=side).mean() for side in sides for end in (0, -1)]
    return bool(np.max(faces) < 0.4 and np.mean(faces) < 0.25)


def fade_of(rest: Volume) -> Array:
    """How far (K, J, I) the rest of a CT counts, which fades out at the CT's edges."""
    fade: Array = np.ones(rest.array.shape, dtype=np.float32)
    for axis, step in enumerate(rest.spacing[::-1]):
        n = fade.shape[axis]
        steps = np.arange(n)
        edge = (np.minimum(steps, steps[::-1]) + 0.5) * step
        ramp = np.clip(edge / _FADE_MM, 0.0, 1.0).astype(np.float32)
        fade *= ramp.reshape([-1 if a == axis else 1 for a in range(3)])
    return fade


def _boxes(labels: NDArray[np.integer], numbers: list[int]) -> list[tuple[slice, slice, slice]]:
    boxes_there = find_objects(labels.astype(np.int32))
    boxes = []
    for number in numbers:
        k, j, i = (
            slice(max(s.start - 3, 0), min(s.stop + 3, n))
            for s, n in zip(boxes_there[number - 1], labels.shape, strict=True)
        )
        boxes.append((k, j, i))
    return boxes


def _local_soft_tissue(hu: Array, occupied: NDArray[np.bool_], spacing: Matrix) -> Array:
    """HU of the soft tissue around each voxel: a wide normalised average over what is not bone."""
    steps = tuple(max(round(3.0 / float(s)), 1) for s in spacing[::-1])
    coarse = hu[:: steps[0], :: steps[1], :: steps[2]]
    free = ~occupied[:: steps[0], :: steps[1], :: steps[2]]
    sigma = [9.0 / (s * n) for s, n in zip(spacing[::-1], steps, strict=True)]

    def average(keep: NDArray[np.bool_]) -> tuple[Array, Array]:
        total = gaussian_filter(keep.astype(np.float32), sigma)
        mean = gaussian_filter(np.where(keep, coarse, 0.0).astype(np.float32), sigma)
        return mean / np.maximum(total, 1e-3), total

    soft, enough = average(free & (coarse > -150) & (coarse < 130))
    # Far from any soft tissue (a specimen in air), whatever else surrounds the bone.
    other, some = average(free)
    value = np.where(enough > 1e-2, soft, np.where(some > 1e-2, other, 40.0))
    index = np.ix_(*[np.arange(n) // s for n, s in zip(hu.shape, steps, strict=True)])
    return np.asarray(value[index], dtype=np.float32)


def _thin(volume: Volume, coarse_mm: float) -> Volume:
    """Average blocks of voxels up to about ``coarse_mm``; mass is kept."""
    steps = [max(int(np.floor(coarse_mm / s + 0.25)), 1) for s in volume.spacing]
    if max(steps) == 1:
        return volume
    pad = [(0, -n % s) for n, s in zip(volume.array.shape, steps[::-1], strict=True)]
    array = np.pad(volume.array, pad)
    k, j, i = (n // s for n, s in zip(array.shape, steps[::-1], strict=True))
    array = array.reshape(k, steps[2], j, steps[1], i, steps[0]).mean(axis=(1, 3, 5))
    matrix = volume.index_to_physical.copy()
    shift = (np.array(steps) - 1) / 2.0
    matrix[:3, 3] = volume.physical_points(shift[None])[0]
    matrix[:3, :3] = matrix[:3, :3] * np.array(steps)
    return Volume(array.astype(np.float32), matrix)
