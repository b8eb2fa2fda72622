"""One least-squares problem of all cameras and vertebrae: its cost and normal equations.

What a view shows of a vertebra depends on nothing but where the vertebra is in front of the camera.
So each vertebra in each view is a registration's problem of its own, with the gradient and the
Hessian by that relative motion; those of all unknowns follow by the chain rule. They are added up
as log-likelihoods, so that they can be weighed against how far a nominal camera is usually off.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..geometry import Array, invert_rigid, twist_about
from ..registration import (
    Arrangements,
    Evaluation,
    LocallyNormalized,
    Problem,
    Stage,
    evaluate_each,
    independent_residuals,
    problem_at,
)
from ..system import side_by_side
from ..views import PreparedView
from .unknowns import Setup, Unknowns


@dataclass(frozen=True)
class Shown:
    """The X-rays with their nominal cameras.

    ``signs``: +1 where bone is bright, else -1; ``deviations`` (V, 6): how far each camera may be
    off about (radians) and along (mm) each axis of the world, one standard deviation; not looked at
    where cameras are held.
    """

    views: tuple[PreparedView, ...]
    signs: tuple[int, ...]
    deviations: Array


@dataclass(frozen=True)
class Normal:
    """Cost, minus half its gradient (P,), half its Hessian (P, P) and scores (K, V) of a setup;
    ``pixels``: how many count."""

    cost: float
    gradient: Array
    hessian: Array
    scores: Array
    pixels: float


class Equations:
    """What is fitted in one round: windows around where a setup shows the targets."""

    def __init__(self, unknowns: Unknowns, shown: Shown, stage: Stage, setup: Setup) -> None:
        self.unknowns, self._setup, self._stage = unknowns, setup, stage
        self._device = unknowns.targets[0].bodies.device
        self._precision = shown.deviations**-2.0
        views = setup.views(shown.views)

        def problem(pair: tuple[int, int]) -> Problem:
            target, view = pair
            at = Arrangements.of([unknowns.arrangement(target, setup)], self._device)
            sign = torch.tensor([[shown.signs[view]]], dtype=torch.float32, device=self._device)
            bodies, residual = unknowns.targets[target].bodies, LocallyNormalized()
            return problem_at(bodies, [views[view]], residual, stage, at, sign)

        self._pairs = list(itertools.product(range(len(unknowns.targets)), range(len(views))))
        self._problems = dict(zip(self._pairs, side_by_side(problem, self._pairs), strict=True))
        self._weights: dict[tuple[int, int], float] = {}

    def at(self, setup: Setup, hessian: Array | None = None) -> Normal:
        """The normal equations of a setup near by.

        With a ``hessian`` to hand on none is computed, which saves half the time. A picture's
        weight follows from what it leaves unexplained at the first setup that is asked for.
        """
        anew = hessian is None
        states = dict(
            zip(
                self._pairs,
                side_by_side(lambda pair: self._evaluated(pair, setup, anew), self._pairs),
                strict=True,
            )
        )
        if not self._weights:
            self._weights = {
                pair: independent_residuals(state.effective_pixels, self._stage.pixel_mm)
                / max(state.cost, 1e-9)
                for pair, state in states.items()
            }
        count = self.unknowns.count
        gradient, cost = np.zeros(count), 0.0
        matrix = np.zeros((count, count)) if hessian is None else hessian
        scores = np.zeros((len(self.unknowns.targets), self.unknowns.cameras))
        for (target, view), state in states.items():
            weight = self._weights[target, view]
            scores[target, view] = state.score
            cost += weight * state.cost
            lever = self.unknowns.to_bodies(target, view, setup)
            gradient += weight * lever.T @ state.gradient
            if anew:
                matrix += weight * lever.T @ state.hessian @ lever
        for view, shift in enumerate(() if self.unknowns.held else setup.world_to_nominal):
            camera, precision = self.unknowns.of_camera(view), self._precision[view]
            off = twist_about(np.eye(4), shift, self.unknowns.pivot_world)
            gradient[camera] -= precision * off
            cost += float(precision @ off**2)
            if anew:
                matrix[camera, camera] += np.diag(precision)
        pixels = sum(state.effective_pixels for state in states.values())
        return Normal(cost, gradient, matrix, scores, pixels)

    def _evaluated(self, pair: tuple[int, int], setup: Setup, anew: bool) -> Evaluation:
        """One vertebra in one view, whose problem has the camera as it was when it was made."""
        target, view = pair
        problem, at = self._problems[pair], self.unknowns.arrangement(target, setup)
        since = invert_rigid(self._setup.world_to_nominal[view]) @ setup.world_to_nominal[view]
        there = Arrangements.of([replace(at, ct_to_world=since @ at.ct_to_world)], self._device)
        if anew:
            return evaluate_each(problem, there).on_host()[0]
        size = 6 * (1 + (0 if self.unknowns.alone else len(at.shifts_ct)))
        kept = torch.zeros(1, size, size, dtype=torch.float64, device=self._device)
        return evaluate_each(problem, there, kept).on_host()[0]
