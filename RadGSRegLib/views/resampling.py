"""Pixels of an X-ray on another grid, averaged over valid ones, and which of them are real."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from .bounds import LEAST_SHARE_OF_BLOCK, VALID_SHARE
from .types import Mask

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
