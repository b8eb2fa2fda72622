"""Gaussians from voxels: fine ones in the inner cube, coarse ones for all the beam around it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..gaussians import GaussianCloud
from ..geometry import Array
from ..reconstruction import Box, cube

# Standard deviations in steps of the lattice: less leaves gaps, more blurs. (Equal Gaussians are
# flat to 1.5 %: 2 exp(-2 pi^2 0.55^2) along each axis.)
_WIDTH = 0.55
# The share of the Gaussians that starts in the inner cube, and the share of all that splits may
# still add there.
_INNER_SHARE, _FOR_SPLITS = 0.45, 0.1
# Voxels below this share of the strong ones hold nothing.
_FAINT = 0.05


def draw_clouds(
    voxels: Tensor, grid: Box, inner: Box, gaussians: int, finest_mm: float
) -> tuple[GaussianCloud, int]:
    """Draw both clouds of voxels (K, J, I) on ``grid``, one after the other.

    On even lattices, no finer than ``finest_mm``: the inner one fills the cube ``inner``, the outer
    one the rest, both only where there is something. Returns the cloud (world mm) and how many of
    it, the first, are inner.
    """
    least = _FAINT * float(torch.quantile(voxels[voxels > 0], 0.95)) if voxels.any() else 0.0
    room = (1.0 - _FOR_SPLITS) * gaussians
    share = _INNER_SHARE * room
    full = voxels > least
    within = _inside(grid, inner).to(full.device)
    volume_mm3 = grid.spacing_mm**3
    fine_mm = max((float((full & within).sum()) * volume_mm3 / share) ** (1.0 / 3.0), finest_mm)
    rest = float((full & ~within).sum()) * volume_mm3
    # No finer than the voxels: nothing more is known there.
    coarse_mm = max((rest / (room - share)) ** (1.0 / 3.0), fine_mm, grid.spacing_mm)
    while True:
        parts = (
            _lattice(voxels, grid, inner, fine_mm, least),
            _lattice(voxels, grid, grid, coarse_mm, least, hole=inner),
        )
        count = sum(len(part) for part in parts)
        if count <= gaussians:
            break
        # What is half full at its rim takes more than its volume says.
        wider = (count / room) ** (1.0 / 3.0)
        fine_mm, coarse_mm = fine_mm * wider, coarse_mm * wider
    return GaussianCloud.concatenate(parts), len(parts[0])


def _inside(grid: Box, inner: Box) -> Tensor:
    """Mask (K, J, I) of the voxels of a grid in a box."""
    masks = []
    for axis, count in enumerate(grid.size):
        at = grid.lower[axis] + grid.spacing_mm * (np.arange(count) + 0.5)
        masks.append(torch.from_numpy((at > inner.lower[axis]) & (at < inner.upper[axis])))
    x, y, z = masks
    return z[:, None, None] & y[None, :, None] & x[None, None, :]


def _lattice(
    voxels: Tensor,
    grid: Box,
    over: Box,
    step_mm: float,
    least: float,
    hole: Box | None = None,
) -> GaussianCloud:
    lattice = cube(over.centre, float((over.upper - over.lower).max()), step_mm)
    axes = [lattice.lower[a] + step_mm * (np.arange(n) + 0.5) for a, n in enumerate(lattice.size)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    values = values_at(voxels, grid, places)
    keep = (values > least).cpu().numpy()
    if hole is not None:
        keep &= ~((places > hole.lower) & (places < hole.upper)).all(1)
    if not keep.any():
        keep[int(values.argmax())] = True
    like = voxels
    chosen = torch.from_numpy(np.flatnonzero(keep)).to(like.device)
    count = len(chosen)
    quaternions = torch.zeros(count, 4).to(like)
    quaternions[:, 0] = 1.0
    # So that a lattice of equal densities has the voxels' value on average.
    peak = values[chosen] / ((2.0 * np.pi) ** 1.5 * _WIDTH**3)
    return GaussianCloud(
        torch.from_numpy(places[keep]).to(like),
        torch.full((count, 3), _WIDTH * step_mm).to(like),
        quaternions,
        peak.clamp_min(1e-6),
    )


def values_at(voxels: Tensor, grid: Box, places: Array) -> Tensor:
    """Trilinear values (N,) of voxels (K, J, I) at places (N, 3), world mm; 0 outside."""
    index = (places - grid.lower) / grid.spacing_mm - 0.5
    size = np.array(grid.size)
    unit = torch.from_numpy(2.0 * (index + 0.5) / size - 1.0).to(voxels)
    values: Tensor = functional.grid_sample(
        voxels[None, None], unit[None, None, None], mode="bilinear", align_corners=False
    )[0, 0, 0, 0]
    return values
