"""Local normalisation: the similarity that does not know the display curve (math.md 4).

An X-ray and a rendering are compared after each has been normalised in a Gaussian neighbourhood:
subtract the local mean, divide by the local standard deviation. A smooth monotone display curve,
scatter and a smooth background change an image locally by a gain and an offset, which this removes.
The squared difference of two such images is two minus twice their local normalised correlation, so
refinement can work on the difference as its residual.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .bounds import CELL_SHARE, LEAST_SHARE, LEAST_WEIGHT


def spread_matrix(
    length: int, cell: int, sigma_px: float, device: torch.device | str = "cpu"
) -> Tensor:
    """Make the matrix (length, cells) that spreads sums over ``cell`` pixels as a Gaussian.

    Each cell's sum counts as lying at its centre, which a Gaussian of two cells or more cannot tell
    from the pixels themselves. Zero beyond the line's ends, and where a Gaussian is under a
    billionth of its peak: products with its denormal tail take processors ten times as long.
    """
    cells = -(-length // cell)
    numbers = torch.arange(cells, dtype=torch.float32, device=device)
    centres = cell * numbers + (cell - 1) / 2.0
    offsets = torch.arange(length, dtype=torch.float32, device=device)[:, None] - centres[None, :]
    weights = torch.exp(-0.5 * (offsets / sigma_px) ** 2)
    weights = torch.where(weights < LEAST_WEIGHT, 0.0, weights)
    return weights / (sigma_px * math.sqrt(2.0 * math.pi))


class LocalNormalization:
    """Normalises images (..., rows, columns) in Gaussian neighbourhoods, over valid pixels only.

    ``valid`` (rows, columns) in [0, 1], or (N, rows, columns) for images (..., N, rows, columns),
    each with its own; ``sigma_px`` of the neighbourhood. On the device of ``valid``.
    """

    def __init__(self, valid: Tensor, sigma_px: float) -> None:
        rows, columns = valid.shape[-2:]
        self.sigma_px = sigma_px
        self.valid = valid.to(torch.float32)
        self._cell = max(int(CELL_SHARE * sigma_px), 1)
        self._rows = spread_matrix(rows, self._cell, sigma_px, valid.device)
        across = spread_matrix(columns, self._cell, sigma_px, valid.device)
        self._columns = across.T.contiguous()
        self._weight = 1.0 / self._blur(self.valid).clamp_min(LEAST_SHARE)

    def part(self, index: slice | Tensor) -> LocalNormalization:
        """Return that of some of N images."""
        some = copy.copy(self)
        some.valid, some._weight = self.valid[index], self._weight[index]
        return some

    def _blur(self, images: Tensor) -> Tensor:
        cell = self._cell
        if cell > 1:
            stack = images.reshape(-1, 1, *images.shape[-2:])
            # Sums, those of the last row and column over as many pixels as there are.
            sums = torch.nn.functional.avg_pool2d(stack, cell, ceil_mode=True, divisor_override=1)
            images = sums.reshape(*images.shape[:-2], *sums.shape[-2:])
        return self._rows @ (images @ self._columns)

    def mean(self, images: Tensor) -> Tensor:
        """Return the mean over the valid part of each pixel's neighbourhood."""
        return self._blur(self.valid * images) * self._weight

    def mean_transposed(self, image: Tensor) -> Tensor:
        """Apply the transpose of `mean`, as a linear map of an image (..., rows, columns)."""
        sums = self._rows.T @ (self._weight * image) @ self._columns.T
        if self._cell > 1:
            rows, columns = image.shape[-2:]
            *others, above, beside = sums.shape
            cells = sums[..., :, None, :, None].expand(
                *others, above, self._cell, beside, self._cell
            )
            whole = cells.reshape(*others, above * self._cell, beside * self._cell)
            sums = whole[..., :rows, :columns]
        return self.valid * sums

    def contrast(self, image: Tensor) -> Contrast:
        """Take the local means off an image, and see how much what is left varies."""
        high = image - self.mean(image)
        mean_high = self.mean(high)
        variance = (self.mean(high * high) - mean_high**2).clamp_min(0.0)
        return Contrast(self, high, mean_high, variance)

    def deviation(self, image: Tensor) -> Tensor:
        """Return the local standard deviation."""
        return self.contrast(image).deviation

    def normalize(self, image: Tensor, floor: float | Tensor) -> Tensor:
        """Return the normalised image; ``floor`` (for several images, (..., 1, 1)) is added in
        quadrature to the standard deviation."""
        return self.contrast(image).normalized(floor).image


@dataclass(frozen=True)
class Contrast:
    """An image (..., rows, columns) less its local means, with its local mean and variance."""

    normalizer: LocalNormalization
    high: Tensor
    mean_high: Tensor
    variance: Tensor

    @property
    def deviation(self) -> Tensor:
        """The local standard deviation."""
        return self.variance.sqrt()

    def normalized(self, floor: float | Tensor) -> Normalized:
        """Return the normalised image, for a floor as in `LocalNormalization.normalize`."""
        inverse = torch.rsqrt(self.variance + floor * floor)
        return Normalized(self.high * inverse, inverse, self)


@dataclass(frozen=True)
class Normalized:
    """Normalised images (..., rows, columns), and their derivative by what they were made of."""

    image: Tensor
    _inverse: Tensor
    _contrast: Contrast

    def push(self, jacobian: Tensor) -> Tensor:
        """Return the derivatives (P, ..., rows, columns) of the normalised images, from the
        images' own, ``jacobian``."""
        mean = self._contrast.normalizer.mean
        d_high = jacobian - mean(jacobian)
        half_d_variance = mean(self._contrast.high * d_high) - self._contrast.mean_high * mean(
            d_high
        )
        return (d_high - self.image * self._inverse * half_d_variance) * self._inverse

    def pull(self, weights: Tensor) -> Tensor:
        """Apply the transpose of `push`: return the images (..., rows, columns) whose product with
        a Jacobian is that of ``weights`` (..., rows, columns) with what becomes of it.

        One image instead of P: a sum over the normalised image is differentiated without P
        normalised derivatives.
        """
        back = self._contrast.normalizer.mean_transposed
        by_half_variance = -self.image * self._inverse**2 * weights
        by_high = (
            self._inverse * weights
            + self._contrast.high * back(by_half_variance)
            - back(self._contrast.mean_high * by_half_variance)
        )
        return by_high - back(by_high)
