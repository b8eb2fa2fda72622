"""The second opinion: whether the edges of a rendering agree with those of an X-ray."""

import itertools

import torch
from torch import Tensor

from ..system import side_by_side
from ..views import gradient_correlation
from .bodies import Arrangements
from .bounds import EDGE_SCALES_PX
from .problem import Group, Problem
from .windows import footprint


def edge_scores(problem: Problem, arrangements: Arrangements, signs: Tensor) -> Tensor:
    """Return the gradient correlation (T, V) of each view where the target projects, at most 1.

    ``arrangements`` and ``signs`` (T, V) of the problem's trials. Least squares of normalised
    images fits a wrong pose to a picture as well as a right one: at a wrong pose of a real radius
    local normalised correlation was 0.824, at the right one 0.815, and this 0.52 and 0.68
    (math.md 7).
    """
    firsts = itertools.accumulate((len(group.trials) for group in problem.groups), initial=0)
    every = signs.reshape(-1)

    def scores(pair: tuple[Group, int]) -> Tensor:
        group, first = pair
        shown, at = group.windows, arrangements.part(group.index)
        drawing = problem.bodies.drawing(shown, group.background, at, problem.options)
        weight = footprint(drawing.target, shown.pixel_mm, problem.options.margin_mm)
        observed = every[first : first + len(shown), None, None] * shown.image
        found = gradient_correlation(weight * shown.valid, observed, drawing.image, EDGE_SCALES_PX)
        return torch.nan_to_num(found, nan=-1.0)

    pairs = list(zip(problem.groups, firsts, strict=False))
    return torch.cat(side_by_side(scores, pairs)).reshape(-1, problem.views)
