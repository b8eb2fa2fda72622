"""Which Gaussians reach which tile of an image: for kernels that gather per pixel.

On a GPU many Gaussians would add to one pixel at once, in an order that changes from run to run.
There each pixel gathers instead, from the list of its tile, in the order of the cloud: the same
input gives the same bits.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

TILE = 16
_MOST = 2**31 - 1


@dataclass(frozen=True)
class TileLists:
    """``order`` (M,) int32: Gaussians tile by tile, row-major; ``first`` (T + 1,) int32: where each
    tile's begin; ``across``: tiles in a row of tiles.
    """

    order: Tensor
    first: Tensor
    across: int


TileLister = Callable[[Tensor, tuple[int, int], float], TileLists]


def tile_counts(size: tuple[int, int]) -> tuple[int, int]:
    """Tiles across and down an image of ``size`` (columns, rows)."""
    return (size[0] + TILE - 1) // TILE, (size[1] + TILE - 1) // TILE


@torch.no_grad()
def footprint_boxes(coefficients: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """Lower and upper corners (N, 2) in pixels, (column, row), of the footprints at ``cutoff``.

    The outline is the conic A - cutoff^2 D = 0 of splat_setup (the dual conic of math.md section 1,
    about the centre's pixel). A Gaussian that is left out has a lower corner above its upper one.
    """
    u0, v0, _, a11, a12, a22, d0, d1, d2, d11, d12, d22 = coefficients.unbind(1)
    cut2 = cutoff * cutoff
    e11, e12, e22 = a11 - cut2 * d11, a12 - cut2 * d12, a22 - cut2 * d22
    e1, e2, e0 = -cut2 * d1, -cut2 * d2, -cut2 * d0
    shape = e11 * e22 - e12 * e12
    centre_u, centre_v = (e12 * e2 - e22 * e1) / shape, (e12 * e1 - e11 * e2) / shape
    level = -(e0 + e1 * centre_u + e2 * centre_v)
    half_u, half_v = (level * e22 / shape).sqrt(), (level * e11 / shape).sqrt()
    good = (a11 > 0) & (e11 > 0) & (shape > 0) & (level > 0)
    low = torch.stack([u0 + centre_u - half_u, v0 + centre_v - half_v], 1)
    high = torch.stack([u0 + centre_u + half_u, v0 + centre_v + half_v], 1)
    return torch.where(good[:, None], low, 1.0), torch.where(good[:, None], high, -1.0)


@torch.no_grad()
def list_tiles(coefficients: Tensor, size: tuple[int, int], cutoff: float) -> TileLists:
    """The lists of an image of ``size`` (columns, rows), by a stable sort.

    Raises ValueError for more pairs of Gaussian and tile than 32 bits can number.
    """
    across, down = tile_counts(size)
    low, high = footprint_boxes(coefficients, cutoff)
    limit = torch.tensor(size, device=low.device) - 1
    seen = (high >= 0).all(1) & (low <= limit).all(1) & (low <= high).all(1)
    # half a pixel of margin against rounding; the kernel decides pair by pair
    first = (torch.floor(low - 0.5).clamp(min=0) // TILE).long()
    last = (torch.minimum(torch.ceil(high + 0.5), limit.to(high)).clamp(min=0) // TILE).long()
    span = torch.where(seen[:, None], last - first + 1, torch.zeros_like(first)).clamp(min=0)
    count = span[:, 0] * span[:, 1]
    gaussian = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    if len(gaussian) > _MOST:
        raise ValueError(
            f"{len(gaussian)} pairs of Gaussian and tile in one image, at most {_MOST}"
        )
    begin = torch.cumsum(count, 0) - count
    within = torch.arange(len(gaussian), device=count.device) - begin[gaussian]
    width = span[gaussian, 0]
    column = first[gaussian, 0] + within % width
    row = first[gaussian, 1] + within // width
    tile, order = torch.sort(row * across + column, stable=True)
    edges = torch.searchsorted(tile, torch.arange(across * down + 1, device=tile.device))
    return TileLists(gaussian[order].int().contiguous(), edges.int().contiguous(), across)
