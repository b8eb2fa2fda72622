"""Voxels fitted to X-rays through the projector, in the manner of DiffVox.

Nothing is known but the X-rays: every voxel of a box starts at zero and is moved by Adam under the
losses of eq. 2 (L1, D-SSIM, total variation; math.md 3), which the paper gave its baselines
too. Polarity and backdrop are decided as for our own fit without a prior, so that only the
representation differs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ...cases import View
from ...drr import project_volume
from ...errors import InputError
from ...geometry import Volume
from ...reconstruction import (
    FRESH_BOX_MM,
    FreshTarget,
    ReconstructionOptions,
    cube,
    fresh_targets,
    image_losses,
    observe,
    total_variation,
)
from ...system import Progress, one_torch_thread
from ...views import prepare_views

# A voxel of one unit along this length makes a shadow as dark as the darkest in the X-rays.
_UNIT_MM = 40.0


@dataclass(frozen=True)
class VoxelOptions:
    """``steps`` of Adam with ``rate`` (units per step, falling to a tenth); lengths in mm."""

    steps: int = 120
    rate: float = 0.05
    spacing_mm: float = 2.0
    pixel_mm: float = 1.2
    edge_mm: float = FRESH_BOX_MM
    weight_dssim: float = 0.2
    weight_tv: float = 0.05
    device: str = "cpu"


@dataclass(frozen=True)
class VoxelFit:
    """``volume`` (1/mm up to the X-rays' own scale, world axes) and the loss at every step."""

    volume: Volume
    losses: tuple[float, ...]


def reconstruct_voxels(
    views: Sequence[View],
    centre_world: ArrayLike,
    options: VoxelOptions | None = None,
    progress: Progress | None = None,
) -> VoxelFit:
    """Fit a cube of voxels about ``centre_world`` (3,), world mm, to the views; deterministic.

    Raises InputError for views that do not show the place or show nothing that absorbs, Cancelled
    when ``progress`` says so.
    """
    chosen = options or VoxelOptions()
    report = progress or Progress()
    box = cube(centre_world, chosen.edge_mm, chosen.spacing_mm)
    with one_torch_thread():
        shown = [
            observe(view, box.corners, chosen.pixel_mm, device=chosen.device)
            for view in prepare_views(views)
        ]
        common = ReconstructionOptions(pixel_mm=chosen.pixel_mm, device=chosen.device)
        targets, _ = fresh_targets(shown, box, common)
        scale = max(float(target.above_backdrop().quantile(0.99)) for target in targets)
        if not scale > 0.0:
            raise InputError("views", "hold nothing that absorbs", "check the images")
        unit = scale / _UNIT_MM
        voxels = torch.zeros(box.size[::-1], device=chosen.device, requires_grad=True)
        optimizer = torch.optim.Adam([voxels], lr=chosen.rate)
        losses = []
        for step in range(chosen.steps):
            report(step / chosen.steps, "fitting voxels to the X-rays")
            optimizer.param_groups[0]["lr"] = chosen.rate * 0.1 ** (step / chosen.steps)
            loss = chosen.weight_tv * total_variation(voxels)
            for target in targets:
                image = _rendered(unit * voxels, box.index_to_world, target)
                l1, dssim = image_losses(image / scale, target.image / scale, target.weight)
                loss = loss + (l1 + chosen.weight_dssim * dssim) / len(targets)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            with torch.no_grad():
                voxels.clamp_(min=0.0)
            losses.append(float(loss.detach()))
    array = (unit * voxels.detach()).cpu().numpy().astype(np.float32)
    return VoxelFit(Volume(array, box.index_to_world), tuple(losses))


def _rendered(voxels: Tensor, index_to_world: np.ndarray, target: FreshTarget) -> Tensor:
    """The X-ray (rows, columns) of voxels (K, J, I), with the backdrop that fits it best."""
    camera = target.camera
    image = project_volume(
        voxels,
        camera.intrinsic,
        camera.world_to_camera,
        camera.size,
        index_to_physical=index_to_world,
    )
    if target.backdrop is None:
        return image
    return image + target.backdrop.of(target.image - image)
