"""Pictures as cameras see them that were turned towards a pose, and what is expected there.

A camera may turn about its own source without seeing anything else: the picture is only resampled.
So each view is turned to look at the vertebra's centre, with its axis upright, and zoomed. What is
left to find there is small, whatever the pose was.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..gaussians import Bodies, GaussianCloud, rasterize_bodies
from ..tensors import Lenses
from .views import ViewBatch


def turn_towards(
    batch: ViewBatch, anchors_to_box: Tensor, up: Tensor, field_mm: float
) -> ViewBatch:
    """Show crops to cameras that look at posed anchors: ``field_mm`` is what the picture covers.

    ``anchors_to_box`` (B, 4, 4), mm; ``up`` (3,): the anchors' direction that pictures show
    upwards. Sources stay where they are.
    """
    size = batch.size_px
    extrinsics, intrinsics = batch.extrinsics.double(), batch.intrinsics.double()
    anchors_to_camera = extrinsics @ anchors_to_box.double()[:, None]
    centre = anchors_to_camera[..., :3, 3]
    forward = functional.normalize(centre, dim=-1)
    # Up is against the rows.
    down = -(anchors_to_camera[..., :3, :3] @ up.to(anchors_to_camera))
    down = functional.normalize(down - (down * forward).sum(-1, keepdim=True) * forward, dim=-1)
    turn = torch.stack([torch.linalg.cross(down, forward, dim=-1), down, forward], dim=-2)
    camera_to_turned = torch.eye(4, dtype=turn.dtype, device=turn.device)
    camera_to_turned = camera_to_turned.repeat(*turn.shape[:2], 1, 1)
    camera_to_turned[..., :3, :3] = turn
    lens = torch.zeros_like(intrinsics)
    lens[..., 0, 0] = lens[..., 1, 1] = centre.norm(dim=-1) * size / field_mm
    lens[..., :2, 2] = (size - 1) / 2.0
    lens[..., 2, 2] = 1.0
    # Pixels of the new camera in the old one: K_old R' K_new^-1, as both share their source.
    to_old = (intrinsics @ turn.mT @ torch.linalg.inv(lens)).float()
    axis = torch.arange(size, device=turn.device, dtype=torch.float32)
    ones = torch.ones(size, size, device=turn.device)
    pixels = torch.stack([axis.expand(size, -1), axis[:, None].expand(-1, size), ones])
    old = torch.einsum("bvij,jhw->bvhwi", to_old, pixels)
    grid = (2.0 * old[..., :2] / old[..., 2:].clamp_min(1e-6) + 1.0) / size - 1.0
    planes = torch.cat([batch.pictures, batch.valid[:, :, None]], 2).flatten(0, 1)
    shown = functional.grid_sample(planes, grid.flatten(0, 1), align_corners=False)
    shown = shown.unflatten(0, turn.shape[:2])
    return ViewBatch(
        shown[:, :, :-1], shown[:, :, -1], lens.float(), (camera_to_turned @ extrinsics).float()
    )


def expected_each(
    clouds: Sequence[GaussianCloud], batch: ViewBatch, clouds_to_box: Tensor
) -> Tensor:
    """Do what `expected` does with a cloud of each case's own (B of them)."""
    cases = range(len(batch))
    parts = [expected(clouds[n], batch.case(n), clouds_to_box[n : n + 1]) for n in cases]
    return torch.cat(parts)


@torch.no_grad()
def expected(cloud: GaussianCloud, batch: ViewBatch, cloud_to_box: Tensor) -> Tensor:
    """Render a cloud in the crops' cameras, where ``cloud_to_box`` (B, 4, 4) puts it: (B, V, H, W),
    the largest value of each picture one; zero where nothing is in it."""
    count, views = len(batch), batch.views
    size = (batch.size_px, batch.size_px)
    lenses = Lenses(batch.intrinsics.flatten(0, 1).double(), size)
    to_frame = cloud_to_box.double().repeat_interleave(views, 0)[:, None]
    bodies = Bodies((cloud.to(batch.pictures.device),))
    images = rasterize_bodies(bodies, lenses, batch.extrinsics.flatten(0, 1).double(), to_frame)
    peak = images.amax((-2, -1), keepdim=True).clamp_min(1e-6)
    return (images / peak).float().view(count, views, *images.shape[-2:])


def turned_field_mm(pixel_mm: float, size_px: int) -> float:
    """Return what a turned camera's picture covers, mm: three quarters of a crop, as the vertebra's
    place is known to a few millimetres by then. No other share was tried."""
    return 0.75 * pixel_mm * size_px
