"""Refinement: least squares on SE(3) down to the pose that explains the X-rays (math.md 4).

The target and its neighbours are moved together: what a neighbour casts on the target's picture is
explained by the neighbour, instead of pulling the target. Neighbours are held near their place in
the CT by a prior. A `Residual` says how far a rendering is from an X-ray, with weights for where
the target projects; a robust loss takes out what no model explains (wires, gas).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..geometry import Array
from ..system import Progress, side_by_side, worker_count
from .background import COEFFICIENTS, render_linear
from .bodies import Arrangement, BodySource
from .bounds import IN_VIEW, SMALL_WINDOW_PX
from .options import RefineOptions
from .residual import Residual
from .steps import Stepper
from .windows import StageView, pixel_weight


@dataclass(frozen=True)
class Problem:
    """What is fitted at one stage: the bodies, windows of the views, how a rendering is compared
    with them, and how the stage refines."""

    bodies: BodySource
    views: tuple[StageView, ...]
    residual: Residual
    options: RefineOptions


@dataclass
class Evaluation:
    """The normal equations and scores of one arrangement.

    ``hessian`` may be that of a place near by (`evaluate`, `refine`).
    """

    cost: float
    score: float
    view_scores: tuple[float, ...]
    gradient: Array
    hessian: Array
    effective_pixels: float


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


def evaluate(problem: Problem, arrangement: Arrangement, matrix: Array | None = None) -> Evaluation:
    """Compute cost, scores and normal equations at an arrangement.

    Unknowns: the target's twist, then those of everything else if it moves. The cost is the
    weighted mean robust residual plus the prior. ``matrix`` (P, P): a Hessian to hand on instead of
    computing this place's own, which takes as long as all the rest.
    """
    hessian: Array | float = 0.0
    gradient: Array | float = 0.0
    cost = weight_sum = 0.0
    view_scores: list[float] = []

    def summed(group: Sequence[StageView]) -> _Sums:
        return _evaluate_group(problem, group, arrangement, matrix is None)

    for part in side_by_side(summed, _groups(problem)):
        if part.hessian is not None:
            hessian = hessian + part.hessian
        gradient = gradient + part.gradient
        cost += part.cost
        weight_sum += part.weight
        view_scores += part.scores
    scale = 1.0 / max(weight_sum, 1e-9)
    hessian, gradient, cost = hessian * scale, gradient * scale, cost * scale
    prior = problem.bodies.prior(arrangement, problem.options)
    if prior is not None:
        hessian, gradient = hessian + prior.hessian, gradient + prior.gradient
        cost += prior.cost
    return Evaluation(
        cost,
        float(np.mean(view_scores)),
        tuple(view_scores),
        np.asarray(gradient),
        np.asarray(hessian) if matrix is None else matrix,
        weight_sum,
    )


def _groups(problem: Problem) -> list[Sequence[StageView]]:
    """Views to evaluate together, as many groups as are worth a thread each: together they need
    fewer operations, of which small ones cost as much as large ones."""
    views, residual = problem.views, problem.residual
    if len({tuple(residual.kind(term) for term in view.terms) for view in views}) > 1:
        return [[view] for view in views]
    small = views[0].window.valid.numel() < SMALL_WINDOW_PX
    count = 1 if small else min(worker_count(), len(views))
    edges = [len(views) * n // count for n in range(count + 1)]
    return [views[begin:end] for begin, end in itertools.pairwise(edges)]


@dataclass(frozen=True)
class _Sums:
    """Some views' share of the normal equations, their sum of weights and their scores."""

    gradient: Array
    hessian: Array | None
    cost: float
    weight: float
    scores: list[float]


def _evaluate_group(
    problem: Problem, views: Sequence[StageView], arrangement: Arrangement, with_hessian: bool
) -> _Sums:
    options = problem.options
    drawing = problem.bodies.drawing(views, arrangement, options)
    image, motions = drawing.image, drawing.unknowns_to_motions
    slopes = drawing.slopes.reshape(len(views), len(motions), -1)
    windows = [view.window for view in views]
    footprints = pixel_weight(drawing.target, drawing.others, windows, options)
    count = motions.shape[1]
    hessian = np.zeros((count, count)) if with_hessian else None
    gradient = np.zeros(count)
    cost = weight_total = 0.0
    scores = np.zeros(len(views))
    terms = len(views[0].terms)
    for n in range(terms):
        compared = problem.residual.compare(
            [view.terms[n] for view in views], image, footprints, options
        )
        residual, weight = compared.difference, compared.weight
        square = (residual / options.robust_scale) ** 2
        robust = weight / (1.0 + square) ** 2
        # Geman-McClure: what no rendering can explain stops counting.
        cost += float((weight * square / (1.0 + square)).sum()) * options.robust_scale**2
        weight_total += float(weight.sum())
        pulled = compared.pull(robust * residual).reshape(len(views), -1, 1)
        gradient += motions.T @ (slopes @ pulled).sum(0)[:, 0].double().numpy()
        if hessian is not None:
            columns = torch.from_numpy(motions.T).float() @ slopes
            stack = columns.reshape(len(views), count, *image.shape[1:]).transpose(0, 1)
            pushed = compared.push(stack)
            weighted = (pushed * robust).reshape(count, -1)
            hessian += (weighted @ pushed.reshape(count, -1).T).double().numpy()
        scores += compared.score.numpy() / terms
    return _Sums(gradient, hessian, cost, weight_total, scores.tolist())


def with_background(problem: Problem, arrangement: Arrangement) -> Problem:
    """Render the background at its pose into each view, weighted as explains the view best.

    Without a background nothing changes.
    """
    background = problem.bodies.background
    if background is None:
        return problem
    pose = arrangement.background_to_world
    pairs = list(itertools.product(COEFFICIENTS, COEFFICIENTS))
    mixes = torch.tensor(pairs)

    def rendered(view: StageView) -> StageView:
        camera = view.window.camera
        images = problem.bodies.pictures(
            [camera.intrinsic],
            [view.world_to_camera @ arrangement.ct_to_world],
            camera.size,
            problem.options.fidelity,
            arrangement,
        )
        own, others = images[:, 0], images[:, 1:].sum(1)
        weight = pixel_weight(own, others, [view.window], problem.options)
        parts = background.render(camera, pose)
        mixed = own + others + torch.einsum("nb,brc->nrc", mixes, parts)
        compared = problem.residual.compare(view.terms[:1], mixed, weight, problem.options)
        best = pairs[int(compared.score.argmax())]
        drawn = render_linear(background, best, camera, pose, problem.bodies.centre_ct)
        return replace(view, background=drawn)

    return replace(problem, views=tuple(side_by_side(rendered, problem.views)))


def refine(
    problem: Problem, start: Arrangement, stepper: Stepper, progress: Progress | None = None
) -> Refined:
    """Go down the cost from ``start`` by the stepper's steps, which learns on.

    A step after which hardly anything of the target is in view any more is no step down.
    """
    bodies, options = problem.bodies, problem.options
    current = start
    state = evaluate(problem, current)
    age = 0
    done = 0
    for done in range(1, options.iterations + 1):
        if progress is not None:
            progress(done / options.iterations, "refining the pose")
        step = stepper.step(state.gradient, state.hessian)
        trial = bodies.moved(current, step)
        keep = done == options.iterations or age + 1 < options.steps_per_matrix
        tried = evaluate(problem, trial, state.hessian if keep else None)
        in_view = tried.effective_pixels >= IN_VIEW * state.effective_pixels
        fall = state.cost - tried.cost if in_view else -math.inf
        if stepper.learn(step, fall, state.gradient, tried.gradient):
            current, state = trial, tried
            age = age + 1 if keep else 0
        if bodies.step_mm(step) < options.tolerance_mm:
            break
    return Refined(current, state, done)
