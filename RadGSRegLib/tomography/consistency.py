"""Which X-rays contradict the rest: each is predicted from the others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..drr import SystemMatrix
from ..reconstruction import Box
from . import bounds
from .algebraic import Penalty, solve
from .beams import Beams

# Details: what is left of a picture's means over 3 pixels without those over 13.
_FINE_PX, _COARSE_PX = 1, 6
_FOLDS = 5
# A picture that shows fewer pixels away from its rim is not judged.
_LEAST_PIXELS = 16
# A few views cannot outvote one; where a third is odd, nothing says which third is right.
_LEAST_KEPT, _MOST_ODD = 6, 0.3


def predicted_agreement(
    lines: Beams, grid: Box, *, report: Callable[[float], None] | None = None
) -> list[float]:
    """How well the details of each view agree with what the other views predict: correlations (V,).

    Views are left out in five turns, every fifth at a time, and voxels on ``grid`` are solved for
    from the others. A view that was itself fitted would agree with whatever was bent to it. NaN
    for a view that shows too little. (Penalties are those of finer pixels: smoother voxels, with
    which `bounds.BELOW_MEDIAN` was measured.)
    """
    out = [0.0] * len(lines)
    folds = min(_FOLDS, len(lines))
    for fold in range(folds):
        if report is not None:
            report(fold / folds)
        left = [n for n in range(len(lines)) if n % folds == fold]
        rest = lines.some([n for n in range(len(lines)) if n % folds != fold])
        here = lines.some(left)
        shape = (grid.size[2], grid.size[1], grid.size[0])
        device = lines.values.device
        known = SystemMatrix(rest.cameras, grid.index_to_world, shape, device=device)
        start = torch.zeros(shape, device=device)
        penalty = Penalty(tissue=not lines.bone_alone)
        voxels = solve(known, rest.values, rest.weight, start, 2, penalty=penalty)
        asked = SystemMatrix(here.cameras, grid.index_to_world, shape, device=device)
        scores = agreement(asked.forward(voxels), here.values, here.weight)
        for n, score in zip(left, scores, strict=True):
            out[n] = score
    return out


def contradictions(
    lines: Beams, grid: Box, *, report: Callable[[float], None] | None = None
) -> tuple[list[float], list[int]]:
    """Return `predicted_agreement` (V,), and which views agree with the rest much less than most.

    The worst is left out and the rest are looked at again, as long as there is one: a wrong view
    also spoils what is predicted of its neighbours.
    """
    scores = predicted_agreement(lines, grid, report=report)
    kept, odd = list(range(len(lines))), list[int]()
    now = list(scores)

    def again(_share: float) -> None:
        if report is not None:
            report(1.0)

    while len(kept) > _LEAST_KEPT and len(odd) < _MOST_ODD * len(lines):
        if np.isnan(now).all():
            break
        worst = int(np.nanargmin(now))
        if now[worst] >= float(np.nanmedian(now)) - bounds.BELOW_MEDIAN:
            break
        odd.append(kept.pop(worst))
        now = predicted_agreement(lines.some(kept), grid, report=again)
        for n, score in zip(kept, now, strict=True):
            scores[n] = score
    return scores, sorted(odd)


def agreement(rendered: Tensor, wanted: Tensor, weight: Tensor) -> list[float]:
    """How well the details of each view and of its rendering agree: correlations (V,).

    All are (V, rows, columns); NaN where too little is shown. Only details: gain and offset say
    nothing of the geometry.
    """
    out = []
    for image, target, mask in zip(rendered, wanted, weight, strict=True):
        whole = _mean(mask, _COARSE_PX) > 0.999
        a, b = (_details(picture)[whole] for picture in (image, target))
        if len(a) < _LEAST_PIXELS:
            out.append(float("nan"))
            continue
        a, b = a - a.mean(), b - b.mean()
        out.append(float((a @ b) / (a.norm() * b.norm()).clamp_min(1e-12)))
    return out


def _details(picture: Tensor) -> Tensor:
    return _mean(picture, _FINE_PX) - _mean(picture, _COARSE_PX)


def _mean(picture: Tensor, reach: int) -> Tensor:
    """Means over squares of 2 ``reach`` + 1 pixels, with zeros beyond the rim."""
    size = 2 * reach + 1
    mean: Tensor = functional.avg_pool2d(picture[None, None], size, stride=1, padding=reach)[0, 0]
    return mean
