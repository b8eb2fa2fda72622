"""Refinement: least squares on SE(3) down to the pose that explains the X-rays (math.md 4).

The target and its neighbours are moved together: what a neighbour casts on the target's picture is
explained by the neighbour, instead of pulling the target. Neighbours are held near their place in
the CT by a prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..system import Progress
from ..tensors import reads_are_free
from .bodies import Arrangement, Arrangements
from .bounds import IN_VIEW
from .normal_equations import Evaluation, Evaluations, evaluate_each
from .problem import Problem
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


@dataclass(frozen=True)
class Refinements:
    """Where T refinements ended, on their device; ``iterations`` (T,)."""

    arrangements: Arrangements
    evaluations: Evaluations
    iterations: Tensor

    def put(self, index: Tensor, others: Refinements, among: Tensor) -> Refinements:
        """Return these with those of the others that are ``among`` (L,) in the places of an index
        (L,)."""
        at, state = self.arrangements, self.evaluations
        parts = vars(at).values(), vars(others.arrangements).values()
        moved = [_put(own, index, new, among) for own, new in zip(*parts, strict=True)]
        parts = vars(state).values(), vars(others.evaluations).values()
        valued = [_put(own, index, new, among) for own, new in zip(*parts, strict=True)]
        steps = _put(self.iterations, index, others.iterations, among)
        return Refinements(Arrangements(*moved), Evaluations(*valued), steps)

    def on_host(self) -> list[Refined]:
        """Return them as numbers on the host."""
        each = zip(
            self.arrangements.on_host(),
            self.evaluations.on_host(),
            self.iterations.tolist(),
            strict=True,
        )
        return [Refined(arrangement, state, steps) for arrangement, state, steps in each]


def _put(own: Tensor, index: Tensor, new: Tensor, among: Tensor) -> Tensor:
    chosen = torch.where(among.reshape(-1, *[1] * (own.dim() - 1)), new, own[index])
    return own.index_copy(0, index, chosen)


def refine(
    problem: Problem, start: Arrangement, stepper: Stepper, progress: Progress | None = None
) -> Refined:
    """Go down the cost of a problem's single trial from ``start``; see `refine_each`."""
    starts = Arrangements.of([start], problem.bodies.device)
    return refine_each(problem, starts, stepper, progress).on_host()[0]


def refine_each(
    problem: Problem,
    starts: Arrangements,
    stepper: Stepper,
    progress: Progress | None = None,
    known: Evaluations | None = None,
) -> Refinements:
    """Go down the costs of a problem's trials, each from its start, by the stepper's steps, which
    learns on. ``known``: what evaluating the starts gives, where that was done before.

    A step after which hardly anything of the target is in view any more is no step down. The host
    reads nothing of it, except on the CPU, where trials that have ended are left out.
    """
    options, bodies = problem.options, problem.bodies
    at, state = starts, evaluate_each(problem, starts) if known is None else known
    going = torch.ones(len(starts), dtype=torch.bool, device=state.cost.device)
    steps = torch.zeros(len(starts), dtype=torch.int64, device=going.device)
    left: _Left | None = None
    for n in range(options.iterations):
        if reads_are_free(going) and not bool(going.all()):
            if not bool(going.any()):
                break
            left = _Left.of(problem, going, left)
        if progress is not None:
            progress((n + 1) / options.iterations, "refining the pose")
        step = stepper.step(state.gradient, state.hessian)
        steps = steps + going
        last = n + 1 == options.iterations
        keep = last or (n + 1) % options.steps_per_matrix > 0
        moved = bodies.moved(at, step)
        hessian = state.hessian if keep else None
        if left is None:
            tried = evaluate_each(problem, moved, hessian)
        else:
            tried = left.evaluated(moved, state, hessian)
        in_view = tried.effective_pixels >= IN_VIEW * state.effective_pixels
        fall = torch.where(in_view, state.cost - tried.cost, -torch.inf)
        taken = going & stepper.learn(step, fall, state.gradient, tried.gradient, going)
        at, state = moved.where(taken, at), tried.where(taken, state)
        going = going & (bodies.step_mm(step) >= options.tolerance_mm)
    return Refinements(at, state, steps)


@dataclass(frozen=True)
class _Left:
    """The trials that have not ended, and their share of a problem."""

    trials: tuple[int, ...]
    problem: Problem

    @classmethod
    def of(cls, problem: Problem, going: Tensor, before: _Left | None) -> _Left:
        """Those that are ``going`` (T,); ``before`` where they are the same."""
        trials = tuple(going.nonzero()[:, 0].tolist())
        if before is not None and before.trials == trials:
            return before
        return cls(trials, problem.part(trials))

    def evaluated(
        self, arrangements: Arrangements, state: Evaluations, hessian: Tensor | None
    ) -> Evaluations:
        """The evaluations (T,) with theirs anew."""
        index = torch.tensor(self.trials)
        known = None if hessian is None else hessian[index]
        return state.put(index, evaluate_each(self.problem, arrangements.part(index), known))
