"""Many pictures of one kind made ready at once, on any device: what `cleaning` and `scaling` do."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ..system import flat_array, launch, run_jobs, split, start_warp, tail_quantile, worker_count
from .bounds import (
    STUCK_MARGIN_MM,
    STUCK_MARGIN_PX,
    STUCK_RANGE,
    STUCK_SHARE,
    VIEW_PERCENTILES,
    VIEW_RANGE,
)


@torch.no_grad()
def prepare_pictures(
    pictures: Tensor, displayed: Tensor, spacing_mm: float
) -> tuple[Tensor, Tensor]:
    """Clean and scale pictures (P, rows, columns) as `prepare_view` does a view's.

    ``displayed`` (P,): which are display values; the others are line integrals, all of them valid.
    ``spacing_mm`` of a pixel at the detector. Returns the pixels and whether each is valid, both
    float32, on the pictures' device.
    """
    flat = pictures.flatten(1)
    valid = _not_stuck(pictures, displayed, spacing_mm).flatten(1)
    among = valid | ~valid.any(1, keepdim=True)
    share = VIEW_PERCENTILES[0] / 100.0
    even = torch.full((len(flat),), share, device=flat.device)
    low = tail_quantile(flat, among, even, share)[:, None]
    high = tail_quantile(flat, among, even, -share)[:, None]
    pixels = ((flat - low) / (high - low).clamp_min(1e-12)).clamp(*VIEW_RANGE)
    return pixels.view_as(pictures), valid.view_as(pictures).to(pictures.dtype)


def _not_stuck(pictures: Tensor, displayed: Tensor, spacing_mm: float) -> Tensor:
    """Which pixels are not in or beside a large area at the lowest or the highest value."""
    start_warp()
    # What else the room does is done without warp.
    from . import stuck_kernels as kernels

    count, rows, columns = pictures.shape
    low, high = pictures.amin((1, 2), keepdim=True), pictures.amax((1, 2), keepdim=True)
    margin = STUCK_RANGE * (high - low)
    kinds = torch.where(pictures <= low + margin, 1, 2 * (pictures >= high - margin))
    kinds = (kinds * displayed[:, None, None]).to(torch.uint8).contiguous()
    parents = torch.arange(kinds.numel(), dtype=torch.int32, device=kinds.device)
    sizes = torch.zeros_like(parents)
    valid = torch.ones_like(kinds)
    least = int(STUCK_SHARE * rows * columns) + 1
    grow = max(round(STUCK_MARGIN_MM / spacing_mm), STUCK_MARGIN_PX)
    kind, result = flat_array(kinds, torch.uint8), flat_array(valid, torch.uint8)
    parent, size = flat_array(parents, torch.int32), flat_array(sizes, torch.int32)

    def part(first: int, last: int) -> None:
        begin, number = first * rows * columns, (last - first) * rows * columns
        run = partial(launch, count=number, like=kinds)
        run(kernels.join, inputs=[kind, columns, rows, begin, parent])
        run(kernels.count, inputs=[kind, parent, begin, size])
        inputs = [kind, parent, size, columns, rows, least, grow, begin, result]
        run(kernels.spread, inputs=inputs)

    # Pictures do not share areas.
    parts = split(count, 1 if kinds.is_cuda else worker_count())
    run_jobs([partial(part, first, last) for first, last in parts])
    return valid > 0
