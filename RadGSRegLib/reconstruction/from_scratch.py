"""A cloud from X-rays alone, any number of them in any pose (math.md section 5).

L1 + 0.2 D-SSIM + 0.05 TV, the TV on a random block of the box at each step; densities are
positive through softplus; Gaussians are split by gradient and dropped by density.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..gaussians import GaussianCloud, rasterize, voxelize
from ..geometry import Camera
from ..system import Progress
from ..views import guess_sign
from . import bounds
from .backdrop import Backdrop
from .box import Box
from .deadline import Deadline
from .density_control import DensityControl, halves
from .free_cloud import FreeCloud
from .losses import image_losses, total_variation
from .observation import Observation
from .start import fresh_cloud
from .types import ReconstructionOptions

_CONTROL_EVERY = 40
_CONTROL_UNTIL = 0.6
_VIEWS_PER_STEP = 2
_BLOCK_VOXELS = 32


@dataclass(frozen=True)
class FreshTarget:
    """An X-ray as attenuation, up to a smooth offset where ``backdrop`` is not None."""

    name: str
    camera: Camera
    image: Tensor
    weight: Tensor
    backdrop: Backdrop | None

    def render(self, cloud: GaussianCloud) -> Tensor:
        """What the cloud and the best backdrop look like in this view (rows, columns)."""
        camera = self.camera
        image = rasterize(
            cloud, camera.intrinsic, camera.world_to_camera, camera.size, cutoff=bounds.CUTOFF
        )
        return image if self.backdrop is None else image + self.backdrop.of(self.image - image)

    def above_backdrop(self) -> Tensor:
        """The image without its own quadratic: what to start from."""
        if self.backdrop is None:
            return self.image
        return self.weight * (self.image - self.backdrop.of(self.image))


@dataclass(frozen=True)
class FreshFit:
    """The cloud, and JSON values: "steps", "background", "polarity"."""

    cloud: GaussianCloud
    targets: tuple[FreshTarget, ...]
    scale: float
    quality: dict[str, Any]


def fresh_targets(
    observations: Sequence[Observation], box: Box, options: ReconstructionOptions
) -> tuple[tuple[FreshTarget, ...], dict[str, Any]]:
    """Observations as targets, with the polarity and the background decided."""
    smooth = options.background == "smooth"
    if options.background == "auto":
        smooth = not all(view.offset_known and _rim_is_empty(view) for view in observations)
    targets, polarity = [], {}
    for view in observations:
        sign = view.sign or guess_sign(
            view.image, view.valid, view.camera, box.centre, options.pixel_mm
        )
        polarity[view.name] = ("bright" if sign > 0 else "dark") + ("" if view.sign else " (guess)")
        backdrop = Backdrop(view.valid) if smooth else None
        targets.append(FreshTarget(view.name, view.camera, sign * view.image, view.valid, backdrop))
    return tuple(targets), {"background": "smooth" if smooth else "none", "bone": polarity}


def _rim_is_empty(view: Observation) -> bool:
    image = view.image
    rim = torch.cat([image[0], image[-1], image[:, 0], image[:, -1]]).abs()
    return bool(rim.median() < bounds.SHADOW_SHARE * image.abs().max())


def fit_from_scratch(
    observations: Sequence[Observation],
    box: Box,
    options: ReconstructionOptions,
    deadline: Deadline,
    progress: Progress,
) -> FreshFit:
    """Fit a fresh cloud (world mm) inside ``box`` to the views; deterministic for the seed.

    Raises InputError where the views show nothing at all.
    """
    targets, facts = fresh_targets(observations, box, options)
    generator = np.random.default_rng(options.seed)
    starts = [target.above_backdrop() for target in targets]
    scale = max(
        float(start.quantile(0.99) if start.numel() < 10**7 else start.max()) for start in starts
    )
    if not scale > 0.0:
        raise InputError("views", "hold nothing that absorbs", "check the images")
    cameras = [target.camera for target in targets]
    start = fresh_cloud(starts, cameras, box, options.fresh_count, generator)
    free = FreeCloud(_matched(start, targets, starts), 0.4 * options.pixel_mm)
    control = DensityControl(options.most)
    gathered = torch.zeros(len(start)).to(start.means)
    steps = options.fresh_steps
    done = 0
    while done < steps and not deadline.passed:
        progress(done / steps, "fitting Gaussians to the X-rays")
        cloud = free.cloud()
        chosen = generator.permutation(len(targets))[:_VIEWS_PER_STEP]
        loss = torch.zeros(()).to(start.means)
        for index in chosen:
            target = targets[index]
            l1, dssim = image_losses(
                target.render(cloud) / scale, target.image / scale, target.weight
            )
            loss = loss + (l1 + options.weight_dssim * dssim) / len(chosen)
        if options.weight_tv > 0.0:
            loss = loss + options.weight_tv * _block_variation(cloud, box, generator)
        gathered = gathered + free.step(loss, 0.02 ** (done / steps))
        done += 1
        if done % _CONTROL_EVERY == 0 and done <= _CONTROL_UNTIL * steps:
            gathered = _control(free, control, gathered, box)
    cloud = free.cloud().detach()
    cloud = cloud.select(control.keep(cloud, box.lower, box.upper))
    return FreshFit(cloud, targets, scale, {**facts, "steps": done})


@torch.no_grad()
def _matched(
    cloud: GaussianCloud, targets: Sequence[FreshTarget], starts: Sequence[Tensor]
) -> GaussianCloud:
    """The cloud with the one factor on its densities that fits all views best."""
    top, bottom = 0.0, 0.0
    for target, start in zip(targets, starts, strict=True):
        camera = target.camera
        image = rasterize(cloud, camera.intrinsic, camera.world_to_camera, camera.size)
        seen = target.weight * image
        if target.backdrop is not None:
            seen = target.weight * (image - target.backdrop.of(image))
        top += float((seen * start).sum())
        bottom += float((seen * image).sum())
    factor = top / bottom if top > 0.0 and bottom > 0.0 else 1.0
    return GaussianCloud(cloud.means, cloud.scales, cloud.quaternions, factor * cloud.densities)


def _block_variation(cloud: GaussianCloud, box: Box, generator: np.random.Generator) -> Tensor:
    """Total variation of a random block of the box, as a share of the greatest density."""
    spacing = 1.5 * box.spacing_mm
    room = np.maximum(box.upper - box.lower - _BLOCK_VOXELS * spacing, 0.0)
    matrix = np.diag([spacing, spacing, spacing, 1.0])
    matrix[:3, 3] = box.lower + generator.random(3) * room
    block = voxelize(cloud, matrix, (_BLOCK_VOXELS,) * 3, cutoff=bounds.CUTOFF)
    # Scaled to [0, 1] by the peak of the densities, bar a few: math.md 3 wants it so.
    peak = cloud.densities.detach().sort().values[int(0.999 * (len(cloud) - 1))]
    return total_variation(block / peak.clamp_min(1e-12))


@torch.no_grad()
def _control(free: FreeCloud, control: DensityControl, gathered: Tensor, box: Box) -> Tensor:
    """Drop and split; returns the gradients gathered so far, all zero, for the new number."""
    cloud = free.cloud()
    stays = control.keep(cloud, box.lower, box.upper)
    kept = stays.nonzero()[:, 0]
    parents = kept[control.to_split(gathered[kept])]
    split = torch.zeros_like(stays)
    split[parents] = True
    children = GaussianCloud.concatenate(halves(cloud.select(parents)))
    free.keep((stays & ~split).nonzero()[:, 0], children)
    return torch.zeros(len(free.tensors[0])).to(gathered)
