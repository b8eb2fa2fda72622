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
    total = torch.zeros(observed.shape[:-2], device=observed.device)
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
    rows, columns = (_spread(n, sigma, images.device) for n in images.shape[-2:])
    return rows @ images @ columns.T


def _spread(length: int, sigma: float, device: torch.device) -> Tensor:
    """The matrix (length, length) that blurs a line. A convolution would take a GPU's short floats
    (TF32)."""
    reach = max(math.ceil(BLUR_REACH * sigma), 1)
    offsets = torch.arange(-reach, reach + 1, device=device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    places = (torch.arange(length, device=device)[:, None] + offsets).clamp(0, length - 1)
    matrix = torch.zeros(length, length, device=device)
    return matrix.scatter_add_(1, places, kernel.expand(length, -1))
