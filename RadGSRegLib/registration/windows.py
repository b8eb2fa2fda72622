"""What one stage compares: windows of the views around the target, and how much pixels count."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..tensors import reads_are_free
from ..views import PreparedView, Windows, windows
from .bounds import VISIBLE_SHARE
from .options import RefineOptions, Stage


def stage_windows(
    views: Sequence[PreparedView],
    pictures: Sequence[tuple[int, int]],
    centres_world: Tensor,
    half_mm: float,
    stage: Stage,
) -> Windows:
    """Return windows around centres (T, 3) mm for ``pictures``: the numbers of trial and view of
    each, all views of a trial before the next trial's.

    On a device that the host does not read, these are all trials and views.
    """
    lengths = half_mm, stage.pixel_mm, stage.blur_mm
    if reads_are_free(centres_world):
        # Each alone: the less of a picture is needed the better.
        return Windows.stacked(
            [windows(views[v], centres_world[t : t + 1], *lengths) for t, v in pictures]
        )
    of_views = [windows(view, centres_world, *lengths) for view in views]
    order = torch.arange(len(pictures), device=centres_world.device)
    by_trial = order.reshape(len(views), -1).T.reshape(-1)
    return Windows.stacked(of_views).part(by_trial)


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


def pixel_weight(target: Tensor, others: Tensor, part: Windows, options: RefineOptions) -> Tensor:
    """Return how much the pixels of windows count (N, rows, columns), from their bodies' images
    alike."""
    weight = footprint(target, part.pixel_mm, options.margin_mm)
    if options.neighbour_weight > 0.0:
        beside = footprint(others, part.pixel_mm, 0.0)
        weight = torch.maximum(weight, options.neighbour_weight * beside)
    return weight * part.valid
