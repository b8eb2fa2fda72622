"""Pixels of an X-ray on another grid, averaged over valid ones, and which of them are real."""

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from torch import Tensor

from ..geometry import Camera
from .bounds import (
    CROP_BLUR_SHARE,
    CROP_LEAST_BLUR_PX,
    LEAST_SHARE,
    LEAST_SHARE_OF_BLOCK,
    VALID_SHARE,
    WIDE_BLUR_REACH,
)
from .types import Mask, Pixels

Array = NDArray[np.floating]


def blurred(
    values: Array, weight: Array, sigma_px: float, reach: float, least: float
) -> tuple[Array, Array]:
    """Blur values (rows, columns) over the pixels that count by ``weight``, and that weight.

    The Gaussian of ``sigma_px`` is cut off at ``reach`` standard deviations; a sigma of 0 changes
    nothing. The mean is divided by ``least`` at least.
    """
    if sigma_px <= 0.0:
        return values, weight
    share = ndimage.gaussian_filter(weight, sigma_px, mode="constant", truncate=reach)
    total = ndimage.gaussian_filter(values * weight, sigma_px, mode="constant", truncate=reach)
    return total / np.maximum(share, least), share


def sampled(values: Array, share: Array, rows: Array, columns: Array) -> tuple[Array, Mask]:
    """Interpolate an image between its pixels, and say where what it shows is valid.

    ``share`` (rows, columns) is how far the pixels of ``values`` are valid; ``rows`` and
    ``columns`` are positions of one shape, that of both answers.
    """
    places = np.stack([rows, columns])
    image = ndimage.map_coordinates(values, places, order=1, mode="nearest")
    return image, ndimage.map_coordinates(share, places, order=1, mode="constant") > VALID_SHARE


def resample(
    pixels: Pixels, valid: Mask, camera: Camera, box_to_world: ArrayLike, virtual: Camera
) -> tuple[Pixels, Pixels]:
    """Resample a view's pixels (rows, columns) to a virtual camera with the same source.

    Exact geometry: cameras with one centre differ by a homography. Smoothed first so far that
    nothing aliases. The second image is 1 where a pixel shows a ``valid`` one, else 0.
    """
    turn = camera.world_to_camera[:3, :3] @ np.asarray(box_to_world, dtype=float)[:3, :3]
    to_real = turn @ virtual.world_to_camera[:3, :3].T
    v, u = np.mgrid[: virtual.rows, : virtual.columns].astype(float)
    rays = np.linalg.solve(virtual.intrinsic, np.stack([u.ravel(), v.ravel(), np.ones(u.size)]))
    real = camera.intrinsic @ (to_real @ rays)
    ahead = real[2] > 1e-9
    place = real[:2] / np.where(ahead, real[2], 1.0)
    step = abs(camera.intrinsic[0, 0] / virtual.intrinsic[0, 0])
    sigma = CROP_BLUR_SHARE * float(np.sqrt(max(step**2 - 1.0, 0.0)))
    # Only what the crop shows is smoothed.
    shape = np.array(pixels.shape)
    reach = np.stack([place[1], place[0]])[:, ahead]
    low = np.clip(np.floor(reach.min(axis=1, initial=shape.max())) - 8, 0, shape - 2).astype(int)
    high = np.clip(np.ceil(reach.max(axis=1, initial=0)) + 9, low + 2, shape).astype(int)
    part = (slice(low[0], high[0]), slice(low[1], high[1]))
    place = place - low[::-1, None]
    mean, share = blurred(
        np.where(valid[part], pixels[part], 0.0).astype(np.float32),
        valid[part].astype(np.float32),
        sigma if sigma > CROP_LEAST_BLUR_PX else 0.0,
        WIDE_BLUR_REACH,
        LEAST_SHARE,
    )
    image, shown = sampled(mean, share, place[1], place[0])
    return (
        image.reshape(u.shape).astype(np.float32),
        (shown & ahead).reshape(u.shape).astype(np.float32),
    )


def pool_views(
    images: Tensor, valid: Tensor, intrinsics: Tensor, factor: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Average images and validity (..., H, W) over blocks of ``factor`` x ``factor`` pixels.

    The third answer is the intrinsics (..., 3, 3) of the coarser pictures. Pixels that are not
    valid do not count.
    """
    if factor == 1:
        return images, valid, intrinsics
    lead = images.shape[:-2]

    def mean(x: Tensor) -> Tensor:
        flat = torch.nn.functional.avg_pool2d(x.reshape(-1, 1, *x.shape[-2:]), factor)
        return flat.reshape(*lead, *flat.shape[-2:])

    share = mean(valid)
    coarse = intrinsics.clone()
    coarse[..., :2, :] = coarse[..., :2, :] / factor
    coarse[..., :2, 2] = coarse[..., :2, 2] - 0.5 * (factor - 1) / factor
    whole = (share > VALID_SHARE).to(valid.dtype)
    return mean(images * valid) / share.clamp_min(LEAST_SHARE_OF_BLOCK), whole, coarse
