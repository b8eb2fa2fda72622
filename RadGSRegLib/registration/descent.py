"""Steps down a sum of squares whose residuals stay large: Gauss-Newton, stretched and bent.

No motion explains all of an X-ray, so that residuals stay large at the best pose too, and a robust
loss takes the largest of them out. Gauss-Newton's matrix then holds far more curvature than the
cost has: its steps have the right direction and are several times too short (along them the cost
falls as a straight line). So a factor learned from the cost along the steps before stretches them,
and secant pairs (limited-memory BFGS with the stretched matrix as its first guess: Nocedal and
Wright, Numerical Optimization, 2nd ed., algorithm 7.4) turn them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# A parabola through three numbers of a rough cost is believed so far in one go.
_GROWTH = 3.0
_SHORTEST = 0.05
_LONGEST = 16.0
# The first steps go far, where nothing that they tell holds.
_STRAIGHT_STEPS = 4
_PAIRS = 6
# Turned steps are so much longer than straight ones at most, in the matrix's norm.
_REACH = 3.0
_DAMPING = 1e-3


@dataclass
class Descent:
    """Where to step next, from what the steps before have brought.

    The cost's derivative is -2 ``gradient``, and ``matrix`` what Gauss-Newton takes for half its
    second derivative, as `refine.Evaluation` has them.
    """

    stretch: float = 3.0
    _caution: float = 1.0
    _steps: int = 0
    _pairs: list[tuple[Array, Array]] = field(default_factory=list)

    def step(self, gradient: Array, matrix: Array) -> Array:
        """The step (P,) to try from a place with this gradient (P,) and matrix (P, P)."""
        diagonal: Array = np.diag(matrix)
        floor = 1e-6 * float(np.max(diagonal)) + 1e-12
        stiff = (matrix + _DAMPING * np.diag(np.maximum(diagonal, floor))) / self.stretch
        straight = np.asarray(np.linalg.solve(stiff, gradient))
        if not self._turning:
            return straight
        turned = self._turned(gradient, stiff)
        if turned @ gradient <= 0.0:
            return straight
        longest = _REACH * float(np.sqrt(straight @ stiff @ straight))
        length = float(np.sqrt(turned @ stiff @ turned))
        return np.asarray(self._caution * min(1.0, longest / length) * turned)

    @property
    def _turning(self) -> bool:
        return self._steps >= _STRAIGHT_STEPS and len(self._pairs) > 0

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
        """What a step brought: how much the cost fell, and the gradients before and after.

        Returns whether to take it. Next comes a step from where it led, or, where the cost rose, a
        shorter one from the same place.
        """
        turned = self._turning
        self._steps += 1
        steepness = max(2.0 * float(before @ step), 1e-12)
        # Where a parabola of this slope and fall is lowest, in lengths of the step.
        best = 0.5 / max(1.0 - fall / steepness, 1e-3)
        change = before - after
        if step @ change > 1e-2 * float(step @ before):
            self._pairs = [*self._pairs, (step, change)][-_PAIRS:]
        if fall > 0.0:
            self._caution = min(1.0, 2.0 * self._caution)
            factor = float(np.clip(best, 0.5, _GROWTH))
        else:
            factor = float(np.clip(best, 0.1, 0.5))
            if turned:
                self._caution *= factor
        self.stretch = float(np.clip(factor * self.stretch, _SHORTEST, _LONGEST))
        return fall > 0.0
