"""Gradient correlation over scales: the similarity that sees edges (math.md 7)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .bounds import BLUR_REACH


def gradient_correlation(
    weight: Tensor, observed: Tensor, rendered: Tensor, sigmas_px: Sequence[float]
) -> Tensor:
    """Return how well the edges of images (..., rows, columns) agree, (...), at most 1.

    The weighted correlation of the derivatives along rows and along columns, after a Gaussian blur
    of each of ``sigmas_px``, averaged (Penney et al., 1998, over scales). A smooth display curve,
    scatter and a smooth background change it little.
    """
    total = torch.zeros(observed.shape[:-2])
    for sigma in sigmas_px:
        pair = [_blurred(image, sigma) for image in (observed, rendered)]
        for dim in (-2, -1):
            total = total + _correlation(weight, *(torch.gradient(p, dim=dim)[0] for p in pair))
    return total / (2 * len(sigmas_px))


def _correlation(weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The weighted correlation (...) of images about their weighted means."""
    total = weight.sum((-2, -1), keepdim=True).clamp_min(1e-9)
    a, b = (image - (weight * image).sum((-2, -1), keepdim=True) / total for image in (a, b))
    energy = (weight * a * a).sum((-2, -1)) * (weight * b * b).sum((-2, -1))
    return (weight * a * b).sum((-2, -1)) / energy.clamp_min(1e-20).sqrt()


def _blurred(images: Tensor, sigma: float) -> Tensor:
    """Images (..., rows, columns) blurred; beyond their edges the nearest pixels count."""
    reach = max(math.ceil(BLUR_REACH * sigma), 1)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    stack = images.reshape(-1, 1, *images.shape[-2:])
    stack = torch.nn.functional.pad(stack, (reach,) * 4, mode="replicate")
    stack = torch.nn.functional.conv2d(stack, kernel[None, None, :, None])
    stack = torch.nn.functional.conv2d(stack, kernel[None, None, None, :])
    return stack.reshape(images.shape)
