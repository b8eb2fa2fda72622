"""Both clouds fitted to line integrals: L1, D-SSIM and total variation, anytime.

R2-Gaussian's optimisation (R. Zha et al., 2024; S. Jecklin et al., "IXGS", 2025) with any poses:
some views a step, densities positive, Gaussians of the inner cube split where their gradients are
large and dropped where they carry nothing (`DensityControl`, which can be exchanged).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..gaussians import GaussianCloud, rasterize, voxelize
from ..reconstruction import Box, FreeCloud, halves, image_losses
from . import bounds
from .beams import Beams
from .drawing import values_at
from .fit_state import fresh_state
from .types import BeamOptions
from .work import BeamWork

# Adam's steps, as `FreeCloud`'s: smaller than a fresh cloud's, for these start from voxels.
RATES = (0.05, 0.01, 0.01, 0.03)
# This power of their size is how far Gaussians move. Those of the cube hold the voxels' detail from
# the start, and each is hardly in the data: moved as far as the wide ones around it they become
# noise, of which the fit does not get rid. (With 1.5 they move by 0.2; with all rates at 0.2 the
# wide ones stay behind: docs/experiments/beam.md, "What the Gaussians lose".)
SLOWER = 1.5
# At the end they are this share of the start's.
_LAST_RATE = 0.03
_VIEWS_PER_STEP = 2
_CUTOFF = 3.5
# The block of the inner cube whose variation a step looks at, voxels along an edge.
_BLOCK, _BLOCKS, _BLOCK_CUTOFF = 32, 36.0, 3.0
# Attenuation of soft tissue and spongy bone, 1/mm, and below what share of it slopes are squares.
_UNIT, _SMOOTH = 0.03, 1e-4
# Gaussians are split and dropped every so many steps, between these shares of the fit.
_CONTROL_EVERY = 60
_CONTROL_WHEN = (0.1, 0.6)
# How often the views held out are looked at.
_LOOKS = 12


class Control(Protocol):
    """What decides which Gaussians stay and which are split: `reconstruction.DensityControl`."""

    def keep(self, cloud: GaussianCloud, lower: np.ndarray, upper: np.ndarray) -> Tensor:
        """Mask (N,) of the Gaussians that stay."""

    def to_split(self, gradients: Tensor) -> Tensor:
        """Indices (M,) of the Gaussians to split, by the length of their mean gradients (N,)."""


@dataclass(frozen=True)
class CoarseVoxels:
    """Voxels (K, J, I) on a grid, which few views do not allow to leave far behind, and the cube
    within it where detail is wanted."""

    voxels: Tensor
    grid: Box
    inner: Box


@dataclass(frozen=True)
class CloudFit:
    """The best cloud, how many steps were taken, and at which it was the best."""

    cloud: GaussianCloud
    steps: int
    best_step: int


def render_view(cloud: GaussianCloud, beams: Beams, view: int) -> Tensor:
    """The line integrals (rows, columns) of a cloud in one of the views."""
    camera = beams.cameras[view]
    return rasterize(cloud, camera.intrinsic, camera.world_to_camera, camera.size, cutoff=_CUTOFF)


def fit_cloud(
    cloud: GaussianCloud,
    beams: Beams,
    coarse: CoarseVoxels,
    options: BeamOptions,
    control: Control,
    *,
    judge: Callable[[GaussianCloud], float] | None = None,
    report: Callable[[float, Callable[[], GaussianCloud]], None] | None = None,
    work: BeamWork | None = None,
) -> CloudFit:
    """Fit a cloud (world mm) to views whose values are line integrals.

    ``judge`` (less is better) is asked now and then, and the best cloud is returned; without it the
    last. ``report`` hears the share done, with a function that gives the best cloud so far, and
    may raise to cancel. ``work`` keeps the state now and then and at the end, and a fit goes on
    from the state that it holds.
    """
    scale = float(torch.quantile(beams.values[beams.weight > 0][::7], 0.99).clamp_min(1e-6))
    hold = bounds.HOLD * (bounds.HOLD_VIEWS / len(beams)) ** bounds.HOLD_POWER
    narrow = 0.25 * float(cloud.scales.min())
    state = fresh_state(cloud, narrow, RATES, options.seed, slower=SLOWER)
    if work is not None:
        with work.fit() as kept:
            if kept is not None:
                state.take_up(*kept)
        # More steps than before: views held out are looked at as often as of a fit of so many.
        state.looks = min(state.looks, int(np.ceil(_LOOKS * state.steps / options.steps)))
    began = time.perf_counter()
    limit = None if options.minutes is None else 60.0 * options.minutes
    while True:
        done = state.steps / options.steps
        if limit is not None:
            spent = time.perf_counter() - began
            done = 1.0 if limit <= 0.0 else max(done, spent / limit)
        if judge is not None and (done >= 1.0 or done * _LOOKS >= state.looks):
            state.looks += 1
            now = state.free.cloud().detach()
            value = judge(now)
            if state.best is None or value < state.best[0]:
                # Some of its tensors are those that the steps to come write into.
                still = GaussianCloud(*(tensor.clone() for tensor in now.tensors))
                state.best = (value, still, state.steps)
        if work is not None and (work.due or (done >= 1.0 and state.steps > 0)):
            work.keep_fit(*state.kept())
        if done >= 1.0:
            break
        if report is not None:
            report(done, state.cloud)
        if len(state.order) < _VIEWS_PER_STEP:
            more = state.generator.permutation(len(beams))
            state.order = np.concatenate([state.order, more])
        chosen, state.order = state.order[:_VIEWS_PER_STEP], state.order[_VIEWS_PER_STEP:]
        now = state.free.cloud()
        loss = _misfit(now, beams, chosen.tolist(), scale, options.weight_dssim)
        loss = loss + _unlikely(now, coarse, options.weight_tv, hold, state.generator)
        state.gathered = state.gathered + state.free.step(loss, _LAST_RATE**done)
        state.steps += 1
        if state.steps % _CONTROL_EVERY == 0 and _CONTROL_WHEN[0] < done < _CONTROL_WHEN[1]:
            state.gathered = _controlled(state.free, control, state.gathered, coarse)
    best_step = state.steps if state.best is None else state.best[2]
    return CloudFit(state.cloud(), state.steps, best_step)


def _misfit(
    cloud: GaussianCloud, beams: Beams, views: Sequence[int], scale: float, weight_dssim: float
) -> Tensor:
    loss = torch.zeros(()).to(cloud.means)
    for view in views:
        image = render_view(cloud, beams, view)
        l1, dssim = image_losses(image / scale, beams.values[view] / scale, beams.weight[view])
        loss = loss + (l1 + weight_dssim * dssim) / len(views)
    return loss


def _unlikely(
    cloud: GaussianCloud,
    coarse: CoarseVoxels,
    weight_tv: float,
    hold: float,
    generator: np.random.Generator,
) -> Tensor:
    """What is unlikely of a random block of the inner cube, in units of a tissue's attenuation:
    variation, and by ``hold`` whatever differs from the coarse voxels."""
    inner = coarse.inner
    edge = float((inner.upper - inner.lower).max())
    spacing = max(edge / _BLOCKS, inner.spacing_mm)
    room = np.maximum(inner.upper - inner.lower - _BLOCK * spacing, 0.0)
    matrix = np.diag([spacing, spacing, spacing, 1.0])
    matrix[:3, 3] = inner.lower + spacing / 2.0 + generator.random(3) * room
    block = voxelize(cloud, matrix, (_BLOCK,) * 3, cutoff=_BLOCK_CUTOFF) / _UNIT
    slopes = [(block.diff(dim=axis).square() + _SMOOTH).sqrt().mean() for axis in range(3)]
    variation = weight_tv * torch.stack(slopes).mean()
    steps = np.indices((_BLOCK,) * 3).reshape(3, -1)[::-1].T * spacing
    known = values_at(coarse.voxels, coarse.grid, matrix[:3, 3] + steps) / _UNIT
    return variation + hold * (block.flatten() - known).abs().mean()


@torch.no_grad()
def _controlled(
    free: FreeCloud, control: Control, gathered: Tensor, coarse: CoarseVoxels
) -> Tensor:
    """Drop and split; returns the gradients gathered so far, all zero, for the new number."""
    cloud = free.cloud()
    region, inner = coarse.grid, coarse.inner
    stays = control.keep(cloud, region.lower, region.upper)
    low, high = (torch.as_tensor(edge).to(cloud.means) for edge in (inner.lower, inner.upper))
    within = ((cloud.means > low) & (cloud.means < high)).all(1)
    here = (stays & within).nonzero()[:, 0]
    parents = here[control.to_split(gathered[here])] if len(here) else here
    split = torch.zeros_like(stays)
    split[parents] = True
    kept = (stays & ~split).nonzero()[:, 0]
    children = GaussianCloud.concatenate(halves(cloud.select(parents)))
    free.keep(kept, children)
    return torch.zeros(len(free.tensors[0])).to(gathered)
