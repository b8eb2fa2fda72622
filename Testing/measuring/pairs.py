"""How many pairs of Gaussian and pixel, Gaussian and voxel, ray and sample there are to compute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from RadGSRegLib.gaussians.warp_kernels import LANES

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """``needed``: pairs within the cut; ``visited``: those that a kernel walks, in whole blocks of
    so many lanes."""

    needed: int
    visited: int

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(self.needed + other.needed, self.visited + other.visited)


def _runs(left: Array, right: Array, there: NDArray[np.bool_], length: int) -> Pairs:
    """Pairs of runs from ``left`` to ``right`` along a row of ``length`` places, where there are
    any."""
    there = there & (right >= 0.0) & (left <= length - 1)
    first = np.where(there, np.maximum(np.ceil(left), 0.0), 1.0)
    last = np.where(there, np.minimum(np.floor(right), length - 1.0), 0.0)
    begin = np.where(left <= 0.0, 0.0, np.floor(left))
    end = np.where(right >= length - 1.0, float(length), np.floor(right) + 1.0)
    blocks = np.ceil((end - begin) / LANES) * LANES
    needed = np.maximum(last - first + 1.0, 0.0)
    return Pairs(int(needed.sum()), int(blocks[there].sum()))


def footprint_pairs(coefficients: Tensor, size: tuple[int, int], cutoff: float) -> Pairs:
    """Pairs of Gaussians, as of `splat_setup` (N, 12), and pixels of ``size`` (columns, rows)."""
    columns, rows = size
    total = Pairs(0, 0)
    v = np.arange(rows, dtype=np.float64)
    for part in coefficients.detach().double().cpu().split(max(1, 4_000_000 // rows)):
        c = part.numpy().T[:, :, None]
        u0, v0, _, a11, a12, a22, d0, d1, d2, d11, d12, d22 = c
        cut2 = cutoff * cutoff
        e11, e12, e22 = a11 - cut2 * d11, a12 - cut2 * d12, a22 - cut2 * d22
        e1, e2, e0 = -cut2 * d1, -cut2 * d2, -cut2 * d0
        dv = v[None] - v0
        b = e12 * dv + e1
        rest = b * b - e11 * ((e22 * dv + 2.0 * e2) * dv + e0)
        there = (a11 > 0.0) & (e11 > 0.0) & (e11 * e22 - e12 * e12 > 0.0) & (rest > 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            reach = np.sqrt(np.where(there, rest, 0.0))
            left, right = u0 + (-b - reach) / e11, u0 + (reach - b) / e11
        total += _runs(left, right, there, columns)
    return total


def voxel_pairs(coefficients: Tensor, size: tuple[int, int, int], cutoff: float) -> Pairs:
    """Pairs of Gaussians, as of `voxel_setup` (N, 10), and voxels of ``size`` (I, J, K)."""
    ni, nj, nk = size
    total = Pairs(0, 0)
    j, k = np.arange(nj, dtype=np.float64), np.arange(nk, dtype=np.float64)
    for part in coefficients.detach().double().cpu().split(max(1, 4_000_000 // (nj * nk))):
        mi, mj, mk, _, pii, pij, pik, pjj, pjk, pkk = part.numpy().T[:, :, None, None]
        dk, dj = k[None, :, None] - mk, j[None, None, :] - mj
        # The quadratic form at (di, dj, dk) is pii di^2 + 2 b di + c.
        b = pij * dj + pik * dk
        c = pjj * dj * dj + 2.0 * pjk * dj * dk + pkk * dk * dk
        rest = b * b - pii * (c - cutoff * cutoff)
        there = rest > 0.0
        reach = np.sqrt(np.where(there, rest, 0.0))
        total += _runs(mi + (-b - reach) / pii, mi + (reach - b) / pii, there, ni)
    return total


def ray_samples(
    shape: tuple[int, ...],
    camera_to_index: Tensor,
    directions: Tensor,
    planes: tuple[int, int, float],
    occupied: Tensor | None = None,
) -> Pairs:
    """Samples of rays (P, 3) within a volume (K, J, I) and the voxel around it.

    ``planes``: the first, the one past the last, and their distance, mm; ``needed`` are those in
    ``occupied`` cells, where these are given.
    """
    nk, nj, ni = shape
    first, stop, step = planes
    matrix = camera_to_index.detach().double().cpu()
    ahead = directions.detach().double().cpu() @ matrix[:3, :3].T
    needed = visited = 0
    limits = torch.tensor([ni, nj, nk], dtype=torch.float64)
    for n in range(first, stop):
        points = n * step * ahead + matrix[:3, 3]
        inside = ((points > -1.0) & (points < limits)).all(1)
        visited += int(inside.sum())
        if occupied is None:
            continue
        i, j, k = ((points[inside] + 1.0).floor().long()).unbind(1)
        needed += int(occupied.cpu()[k, j, i].sum())
    return Pairs(visited if occupied is None else needed, visited)
