"""A batch of crops: what the reconstruction network takes in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..views import (
    PreparedView,
    pool_views,
    ranks_and_contrast,
    resample,
)
from .crops import PIXEL_MM, SIZE_PX, Frame, make_frame


@dataclass(frozen=True)
class ViewBatch:
    """B cases of V views: ``pictures`` (B, V, 2, H, W) of `views.ranks_and_contrast`, ``valid``
    (B, V, H, W), ``intrinsics`` (B, V, 3, 3) in pixels, ``extrinsics`` (B, V, 4, 4) box_to_camera
    in mm."""

    pictures: Tensor
    valid: Tensor
    intrinsics: Tensor
    extrinsics: Tensor

    def __len__(self) -> int:
        return int(self.pictures.shape[0])

    @property
    def views(self) -> int:
        """V."""
        return int(self.pictures.shape[1])

    @property
    def size_px(self) -> int:
        """H = W."""
        return int(self.pictures.shape[-1])

    def case(self, number: int) -> ViewBatch:
        """Return one case of the batch, as a batch of one."""
        return ViewBatch(*(tensor[number : number + 1] for tensor in vars(self).values()))

    def to(self, device: torch.device | str) -> ViewBatch:
        """Return the batch on another device."""
        return ViewBatch(*(tensor.to(device) for tensor in vars(self).values()))


def crop_prepared(
    views: Sequence[PreparedView],
    centres_world: Sequence[ArrayLike],
    reference: ArrayLike | None = None,
    *,
    size_px: int = SIZE_PX,
    pixel_mm: float = PIXEL_MM,
    device: torch.device | str = "cpu",
) -> tuple[ViewBatch, list[Frame]]:
    """Make a batch of a case's X-rays around some points (3,) mm, on ``device``, and its frames.

    ``size_px`` pixels of ``pixel_mm`` are what comes out; pixels of two millimetres and more are
    averages of finer ones, as in training. Views whose polarity is known come bone bright.
    ``reference`` (3, 3): roughly the axes of the vertebra in the world (world axes unless given).
    Raises ValueError for views that are parallel or look along the spine.
    """
    factor = pooling_factor(pixel_mm)
    cameras = [view.camera for view in views]
    fine_px, fine_mm = size_px * factor, pixel_mm / factor
    frames = [
        make_frame(cameras, centre, reference, size_px=fine_px, pixel_mm=fine_mm)
        for centre in centres_world
    ]
    images, valid = resample_views(views, frames, device)
    signs = torch.tensor([-1.0 if view.sign < 0 else 1.0 for view in views], device=device)
    batch = make_batch(
        images * signs[:, None, None],
        valid,
        torch.stack([frame.intrinsics() for frame in frames]).to(device),
        torch.stack([frame.extrinsics() for frame in frames]).to(device),
        pixel_mm,
    )
    return batch, frames


def resample_views(
    views: Sequence[PreparedView], frames: Sequence[Frame], device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Show X-rays to the cameras of frames of one size: images (B, V, H, W), and 1 where a pixel
    shows the patient."""
    kept = [view.on(torch.device(device)) for view in views]
    by_frame = [frame.cameras_world() for frame in frames]
    shown = [
        resample(there.pixels, there.valid, view.camera, virtual)
        for there, view, virtual in zip(kept, views, zip(*by_frame, strict=True), strict=True)
    ]
    images, valid = zip(*shown, strict=True)
    return torch.stack(images, 1), torch.stack(valid, 1)


def pooling_factor(pixel_mm: float) -> int:
    """Return how many finer pixels a pixel of a crop averages along each axis."""
    return max(1, int(pixel_mm / PIXEL_MM + 1e-6))


def make_batch(
    images: Tensor, valid: Tensor, intrinsics: Tensor, extrinsics: Tensor, pixel_mm: float
) -> ViewBatch:
    """Make a batch from crops (B, V, H, W) `pooling_factor` times as fine as ``pixel_mm``."""
    factor = pooling_factor(pixel_mm)
    coarse, mask, pooled = pool_views(images, valid, intrinsics, factor)
    return ViewBatch(ranks_and_contrast(coarse, mask, pixel_mm), mask, pooled, extrinsics)
