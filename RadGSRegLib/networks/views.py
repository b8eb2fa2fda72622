"""A batch of crops: what the reconstruction network takes in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
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

    def to(self, device: torch.device | str) -> ViewBatch:
        """Return the batch on another device."""
        return ViewBatch(*(tensor.to(device) for tensor in vars(self).values()))


def crop_prepared(
    views: Sequence[PreparedView],
    centre_world: ArrayLike,
    reference: ArrayLike | None = None,
    *,
    size_px: int = SIZE_PX,
    pixel_mm: float = PIXEL_MM,
) -> tuple[ViewBatch, Frame]:
    """Make a batch of one from a case's X-rays, around ``centre_world`` (3,) mm, and its frame.

    ``size_px`` pixels of ``pixel_mm`` are what comes out; pixels of two millimetres and more are
    averages of finer ones, as in training. Views whose polarity is known come bone bright.
    ``reference`` (3, 3): roughly the axes of the vertebra in the world (world axes unless given).
    Raises ValueError for views that are parallel or look along the spine.
    """
    factor = pooling_factor(pixel_mm)
    frame = make_frame(
        [view.camera for view in views],
        centre_world,
        reference,
        size_px=size_px * factor,
        pixel_mm=pixel_mm / factor,
    )
    images, valid = resample_views(views, frame)
    dark = [view.sign < 0 for view in views]
    images[dark] = -images[dark]
    batch = make_batch(
        torch.from_numpy(images)[None],
        torch.from_numpy(valid)[None],
        frame.intrinsics()[None],
        frame.extrinsics()[None],
        pixel_mm,
    )
    return batch, frame


def resample_views(
    views: Sequence[PreparedView], frame: Frame
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Show X-rays to a frame's cameras: images (V, H, W), and 1 where a pixel shows the patient."""
    shown = [
        resample(view.pixels, view.valid, view.camera, frame.box_to_world, virtual)
        for view, virtual in zip(views, frame.cameras, strict=True)
    ]
    return np.stack([image for image, _ in shown]), np.stack([valid for _, valid in shown])


def concatenate(batches: Sequence[ViewBatch]) -> ViewBatch:
    """Join several batches of equally many views."""
    parts = zip(*(vars(batch).values() for batch in batches), strict=True)
    return ViewBatch(*map(torch.cat, parts))


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
