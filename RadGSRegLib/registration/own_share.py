"""What the target itself explains of X-rays, beside all that is around it.

Neighbours and background fill most of a window. Where the target is missing from the X-rays they
explain them alone, and the agreement of all together says nothing of the target.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..system import side_by_side
from .bodies import Arrangements
from .problem import Group, Problem
from .windows import pixel_weight


def own_shares(problem: Problem, arrangements: Arrangements) -> Tensor:
    """Return by how much the score of each view (T, V) is higher with the target in the rendering
    than without it, where both count the same pixels.

    ``arrangements`` of the problem's trials.
    """

    def shares(group: Group) -> Tensor:
        at = arrangements.part(group.index)
        drawing = problem.bodies.drawing(group.windows, group.background, at, problem.options)
        weight = pixel_weight(drawing.target, drawing.others, group.windows, problem.options)
        both = torch.stack([drawing.image, drawing.image - drawing.target])
        scores = [
            problem.residual.compare(term, both, weight, problem.options).score
            for term in group.terms
        ]
        mean = torch.stack(scores).mean(0).nan_to_num(nan=-1.0)
        return mean[0] - mean[1]

    return torch.cat(side_by_side(shares, problem.groups)).reshape(-1, problem.views)
