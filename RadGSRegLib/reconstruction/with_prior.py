"""The posed CT Gaussians, bent to the X-rays as far as the X-rays agree.

Two X-rays cannot rebuild what the CT has measured in three dimensions; they can correct where it
lies when the vertebra has changed its shape or the pose is a little off. Let free one by one,
thousands of Gaussians explain neighbours and scatter instead, even where the vertebra has changed
(measured: worse than the prior in every case). So:

1. the Gaussians move along a smooth field, at a price (``anchor``). Their densities stay: under an
   unknown display curve, and with local means taken off, X-rays do not tell them. TV is taken of
   the change of the volume; that of the volume itself would wipe out the CT's texture.
2. the fit is made with a part of the views held out, and judged on those: a true change is one in
   all views, whereas one invented for a single view's clutter shows as nothing, or as an error, in
   another. The fits must not contradict each other, and the share of the change that predicts the
   views held out best is the most that the final fit to all views is allowed.
3. fits to vertebrae that have not changed at all move them by up to 0.35 mm (root mean square):
   that much cannot be believed. The final change is shrunk as James and Stein do, to nothing at
   `bounds.FLOOR_MM` and below.

Where nothing is left, the prior is the result. Nothing is split or added: the CT's Gaussians are
already finer than an X-ray's pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..gaussians import DEFAULT_CUTOFF, Adam, GaussianCloud, rasterize, voxelize
from ..geometry import Array
from ..system import Progress, side_by_side_reporting
from . import bounds
from .calibration import Target
from .deadline import Deadline
from .losses import image_losses, total_variation
from .types import ReconstructionOptions

_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
# The field: bells of 0.7 node distances about nodes 20 mm apart; Adam's step in mm.
_NODE_MM = 20.0
_BELL = 0.7
_RATE_MM = 0.15
_BLOCK_VOXELS = 32
_BLOCK_MM = 1.5
_FITTING = "fitting the vertebra to the X-rays"


@dataclass(frozen=True)
class PriorFit:
    """The cloud, and JSON values.

    "change_allowed" (the share of the change of the final fit that was made), "change_mm" (root
    mean square of what was made), "prediction_gain" (by how much the views held out are predicted
    better), "reason" (one sentence), "steps".
    """

    cloud: GaussianCloud
    quality: dict[str, Any]


class SmoothChange:
    """A prior moved by a smooth field: bells about the nodes of a lattice over it.

    ``free`` (M, 3) are the nodes' displacements in mm, all zero at the start.
    """

    def __init__(self, prior: GaussianCloud) -> None:
        self.prior = prior
        low, high = prior.means.amin(0), prior.means.amax(0)
        counts = ((high - low) / _NODE_MM).ceil().long() + 1
        axes = [
            (low[a] + high[a]) / 2 + _NODE_MM * (torch.arange(n) - (n - 1) / 2.0).to(prior.means)
            for a, n in enumerate(counts.tolist())
        ]
        nodes = torch.cartesian_prod(*axes)
        bells = torch.exp(-0.5 * (torch.cdist(prior.means, nodes) / (_BELL * _NODE_MM)) ** 2)
        reach = bells.sum(0)
        bells = bells[:, reach > bounds.LEAST_REACH * reach.max()]
        self._bells = bells / bells.sum(1, keepdim=True)
        self.free = torch.zeros(bells.shape[1], 3).to(prior.means).requires_grad_()

    def field(self) -> Tensor:
        """The displacement (N, 3) mm of every Gaussian."""
        return self._bells @ self.free

    def cloud(self, share: float = 1.0) -> GaussianCloud:
        """The prior with a share of the change."""
        _, *others = self.prior.tensors
        return GaussianCloud(self.prior.means + share * self.field(), *others)

    def size_mm(self) -> float:
        """The root mean square displacement."""
        return float(self.field().detach().square().sum(1).mean().sqrt())


def fit_with_prior(
    prior: GaussianCloud,
    targets: Sequence[Target],
    options: ReconstructionOptions,
    deadline: Deadline,
    progress: Progress,
) -> PriorFit:
    """Bend a posed prior (world mm) to calibrated X-rays; see the module's head.

    Deterministic for ``options.seed``. A deadline that passes leaves the prior as it is, unless the
    final fit has begun.
    """
    usable = [target for target in targets if float(target.weight.sum()) > 0.0]
    folds = _folds(len(usable))
    quality = {"change_allowed": 0.0, "change_mm": 0.0, "prediction_gain": 0.0, "steps": 0}
    if not folds:
        reason = "fewer than two views show the prior, so none can check another"
        return PriorFit(prior, {**quality, "reason": reason})
    parts = len(folds) + 1
    changes, predicted = [], np.zeros(len(_SHARES))

    def fit(fold: tuple[list[int], list[int]], part: Progress) -> tuple[SmoothChange, Array]:
        fitted, held_out = fold
        change = _fit(prior, [usable[i] for i in fitted], options, deadline, part)
        losses = [_prediction(change, usable[i], options.weight_dssim) for i in held_out]
        return change, np.sum(losses, axis=0)

    part = progress.part(0.0, 1.0 - 1.0 / parts)
    for change, losses in side_by_side_reporting(fit, folds, part, _FITTING):
        changes.append(change)
        predicted += losses
    quality["steps"] = options.prior_steps
    gains = 1.0 - predicted / predicted[0]
    best = int(gains.argmax())
    quality["prediction_gain"] = float(gains[best])
    if deadline.passed:
        reason = "time was up before the views had checked each other"
    elif gains[best] <= bounds.LEAST_GAIN:
        reason = "no change that some views ask for is borne out by the others"
    elif _agreement(changes) <= 0.0:
        reason = "the views ask for changes that contradict each other"
    else:
        change = _fit(prior, usable, options, deadline, progress.part((parts - 1) / parts, 1.0))
        size = change.size_mm()
        shrunk = 1.0 - (bounds.FLOOR_MM / size) ** 2 if size > bounds.FLOOR_MM else 0.0
        share = _SHARES[best] * shrunk
        if share >= bounds.LEAST_CHANGE:
            quality |= {"change_allowed": share, "change_mm": share * size}
            reason = "the views agree"
            return PriorFit(change.cloud(share).detach(), {**quality, "reason": reason})
        reason = "the change that the views ask for is too small to be told from error"
    return PriorFit(prior, {**quality, "reason": reason})


def _folds(count: int) -> list[tuple[list[int], list[int]]]:
    """(fitted, held out) for each of up to three groups of views; none for a single view."""
    groups = min(count, 3)
    if groups < 2:
        return []
    members = [list(range(group, count, groups)) for group in range(groups)]
    return [(sorted(set(range(count)) - set(held_out)), held_out) for held_out in members]


def _agreement(changes: Sequence[SmoothChange]) -> float:
    """The least inner product of any two changes: negative where they contradict each other."""
    fields = [change.field().detach() for change in changes]
    return min(float((a * b).sum()) for a, b in combinations(fields, 2))


def _fit(
    prior: GaussianCloud,
    targets: Sequence[Target],
    options: ReconstructionOptions,
    deadline: Deadline,
    progress: Progress,
) -> SmoothChange:
    change = SmoothChange(prior)
    optimizer = Adam([change.free], betas=(0.8, 0.95))
    generator = np.random.default_rng(options.seed)
    typical = prior.densities.median().clamp_min(1e-9)
    for step in range(options.prior_steps):
        if deadline.passed:
            break
        progress(step / options.prior_steps, _FITTING)
        cloud = change.cloud()
        loss = options.anchor * change.free.square().mean()
        for target in targets:
            loss = loss + _image_loss(cloud, target, options.weight_dssim) / len(targets)
        if options.weight_tv > 0.0:
            difference = _change_in_block(prior, cloud, _random_block(prior, generator))
            loss = loss + options.weight_tv * total_variation(difference / typical)
        optimizer.step(loss, _RATE_MM * (1.0 - 0.9 * step / options.prior_steps))
    return change


def _image_loss(cloud: GaussianCloud, target: Target, weight_dssim: float) -> Tensor:
    camera = target.camera
    rendered = rasterize(
        cloud, camera.intrinsic, camera.world_to_camera, camera.size, cutoff=bounds.CUTOFF
    )
    l1, dssim = image_losses(rendered / target.scale, target.image / target.scale, target.weight)
    return l1 + weight_dssim * dssim


@torch.no_grad()
def _prediction(change: SmoothChange, target: Target, weight_dssim: float) -> Array:
    """The loss in a view that the change was not fitted to, for every share of it."""
    return np.array([float(_image_loss(change.cloud(s), target, weight_dssim)) for s in _SHARES])


def _change_in_block(prior: GaussianCloud, cloud: GaussianCloud, block: Array) -> Tensor:
    """By how much a moved prior differs from it in a block's voxels (K, J, I).

    Gaussians that do not reach the block are left out, which changes no digit.
    """
    half_mm = 0.5 * _BLOCK_MM * _BLOCK_VOXELS
    centre = prior.means.new_tensor(block[:3, :3] @ np.full(3, 0.5 * (_BLOCK_VOXELS - 1)))
    centre = centre + prior.means.new_tensor(block[:3, 3])
    # What is narrower than a voxel is widened by as much.
    reach = half_mm + DEFAULT_CUTOFF * (prior.scales.amax(1, keepdim=True) + _BLOCK_MM)
    near = [((each.means.detach() - centre).abs() <= reach).all(1) for each in (prior, cloud)]
    index = (near[0] | near[1]).nonzero()[:, 0]
    size = (_BLOCK_VOXELS,) * 3
    moved, still = (voxelize(each.select(index), block, size) for each in (cloud, prior))
    return moved - still


def _random_block(cloud: GaussianCloud, generator: np.random.Generator) -> Array:
    """index_to_world (4, 4) of a block of voxels about a random Gaussian."""
    chosen = int(generator.integers(len(cloud)))
    centre = cloud.means[chosen].detach().cpu().double().numpy()
    matrix = np.diag([_BLOCK_MM, _BLOCK_MM, _BLOCK_MM, 1.0])
    matrix[:3, 3] = centre - _BLOCK_MM * (_BLOCK_VOXELS - 1) / 2.0
    return matrix
