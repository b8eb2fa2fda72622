"""How many samples the rays of the fast simulator take, and what they compute."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import warp as wp
from numpy.typing import NDArray

from .pairs import Pairs

# Of a sample: three products and sums to find it. Then its place between voxels, seven blends of
# three numbers each, and their sums; of the rest of the body also how much of it lies in the trunk.
FIND = 6
BLEND = 3 + 7 * 3 * 3 + 3
TRUNK = 14
# Of a pixel whose noise is drawn, with a normal variate for its photons.
NOISE = 16


def followed(dim: int, inputs: Sequence[Any], whole: bool) -> tuple[Pairs, float]:
    """Samples and operations of a launch of `ray_kernels`: of the rest (``whole``, all samples
    count), or of vertebrae (those in empty cells are passed over).

    Which cells are empty is only known where the kernels are on the CPU.
    """
    pictures, lens, tables, sizes, addresses, _, _, begin, _ = inputs
    per = pictures.columns * pictures.rows
    rays = np.arange(begin, begin + dim)
    lenses = lens.numpy().reshape(-1, 3).astype(np.float64)
    bodies = tables.numpy().reshape(len(lenses), pictures.bodies, -1).astype(np.float64)
    shapes = sizes.numpy().reshape(len(lenses), pictures.bodies, 3)
    places = addresses.numpy().reshape(len(lenses), pictures.bodies, 2)
    on_cpu = sums_on_cpu(inputs)
    needed = visited = 0
    for picture in np.unique(rays // per):
        own = rays[rays // per == picture] - picture * per
        half = 0.5 * (pictures.every - 1)
        pixel = np.stack([own % pictures.columns, own // pictures.columns]) * pictures.every + half
        for body, size, place in zip(
            bodies[picture], shapes[picture], places[picture], strict=True
        ):
            samples = _samples(pixel, lenses[picture], body, size)
            visited += len(samples)
            if whole or not on_cpu:
                needed += len(samples)
            else:
                needed += int(_cells(int(place[1]), size)[tuple(samples.T[::-1])].sum())
    if whole:
        return Pairs(needed, visited), float(needed * (FIND + BLEND + TRUNK))
    return Pairs(needed, visited), float(visited * FIND + needed * (FIND + BLEND))


def sums_on_cpu(inputs: Sequence[Any]) -> bool:
    """Whether a launch wrote where this process can read."""
    return bool(wp.to_torch(inputs[-1]).device.type == "cpu")


def _cells(address: int, size: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The cells (K, J, I) that lie at an address."""
    shape = tuple(int(n) for n in size[::-1])
    pointer = ctypes.cast(address, ctypes.POINTER(ctypes.c_uint8))
    return np.ctypeslib.as_array(pointer, shape)


def _samples(
    pixel: NDArray[np.float64],
    lens: NDArray[np.float64],
    body: NDArray[np.float64],
    size: NDArray[np.int32],
) -> NDArray[np.int64]:
    """The cells (N, 3) = (i, j, k) of all samples of rays through pixels (2, R) in a body."""
    u, v = pixel
    shown = (u >= body[12]) & (u <= body[13]) & (v >= body[14]) & (v <= body[15])
    rays = np.stack([(u[shown] - lens[1]) / lens[0], (v[shown] - lens[2]) / lens[0]], 1)
    if not len(rays):
        return np.zeros((0, 3), dtype=np.int64)
    matrix = body[:12].reshape(3, 4)
    slope = (rays @ matrix[:, :2].T + matrix[:, 2]) * body[16]
    start = matrix[:, 3] + slope * body[17]
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.stack([-start / slope, (size - 1.001 - start) / slope])
    low = np.ceil(np.maximum(ends.min(0).max(1), 0.0))
    high = np.floor(ends.max(0).min(1))
    counts = np.maximum(high - low + 1.0, 0.0).astype(int)
    ray = np.repeat(np.arange(len(rays)), counts)
    n = low[ray] + np.arange(len(ray)) - np.repeat(np.cumsum(counts) - counts, counts)
    points = start[ray] + slope[ray] * n[:, None]
    return np.clip(points, 0.0, size - 1.001).astype(np.int64)
