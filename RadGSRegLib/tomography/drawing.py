"""Gaussians from voxels: fine ones in the inner cube, coarse ones for all the beam around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..gaussians import GaussianCloud, voxelize
from ..geometry import Array
from ..reconstruction import Box, cube

# Standard deviations in steps of the lattice: less leaves gaps, more blurs. (Equal Gaussians are
# flat to 1.5 %: 2 exp(-2 pi^2 0.55^2) along each axis.)
_WIDTH = 0.55
# The share of the Gaussians that starts in the inner cube, and the share of all that splits may
# still add there.
_INNER_SHARE, _FOR_SPLITS = 0.45, 0.1
# How many equal Gaussians a lattice of them has everywhere.
_OVERLAP = (2.0 * np.pi) ** 1.5 * _WIDTH**3
# By how much such Gaussians exceed their mean in the middle of each.
_CREST = 1.0 + 6.0 * np.exp(-2.0 * np.pi**2 * _WIDTH**2)
# Voxels below this share of the strong ones hold nothing.
_FAINT = 0.05
# The least density of a Gaussian, 1/mm.
_NOTHING = 1e-6
# Rounds in which densities settle, and by how much of what is missing: none overshoots. (40
# X-rays, attenuation in the cube after 0, 3, 6, 12 rounds: 0.146, 0.763, 0.772, 0.773; the
# voxels' 0.791: docs/experiments/beam.md, "What the Gaussians lose".)
SETTLING = 6
_SETTLING_RATE = 1.0 / _OVERLAP


@dataclass(frozen=True)
class _Drawn:
    """Gaussians ``cloud`` (N) on a lattice: in the middle of which of its cells, numbered with z
    fastest, they lie, and what the voxels have there (N,), 1/mm."""

    cloud: GaussianCloud
    lattice: Box
    cells: Tensor
    wanted: Tensor

    def shown_by(self, cloud: GaussianCloud) -> Tensor:
        """What a cloud has in the middles of the cells (N,), 1/mm."""
        lattice = self.lattice
        shown = voxelize(cloud, lattice.index_to_world, lattice.size, widen=False)
        return shown.permute(2, 1, 0).flatten()[self.cells]


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
            _drawn(voxels, grid, inner, fine_mm, least),
            _drawn(voxels, grid, grid, coarse_mm, least, hole=inner),
        )
        count = sum(len(part.cloud) for part in parts)
        if count <= gaussians:
            break
        # What is half full at its rim takes more than its volume says.
        wider = (count / room) ** (1.0 / 3.0)
        fine_mm, coarse_mm = fine_mm * wider, coarse_mm * wider
    return _settled(parts), len(parts[0].cloud)


def _settled(parts: Sequence[_Drawn]) -> GaussianCloud:
    """Change densities, never below nothing, until the sum of all Gaussians has what the voxels
    have in the middle of each.

    Where the lattices meet, the wide Gaussians of the outer one reach into the cube, where the
    cube's own have not ended: without this half as much again is there.
    """
    for _ in range(SETTLING):
        cloud = GaussianCloud.concatenate([part.cloud for part in parts])
        for part in parts:
            missing = _CREST * part.wanted - part.shown_by(cloud)
            densities = part.cloud.densities + _SETTLING_RATE * missing
            part.cloud.densities.copy_(densities.clamp_min(_NOTHING))
    return GaussianCloud.concatenate([part.cloud for part in parts])


def _inside(grid: Box, inner: Box) -> Tensor:
    """Mask (K, J, I) of the voxels of a grid in a box."""
    masks = []
    for axis, count in enumerate(grid.size):
        at = grid.lower[axis] + grid.spacing_mm * (np.arange(count) + 0.5)
        masks.append(torch.from_numpy((at > inner.lower[axis]) & (at < inner.upper[axis])))
    x, y, z = masks
    return z[:, None, None] & y[None, :, None] & x[None, None, :]


def _drawn(
    voxels: Tensor,
    grid: Box,
    over: Box,
    step_mm: float,
    least: float,
    hole: Box | None = None,
) -> _Drawn:
    lattice = cube(over.centre, float((over.upper - over.lower).max()), step_mm)
    axes = [lattice.lower[a] + step_mm * (np.arange(n) + 0.5) for a, n in enumerate(lattice.size)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    values = values_at(_means(voxels, step_mm / grid.spacing_mm), grid, places)
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
    peak = values[chosen] / _OVERLAP
    cloud = GaussianCloud(
        torch.from_numpy(places[keep]).to(like),
        torch.full((count, 3), _WIDTH * step_mm).to(like),
        quaternions,
        peak.clamp_min(_NOTHING),
    )
    return _Drawn(cloud, lattice, chosen, values[chosen])


def _means(voxels: Tensor, width: float) -> Tensor:
    """Means over cubes of about so many voxels, an odd number along an edge; nothing outside."""
    edge = 2 * round((width - 1.0) / 2.0) + 1
    if edge < 3:
        return voxels
    return functional.avg_pool3d(voxels[None, None], edge, stride=1, padding=edge // 2)[0, 0]


def values_at(voxels: Tensor, grid: Box, places: Array) -> Tensor:
    """Trilinear values (N,) of voxels (K, J, I) at places (N, 3), world mm; 0 outside."""
    index = (places - grid.lower) / grid.spacing_mm - 0.5
    size = np.array(grid.size)
    unit = torch.from_numpy(2.0 * (index + 0.5) / size - 1.0).to(voxels)
    values: Tensor = functional.grid_sample(
        voxels[None, None], unit[None, None, None], mode="bilinear", align_corners=False
    )[0, 0, 0, 0]
    return values
