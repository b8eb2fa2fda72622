"""Rasterizer with gsplat's tiles (optional, CUDA): its projection's culling and sorted lists.

gsplat blends opacities and cannot integrate attenuation, so only its projection to boxes and its
tile intersection are used; each pair of Gaussian and pixel is then the exact line integral of the
same kernels as the warp backend's. gsplat is imported on first use: it compiles with nvcc.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import warp_backend
from .tiles import TILE, TileLists, footprint_boxes, tile_counts


def _functions() -> tuple[Any, Any]:
    """gsplat's ``isect_tiles`` and ``isect_offset_encode``."""
    from gsplat.cuda._wrapper import isect_offset_encode, isect_tiles

    return isect_tiles, isect_offset_encode


@torch.no_grad()
def gsplat_tiles(coefficients: Tensor, size: tuple[int, int], cutoff: float) -> TileLists:
    """The lists of `tiles.list_tiles`, made by gsplat.

    Its pixels have their centres at halves, its radii are whole pixels, and it sorts each tile by a
    depth: the Gaussian's number here, so that the order is that of the cloud.
    """
    isect_tiles, isect_offset_encode = _functions()
    across, down = tile_counts(size)
    low, high = footprint_boxes(coefficients, cutoff)
    centre = ((low + high) / 2.0 + 0.5).contiguous()
    seen = (low <= high).all(1, keepdim=True)
    reach = torch.ceil((high - low) / 2.0 + 1.0)
    radii = torch.where(seen, reach, torch.zeros_like(reach)).int().contiguous()
    number = torch.arange(1, len(low) + 1, device=low.device, dtype=torch.float32)
    _, keys, order = isect_tiles(centre[None], radii[None], number[None], TILE, across, down)
    offsets = isect_offset_encode(keys, 1, across, down).reshape(-1)
    end = torch.tensor([len(order)], device=offsets.device, dtype=offsets.dtype)
    first = torch.cat([offsets, end]).int().contiguous()
    return TileLists(order.int().contiguous(), first, across)


# See `rasterizer.rasterize` and `rasterizer.rasterize_with_jacobian`.
rasterize = partial(warp_backend.rasterize, lister=gsplat_tiles)
rasterize_with_jacobian = partial(warp_backend.rasterize_with_jacobian, lister=gsplat_tiles)
