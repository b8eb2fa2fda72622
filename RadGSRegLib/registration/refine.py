"""Refinement: least squares on SE(3) with Gaussians as the renderer (math.md 4, `descent`).

The target and its neighbours are moved together: what a neighbour casts on the target's picture is
explained by the neighbour, instead of pulling the target. Neighbours are held near their place in
the CT by a prior. The residual is the difference of locally normalised images (`similarity`), with
weights for where the target projects and a robust loss for what no model explains (wires, gas).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..drr import project_volume_with_jacobian
from ..gaussians import rasterize_bodies, rasterize_bodies_with_jacobian
from ..geometry.pose import skew
from ..system.parallel import side_by_side, worker_count
from ..system.progress import Progress
from ..views.normalization import Contrast, LocalNormalization
from ..views.prepare import Window
from .background import COEFFICIENTS, RenderedBackground, render_linear
from .descent import Descent
from .model import Arrangement, RenderModel, shifted

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
    steps_per_matrix: int = 1
    """The Hessian is computed anew after so many steps. From near, the first one serves nearly as
    well (`Testing/benchmarks/bench_descent.py`), and an evaluation takes half the time."""
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
    matrix: Array | None = None,
) -> Evaluation:
    """Cost, scores and normal equations at an arrangement.

    Unknowns: the target's twist, then one per neighbour and one for the background if those move.
    The cost is the weighted mean robust residual plus the prior of all that moves with the target.
    ``matrix`` (P, P): a Hessian to hand on instead of computing this place's own, which takes as
    long as all the rest.
    """
    count = 6 * (1 + (len(model.movable_centres_ct) if options.move_neighbours else 0))
    hessian = np.zeros((count, count))
    gradient = np.zeros(count)
    cost = weight_sum = 0.0
    view_scores: list[float] = []

    def one(group: Sequence[LevelView]) -> _Sums:
        return _evaluate_group(model, group, arrangement, options, matrix is None)

    for part in side_by_side(one, _groups(views)):
        if part.hessian is not None:
            hessian += part.hessian
        gradient += part.gradient
        cost += part.cost
        weight_sum += part.weight
        view_scores += part.scores
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
        hessian if matrix is None else matrix,
        weight_sum,
    )


def _groups(views: Sequence[LevelView]) -> list[Sequence[LevelView]]:
    """Views to evaluate together, as many groups as are worth a thread each: together they need
    fewer operations, of which small ones cost as much as large ones."""
    kinds = {tuple(normalizer.kind for normalizer in view.normalizers) for view in views}
    if len(kinds) > 1:
        return [[view] for view in views]
    small = views[0].window.valid.numel() < _SMALL
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
    model: RenderModel,
    views: Sequence[LevelView],
    arrangement: Arrangement,
    options: RefineOptions,
    with_hessian: bool,
) -> _Sums:
    images, jacobians = _render_bodies(model, views, arrangement, options)
    target, others = images[:, 0], images[:, 1:].sum(1)
    image = target + others
    backgrounds = [view.background for view in views if view.background is not None]
    if backgrounds:
        pose = arrangement.background_to_world
        image = image + torch.stack([one.moved_to(pose) for one in backgrounds])
        slopes = torch.stack([one.jacobian for one in backgrounds])
        jacobians = torch.cat([jacobians, slopes[:, None]], 1)
    unknowns_to_motions = _motions(model, backgrounds, arrangement, options)
    slopes = jacobians.reshape(len(views), len(unknowns_to_motions), -1)
    weight = _weight(target, others, [view.window for view in views], options)
    count = unknowns_to_motions.shape[1]
    hessian = np.zeros((count, count)) if with_hessian else None
    gradient = np.zeros(count)
    cost = weight_total = 0.0
    scores = np.zeros(len(views))
    kinds = len(views[0].normalizers)
    for kind in range(kinds):
        normalizer = LocalNormalization.stacked([view.normalizers[kind] for view in views])
        observed = torch.stack([view.images[kind] for view in views])
        contrast = normalizer.contrast(image)
        rendered = contrast.normalized(contrast_floor(contrast, weight, options))
        residual = observed - rendered.image
        square = (residual / options.robust_scale) ** 2
        robust = weight / (1.0 + square) ** 2
        # Geman-McClure: what no rendering can explain stops counting.
        cost += float((weight * square / (1.0 + square)).sum()) * options.robust_scale**2
        weight_total += float(weight.sum())
        pulled = rendered.pull(robust * residual).reshape(len(views), -1, 1)
        gradient += unknowns_to_motions.T @ (slopes @ pulled).sum(0)[:, 0].double().numpy()
        if hessian is not None:
            columns = torch.from_numpy(unknowns_to_motions.T).float() @ slopes
            stack = columns.reshape(len(views), count, *image.shape[1:]).transpose(0, 1)
            pushed = rendered.push(stack)
            weighted = (pushed * robust).reshape(count, -1)
            hessian += (weighted @ pushed.reshape(count, -1).T).double().numpy()
        scores += _correlation(weight, observed, rendered.image).numpy() / kinds
    return _Sums(gradient, hessian, cost, weight_total, scores.tolist())


def _motions(
    model: RenderModel,
    backgrounds: Sequence[RenderedBackground],
    arrangement: Arrangement,
    options: RefineOptions,
) -> Array:
    """The matrix (M, P) from the unknowns' twists to those that the derivatives are by.

    Bodies are differentiated by twists about the target's centre in the CT frame, as if the CT
    moved with each; the background by twists about its own pivot.
    """
    centre = model.centre_ct
    bodies = 1 + len(model.neighbours)
    rows = bodies + bool(backgrounds)
    columns = 1 + (len(model.movable_centres_ct) if options.move_neighbours else 0)
    out = np.zeros((rows, 6, columns, 6))
    out[:bodies, :, 0] = np.eye(6)
    for n in range(1, bodies if options.move_neighbours else 1):
        offset = shifted(model.neighbours[n - 1].centre_ct, arrangement.shifts_ct[n - 1]) - centre
        out[n, :, n] = _about(np.eye(3), offset)
    if backgrounds:
        shift = arrangement.shifts_ct[-1]
        back = shift[:3, :3].T
        lever = back @ (centre - shift[:3, 3]) - backgrounds[0].pivot_ct
        out[bodies, :, 0] = _about(back, lever)
        if options.move_neighbours:
            out[bodies, :, -1] = _about(back, np.zeros(3))
    return out.reshape(6 * rows, 6 * columns)


def _about(turn: Array, lever: Array) -> Array:
    """The matrix (6, 6) from a twist to the same motion as a twist about another centre.

    ``turn`` (3, 3) takes the twist's axes to the new ones, ``lever`` (3,) points from the new
    centre to the old one, in the new axes.
    """
    out = np.zeros((6, 6))
    out[:3, :3] = out[3:, 3:] = turn
    out[3:, :3] = skew(lever) @ turn
    return out


def _render_bodies(
    model: RenderModel,
    views: Sequence[LevelView],
    arrangement: Arrangement,
    options: RefineOptions,
) -> tuple[Tensor, Tensor]:
    """Images (V, B, rows, columns) of target and neighbours and their derivatives (V, B, 6, ...).

    Each derivative is by a motion of that body about the target's centre in the CT frame.
    """
    cameras, centre_ct = [view.window.camera for view in views], model.centre_ct
    intrinsics, size = [camera.intrinsic for camera in cameras], cameras[0].size
    ct_to_camera = np.stack([view.world_to_camera @ arrangement.ct_to_world for view in views])
    shifts = list(arrangement.shifts_ct[: len(model.neighbours)])
    if not options.voxels:
        bodies = model.bodies(options.fine)
        bodies_to_ct = [np.eye(4), *shifts]
        return rasterize_bodies_with_jacobian(
            bodies, intrinsics, ct_to_camera, bodies_to_ct, size, centre_ct
        )
    excess = model.anatomy.target.excess
    step_mm = 0.7 * float(excess.spacing.min())
    found = [
        project_volume_with_jacobian(excess, k, to_camera, size, centre_ct, step_mm=step_mm)
        for k, to_camera in zip(intrinsics, ct_to_camera, strict=True)
    ]
    image = torch.stack([image for image, _ in found])[:, None]
    jacobian = torch.stack([jacobian for _, jacobian in found])[:, None]
    neighbours = model.neighbour_bodies()
    if neighbours is None:
        return image, jacobian
    images, jacobians = rasterize_bodies_with_jacobian(
        neighbours, intrinsics, ct_to_camera, shifts, size, centre_ct
    )
    return torch.cat([image, images], 1), torch.cat([jacobian, jacobians], 1)


def _weight(
    target: Tensor, others: Tensor, parts: Sequence[Window], options: RefineOptions
) -> Tensor:
    """How much the pixels of views count (V, rows, columns), from their bodies' images alike."""
    weight = footprint(target, parts[0].pixel_mm, options.margin_mm)
    if options.neighbour_weight > 0.0:
        beside = footprint(others, parts[0].pixel_mm, 0.0)
        weight = torch.maximum(weight, options.neighbour_weight * beside)
    return weight * torch.stack([part.valid for part in parts])


def contrast_floor(contrast: Contrast, weight: Tensor, options: RefineOptions) -> Tensor:
    """A share of the typical contrast where ``weight`` is above zero: added in quadrature to the
    local deviation, it keeps flat places from being blown up to noise. (..., 1, 1)."""
    counts = weight > 0
    typical = (contrast.deviation * counts).sum((-2, -1)) / counts.sum((-2, -1)).clamp_min(1)
    return (options.contrast_floor * typical + 1e-9)[..., None, None]


def _correlation(weight: Tensor, observed: Tensor, rendered: Tensor) -> Tensor:
    """The weighted correlation (...) of images of mean zero (..., rows, columns), in [-1, 1]."""
    weighted = weight * observed
    own = (weighted * observed).sum((-2, -1))
    energy = own * (weight * rendered * rendered).sum((-2, -1))
    return (weighted * rendered).sum((-2, -1)) / energy.clamp_min(1e-12).sqrt()


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
    pairs = list(itertools.product(COEFFICIENTS, COEFFICIENTS))
    mixes = torch.tensor(pairs)

    def one(view: LevelView) -> LevelView:
        camera = view.window.camera
        to_camera = view.world_to_camera @ arrangement.ct_to_world
        images = rasterize_bodies(
            model.bodies(options.fine),
            [camera.intrinsic],
            [to_camera],
            [np.eye(4), *shifts],
            camera.size,
        )
        target, others = images[:, 0], images[:, 1:].sum(1)
        weight = _weight(target, others, [view.window], options)
        parts = background.render(camera, pose)
        mixed = target + others + torch.einsum("nb,brc->nrc", mixes, parts)
        contrast = view.normalizers[0].contrast(mixed)
        rendered = contrast.normalized(contrast_floor(contrast, weight, options)).image
        best = int(_correlation(weight, view.images[0], rendered).argmax())
        drawn = render_linear(background, pairs[best], camera, pose, model.centre_ct)
        return replace(view, background=drawn)

    return tuple(side_by_side(one, views))


def footprint(renders: Tensor, pixel_mm: float, margin_mm: float) -> Tensor:
    """Where a body projects (V, rows, columns), in [0, 1], grown by a margin so that its outline
    counts fully."""
    visible = 0.02 * renders.amax((-2, -1), keepdim=True) + 1e-9
    covered = (renders > visible).float()[:, None]
    reach = round(margin_mm / pixel_mm)
    if reach > 0:
        # Rows, then columns: the same square in a fifth of the time.
        for size, padding in (((2 * reach + 1, 1), (reach, 0)), ((1, 2 * reach + 1), (0, reach))):
            covered = torch.nn.functional.max_pool2d(covered, size, stride=1, padding=padding)
    return covered[:, 0]


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
    age = 0
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
        keep = done == options.iterations or age + 1 < options.steps_per_matrix
        tried = evaluate(model, views, trial, options, state.hessian if keep else None)
        seen = tried.effective_pixels >= _IN_VIEW * state.effective_pixels
        fall = state.cost - tried.cost if seen else -math.inf
        if descent.learn(step, fall, state.gradient, tried.gradient):
            current, state = trial, tried
            age = age + 1 if keep else 0
        if _size_mm(step, radius) < options.tolerance_mm:
            break
    return Refined(current, state, done)


def _size_mm(step: Array, radius_mm: float) -> float:
    """How far the twists (6 M,) of M bodies of a radius move what they move the furthest."""
    twists = step.reshape(-1, 6)
    turns, shifts = np.linalg.norm(twists[:, :3], axis=1), np.linalg.norm(twists[:, 3:], axis=1)
    return float((radius_mm * turns + shifts).max())
