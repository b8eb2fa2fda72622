"""The way back from the world to a bent CT as displacements on a grid, and whether it folds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ..geometry import Array, Rigid, Volume, exp_se3, invert_rigid, transform_points
from . import bounds
from .polyrigid import PolyrigidMap

_AT_ONCE = 1 << 16


@dataclass(frozen=True, eq=False)
class BentGrid:
    """Where points of the world come from in the CT, as a resampler needs it.

    A point of the world goes by the inverse of ``common_ct_to_world`` (4, 4), and then by the
    displacement there: ``displacement`` (Z, Y, X, 3) mm at nodes that ``index_to_ct`` (4, 4) leads
    to, from (x, y, z, 1) to LPS mm of the CT, along its axes. `cases.write_itk_bent` writes it.
    ``worst_mm``: the largest residual of the inverse between the bones; ``settled``: the share of
    nodes there that are below `bounds.INVERSE_MM`: 1 but where the map folds.
    """

    common_ct_to_world: Array
    index_to_ct: Array
    displacement: Array
    worst_mm: float
    settled: float


def bent_grid(bend: PolyrigidMap, labels: Volume, step_mm: float | None = None) -> BentGrid:
    """Sample the way back from the world to the CT, wherever the bent CT is.

    Linear interpolation would smooth a bone's outermost cells into what lies beside it, so nodes
    around a bone are led back by its pose alone: it stays rigid, up to the cells that it shares
    with another bone. Those go with what most of their bone says.

    Args:
        bend: the map.
        labels: the label map that it was made of.
        step_mm: how far apart the nodes are, mm; without it `bounds.GRID_STEP_MM`.

    Returns:
        The grid and its displacements.
    """
    step = bounds.GRID_STEP_MM if step_mm is None else step_mm
    to_still = Rigid(bend.common_ct_to_world).inverse()
    to_index = Rigid.from_parts(labels.direction, np.zeros(3)).inverse()
    shell = to_still.apply(bend.apply(labels.physical_points(_shell(labels))))
    along = to_index.apply(shell)
    low = along.min(axis=0) - step
    size = np.ceil((along.max(axis=0) + step - low) / step).astype(int) + 1
    index_to_ct = to_index.inverse().matrix.copy()
    index_to_ct[:3, 3] = to_index.inverse().apply(low)
    index_to_ct[:3, :3] *= step
    grid = Volume(np.zeros(size[::-1], dtype=bool), index_to_ct)

    nodes = np.concatenate([grid.physical_points(index) for index in _indices(grid.size)])
    rigid, back_rigid = _by_bones(bend, labels, grid, nodes)
    free = np.ones(len(nodes), dtype=bool)
    free[rigid] = False
    back, residual = _led_back(bend, grid, nodes, free)
    back[rigid] = back_rigid
    return BentGrid(
        bend.common_ct_to_world,
        index_to_ct,
        (back - nodes).reshape(*grid.array.shape, 3),
        float(residual.max(initial=0.0)),
        float((residual <= bounds.INVERSE_MM).mean()) if len(residual) else 1.0,
    )


def _by_bones(
    bend: PolyrigidMap, labels: Volume, grid: Volume, nodes: Array
) -> tuple[NDArray[np.int_], Array]:
    """The nodes (numbers, M) of cells in which there is bone, and where (M, 3) mm they come from.

    Where cells are shared, bones count by the squares of how many of their voxels are near a node.
    """
    total, back = np.zeros(len(nodes)), np.zeros((len(nodes), 3))
    for label, motion in zip(bend.labels, exp_se3(bend.twists), strict=True):
        voxels = np.argwhere(labels.array == label)[:, ::-1].astype(float)
        moved = transform_points(motion @ labels.index_to_physical, voxels)
        index = transform_points(grid.physical_to_index, moved)
        lowest = np.floor(index).astype(int)
        beyond = index - lowest
        amount = np.zeros(len(nodes))
        for corner in product((0, 1), repeat=3):
            share = np.abs(1.0 - np.array(corner) - beyond).prod(axis=1)
            place = np.ravel_multi_index((lowest + corner).T[::-1], grid.array.shape)
            amount += np.bincount(place, share, len(nodes))
        near = np.flatnonzero(amount)
        weight = amount[near] ** 2
        total[near] += weight
        back[near] += weight[:, None] * transform_points(invert_rigid(motion), nodes[near])
    rigid = np.flatnonzero(total)
    return rigid, back[rigid] / total[rigid, None]


def _led_back(
    bend: PolyrigidMap, grid: Volume, nodes: Array, free: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """Where nodes (N, 3) come from, mm, and the residuals of those that are free.

    Every second one along each axis is led back first: the others start between them.
    """
    common = Rigid(bend.common_ct_to_world)
    some = nodes.reshape(*grid.array.shape, 3)[::2, ::2, ::2]
    led = bend.lead_back(common.apply(some.reshape(-1, 3)))
    moves = np.moveaxis(led.points_ct.reshape(some.shape) - some, -1, 0)
    back, residual = nodes.copy(), np.zeros(len(nodes))
    numbers = np.flatnonzero(free)
    for begin in range(0, len(numbers), _AT_ONCE):
        part = numbers[begin : begin + _AT_ONCE]
        where = np.array(np.unravel_index(part, grid.array.shape)) / 2.0
        between = [ndimage.map_coordinates(m, where, order=1, mode="nearest") for m in moves]
        led = bend.lead_back(common.apply(nodes[part]), nodes[part] + np.array(between).T)
        back[part], residual[part] = led.points_ct, led.residual_mm
    return back, residual[free]


def least_jacobian(bend: PolyrigidMap, ct: Volume, step_mm: float = 0.0) -> float:
    """Say by how much the bend presses the CT together where it does so most.

    Args:
        bend: the map.
        ct: the CT, or another volume with its grid.
        step_mm: at voxels about so far apart, mm; 0 is every voxel.

    Returns:
        The least determinant of the map's derivative, by differences between neighbouring voxels
        (those on the last faces have none): 1 is rigid, and 0 or less is a fold.
    """
    stride = np.maximum(1, np.rint(step_mm / ct.spacing)).astype(int)
    matrix = ct.index_to_physical.copy()
    matrix[:3, :3] *= stride
    volume = float(np.linalg.det(matrix[:3, :3]))
    least = np.inf
    for index in _indices((np.array(ct.size) - 1) // stride):
        corner = bend.apply(transform_points(matrix, index))
        edges = [bend.apply(transform_points(matrix, index + unit)) - corner for unit in np.eye(3)]
        least = min(least, float(np.linalg.det(np.stack(edges, axis=-1)).min()) / volume)
    return least


def _indices(size: ArrayLike) -> Iterator[Array]:
    """All (i, j, k) of a grid (I, J, K), i fastest, in parts (N, 3) that memory holds."""
    i, j, k = (int(n) for n in np.asarray(size))
    for begin in range(0, i * j * k, _AT_ONCE):
        numbers = np.arange(begin, min(begin + _AT_ONCE, i * j * k))
        yield np.stack(np.unravel_index(numbers, (k, j, i))[::-1], axis=1).astype(float)


def _shell(ct: Volume) -> Array:
    """Indices (N, 3) on the six faces around the outermost voxels."""
    lines = [np.linspace(-0.5, n - 0.5, 24) for n in ct.size]
    box = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 3)
    low, high = [line[0] for line in lines], [line[-1] for line in lines]
    return np.asarray(box[((box == low) | (box == high)).any(axis=1)])
