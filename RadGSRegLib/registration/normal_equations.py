"""What refinement goes by: cost, scores and normal equations of an arrangement (math.md 4).

A `Residual` says how far a rendering is from an X-ray, with weights for where the target projects;
a robust loss takes out what no model explains (wires, gas).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..geometry import Array
from ..system import side_by_side, worker_count
from .background import COEFFICIENTS, render_linear
from .bodies import Arrangement, BodySource
from .bounds import GROUP_PX, SMALL_WINDOW_PX
from .options import RefineOptions
from .residual import Residual
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
class Trial:
    """An arrangement to evaluate for a problem.

    ``matrix`` (P, P): a Hessian to hand on instead of computing this place's own, which takes as
    long as all the rest.
    """

    problem: Problem
    arrangement: Arrangement
    matrix: Array | None = None


def evaluate(problem: Problem, arrangement: Arrangement, matrix: Array | None = None) -> Evaluation:
    """Compute cost, scores and normal equations at an arrangement (`Trial`).

    Unknowns: the target's twist, then those of everything else if it moves. The cost is the
    weighted mean robust residual plus the prior.
    """
    return evaluate_together([Trial(problem, arrangement, matrix)])[0]


def evaluate_together(trials: Sequence[Trial]) -> list[Evaluation]:
    """Do what `evaluate` does for several trials of one stage: with the same bodies, residual and
    options.

    Small pictures of several trials go through each operation together, so that threads work
    instead of waiting for the interpreter.
    """
    pairs = [(trial, view) for trial in trials for view in trial.problem.views]
    pictures = [_Picture(n, trial, view) for n, (trial, view) in enumerate(pairs)]
    groups = side_by_side(_evaluate_group, _groups(pictures))
    # In the views' own order, which groups of several kinds do not keep.
    parts = iter(sorted(itertools.chain(*groups), key=lambda part: part.number))
    return [
        _evaluation(trial, list(itertools.islice(parts, len(trial.problem.views))))
        for trial in trials
    ]


def _evaluation(trial: Trial, parts: Sequence[_Sums]) -> Evaluation:
    """From the sums of a trial's views, in their order."""
    weight = sum(part.weight for part in parts)
    scale = 1.0 / max(weight, 1e-9)
    gradient = scale * np.sum([part.gradient for part in parts], axis=0)
    cost = scale * sum(part.cost for part in parts)
    hessian = scale * sum(part.hessian for part in parts) if trial.matrix is None else trial.matrix
    prior = trial.problem.bodies.prior(trial.arrangement, trial.problem.options)
    if prior is not None:
        gradient, cost = gradient + prior.gradient, cost + prior.cost
        if trial.matrix is None:
            hessian = hessian + prior.hessian
    scores = tuple(part.score for part in parts)
    return Evaluation(cost, float(np.mean(scores)), scores, gradient, np.asarray(hessian), weight)


@dataclass(frozen=True)
class _Picture:
    """One view of a trial; ``number`` among those of all trials."""

    number: int
    trial: Trial
    view: StageView

    @property
    def kind(self) -> Hashable:
        """What pictures have in common that can be computed together."""
        residual = self.trial.problem.residual
        terms = tuple(residual.kind(term) for term in self.view.terms)
        return terms, self.view.window.camera.size, self.trial.matrix is None


def _groups(pictures: Sequence[_Picture]) -> list[list[_Picture]]:
    """Pictures to evaluate together: of one kind, no more than processors' caches hold, and as
    many groups as there are threads where those are worth it."""
    kinds: dict[Hashable, list[_Picture]] = {}
    for picture in pictures:
        kinds.setdefault(picture.kind, []).append(picture)
    out = []
    for alike in kinds.values():
        pixels = alike[0].view.window.valid.numel()
        count = math.ceil(len(alike) * pixels / GROUP_PX)
        if pixels >= SMALL_WINDOW_PX:
            count = max(count, worker_count())
        count = min(count, len(alike))
        edges = [len(alike) * n // count for n in range(count + 1)]
        out += [alike[begin:end] for begin, end in itertools.pairwise(edges)]
    return out


@dataclass(frozen=True)
class _Sums:
    """One picture's share of its trial's normal equations, its sum of weights and its score."""

    number: int
    gradient: Array
    hessian: Array | float
    cost: float
    weight: float
    score: float


def _evaluate_group(group: Sequence[_Picture]) -> list[_Sums]:
    problem, views = group[0].trial.problem, [picture.view for picture in group]
    options, count = problem.options, len(group)
    arrangements = [picture.trial.arrangement for picture in group]
    drawing = problem.bodies.drawing(views, arrangements, options)
    image, motions = drawing.image, drawing.unknowns_to_motions
    slopes = drawing.slopes.reshape(count, motions.shape[1], -1)
    windows = [view.window for view in views]
    footprints = pixel_weight(drawing.target, drawing.others, windows, options)
    unknowns = motions.shape[2]
    columns: Tensor | None = None
    hessians = None
    if group[0].trial.matrix is None:
        hessians = np.zeros((count, unknowns, unknowns))
        stack = torch.from_numpy(motions.transpose(0, 2, 1)).float() @ slopes
        columns = stack.reshape(count, unknowns, *image.shape[1:]).transpose(0, 1)
    gradients = np.zeros((count, unknowns))
    costs, weights, scores = np.zeros(count), np.zeros(count), np.zeros(count)
    terms = len(views[0].terms)
    for n in range(terms):
        compared = problem.residual.compare(
            [view.terms[n] for view in views], image, footprints, options
        )
        residual, weight = compared.difference, compared.weight
        square = (residual / options.robust_scale) ** 2
        robust = weight / (1.0 + square) ** 2
        # Geman-McClure: what no rendering can explain stops counting.
        cost = (weight * square / (1.0 + square)).sum((-2, -1))
        costs += cost.double().numpy() * options.robust_scale**2
        weights += weight.sum((-2, -1)).double().numpy()
        pulled = compared.pull(robust * residual).reshape(count, -1)
        # One by one: torch's product of a batch of vectors takes ten times as long.
        pairs = zip(slopes, pulled, strict=True)
        pull = torch.stack([slope @ of_view for slope, of_view in pairs]).double().numpy()
        gradients += (motions.transpose(0, 2, 1) @ pull[..., None])[..., 0]
        if hessians is not None and columns is not None:
            pushed = compared.push(columns)
            weighted = (pushed * robust).transpose(0, 1).reshape(count, unknowns, -1)
            pushed = pushed.transpose(0, 1).reshape(count, unknowns, -1)
            hessians += (weighted @ pushed.mT).double().numpy()
        scores += compared.score.double().numpy() / terms
    return [
        _Sums(
            picture.number,
            gradients[n],
            0.0 if hessians is None else hessians[n],
            float(costs[n]),
            float(weights[n]),
            float(scores[n]),
        )
        for n, picture in enumerate(group)
    ]


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
