"""Local normalisation: the similarity that does not know the display curve (math.md 4).

An X-ray and a rendering are compared after each has been normalised in a Gaussian neighbourhood:
subtract the local mean, divide by the local standard deviation. A smooth monotone display curve,
scatter and a smooth background change an image locally by a gain and an offset, which this removes.
The squared difference of two such images is two minus twice their local normalised correlation, so
refinement can work on the difference as its residual.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def spread_matrix(length: int, cell: int, sigma_px: float) -> Tensor:
    """The matrix (length, cells) that spreads sums over cells of ``cell`` pixels as a Gaussian.

    Each cell's sum counts as lying at its centre, which a Gaussian of two cells or more cannot tell
    from the pixels themselves. Zero beyond the line's ends, and where a Gaussian is under a
    billionth of its peak: products with its denormal tail take processors ten times as long.
    """
    cells = -(-length // cell)
    centres = cell * torch.arange(cells, dtype=torch.float32) + (cell - 1) / 2.0
    offsets = torch.arange(length, dtype=torch.float32)[:, None] - centres[None, :]
    weights = torch.exp(-0.5 * (offsets / sigma_px) ** 2)
    weights[weights < 1e-9] = 0.0
    return weights / (sigma_px * math.sqrt(2.0 * math.pi))


class LocalNormalization:
    """Normalises images (..., rows, columns) in Gaussian neighbourhoods, over valid pixels only.

    ``valid`` (rows, columns) in [0, 1]; ``sigma_px`` of the neighbourhood.
    """

    def __init__(self, valid: Tensor, sigma_px: float) -> None:
        rows, columns = valid.shape
        self.sigma_px = sigma_px
        self.valid = valid.to(torch.float32)
        self._cell = max(int(sigma_px / 2.0), 1)
        self._padding = (0, -columns % self._cell, 0, -rows % self._cell)
        self._rows = spread_matrix(rows, self._cell, sigma_px)
        self._columns = spread_matrix(columns, self._cell, sigma_px).T.contiguous()
        self._weight = 1.0 / self._blur(self.valid).clamp_min(1e-3)

    def _blur(self, images: Tensor) -> Tensor:
        cell = self._cell
        if cell > 1:
            stack = torch.nn.functional.pad(images, self._padding)
            stack = stack.reshape(-1, 1, *stack.shape[-2:])
            sums = torch.nn.functional.avg_pool2d(stack, cell) * float(cell * cell)
            images = sums.reshape(*images.shape[:-2], *sums.shape[-2:])
        return self._rows @ (images @ self._columns)

    def mean(self, images: Tensor) -> Tensor:
        """The mean over the valid part of each pixel's neighbourhood."""
        return self._blur(self.valid * images) * self._weight

    def deviation(self, image: Tensor) -> Tensor:
        """The local standard deviation."""
        high = image - self.mean(image)
        return (self.mean(high * high) - self.mean(high) ** 2).clamp_min(0.0).sqrt()

    def normalize(self, image: Tensor, floor: float | Tensor) -> Tensor:
        """The normalised image; ``floor`` (for several images, (..., 1, 1)) is added in quadrature
        to the standard deviation."""
        return self._normalize(image, floor)[0]

    def _normalize(self, image: Tensor, floor: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
