"""Refinement: least squares on SE(3) with Gaussians as the renderer (math.md 4, `descent`).

The target and its neighbours are moved together: what a neighbour casts on the target's picture is
explained by the neighbour, instead of pulling the target. Neighbours are held near their place in
the CT by a prior. The residual is the difference of locally normalised images (`similarity`), with
weights for where the target projects and a robust loss for what no model explains (wires, gas).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..drr import project_volume_with_jacobian
from ..gaussians import rasterize_bodies, rasterize_bodies_with_jacobian
from ..geometry.pose import skew
from ..progress import Progress
from .background import COEFFICIENTS, RenderedBackground, render_linear
from .descent import Descent
from .model import Arrangement, RenderModel, shifted
from .observation import Window
from .parallel import over_views
from .similarity import LocalNormalization

Array = NDArray[np.float64]

# Weak: a tenth of what held neighbours so fast that they pulled the target with them.
PRIOR_STRENGTH = 2e-4
# With fewer pixels, views on threads would mostly wait for the interpreter.
_SMALL = 8000
_IN_VIEW = 0.3


@dataclass(frozen=True)
class RefineOptions:
    """How one level is refined. Lengths in mm at the vertebra."""

    fine: bool = False
    voxels: bool = False
    neighbourhoods_mm: tuple[float, ...] = (8.0,)
    move_neighbours: bool = False
    neighbour_rotation_deg: float = 4.0
    neighbour_translation_mm: float = 3.0
    neighbour_weight: float = 0.3
    margin_mm: float = 4.0
    robust_scale: float = 1.0
    contrast_floor: float = 0.08
    iterations: int = 12
    tolerance_mm: float = 0.01


@dataclass(frozen=True)
class LevelView:
    """A window with its normalised image per neighbourhood, bone bright."""

    window: Window
    world_to_camera: Array
    normalizers: tuple[LocalNormalization, ...]
    images: tuple[Tensor, ...]
    background: RenderedBackground | None = None
    """What is added to every rendering for all that is not a body."""


@dataclass
class Evaluation:
    """The normal equations and scores of one arrangement."""

    cost: float
    score: float
    view_scores: tuple[float, ...]
    gradient: Array
    hessian: Array
    effective_pixels: float


@dataclass(frozen=True)
class Refined:
    """Where refinement ended: the arrangement, its scores and its normal equations."""

    arrangement: Arrangement
    evaluation: Evaluation
    iterations: int

    @property
    def score(self) -> float:
        """Weighted local normalised correlation over all views, at most 1."""
        return self.evaluation.score


def prepare_level(
    windows: list[Window], signs: list[int], options: RefineOptions
) -> tuple[LevelView, ...]:
    """Normalise the windows once for a level; ``signs`` +1 where bone is bright, else -1."""
    out = []
    for part, sign in zip(windows, signs, strict=True):
        normalizers, images = [], []
        for sigma in options.neighbourhoods_mm:
            normalizer = LocalNormalization(part.valid, sigma / part.pixel_mm)
            deviation = normalizer.deviation(part.image)[part.valid > 0]
            typical = float(deviation.median()) if deviation.numel() else 1.0
            floor = max(3.0 * part.noise, options.contrast_floor * typical, 1e-6)
            normalizers.append(normalizer)
            images.append(sign * normalizer.normalize(part.image, floor))
        out.append(
            LevelView(
                part,
                part.camera.world_to_camera,
                tuple(normalizers),
                tuple(images),
            )
        )
    return tuple(out)


def evaluate(
    model: RenderModel,
    views: tuple[LevelView, ...],
    arrangement: Arrangement,
    options: RefineOptions,
) -> Evaluation:
    """Cost, scores and normal equations at an arrangement.

    Unknowns: the target's twist, then one per neighbour and one for the background if those move.
    The cost is the weighted mean robust residual plus the prior of all that moves with the target.
    """
    count = 6 * (1 + (len(model.movable_centres_ct) if options.move_neighbours else 0))
    hessian = np.zeros((count, count))
    gradient = np.zeros(count)
    cost = weight_sum = 0.0
    view_scores = []

    def one(view: LevelView) -> tuple[Array, Array, float, float, float]:
        return _evaluate_view(model, view, arrangement, options, count)

    small = views[0].window.valid.numel() < _SMALL
    for part in map(one, views) if small else over_views(one, views):
        hessian += part[0]
        gradient += part[1]
        cost += part[2]
        weight_sum += part[3]
        view_scores.append(part[4])
    scale = 1.0 / max(weight_sum, 1e-9)
    hessian, gradient, cost = hessian * scale, gradient * scale, cost * scale
    if options.move_neighbours:
        prior_cost = _add_prior(model, arrangement, options, hessian, gradient)
        cost += prior_cost
    return Evaluation(
        cost,
        float(np.mean(view_scores)),
        tuple(view_scores),
        gradient,
        hessian,
        weight_sum,
    )


def _evaluate_view(
    model: RenderModel,
    view: LevelView,
    arrangement: Arrangement,
    options: RefineOptions,
    count: int,
) -> tuple[Array, Array, float, float, float]:
    to_camera = view.world_to_camera @ arrangement.ct_to_world
    centre = model.centre_ct
    images, jacobians = _render_bodies(model, view, to_camera, arrangement, options)
    target, others = images[0], images[1:].sum(0)
    columns = [jacobians.sum(0)]
    if options.move_neighbours:
        for body, shift, around_target in zip(
            model.neighbours, arrangement.shifts_ct, jacobians[1:], strict=False
        ):
            offset = shifted(body.centre_ct, shift) - centre
            columns.append(_combine(_about(np.eye(3), offset), around_target))
    image = target + others
    if view.background is not None:
        shift = arrangement.shifts_ct[-1]
        image = image + view.background.moved_to(arrangement.background_to_world)
        back = shift[:3, :3].T
        lever = back @ (centre - shift[:3, 3]) - view.background.pivot_ct
        columns[0] = columns[0] + _combine(_about(back, lever), view.background.jacobian)
        if options.move_neighbours:
            columns.append(_combine(_about(back, np.zeros(3)), view.background.jacobian))
    elif options.move_neighbours:
        columns.append(torch.zeros_like(columns[0]))
    stacked = torch.cat(columns)
    weight = _weight(target, others, view.window, options)
    hessian = np.zeros((count, count))
    gradient = np.zeros(count)
    cost = weight_total = 0.0
    scores = []
    for normalizer, observed in zip(view.normalizers, view.images, strict=True):
        floor = contrast_floor(normalizer, image, weight, options)
        rendered, slope = normalizer.normalize_with_jacobian(image, stacked, floor)
        residual = observed - rendered
        square = (residual / options.robust_scale) ** 2
        robust = weight / (1.0 + square) ** 2
        # Geman-McClure: what no rendering can explain stops counting.
        cost += float((weight * square / (1.0 + square)).sum()) * options.robust_scale**2
        weight_total += float(weight.sum())
        flat = slope.reshape(count, -1)
        weighted = flat * robust.reshape(1, -1)
        hessian += (weighted @ flat.T).double().numpy()
        gradient += (weighted @ residual.reshape(-1)).double().numpy()
        scores.append(_correlation(weight, observed, rendered))
    return hessian, gradient, cost, weight_total, float(np.mean(scores))


def _about(turn: Array, lever: Array) -> Array:
    """The matrix (6, 6) from a twist to the same motion as a twist about another centre.

    ``turn`` (3, 3) takes the twist's axes to the new ones, ``lever`` (3,) points from the new
    centre to the old one, in the new axes.
    """
    out = np.zeros((6, 6))
    out[:3, :3] = out[3:, 3:] = turn
    out[3:, :3] = skew(lever) @ turn
    return out


def _combine(matrix: Array, jacobian: Tensor) -> Tensor:
    """A Jacobian (6, rows, columns) by the twists that ``matrix`` (6, 6) takes to its own."""
    return torch.einsum("oi,orc->irc", torch.from_numpy(matrix.astype(np.float32)), jacobian)


def _render_bodies(
    model: RenderModel,
    view: LevelView,
    to_camera: Array,
    arrangement: Arrangement,
    options: RefineOptions,
) -> tuple[Tensor, Tensor]:
    """Images (B, rows, columns) of target and neighbours and their derivatives (B, 6, ...).

    Each derivative is by a motion of that body about the target's centre in the CT frame.
    """
    camera, centre = view.window.camera, model.centre_ct
    shifts = list(arrangement.shifts_ct[: len(model.neighbours)])
    if not options.voxels:
        return rasterize_bodies_with_jacobian(
            model.bodies(options.fine),
            camera.intrinsic,
            to_camera,
            [np.eye(4), *shifts],
            camera.size,
            centre,
        )
    excess = model.anatomy.target.excess
    image, jacobian = project_volume_with_jacobian(
        excess,
        camera.intrinsic,
        to_camera,
        camera.size,
        centre,
        step_mm=0.7 * float(excess.spacing.min()),
    )
    neighbours = model.neighbour_bodies()
    if neighbours is None:
        return image[None], jacobian[None]
    images, jacobians = rasterize_bodies_with_jacobian(
        neighbours, camera.intrinsic, to_camera, shifts, camera.size, centre
    )
    return torch.cat([image[None], images]), torch.cat([jacobian[None], jacobians])


def _weight(target: Tensor, others: Tensor, part: Window, options: RefineOptions) -> Tensor:
    weight = footprint(target, part, options.margin_mm)
    if options.neighbour_weight > 0.0:
        weight = torch.maximum(weight, options.neighbour_weight * footprint(others, part, 0.0))
    return weight * part.valid


def contrast_floor(
    normalizer: LocalNormalization, image: Tensor, weight: Tensor, options: RefineOptions
) -> float:
    """A share of the typical contrast where ``weight`` is above zero: added in quadrature to the
    local deviation, it keeps flat places from being blown up to noise."""
    deviation = normalizer.deviation(image)[weight > 0]
    typical = float(deviation.mean()) if deviation.numel() else 0.0
    return options.contrast_floor * typical + 1e-9


def _correlation(weight: Tensor, a: Tensor, b: Tensor) -> float:
    """The weighted correlation of two images (rows, columns) of mean zero, in [-1, 1]."""
    energy = float((weight * a * a).sum()) * float((weight * b * b).sum())
    return float((weight * a * b).sum()) / math.sqrt(max(energy, 1e-12))


def with_background(
    model: RenderModel,
    views: tuple[LevelView, ...],
    arrangement: Arrangement,
    options: RefineOptions,
) -> tuple[LevelView, ...]:
    """The views with the background rendered at its pose, weighted as explains them best.

    Raises ValueError for a model without a background.
    """
    background = model.background
    if background is None:
        raise ValueError("the model has no background")
    pose = arrangement.background_to_world
    shifts = arrangement.shifts_ct[: len(model.neighbours)]

    def one(view: LevelView) -> LevelView:
        camera = view.window.camera
        to_camera = view.world_to_camera @ arrangement.ct_to_world
        images = rasterize_bodies(
            model.bodies(options.fine),
            camera.intrinsic,
            to_camera,
            [np.eye(4), *shifts],
            camera.size,
        )
        target, others = images[0], images[1:].sum(0)
        weight = _weight(target, others, view.window, options)
        parts = background.render(camera, pose)
        normalizer, observed = view.normalizers[0], view.images[0]
        best = (-2.0, (0.0, 0.0))
        for pair in itertools.product(COEFFICIENTS, COEFFICIENTS):
            image = target + others + pair[0] * parts[0] + pair[1] * parts[1]
            floor = contrast_floor(normalizer, image, weight, options)
            score = _correlation(weight, observed, normalizer.normalize(image, floor))
            best = max(best, (score, pair))
        rendered = render_linear(background, best[1], camera, pose, model.centre_ct)
        return replace(view, background=rendered)

    return tuple(over_views(one, views))


def footprint(render: Tensor, part: Window, margin_mm: float) -> Tensor:
    """Where a body projects, in [0, 1], grown by a margin so that its outline counts fully."""
    covered = (render > 0.02 * float(render.max()) + 1e-9).float()[None, None]
    reach = round(margin_mm / part.pixel_mm)
    if reach > 0:
        size = 2 * reach + 1
        covered = torch.nn.functional.max_pool2d(covered, size, stride=1, padding=reach)
    return covered[0, 0]


def _add_prior(
    model: RenderModel,
    arrangement: Arrangement,
    options: RefineOptions,
    hessian: Array,
    gradient: Array,
) -> float:
    """Neighbours stay near their place in the CT: a Gaussian prior on each one's shift.

    In the units of the mean residual: one at one standard deviation costs `PRIOR_STRENGTH`.
    """
    strength = PRIOR_STRENGTH
    precision = strength * np.diag(
        [1.0 / np.radians(options.neighbour_rotation_deg) ** 2] * 3
        + [1.0 / options.neighbour_translation_mm**2] * 3
    )
    cost = 0.0
    for n, (centre, shift) in enumerate(
        zip(model.movable_centres_ct, arrangement.shifts_ct, strict=True)
    ):
        moved = shifted(centre, shift) - centre
        state = np.concatenate([Rotation.from_matrix(shift[:3, :3]).as_rotvec(), moved])
        part = slice(6 * (n + 1), 6 * (n + 2))
        hessian[part, part] += precision
        gradient[part] -= precision @ state
        cost += float(state @ precision @ state)
    return cost


def refine(
    model: RenderModel,
    views: tuple[LevelView, ...],
    start: Arrangement,
    options: RefineOptions,
    progress: Progress | None = None,
    descent: Descent | None = None,
) -> Refined:
    """Down the cost from ``start`` by stretched Gauss-Newton steps.

    ``descent``: what is known of the steps' length; it learns on. A step after which hardly
    anything of the target is in view any more is no step down.
    """
    current = start
    state = evaluate(model, views, current, options)
    descent = descent or Descent()
    radius = model.anatomy.radius_mm
    done = 0
    for done in range(1, options.iterations + 1):
        if progress is not None:
            progress(done / options.iterations, "refining the pose")
        step = descent.step(state.gradient, state.hessian)
        target_twist, other_twists = step[:6], step[6:].reshape(-1, 6)
        if len(other_twists) == 0:
            other_twists = np.zeros((len(model.movable_centres_ct), 6))
        trial = current.moved(target_twist, other_twists, model)
        tried = evaluate(model, views, trial, options)
        seen = tried.effective_pixels >= _IN_VIEW * state.effective_pixels
        fall = state.cost - tried.cost if seen else -math.inf
        if descent.learn(step, fall, state.gradient, tried.gradient):
            current, state = trial, tried
        if _size_mm(step, radius) < options.tolerance_mm:
            break
    return Refined(current, state, done)


def _size_mm(step: Array, radius_mm: float) -> float:
    """How far the twists (6 M,) of M bodies of a radius move what they move the furthest."""
    twists = step.reshape(-1, 6)
    turns, shifts = np.linalg.norm(twists[:, :3], axis=1), np.linalg.norm(twists[:, 3:], axis=1)
    return float((radius_mm * turns + shifts).max())
