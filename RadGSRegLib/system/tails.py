"""Quantiles of many pictures at once, on any device."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The command line starts before anything heavy is loaded.
    from torch import Tensor


def tail_quantile(values: Tensor, among: Tensor, share: Tensor, most: float) -> Tensor:
    """Return a quantile (P,) of each row of values (P, N), interpolated as numpy does.

    ``among`` (P, N) says which values count; rows where none does yield an infinity. ``share``
    (P,): the quantile, counted from the lower end where ``most`` is positive and from the upper
    end where it is negative; its distance from that end is at most the size of ``most``. Only that
    end is sorted.
    """
    import torch

    below = most > 0
    count = min(int(abs(most) * (values.shape[1] - 1)) + 2, values.shape[1])
    outside = torch.inf if below else -torch.inf
    ends = torch.where(among, values, outside).topk(count, dim=1, largest=not below).values
    place = share * (among.sum(1) - 1).clamp_min(0)
    place = place.clamp_max(count - 1)
    first = place.floor().long()
    second = (first + 1).clamp_max(count - 1)
    part = (place - first).to(values.dtype)
    low = ends.gather(1, first[:, None])[:, 0]
    high = ends.gather(1, second[:, None])[:, 0]
    # A row with too few values has an infinity beside its last.
    return torch.where(part > 0, low + part * (high - low), low)


def median_among(values: Tensor, among: Tensor) -> Tensor:
    """Return the median (P,) of each row of values (P, N) among those that count, all where none
    does."""
    import torch

    among = among | ~among.any(1, keepdim=True)
    order = torch.where(among, values, torch.inf).sort(dim=1).values
    last = among.sum(1, keepdim=True) - 1
    middle = torch.cat([last // 2, (last + 1) // 2], dim=1)
    return order.gather(1, middle).mean(1)
