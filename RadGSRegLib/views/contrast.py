"""What networks see of an X-ray: ranks and local contrast, on any device and differentiable.

`normalization` asks the same question for registration, with derivatives in closed form; the two
differ in their floors and in how they cut Gaussians off, and the networks' weights rest on these.
"""

import numpy as np
import torch
from torch import Tensor

from .bounds import CONTRAST_FLOOR_DIVISOR, CONTRAST_LEAST, CONTRAST_MM, CONTRAST_REACH, LEAST_SHARE


def ranks_and_contrast(images: Tensor, valid: Tensor, pixel_mm: float) -> Tensor:
    """Make of X-rays (..., H, W) with unknown display curve what an encoder sees: (..., 2, H, W).

    ``pixel_mm`` is the pixel at the box's middle. First channel: the rank of each valid pixel among
    all of its picture, in [-1, 1], which no monotone curve changes; second: local contrast of that.
    Both turn their sign with the picture's polarity; pixels that are not valid (0 in ``valid``) are
    0.
    """
    flat = torch.where(valid > 0, images, torch.inf).flatten(-2)
    order = flat.argsort(dim=-1, stable=True).argsort(dim=-1, stable=True)
    count = valid.flatten(-2).sum(-1, keepdim=True).clamp_min(2.0)
    rank = (2.0 * order.to(images.dtype) / (count - 1.0) - 1.0).reshape(images.shape)
    rank = rank * valid
    return torch.stack([rank, local_contrast(rank, valid, pixel_mm)], dim=-3)


def local_contrast(images: Tensor, valid: Tensor, pixel_mm: float) -> Tensor:
    """Take their local mean off images (..., H, W) and divide by their local deviation.

    Zero where invalid. The deviation has a floor at a third of its mean over the picture, so that
    flat places are not blown up to noise.
    """
    sigma_px = CONTRAST_MM / pixel_mm
    weight = _blur(valid, sigma_px).clamp_min(LEAST_SHARE)
    mean = _blur(images * valid, sigma_px) / weight
    difference = (images - mean) * valid
    variance = _blur(difference.square(), sigma_px) / weight
    deviation = variance.sqrt()
    count = valid.sum((-2, -1), keepdim=True).clamp_min(1.0)
    floor = (deviation * valid).sum((-2, -1), keepdim=True) / count / CONTRAST_FLOOR_DIVISOR
    return difference / (deviation + floor + CONTRAST_LEAST)


def _blur(images: Tensor, sigma_px: float) -> Tensor:
    """Images (..., H, W) under a Gaussian, values beyond the border counting as zero."""
    reach = max(int(np.ceil(CONTRAST_REACH * sigma_px)), 1)
    offset = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offset / sigma_px) ** 2)
    kernel = kernel / kernel.sum()
    flat = images.reshape(-1, 1, *images.shape[-2:])
    flat = torch.nn.functional.conv2d(flat, kernel.view(1, 1, 1, -1), padding=(0, reach))
    flat = torch.nn.functional.conv2d(flat, kernel.view(1, 1, -1, 1), padding=(reach, 0))
    return flat.reshape(images.shape)
