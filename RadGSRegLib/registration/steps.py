"""The door for steps down a cost, and its guest: Gauss-Newton, stretched and turned.

No motion explains all of an X-ray, so that residuals stay large at the best pose too, and a robust
loss takes the largest of them out. Gauss-Newton's matrix then holds far more curvature than the
cost has: its steps have the right direction and are several times too short (along them the cost
falls as a straight line). So a factor learned from the cost along the steps before stretches them,
and secant pairs (limited-memory BFGS with the stretched matrix as its first guess: Nocedal and
Wright, Numerical Optimization, 2nd ed., algorithm 7.4) turn them. How far a step may go follows
from how the one before did, as in a trust region.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..geometry import Array

# A parabola through three numbers of a rough cost is believed so far in one go.
_GROWTH = 3.0
_SHRINKAGE = 0.1
_SHORTEST = 0.05
_LONGEST = 16.0
# The first steps go far, where nothing that they tell holds.
_STRAIGHT_STEPS = 4
_PAIRS = 6
_DAMPING = 1e-3


class Stepper(Protocol):
    """Where to step next, from what the steps before have brought.

    The cost's derivative is -2 ``gradient``, and ``matrix`` what Gauss-Newton takes for half its
    second derivative, as `refine.Evaluation` has them.
    """

    def step(self, gradient: Array, matrix: Array) -> Array:
        """Return the step (P,) to try from a place with this gradient (P,) and matrix (P, P)."""

    def learn(self, step: Array, fall: float, before: Array, after: Array) -> bool:
        """Take in what a step brought: how much the cost fell, and the gradients before and after.

        Returns whether to take it. Next comes a step from where it led, or else another one from
        the same place.
        """

    def renewed(self) -> Stepper:
        """Return one for the same unknowns in other pictures: only what still holds is kept."""


@dataclass
class StretchedGaussNewton:
    """A `Stepper` for sums of squares whose residuals stay large.

    ``stretch``: how much longer than Gauss-Newton's the next step should be.
    """

    stretch: float = 3.0
    _steps: int = field(default=0, init=False)
    _pairs: list[tuple[Array, Array]] = field(default_factory=list, init=False)
    _length: float = field(default=0.0, init=False)
    """Of the last step, in the matrix's norm, as is the next one's limit."""
    _limit: float = field(default=math.inf, init=False)

    def renewed(self) -> StretchedGaussNewton:
        """Return one that begins with the stretch that this one has learned."""
        return StretchedGaussNewton(self.stretch)

    def step(self, gradient: Array, matrix: Array) -> Array:
        """Return the step (P,) to try from a place with this gradient (P,) and matrix (P, P)."""
        diagonal: Array = np.diag(matrix)
        floor = 1e-6 * float(np.max(diagonal)) + 1e-12
        stiff = matrix + _DAMPING * np.diag(np.maximum(diagonal, floor))
        straight = np.asarray(self.stretch * np.linalg.solve(stiff, gradient))
        chosen, most = straight, self._limit
        if self._steps >= _STRAIGHT_STEPS and self._pairs:
            turned = self._turned(gradient, stiff / self.stretch)
            if turned @ gradient > 0.0:
                chosen, most = turned, min(most, _GROWTH * _norm(straight, stiff))
        length = _norm(chosen, stiff)
        self._length = min(length, most)
        return np.asarray(chosen * (self._length / length if length > most else 1.0))

    def _turned(self, gradient: Array, stiff: Array) -> Array:
        rest = gradient.copy()
        shares = []
        for step, change in reversed(self._pairs):
            share = step @ rest / (step @ change)
            shares.append(share)
            rest = rest - share * change
        turned = np.linalg.solve(stiff, rest)
        for (step, change), share in zip(self._pairs, reversed(shares), strict=True):
            turned = turned + step * (share - change @ turned / (step @ change))
        return np.asarray(turned)

    def learn(self, step: Array, fall: float, before: Array, after: Array) -> bool:
        """Take in what a step brought, as in `Stepper`.

        Where the cost rose or is no number, the next step is a shorter one from the same place.
        """
        self._steps += 1
        if not (math.isfinite(fall) and np.isfinite(after).all()):
            self._shorten(_SHRINKAGE)
            return False
        steepness = max(2.0 * float(before @ step), 1e-12)
        # Where a parabola of this slope and fall is lowest, in lengths of the step.
        best = 0.5 / max(1.0 - fall / steepness, 1e-3)
        change = before - after
        if step @ change > 1e-2 * float(step @ before):
            self._pairs = [*self._pairs, (step, change)][-_PAIRS:]
        if fall <= 0.0:
            self._shorten(max(best, _SHRINKAGE))
            return False
        self.stretch = min(min(best, _GROWTH) * self.stretch, _LONGEST)
        self._limit = _GROWTH * self._length
        return True

    def _shorten(self, factor: float) -> None:
        self.stretch = max(factor * self.stretch, _SHORTEST)
        self._limit = factor * self._length


def _norm(step: Array, matrix: Array) -> float:
    return math.sqrt(max(float(step @ matrix @ step), 0.0))
