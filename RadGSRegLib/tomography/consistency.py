"""Which X-rays contradict the rest: each is predicted from the others."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..drr import SystemMatrix
from ..reconstruction import Box
from . import bounds
from .algebraic import Penalty, solve
from .beams import Beams
from .watch import Watch

# Details: what is left of a picture's means over 3 pixels without those over 13.
_FINE_PX, _COARSE_PX = 1, 6
_FOLDS = 5
# A picture that shows fewer pixels away from its rim is not judged.
_LEAST_PIXELS = 16
# A few views cannot outvote one; where a third is odd, nothing says which third is right.
_LEAST_KEPT, _MOST_ODD = 6, 0.3


def predicted(lines: Beams, grid: Box, *, report: Watch | None = None) -> Tensor | None:
    """Predict each view from the other views (V, rows, columns).

    Views are left out in five turns, every fifth at a time, and voxels on ``grid`` are solved for
    from the others. A view that was itself fitted would agree with whatever was bent to it.
    (Penalties are those of finer pixels: smoother voxels, with which the bounds were measured.)
    None where ``report`` became late.
    """
    out = torch.zeros_like(lines.values)
    folds = min(_FOLDS, len(lines))
    for fold in range(folds):
        part = None if report is None else report.part(fold / folds, (fold + 1) / folds)
        left = [n for n in range(len(lines)) if n % folds == fold]
        rest = lines.some([n for n in range(len(lines)) if n % folds != fold])
        here = lines.some(left)
        shape = (grid.size[2], grid.size[1], grid.size[0])
        device = lines.values.device
        known = SystemMatrix(rest.cameras, grid.index_to_world, shape, device=device)
        start = torch.zeros(shape, device=device)
        penalty = Penalty(tissue=not lines.bone_alone)
        voxels = solve(known, rest.values, rest.weight, start, 2, penalty=penalty, report=part)
        if part is not None and part.late:
            return None
        asked = SystemMatrix(here.cameras, grid.index_to_world, shape, device=device)
        out[left] = asked.forward(voxels)
    return out


def contradictions(
    lines: Beams, grid: Box, *, report: Watch | None = None
) -> tuple[list[float], list[int]]:
    """Return how well the details of each view agree with what the others predict (V,), and which
    views contradict the rest: those that agree much less than most, and either not at all, or what
    is predicted of them fits best somewhere else, and hardly better in its own place than farther
    away.

    Of those the one that agrees least is left out and the rest are looked at again, as long as
    there is one: a wrong view also spoils what is predicted of its neighbours. How well a view
    agrees is not enough: a thick and noisy one agrees less, and in its own place all the same. Once
    ``report`` is late what is known until then is returned, NaN for what is not.
    """
    kept, odd = list(range(len(lines))), list[int]()
    scores = [float("nan")] * len(lines)
    again = None if report is None else report.part(1.0, 1.0)
    while True:
        some = lines.some(kept)
        images = predicted(some, grid, report=again if odd else report)
        if images is None:
            break
        now = agreement(images, some.values, some.weight)
        for n, score in zip(kept, now, strict=True):
            scores[n] = score
        if len(kept) <= _LEAST_KEPT or len(odd) >= _MOST_ODD * len(lines):
            break
        if np.isnan(now).all():
            break
        least = float(np.nanmedian(now)) - bounds.BELOW_MEDIAN
        poor = [n for n, score in enumerate(now) if score < least]
        ahead = leads(images[poor], some.values[poor], some.weight[poor], some.pixel_mm)
        elsewhere = [
            n
            for n, lead in zip(poor, ahead, strict=True)
            if now[n] < bounds.NO_AGREEMENT or not lead >= bounds.LEAST_LEAD
        ]
        if not elsewhere:
            break
        worst = elsewhere[int(np.argmin([now[n] for n in elsewhere]))]
        odd.append(kept.pop(worst))
    return scores, sorted(odd)


def leads(rendered: Tensor, wanted: Tensor, weight: Tensor, pixel_mm: float) -> list[float]:
    """How much better the details of each view agree with its rendering in their own place than
    farther away (V,); infinite where they fit best in or beside it, NaN where too little is shown.

    Near 0 or below for a view taken from somewhere else. Arguments as of `agreement`; ``pixel_mm``
    at the patient.
    """
    beside, away, reach_px = (
        max(round(mm / pixel_mm), 1)
        for mm in (bounds.BESIDE_MM, bounds.AWAY_MM, bounds.FARTHEST_MM)
    )
    reach = range(-reach_px, reach_px + 1)
    moves = [(row, column) for row in reach for column in reach]
    far = torch.tensor([max(abs(row), abs(column)) for row, column in moves])
    out = []
    for image, target, mask in zip(rendered, wanted, weight, strict=True):
        whole = _mean(mask, _COARSE_PX) > 0.999
        inside = torch.zeros_like(whole)
        inside[reach_px:-reach_px, reach_px:-reach_px] = True
        drawn, there = _details(image), _details(target)
        fits = torch.tensor(
            [
                _correlation(
                    drawn.roll(move, (0, 1)), there, whole & whole.roll(move, (0, 1)) & inside
                )
                for move in moves
            ]
        )
        if bool(fits.isnan().any()):
            out.append(float("nan"))
        elif int(far[int(fits.argmax())]) <= beside:
            out.append(float("inf"))
        else:
            out.append(float(fits[far == 0] - fits[far >= away].max()))
    return out


def agreement(rendered: Tensor, wanted: Tensor, weight: Tensor) -> list[float]:
    """How well the details of each view and of its rendering agree: correlations (V,).

    All are (V, rows, columns); NaN where too little is shown. Only details: gain and offset say
    nothing of the geometry.
    """
    out = []
    for image, target, mask in zip(rendered, wanted, weight, strict=True):
        whole = _mean(mask, _COARSE_PX) > 0.999
        out.append(_correlation(_details(image), _details(target), whole))
    return out


def _correlation(first: Tensor, second: Tensor, where: Tensor) -> float:
    """Of two pictures (rows, columns) in some pixels; NaN for too few."""
    a, b = first[where], second[where]
    if len(a) < _LEAST_PIXELS:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float((a @ b) / (a.norm() * b.norm()).clamp_min(1e-12))


def _details(picture: Tensor) -> Tensor:
    return _mean(picture, _FINE_PX) - _mean(picture, _COARSE_PX)


def _mean(picture: Tensor, reach: int) -> Tensor:
    """Means over squares of 2 ``reach`` + 1 pixels, with zeros beyond the rim."""
    size = 2 * reach + 1
    mean: Tensor = functional.avg_pool2d(picture[None, None], size, stride=1, padding=reach)[0, 0]
    return mean
