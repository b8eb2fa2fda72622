"""Where the vertebra under a click stands: template, pose and size by a search around the click."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ..geometry import Array, affine, transform_points
from ..system import Progress
from . import bounds
from .image import Patch
from .template import Template, grid_points, in_body, template

_LEVELS_TRIED = ("T12", "L2", "L4", "L5")
_SAGITTAL_DEG = (-36.0, -18.0, 0.0, 18.0, 36.0)
# About the patient's left (x), back (y) and head (z): scolioses lean, patients lie turned.
_COARSE_DEG = (
    *product(_SAGITTAL_DEG, (-14.0, 0.0, 14.0), (0.0,)),
    *product(_SAGITTAL_DEG, (0.0,), (-28.0, 28.0)),
)
_SCALES = (0.9, 1.08)
_NEAR_MM = 9.0
_COARSE_POINTS = 2500
_FINE_POINTS = 8000
_STEPS = 30
_BATCH = 64


@dataclass(frozen=True)
class Placement:
    """A template and ``matrix`` (4, 4): template mm to patch mm, axis-wise scaling included.

    ``score`` is the correlation with the CT, in [-1, 1].
    """

    template: Template
    matrix: Array
    score: float


def place(patch: Patch, click: Array, progress: Progress) -> list[Placement]:
    """The most likely placements, best first, of a vertebra whose body holds ``click`` (3,) mm."""
    coarse: list[tuple[float, Template, Array]] = []
    for number, level in enumerate(_LEVELS_TRIED):
        progress(0.5 * number / len(_LEVELS_TRIED), "looking for the vertebra around the click")
        mean = template(level)
        coarse += [(score, mean, matrix) for score, matrix in _search(patch, click, mean)]
    coarse.sort(key=lambda found: -found[0])
    placements: list[Placement] = []
    chosen = _different(coarse)
    for number, (score, mean, matrix) in enumerate(chosen):
        progress(0.5 + 0.4 * number / len(chosen), "looking for the vertebra around the click")
        placements.append(_refine(patch, Placement(mean, matrix, score)))

    def rank(found: Placement) -> tuple[bool, float]:
        # A neighbour may fit better, but it is not the one that was clicked.
        at = transform_points(np.linalg.inv(found.matrix), click)
        return in_body(found.template.level, at), found.score

    placements.sort(key=rank, reverse=True)
    progress(0.9, "looking for the vertebra around the click")
    best = [_refine(patch, placement) for placement in placements[:2]]
    return sorted(best, key=rank, reverse=True)


def _different(
    found: list[tuple[float, Template, Array]],
) -> list[tuple[float, Template, Array]]:
    """The best of them, without those that differ little from a better one."""
    chosen: list[tuple[float, Template, Array]] = []
    corners = 30.0 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    for score, mean, matrix in found:
        for _, other, known in chosen:
            apart = transform_points(matrix, corners) - transform_points(known, corners)
            if other is mean and np.linalg.norm(apart, axis=1).mean() < bounds.APART_MM:
                break
        else:
            chosen.append((score, mean, matrix))
        if len(chosen) == bounds.KEPT:
            break
    return chosen


def _points_of(mean: Template, count: int) -> tuple[Array, torch.Tensor]:
    """Some of the template's points (N, 3) mm near bone, and their values, evenly picked."""
    near = (np.minimum(mean.target, mean.others) < _NEAR_MM) & (mean.weight > 0)
    # Other bone is context only: at most as much as the vertebra itself.
    near &= mean.target < 25.0
    chosen = np.flatnonzero(near.ravel())
    # A fixed shuffle: even strides would fall into step with the grid.
    chosen = np.random.default_rng(0).permutation(chosen)[:count]
    values = torch.from_numpy(np.ascontiguousarray(mean.hu.ravel()[chosen]))
    return grid_points().reshape(-1, 3)[chosen], values


def _search(patch: Patch, click: Array, mean: Template) -> list[tuple[float, Array]]:
    points, values = _points_of(mean, _COARSE_POINTS)
    anchors = mean.body[::3]
    found: list[tuple[float, Array]] = []
    for scale, angles in product(_SCALES, _COARSE_DEG):
        axes = scale * Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        turned = points @ axes.T
        shifts = click - anchors @ axes.T
        scores = []
        for first in range(0, len(shifts), _BATCH):
            some = shifts[first : first + _BATCH]
            moved = torch.from_numpy((some[:, None] + turned[None]).astype(np.float32))
            seen, known = patch.sample(moved)
            scores.append(correlation(seen, values.expand_as(seen), known))
        score = torch.cat(scores)
        for best in score.topk(2).indices.tolist():
            found.append((float(score[best]), affine(axes, shifts[best])))
    found.sort(key=lambda one: -one[0])
    return found[: bounds.KEPT]


def _refine(patch: Patch, placement: Placement) -> Placement:
    """Pose and three sizes by gradient ascent of the correlation."""
    mean, matrix = placement.template, placement.matrix
    points, values = _points_of(mean, _FINE_POINTS)
    source = torch.from_numpy(points.astype(np.float32))
    center = torch.from_numpy(matrix[:3, 3].astype(np.float32))
    sizes = np.linalg.norm(matrix[:3, :3], axis=0)
    scale = torch.from_numpy(sizes.astype(np.float32))
    axes = torch.from_numpy((matrix[:3, :3] / sizes).astype(np.float32))
    # In units in which a step of one moves the surface by about as many mm.
    turn = torch.zeros(3, requires_grad=True)
    shift = torch.zeros(3, requires_grad=True)
    grow = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([turn, shift, grow], lr=0.6)

    def moved() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rotation = torch.linalg.matrix_exp(_skew(turn / 35.0))
        linear = axes @ rotation @ torch.diag(scale * torch.exp(grow / 35.0))
        offset = center + shift
        sampled, known = patch.sample(source @ linear.T + offset)
        return linear, offset, correlation(sampled, values, known)

    for step in range(_STEPS):
        optimizer.param_groups[0]["lr"] = 0.8 * (1.0 - step / _STEPS) + 0.05
        optimizer.zero_grad()
        *_, score = moved()
        size = torch.log(scale) + grow / 35.0
        # Persons differ in size by about 8 %, bodies in proportion by about 5 %.
        prior = (size.mean() / 0.12) ** 2 + ((size - size.mean()) / 0.08).square().sum()
        loss = -score + 0.01 * prior
        torch.autograd.backward(loss)
        optimizer.step()
    with torch.no_grad():
        linear, offset, score = moved()
    return Placement(mean, affine(linear.numpy(), offset.numpy()), float(score))


def _skew(v: torch.Tensor) -> torch.Tensor:
    zero = torch.zeros(())
    rows = [zero, -v[2], v[1], v[2], zero, -v[0], -v[1], v[0], zero]
    return torch.stack(rows).reshape(3, 3)


def correlation(a: torch.Tensor, b: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Correlation over the last axis where ``weight`` is 1; unknown parts of b count against it."""
    total = weight.sum(-1, keepdim=True).clamp_min(1e-6)
    da = a - (a * weight).sum(-1, keepdim=True) / total
    db = b - (b * weight).sum(-1, keepdim=True) / total
    both = (weight * da * db).sum(-1)
    power = (weight * da * da).sum(-1) * (b - b.mean(-1, keepdim=True)).square().sum(-1)
    return both / (power + 1e-3).sqrt()
