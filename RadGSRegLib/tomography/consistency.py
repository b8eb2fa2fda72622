"""Which X-rays contradict the rest: each is predicted from the others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..drr import SystemMatrix
from ..reconstruction import Box
from . import bounds
from .algebraic import Penalty, solve
from .beams import Beams
from .likeness import agreement, leads, likeness, likeness_moved
from .watch import Watch

_FOLDS = 5
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
    for left, voxels in _from_others(lines, grid, report):
        if voxels is None:
            return None
        out[left] = _matrix(lines.some(left), grid).forward(voxels)
    return out


def _from_others(
    lines: Beams, grid: Box, report: Watch | None
) -> Iterator[tuple[list[int], Tensor | None]]:
    """Which views are left out at a time, and the voxels (K, J, I) of the others; None for those
    where ``report`` became late."""
    folds = min(_FOLDS, len(lines))
    for fold in range(folds):
        part = None if report is None else report.part(fold / folds, (fold + 1) / folds)
        left = [n for n in range(len(lines)) if n % folds == fold]
        rest = lines.some([n for n in range(len(lines)) if n % folds != fold])
        voxels = _solved(rest, grid, part)
        yield left, None if part is not None and part.late else voxels


def _solved(lines: Beams, grid: Box, report: Watch | None) -> Tensor:
    """Voxels (K, J, I) of some views."""
    start = torch.zeros(_shape(grid), device=lines.values.device)
    penalty = Penalty(tissue=not lines.bone_alone)
    known = _matrix(lines, grid)
    return solve(known, lines.values, lines.weight, start, 2, penalty=penalty, report=report)


def _matrix(lines: Beams, grid: Box) -> SystemMatrix:
    device = lines.values.device
    return SystemMatrix(lines.cameras, grid.index_to_world, _shape(grid), device=device)


def _shape(grid: Box) -> tuple[int, int, int]:
    return grid.size[2], grid.size[1], grid.size[0]


def contradictions(
    lines: Beams, grid: Box, *, report: Watch | None = None
) -> tuple[list[float], list[int]]:
    """Return how well the details of each view agree with what the others predict (V,), and which
    views contradict the rest: those that are like nothing that is predicted, and those that are
    more like what is predicted of a moved camera than of their own.

    Of those the one that is least like its prediction is left out and the rest are looked at again,
    as long as there is one: a wrong view also spoils what is predicted of its neighbours. How well
    a view agrees is not enough: one that is badly displayed, or lies far from the others, agrees
    less, and hardly better with anything else. Once ``report`` is late what is known until then is
    returned, NaN for what is not.
    """
    kept, odd = list(range(len(lines))), list[int]()
    scores = [float("nan")] * len(lines)
    again = None if report is None else report.part(1.0, 1.0)
    while True:
        some = lines.some(kept)
        images = torch.zeros_like(some.values)
        turns = list[tuple[list[int], Tensor]]()
        for left, voxels in _from_others(some, grid, again if odd else report):
            if voxels is None:
                return scores, sorted(odd)
            images[left] = _matrix(some.some(left), grid).forward(voxels)
            turns.append((left, voxels))
        now = agreement(images, some.values, some.weight)
        for n, score in zip(kept, now, strict=True):
            scores[n] = score
        if len(kept) <= _LEAST_KEPT or len(odd) >= _MOST_ODD * len(lines):
            break
        alike = likeness(images, some.values, some.weight)
        least = float(np.nanmedian(now)) - bounds.BELOW_MEDIAN if np.isfinite(now).any() else 0.0
        poor = [n for n, score in enumerate(now) if score < least]
        ahead = leads(images[poor], some.values[poor], some.weight[poor], some.pixel_mm)
        beside = {n for n, lead in zip(poor, ahead, strict=True) if not lead >= bounds.LEAST_LEAD}
        wrong = list[int]()
        for left, voxels in turns:
            for n in left:
                # Each may take a hundred projections.
                if report is not None and report.late:
                    return scores, sorted(odd)
                if _elsewhere(alike[n], n in beside, some.some([n]), voxels, grid):
                    wrong.append(n)
        if not wrong:
            break
        odd.append(kept.pop(min(wrong, key=lambda n: alike[n] + now[n])))
    if odd:
        odd = _still_odd(lines, grid, odd, again)
    return scores, sorted(odd)


def _still_odd(lines: Beams, grid: Box, odd: list[int], report: Watch | None) -> list[int]:
    """Which views contradict the rest once all of these are left out: a right one may have been
    spoiled by a wrong one that was left out later. All where ``report`` is late."""
    rest = lines.some([n for n in range(len(lines)) if n not in odd])
    voxels = _solved(rest, grid, report)
    if report is not None and report.late:
        return odd
    here = lines.some(odd)
    alike = likeness(_matrix(here, grid).forward(voxels), here.values, here.weight)
    still = list[int]()
    for number, n in enumerate(odd):
        if report is not None and report.late:
            return odd
        if _elsewhere(alike[number], True, here.some([number]), voxels, grid):
            still.append(n)
    return still


def _elsewhere(alike: float, beside: bool, view: Beams, voxels: Tensor, grid: Box) -> bool:
    """Whether voxels of the others show something else than a view does, which is ``alike`` what
    they show of its camera; ``beside``: it agrees less than most, and as well when it is shifted.
    False where too little of it is shown."""
    if alike < bounds.LIKE_NOTHING:
        return True
    if not (beside or alike < bounds.LIKE_ENOUGH):
        return False
    moved = likeness_moved(voxels, grid, view.cameras[0], view.values[0], view.weight[0])
    gained = moved - alike
    return gained > bounds.MOST_GAINED or (
        beside and gained > bounds.MOST_GAINED_BESIDE * (1.0 - alike)
    )
