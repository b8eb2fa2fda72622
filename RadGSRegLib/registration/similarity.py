"""Local normalisation: the similarity that does not know the display curve (math.md 4).

An X-ray and a rendering are compared after each has been normalised in a Gaussian neighbourhood:
subtract the local mean, divide by the local standard deviation. A smooth monotone display curve,
scatter and a smooth background change an image locally by a gain and an offset, which this removes.
The squared difference of two such images is two minus twice their local normalised correlation, so
Levenberg-Marquardt can work on the difference as its residual.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def blur_matrix(length: int, sigma_px: float) -> Tensor:
    """The matrix (length, length) that blurs a line with a Gaussian, zero beyond its ends."""
    positions = torch.arange(length, dtype=torch.float32)
    offsets = positions[:, None] - positions[None, :]
    if sigma_px <= 0.0:
        return torch.eye(length)
    weights = torch.exp(-0.5 * (offsets / sigma_px) ** 2)
    return weights / (sigma_px * math.sqrt(2.0 * math.pi))


class LocalNormalization:
    """Normalises images (..., rows, columns) in Gaussian neighbourhoods, over valid pixels only.

    ``valid`` (rows, columns) in [0, 1]; ``sigma_px`` of the neighbourhood.
    """

    def __init__(self, valid: Tensor, sigma_px: float) -> None:
        rows, columns = valid.shape
        self.sigma_px = sigma_px
        self.valid = valid.to(torch.float32)
        self._rows = blur_matrix(rows, sigma_px)
        self._columns = blur_matrix(columns, sigma_px).T.contiguous()
        self._weight = 1.0 / self._blur(self.valid).clamp_min(1e-3)

    def _blur(self, images: Tensor) -> Tensor:
        return self._rows @ images @ self._columns

    def mean(self, images: Tensor) -> Tensor:
        """The mean over the valid part of each pixel's neighbourhood."""
        return self._blur(self.valid * images) * self._weight

    def deviation(self, image: Tensor) -> Tensor:
        """The local standard deviation."""
        high = image - self.mean(image)
        return (self.mean(high * high) - self.mean(high) ** 2).clamp_min(0.0).sqrt()

    def normalize(self, image: Tensor, floor: float) -> Tensor:
        """The normalised image; ``floor`` is added in quadrature to the standard deviation."""
        return self._normalize(image, floor)[0]

    def _normalize(self, image: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
        high = image - self.mean(image)
        residual_mean = self.mean(high)
        variance = (self.mean(high * high) - residual_mean**2).clamp_min(0.0)
        inverse = torch.rsqrt(variance + floor * floor)
        return high * inverse, inverse, high

    def normalize_with_jacobian(
        self, image: Tensor, jacobian: Tensor, floor: float
    ) -> tuple[Tensor, Tensor]:
        """The normalised image and its derivative (P, rows, columns) by each of ``jacobian``."""
        normalized, inverse, high = self._normalize(image, floor)
        d_high = jacobian - self.mean(jacobian)
        d_variance = 2.0 * (self.mean(high * d_high) - self.mean(high) * self.mean(d_high))
        return normalized, (d_high - 0.5 * normalized * inverse * d_variance) * inverse
