"""Refinement: least squares on SE(3) down to the pose that explains the X-rays (math.md 4).

The target and its neighbours are moved together: what a neighbour casts on the target's picture is
explained by the neighbour, instead of pulling the target. Neighbours are held near their place in
the CT by a prior.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..system import Progress
from .bodies import Arrangement
from .bounds import IN_VIEW
from .normal_equations import Evaluation, Problem, Trial, evaluate_together
from .steps import Stepper


@dataclass(frozen=True)
class Refined:
    """Where refinement ended: the arrangement, its scores and its normal equations.

    Their Hessian may be of an earlier step (`RefineOptions.steps_per_matrix`); none is computed for
    the last one, which no step follows.
    """

    arrangement: Arrangement
    evaluation: Evaluation
    iterations: int

    @property
    def score(self) -> float:
        """How well the renderings agree with all views, at most 1."""
        return self.evaluation.score


def refine(
    problem: Problem, start: Arrangement, stepper: Stepper, progress: Progress | None = None
) -> Refined:
    """Go down the cost from ``start`` by the stepper's steps, which learns on.

    A step after which hardly anything of the target is in view any more is no step down.
    """
    return refine_together([problem], [start], [stepper], progress)[0]


def refine_together(
    problems: Sequence[Problem],
    starts: Sequence[Arrangement],
    steppers: Sequence[Stepper],
    progress: Progress | None = None,
) -> list[Refined]:
    """Do what `refine` does for several problems of one stage, each from its start, step by step
    (`evaluate_together`)."""
    trials = [Trial(problem, start) for problem, start in zip(problems, starts, strict=True)]
    evaluated = zip(trials, evaluate_together(trials), steppers, strict=True)
    descents = [_Descent(trial, state, stepper) for trial, state, stepper in evaluated]
    iterations = max(problem.options.iterations for problem in problems)
    for n in range(iterations):
        going = [descent for descent in descents if not descent.done]
        if not going:
            break
        if progress is not None:
            progress((n + 1) / iterations, "refining the pose")
        tried = evaluate_together([descent.trial() for descent in going])
        for descent, state in zip(going, tried, strict=True):
            descent.learn(state)
    return [descent.refined() for descent in descents]


class _Descent:
    """One arrangement on its way down."""

    def __init__(self, start: Trial, state: Evaluation, stepper: Stepper) -> None:
        self._at = self._tried = start
        self._state, self._stepper = state, stepper
        self._age = self._steps = 0
        self._keep = False
        self._step = np.zeros(0)
        self.done = start.problem.options.iterations == 0

    def trial(self) -> Trial:
        """Return what to try next."""
        problem, options = self._at.problem, self._at.problem.options
        self._steps += 1
        self._step = self._stepper.step(self._state.gradient, self._state.hessian)
        last = self._steps == options.iterations
        self._keep = last or self._age + 1 < options.steps_per_matrix
        arrangement = problem.bodies.moved(self._at.arrangement, self._step)
        self._tried = Trial(problem, arrangement, self._state.hessian if self._keep else None)
        self.done = last or problem.bodies.step_mm(self._step) < options.tolerance_mm
        return self._tried

    def learn(self, tried: Evaluation) -> None:
        """Go on from there, or from where it was."""
        state = self._state
        in_view = tried.effective_pixels >= IN_VIEW * state.effective_pixels
        fall = state.cost - tried.cost if in_view else -math.inf
        if self._stepper.learn(self._step, fall, state.gradient, tried.gradient):
            self._at, self._state = self._tried, tried
            self._age = self._age + 1 if self._keep else 0

    def refined(self) -> Refined:
        """Return where it is."""
        return Refined(self._at.arrangement, self._state, self._steps)
