"""The posed CT Gaussians, adjusted to the X-rays as far as the X-rays bear each other out.

Two X-rays cannot rebuild what the CT has measured in three dimensions; they can correct it where
the vertebra has changed. What one X-ray seems to say, though, may be a neighbour's shadow or the
display's doing. So:

1. every Gaussian may leave the prior, at a price (``anchor``) in units of what it may plausibly
   change by, and TV is taken of the *change*: that of the volume itself would wipe out the CT's
   texture;
2. the fit is made with a part of the views held out, and judged on those: a change that is true is
   one in all views, whereas one invented to explain a single view's clutter shows as nothing, or as
   an error, in another. The share of the change that predicts the views held out best is the share
   that the final fit to all views is allowed; if nothing is to be gained, the prior stays as it is.

Nothing is added: the CT's Gaussians are already finer than an X-ray's pixels. Those that the fit
makes vanish are pruned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..gaussians import GaussianCloud, rasterize, voxelize
from ..progress import Progress
from .calibration import Target
from .deadline import Deadline
from .losses import image_losses, total_variation
from .types import ReconstructionOptions

# What a vertebra may plausibly change by: mm along each axis, and the logarithm of the density.
UNITS = (1.0, 1.0, 1.0, 0.1)
_NODE_MM = 20.0
_BELL = 0.7
_RATE = 0.15
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
# A prediction has to be this much better before anything is changed.
_LEAST_GAIN = 0.01
_CUTOFF = 3.5
_BLOCK_VOXELS = 32
_BLOCK_MM = 1.5
_PRUNE = 1e-3


@dataclass(frozen=True)
class PriorFit:
    """The cloud, and JSON values: "change_allowed", "prediction_gain", "steps"."""

    cloud: GaussianCloud
    quality: dict[str, Any]


class _Change:
    """A prior and a smooth change of it: a displacement and a log gain of density, (N, 4).

    Both are sums of bells about the nodes of a lattice, ``node_mm`` apart; ``free`` (M, 4) holds
    the nodes' values in units of `UNITS`.
    """

    def __init__(self, prior: GaussianCloud, node_mm: float) -> None:
        self.prior = prior
        low, high = prior.means.amin(0), prior.means.amax(0)
        counts = ((high - low) / node_mm).ceil().long() + 1
        axes = [
            (low[a] + high[a]) / 2 + node_mm * (torch.arange(n) - (n - 1) / 2.0).to(prior.means)
            for a, n in enumerate(counts.tolist())
        ]
        nodes = torch.cartesian_prod(*axes)
        distance = torch.cdist(prior.means, nodes) / node_mm
        bells = torch.exp(-0.5 * (distance / _BELL) ** 2)
        near = bells.sum(0) > 1e-2 * bells.sum(0).max()
        self._bells = bells[:, near]
        self._bells /= self._bells.sum(1, keepdim=True)
        self.free = torch.zeros(int(near.sum()), 4).to(prior.means).requires_grad_()

    def cloud(self, share: float = 1.0) -> GaussianCloud:
        """The prior with a share of the change."""
        prior = self.prior
        units = torch.tensor(UNITS).to(prior.means)
        field = self._bells @ (share * units * self.free)
        return GaussianCloud(
            prior.means + field[:, :3],
            prior.scales,
            prior.quaternions,
            prior.densities * field[:, 3].exp(),
        )

    def price(self) -> Tensor:
        """The mean square of the change, in its units."""
        return self.free.square().mean()


def fit_with_prior(
    prior: GaussianCloud,
    targets: Sequence[Target],
    options: ReconstructionOptions,
    deadline: Deadline,
    progress: Progress,
) -> PriorFit:
    """Adjust a posed prior (world mm) to calibrated X-rays; see the module's head.

    Deterministic for ``options.seed``. Never farther from the X-rays held out than the prior.
    """
    usable = [target for target in targets if float(target.weight.sum()) > 0.0]
    gain, share = 0.0, 0.0
    folds = _folds(len(usable))
    parts = len(folds) + 1
    predicted = np.zeros(len(_SHARES))
    for number, (fitted, held_out) in enumerate(folds):
        part = progress.part(number / parts, (number + 1) / parts)
        change = _fit(prior, [usable[i] for i in fitted], options, deadline, part)
        for target in (usable[i] for i in held_out):
            predicted += _prediction(change, target)
    if folds and not deadline.passed:
        gains = 1.0 - predicted / predicted[0]
        best = int(gains.argmax())
        if gains[best] > _LEAST_GAIN:
            gain, share = float(gains[best]), _SHARES[best]
    cloud = prior
    if share > 0.0:
        part = progress.part((parts - 1) / parts, 1.0)
        cloud = _fit(prior, usable, options, deadline, part).cloud(share).detach()
        masses = cloud.masses()
        cloud = cloud.select(masses > _PRUNE * masses.median())
    quality = {"change_allowed": share, "prediction_gain": gain, "steps": options.prior_steps}
    return PriorFit(cloud.detach(), quality)


def _folds(count: int) -> list[tuple[list[int], list[int]]]:
    """(fitted, held out) for each of up to three groups of views; none for a single view."""
    groups = min(count, 3)
    if groups < 2:
        return []
    members = [list(range(group, count, groups)) for group in range(groups)]
    return [(sorted(set(range(count)) - set(held_out)), held_out) for held_out in members]


def _fit(
    prior: GaussianCloud,
    targets: Sequence[Target],
    options: ReconstructionOptions,
    deadline: Deadline,
    progress: Progress,
) -> _Change:
    change = _Change(prior, _NODE_MM)
    optimizer = torch.optim.Adam([change.free], betas=(0.8, 0.95))
    generator = np.random.default_rng(options.seed)
    peak = float(prior.densities.median())
    for step in range(options.prior_steps):
        if deadline.passed:
            break
        progress(step / options.prior_steps, "fitting the vertebra to the X-rays")
        decay = 1.0 - 0.9 * step / options.prior_steps
        optimizer.param_groups[0]["lr"] = _RATE * decay
        cloud = change.cloud()
        loss = options.anchor * change.price()
        for target in targets:
            loss = loss + _image_loss(cloud, target, options.weight_dssim) / len(targets)
        if options.weight_tv > 0.0:
            block = _random_block(prior, generator)
            size = (_BLOCK_VOXELS,) * 3
            difference = voxelize(cloud, block, size) - voxelize(prior, block, size)
            loss = loss + options.weight_tv * total_variation(difference / peak)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return change


def _image_loss(cloud: GaussianCloud, target: Target, weight_dssim: float) -> Tensor:
    camera = target.camera
    rendered = rasterize(
        cloud, camera.intrinsic, camera.world_to_camera, camera.size, cutoff=_CUTOFF
    )
    l1, dssim = image_losses(rendered / target.scale, target.image / target.scale, target.weight)
    return l1 + weight_dssim * dssim


@torch.no_grad()
def _prediction(change: _Change, target: Target) -> np.ndarray:
    """The loss in a view that the change was not fitted to, for every share of it."""
    losses = [float(_image_loss(change.cloud(share), target, 0.2)) for share in _SHARES]
    return np.array(losses)


def _random_block(cloud: GaussianCloud, generator: np.random.Generator) -> np.ndarray:
    """index_to_world (4, 4) of a block of voxels about a random Gaussian."""
    chosen = int(generator.integers(len(cloud)))
    centre = cloud.means[chosen].detach().cpu().double().numpy()
    matrix = np.diag([_BLOCK_MM, _BLOCK_MM, _BLOCK_MM, 1.0])
    matrix[:3, 3] = centre - _BLOCK_MM * (_BLOCK_VOXELS - 1) / 2.0
    return matrix
