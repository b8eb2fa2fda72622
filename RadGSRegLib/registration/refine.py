"""Refinement: Levenberg-Marquardt on SE(3) with Gaussians as the renderer (math.md 4).

The target and its neighbours are moved together: what a neighbour casts on the target's picture is
explained by the neighbour, instead of pulling the target. Neighbours are held near their place in
the CT by a prior. The residual is the difference of locally normalised images (`similarity`), with
weights for where the target projects and a robust loss for what no model explains (wires, gas).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..gaussians import GaussianCloud, rasterize_with_jacobian
from ..geometry.pose import skew
from ..progress import Progress
from .model import Arrangement, RenderModel, shifted_centre
from .observation import Window
from .similarity import LocalNormalization

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RefineOptions:
    """How one level is refined. Lengths in mm at the vertebra."""

    fine: bool = False
    neighbourhoods_mm: tuple[float, ...] = (8.0,)
    move_neighbours: bool = False
    neighbour_rotation_deg: float = 4.0
    neighbour_translation_mm: float = 3.0
    neighbour_weight: float = 0.3
    margin_mm: float = 4.0
    robust_scale: float = 1.0
    contrast_floor: float = 0.08
    iterations: int = 12
    damping: float = 1e-2
    tolerance_mm: float = 0.01


@dataclass(frozen=True)
class LevelView:
    """A window with its normalised image per neighbourhood, bone bright."""

    window: Window
    intrinsic: Tensor
    world_to_camera: Array
    normalizers: tuple[LocalNormalization, ...]
    images: tuple[Tensor, ...]


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
    """Normalise the windows once for all evaluations at a level; ``signs`` +1 where bone is bright."""
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
                torch.from_numpy(part.camera.intrinsic),
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

    Unknowns: the target's twist, then one per neighbour if those move. The cost is the weighted mean
    robust residual plus the neighbours' prior.
    """
    count = 6 * (1 + (len(model.neighbours) if options.move_neighbours else 0))
    hessian = np.zeros((count, count))
    gradient = np.zeros(count)
    cost = weight_sum = 0.0
    view_scores = []
    for view in views:
        part = _evaluate_view(model, view, arrangement, options, count)
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
    ct_to_camera = view.world_to_camera @ arrangement.ct_to_world
    target, jacobian = _render(model.target.level(options.fine), view, ct_to_camera, model.centre_ct)
    image = target.clone()
    columns = [jacobian]
    others = torch.zeros_like(target)
    for body, shift in zip(model.neighbours, arrangement.shifts_ct, strict=True):
        moved = body.level(options.fine).transformed(shift)
        render, around_target = _render(moved, view, ct_to_camera, model.centre_ct)
        others += render
        columns[0] = columns[0] + around_target
        if options.move_neighbours:
            offset = shifted_centre(body, shift) - model.centre_ct
            lever = torch.from_numpy(skew(offset).astype(np.float32))
            rotation = around_target[:3] + torch.einsum("vrc,vw->wrc", around_target[3:], lever)
            columns.append(torch.cat([rotation, around_target[3:]]))
    image = image + others
    stacked = torch.cat(columns)

    weight = _footprint(target, view.window, options.margin_mm)
    if options.neighbour_weight > 0.0:
        weight = torch.maximum(
            weight, options.neighbour_weight * _footprint(others, view.window, 0.0)
        )
    weight = weight * view.window.valid
    hessian = np.zeros((count, count))
    gradient = np.zeros(count)
    cost = weight_total = 0.0
    scores = []
    for normalizer, observed in zip(view.normalizers, view.images, strict=True):
        deviation = normalizer.deviation(image)
        floor = options.contrast_floor * float(deviation.max()) + 1e-9
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
        energy = float((weight * observed**2).sum()) * float((weight * rendered**2).sum())
        scores.append(float((weight * observed * rendered).sum()) / max(energy, 1e-12) ** 0.5)
    return hessian, gradient, cost, weight_total, float(np.mean(scores))


def _render(
    cloud: GaussianCloud, view: LevelView, ct_to_camera: Array, centre_ct: Array
) -> tuple[Tensor, Tensor]:
    return rasterize_with_jacobian(
        cloud,
        view.intrinsic,
        torch.from_numpy(ct_to_camera),
        view.window.camera.size,
        torch.from_numpy(centre_ct),
    )


def _footprint(render: Tensor, part: Window, margin_mm: float) -> Tensor:
    """Where a body projects, in [0, 1], grown by a margin so that its outline counts fully."""
    covered = (render > 0.02 * float(render.max()) + 1e-9).float()[None, None]
    reach = int(round(margin_mm / part.pixel_mm))
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

    In the units of the mean residual: one neighbour at one standard deviation costs ``strength``.
    """
    strength = 0.002
    precision = strength * np.diag(
        [1.0 / np.radians(options.neighbour_rotation_deg) ** 2] * 3
        + [1.0 / options.neighbour_translation_mm**2] * 3
    )
    cost = 0.0
    for n, (body, shift) in enumerate(zip(model.neighbours, arrangement.shifts_ct, strict=True)):
        from scipy.spatial.transform import Rotation

        moved = shifted_centre(body, shift) - body.centre_ct
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
) -> Refined:
    """Levenberg-Marquardt with gain-ratio damping (Nielsen 1999) from ``start``."""
    current = start
    state = evaluate(model, views, current, options)
    damping, factor = options.damping, 2.0
    radius = model.anatomy.radius_mm
    done = 0
    for done in range(1, options.iterations + 1):
        if progress is not None:
            progress(done / options.iterations, "refining the pose")
        step = _solve(state, damping)
        target_twist, neighbour_twists = step[:6], step[6:].reshape(-1, 6)
        if len(neighbour_twists) == 0:
            neighbour_twists = np.zeros((len(model.neighbours), 6))
        trial = current.moved(target_twist, neighbour_twists, model)
        trial_state = evaluate(model, views, trial, options)
        predicted = float(step @ (damping * np.diag(state.hessian) * step + state.gradient))
        gain = (state.cost - trial_state.cost) / max(predicted, 1e-12)
        size = radius * float(np.linalg.norm(step[:3])) + float(np.linalg.norm(step[3:6]))
        if gain > 0.0:
            current, state = trial, trial_state
            damping *= max(1.0 / 3.0, 1.0 - (2.0 * min(gain, 1.5) - 1.0) ** 3)
            factor = 2.0
        else:
            damping *= factor
            factor *= 2.0
        if size < options.tolerance_mm or damping > 1e6:
            break
    return Refined(current, state, done)


def _solve(state: Evaluation, damping: float) -> Array:
    diagonal = np.diag(state.hessian).copy()
    diagonal = np.maximum(diagonal, 1e-6 * diagonal.max() + 1e-12)
    return np.asarray(np.linalg.solve(state.hessian + damping * np.diag(diagonal), state.gradient))


def rigid_only(options: RefineOptions) -> RefineOptions:
    """The same options with the spine moved as one piece."""
    return replace(options, move_neighbours=False)
