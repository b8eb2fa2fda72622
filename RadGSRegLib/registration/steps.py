"""The door for steps down a cost, and its guest: Gauss-Newton, stretched and turned.

No motion explains all of an X-ray, so that residuals stay large at the best pose too, and a robust
loss takes the largest of them out. Gauss-Newton's matrix then holds far more curvature than the
cost has: its steps have the right direction and are several times too short (along them the cost
falls as a straight line). So a factor learned from the cost along the steps before stretches them,
and secant pairs (limited-memory BFGS with the stretched matrix as its first guess: Nocedal and
Wright, Numerical Optimization, 2nd ed., algorithm 7.4) turn them. How far a step may go follows
from how the one before did, as in a trust region.

Trials of several poses go side by side: all numbers are tensors with the trials first, float64, and
nothing of them is read by the host.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

# A parabola through three numbers of a rough cost is believed so far in one go.
_GROWTH = 3.0
_SHRINKAGE = 0.1
_SHORTEST = 0.05
_LONGEST = 16.0
# The first steps go far, where nothing that they tell holds.
_STRAIGHT_STEPS = 4
_PAIRS = 6
DAMPING = 1e-3
_FIRST_STRETCH = 3.0


class Stepper(Protocol):
    """Where T trials step next, from what the steps before have brought.

    A cost's derivative is -2 ``gradient``, and ``matrix`` what Gauss-Newton takes for half its
    second derivative, as `normal_equations.Evaluations` has them.
    """

    def step(self, gradient: Tensor, matrix: Tensor) -> Tensor:
        """Return the steps (T, P) to try from places with gradients (T, P), matrices (T, P, P)."""

    def learn(
        self, step: Tensor, fall: Tensor, before: Tensor, after: Tensor, among: Tensor
    ) -> Tensor:
        """Take in what steps brought: how much costs fell (T,), gradients (T, P) before and after.

        ``among`` (T,): which of them took part; of the others nothing is learned. Returns (T,)
        whether to take each step. Next comes a step from where it led, or else another one from the
        same place.
        """

    def renewed(self) -> Stepper:
        """Return one for the same unknowns in other pictures: only what still holds is kept."""

    def part(self, index: Tensor) -> Stepper:
        """Return one for some of the trials."""


class StretchedGaussNewton:
    """A `Stepper` for sums of squares whose residuals stay large.

    ``stretch`` (T,): how much longer than Gauss-Newton's the next steps should be; None: as at
    first. ``damping``: the share of its diagonal that is added to the matrix; the smaller, the
    further a step goes along what the pictures hardly tell.
    """

    def __init__(self, stretch: Tensor | None = None, damping: float = DAMPING) -> None:
        self._stretch = stretch
        self._damping = damping
        self._steps = 0
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        """Of the last steps: step (T, P), change of the gradient (T, P), whether it counts (T,)."""
        self._length: Tensor | None = None
        """Of the last step, in the matrix's norm, as is the next one's limit."""
        self._limit: Tensor | None = None

    def renewed(self) -> StretchedGaussNewton:
        """Return one that begins with the stretch that this one has learned."""
        return StretchedGaussNewton(self._stretch, self._damping)

    def part(self, index: Tensor) -> StretchedGaussNewton:
        """Return one for some of the trials, with their stretch."""
        kept = None if self._stretch is None else self._stretch[index]
        return StretchedGaussNewton(kept, self._damping)

    def step(self, gradient: Tensor, matrix: Tensor) -> Tensor:
        """Return the steps (T, P) to try from places with gradients (T, P), matrices (T, P, P)."""
        if self._stretch is None:
            self._stretch = torch.full_like(gradient[:, 0], _FIRST_STRETCH)
        if self._limit is None:
            self._limit = torch.full_like(gradient[:, 0], torch.inf)
        diagonal = matrix.diagonal(dim1=-2, dim2=-1)
        floor = 1e-6 * diagonal.amax(-1, keepdim=True) + 1e-12
        stiff = matrix + torch.diag_embed(self._damping * torch.maximum(diagonal, floor))
        stretch = self._stretch[:, None]
        straight = stretch * _solved(stiff, gradient)
        chosen, most = straight, self._limit
        if self._steps >= _STRAIGHT_STEPS and self._pairs:
            turned = self._turned(gradient, stiff, stretch)
            known = torch.stack([counts for *_, counts in self._pairs]).any(0)
            use = known & (_product(turned, gradient) > 0.0)
            chosen = torch.where(use[:, None], turned, straight)
            most = torch.where(use, torch.minimum(most, _GROWTH * _norm(straight, stiff)), most)
        length = _norm(chosen, stiff)
        self._length = torch.minimum(length, most)
        share = torch.where(length > most, self._length / length, 1.0)
        return chosen * share[:, None]

    def _turned(self, gradient: Tensor, stiff: Tensor, stretch: Tensor) -> Tensor:
        rest = gradient
        shares = []
        for step, change, counts in reversed(self._pairs):
            curvature = torch.where(counts, _product(step, change), 1.0)
            share = torch.where(counts, _product(step, rest) / curvature, 0.0)
            shares.append((share, curvature))
            rest = rest - share[:, None] * change
        turned = stretch * _solved(stiff, rest)
        for (step, change, counts), (share, curvature) in zip(
            self._pairs, reversed(shares), strict=True
        ):
            more = torch.where(counts, share - _product(change, turned) / curvature, 0.0)
            turned = turned + step * more[:, None]
        return turned

    def learn(
        self, step: Tensor, fall: Tensor, before: Tensor, after: Tensor, among: Tensor
    ) -> Tensor:
        """Take in what steps brought, as in `Stepper`.

        Where a cost rose or is no number, the next step is a shorter one from the same place.
        """
        assert self._stretch is not None
        assert self._length is not None
        assert self._limit is not None
        self._steps += 1
        finite = fall.isfinite() & after.isfinite().all(-1)
        fall = torch.where(finite, fall, 0.0)
        change = before - torch.where(finite[:, None], after, before)
        along = _product(before, step)
        # Where a parabola of this slope and fall is lowest, in lengths of the step.
        best = 0.5 / (1.0 - fall / (2.0 * along).clamp_min(1e-12)).clamp_min(1e-3)
        counts = among & finite & (_product(step, change) > 1e-2 * along)
        self._pairs = [*self._pairs, (step, change, counts)][-_PAIRS:]
        fell = finite & (fall > 0.0)
        shorter = torch.where(finite, best.clamp_min(_SHRINKAGE), _SHRINKAGE)
        longer = (best.clamp_max(_GROWTH) * self._stretch).clamp_max(_LONGEST)
        stretch = torch.where(fell, longer, (shorter * self._stretch).clamp_min(_SHORTEST))
        limit = torch.where(fell, _GROWTH, shorter) * self._length
        self._stretch = torch.where(among, stretch, self._stretch)
        self._limit = torch.where(among, limit, self._limit)
        return fell


def _solved(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Solutions (T, P), without a word to the host where there are none."""
    solved: Tensor = torch.linalg.solve_ex(matrices, vectors[..., None], check_errors=False)[0]
    return solved[..., 0]


def _product(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)


def _norm(steps: Tensor, matrices: Tensor) -> Tensor:
    along = (matrices @ steps[..., None])[..., 0]
    return _product(steps, along).clamp_min(0.0).sqrt()
