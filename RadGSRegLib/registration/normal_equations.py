"""What refinement goes by: cost, scores and normal equations of arrangements (math.md 4).

A `Residual` says how far a rendering is from an X-ray, with weights for where the target projects;
a robust loss takes out what no model explains (wires, gas).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..geometry import Array
from ..system import side_by_side
from ..tensors import reads_are_free
from .bodies import Arrangement, Arrangements
from .problem import Group, Problem
from .windows import pixel_weight


@dataclass(frozen=True)
class Evaluation:
    """The normal equations and scores of one arrangement, on the host.

    ``hessian`` may be that of a place near by (`refine`).
    """

    cost: float
    score: float
    view_scores: tuple[float, ...]
    gradient: Array
    hessian: Array
    effective_pixels: float


@dataclass(frozen=True)
class Evaluations:
    """Those of T arrangements on their device, float64: ``cost`` and ``effective_pixels`` (T,),
    ``view_scores`` (T, V), ``gradient`` (T, P), ``hessian`` (T, P, P)."""

    cost: Tensor
    view_scores: Tensor
    gradient: Tensor
    hessian: Tensor
    effective_pixels: Tensor

    @property
    def score(self) -> Tensor:
        """How well the renderings agree with all views (T,), at most 1."""
        return self.view_scores.mean(1)

    def put(self, index: Tensor, others: Evaluations) -> Evaluations:
        """Return these with others in the places of an index."""
        pairs = zip(vars(self).values(), vars(others).values(), strict=True)
        return Evaluations(*(own.index_copy(0, index, other) for own, other in pairs))

    def where(self, chosen: Tensor, others: Evaluations) -> Evaluations:
        """Return these where ``chosen`` (T,), else the others."""

        def picked(own: Tensor, other: Tensor) -> Tensor:
            return torch.where(chosen.reshape(-1, *[1] * (own.dim() - 1)), own, other)

        pairs = zip(vars(self).values(), vars(others).values(), strict=True)
        return Evaluations(*(picked(own, other) for own, other in pairs))

    def together(self) -> Evaluations:
        """Return those of one arrangement by all V views, of V trials that have it by one view
        each."""
        share = self.effective_pixels / self.effective_pixels.sum().clamp_min(1e-9)
        cost, gradient, hessian = (
            (part * share.reshape(-1, *[1] * (part.dim() - 1))).sum(0, keepdim=True)
            for part in (self.cost, self.gradient, self.hessian)
        )
        pixels = self.effective_pixels.sum(0, keepdim=True)
        return Evaluations(cost, self.view_scores.reshape(1, -1), gradient, hessian, pixels)

    def on_host(self) -> list[Evaluation]:
        """Return them as numbers on the host."""
        cost, views, gradient, hessian, pixels = (t.cpu().numpy() for t in vars(self).values())
        return [
            Evaluation(
                float(cost[n]),
                float(views[n].mean()),
                tuple(float(score) for score in views[n]),
                gradient[n],
                hessian[n],
                float(pixels[n]),
            )
            for n in range(len(cost))
        ]


def evaluate(problem: Problem, arrangement: Arrangement) -> Evaluation:
    """Compute cost, scores and normal equations of a single trial; see `evaluate_each`."""
    arrangements = Arrangements.of([arrangement], problem.bodies.device)
    return evaluate_each(problem, arrangements).on_host()[0]


def evaluate_each(
    problem: Problem, arrangements: Arrangements, hessian: Tensor | None = None
) -> Evaluations:
    """Compute cost, scores and normal equations at an arrangement of each of a problem's trials.

    Unknowns: the target's twist, then those of everything else if it moves. The cost is the
    weighted mean robust residual plus the prior. ``hessian`` (T, P, P): one to hand on instead of
    computing these places' own, which takes as long as all the rest.
    """

    def sums(group: Group) -> _Sums:
        at = arrangements.part(group.index)
        return _evaluate_group(problem, group, at, anew=hessian is None)

    parts = side_by_side(sums, problem.groups)
    # (T, V, ...): windows of a trial follow each other.
    each = [
        torch.cat(part).reshape(len(arrangements), problem.views, *part[0].shape[1:])
        for part in zip(*(vars(own).values() for own in parts), strict=True)
    ]
    gradient, own, cost, weight, scores = each
    total = weight.sum(1)
    scale = 1.0 / total.clamp_min(1e-9)
    gradient = scale[:, None] * gradient.sum(1)
    cost = scale * cost.sum(1)
    matrix = scale[:, None, None] * own.sum(1) if hessian is None else hessian
    prior = problem.bodies.prior(arrangements, problem.options)
    if prior is not None:
        gradient, cost = gradient + prior.gradient, cost + prior.cost
        if hessian is None:
            matrix = matrix + prior.hessian
    return Evaluations(cost, scores, gradient, matrix, total)


@dataclass(frozen=True)
class _Sums:
    """N windows' shares of their trials' normal equations, float64: gradient (N, P), Hessian
    (N, P, P) or (N, 0), cost, sum of weights and score (N,)."""

    gradient: Tensor
    hessian: Tensor
    cost: Tensor
    weight: Tensor
    score: Tensor


def _evaluate_group(
    problem: Problem, group: Group, arrangements: Arrangements, *, anew: bool
) -> _Sums:
    options, count = problem.options, len(group.trials)
    drawing = problem.bodies.drawing(group.windows, group.background, arrangements, options)
    image, motions = drawing.image, drawing.unknowns_to_motions
    slopes = drawing.slopes.reshape(count, motions.shape[1], -1)
    footprints = pixel_weight(drawing.target, drawing.others, group.windows, options)
    unknowns = motions.shape[2]
    columns: Tensor | None = None
    if anew:
        stack = motions.mT.float() @ slopes
        columns = stack.reshape(count, unknowns, *image.shape[1:]).transpose(0, 1)
    hessian = motions.new_zeros(count, unknowns if anew else 0, unknowns if anew else 0)
    gradient = motions.new_zeros(count, unknowns)
    total = _Sums(gradient, hessian, *(motions.new_zeros(count) for _ in range(3)))
    for term in group.terms:
        compared = problem.residual.compare(term, image, footprints, options)
        residual, weight = compared.difference, compared.weight
        square = (residual / options.robust_scale) ** 2
        robust = weight / (1.0 + square) ** 2
        # Geman-McClure: what no rendering can explain stops counting.
        cost = (weight * square / (1.0 + square)).sum((-2, -1)).double()
        pulled = compared.pull(robust * residual).reshape(count, -1)
        pull = _products(slopes, pulled).double()
        hessian = total.hessian
        if columns is not None:
            pushed = compared.push(columns)
            weighted = (pushed * robust).transpose(0, 1).reshape(count, unknowns, -1)
            pushed = pushed.transpose(0, 1).reshape(count, unknowns, -1)
            hessian = hessian + (weighted @ pushed.mT).double()
        total = replace(
            total,
            gradient=total.gradient + (motions.mT @ pull[..., None])[..., 0],
            hessian=hessian,
            cost=total.cost + cost * options.robust_scale**2,
            weight=total.weight + weight.sum((-2, -1)).double(),
            score=total.score + compared.score.double() / len(group.terms),
        )
    return total


def _products(matrices: Tensor, vectors: Tensor) -> Tensor:
    """(N, M) of matrices (N, M, L) and vectors (N, L)."""
    if reads_are_free(matrices):
        # A batch of them takes torch ten times as long on the CPU.
        return torch.stack([a @ b for a, b in zip(matrices, vectors, strict=True)])
    return (matrices @ vectors[..., None])[..., 0]
