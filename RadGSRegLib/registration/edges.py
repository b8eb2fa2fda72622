"""The second opinion: whether the edges of a rendering agree with those of an X-ray."""

from collections.abc import Sequence

import torch

from ..system import side_by_side
from ..views import gradient_correlation
from .bodies import Arrangement
from .bounds import EDGE_SCALES_PX
from .normal_equations import Problem
from .windows import StageView, footprint


def edge_scores(problem: Problem, arrangement: Arrangement, signs: Sequence[int]) -> list[float]:
    """Return the gradient correlation of each view where the target projects, at most 1.

    Least squares of normalised images fits a wrong pose to a picture as well as a right one: at a
    wrong pose of a real radius local normalised correlation was 0.824, at the right one 0.815, and
    this 0.52 and 0.68 (math.md 7).
    """

    def score(pair: tuple[StageView, int]) -> float:
        view, sign = pair
        drawing = problem.bodies.drawing([view], [arrangement], problem.options)
        part = view.window
        weight = footprint(drawing.target, part.pixel_mm, problem.options.margin_mm)
        observed = sign * part.image[None]
        scores = gradient_correlation(weight * part.valid, observed, drawing.image, EDGE_SCALES_PX)
        return float(torch.nan_to_num(scores, nan=-1.0)[0])

    return side_by_side(score, list(zip(problem.views, signs, strict=True)))
