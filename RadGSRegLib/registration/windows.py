"""What one stage compares: windows of the views around the target, prepared for a residual."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..geometry import Array
from ..views import Window
from .background import RenderedBackground
from .bounds import VISIBLE_SHARE
from .options import RefineOptions


@dataclass(frozen=True)
class StageView:
    """A window, and what a residual has prepared of it: a term for each of its scales."""

    window: Window
    world_to_camera: Array
    terms: tuple[Any, ...]
    background: RenderedBackground | None = None
    """What is added to every rendering for all that is not a body."""


def footprint(renders: Tensor, pixel_mm: float, margin_mm: float) -> Tensor:
    """Return where a body projects (V, rows, columns), in [0, 1], grown by a margin so that its
    outline counts fully."""
    visible = VISIBLE_SHARE * renders.amax((-2, -1), keepdim=True) + 1e-9
    covered = (renders > visible).float()[:, None]
    reach = round(margin_mm / pixel_mm)
    if reach > 0:
        # Rows, then columns: the same square in a fifth of the time.
        for size, padding in (((2 * reach + 1, 1), (reach, 0)), ((1, 2 * reach + 1), (0, reach))):
            covered = torch.nn.functional.max_pool2d(covered, size, stride=1, padding=padding)
    return covered[:, 0]


def pixel_weight(
    target: Tensor, others: Tensor, windows: Sequence[Window], options: RefineOptions
) -> Tensor:
    """Return how much the pixels of views count (V, rows, columns), from their bodies' images
    alike."""
    weight = footprint(target, windows[0].pixel_mm, options.margin_mm)
    if options.neighbour_weight > 0.0:
        beside = footprint(others, windows[0].pixel_mm, 0.0)
        weight = torch.maximum(weight, options.neighbour_weight * beside)
    return weight * torch.stack([part.valid for part in windows])
