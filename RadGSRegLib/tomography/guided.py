"""Voxels that a guide's shape starts and holds, and whether it may (docs/experiments/beam.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_erosion
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from ..drr import SystemMatrix
from ..geometry import Array
from ..reconstruction import Box, Deadline, cube
from ..system import Progress
from . import bounds
from .algebraic import Penalty, solve
from .beams import Beams
from .bending import Bending, Bent
from .coarse import Coarse
from .shape_guide import ShapeGuide
from .verdict import psnr_db

# Voxels along an edge while a guide is placed, bent, and when it is done.
_PLACING, _BENDING, _DONE = 25, 50, 100
_PLACE_STEPS, _BEND_STEPS = 40, 80
# Views are predicted in so many turns, voxels solved for in so many rounds.
_FOLDS, _ROUNDS = 5, 6
# Where it starts: upright, turned about each axis, and along the spine.
_START_DEG, _START_MM = 25.0, 40.0


@dataclass(frozen=True)
class Guided:
    """What a guide made of the coarse voxels: ``coarse`` (as it was, where the guide is left out),
    ``quality`` as JSON values, and ``remark``, a sentence that says why it is left out, or None."""

    coarse: Coarse
    quality: dict[str, Any]
    remark: str | None

    def said(self, quality: Mapping[str, Any]) -> dict[str, Any]:
        """What is to be said of the shape beside ``quality``: "prior", "shape" and "reason"."""
        if self.remark is None:
            return {"prior": "shape", "shape": self.quality}
        reason = f"{quality['reason']}; {self.remark}"
        return {"prior": "none", "shape": self.quality, "reason": reason}


def shape_guided(
    coarse: Coarse,
    guide: ShapeGuide,
    centre_world: Array,
    box_mm: float,
    report: Progress,
    until: Deadline,
) -> Guided:
    """Let a guide's shape, bent to the X-rays, start and hold the voxels, where it predicts X-rays
    that it was not bent to better than voxels alone do.

    ``box_mm``: the edge of the cube that is wanted about ``centre_world``. The shape is left out
    where ``until`` has passed before it is placed, or before it is bent.
    """
    late = Guided(coarse, {"used": False}, "the shape was left out: the minutes were over")
    if not coarse.finished or until.passed:
        return late
    lines = coarse.lines
    edge = _edge_mm(coarse, centre_world, box_mm)
    middle, few = cube(centre_world, edge, edge / _BENDING), lines.thinned(2)
    bending = _placed(guide, middle, lines, report.part(0.0, 0.3))
    with_shape, without = _predictions(guide, bending, middle, few, report.part(0.3, 0.7))
    quality: dict[str, Any] = {
        "used": False,
        "predicts_db": with_shape,
        "predicts_without_db": without,
    }
    if with_shape < without + bounds.LEAST_GAIN_DB:
        why = f"with it X-rays are predicted by {with_shape:.1f} dB, without it by {without:.1f} dB"
        return Guided(coarse, quality, f"the shape was left out: {why}")
    if until.passed:
        return late
    report(0.7, "bending the shape")
    bent = Bent(guide, middle, lines.values.device)
    bent.fit(bending, few, _BEND_STEPS, "bend")
    grid = cube(centre_world, edge, max(edge / _DONE, 1.5 * lines.pixel_mm))
    fine = Bent(guide, grid, lines.values.device)
    towards = fine.voxels(bending)
    alone = _matrix(lines, grid).forward(towards)
    quality |= _how_bent(bending, grid, towards)
    quality |= {"alone_db": _mean_db(alone, lines), "share_explained": _explained(alone, lines)}
    p95 = quality["bent_mm"]["p95"]
    if not p95 <= bounds.MOST_BENT_MM:
        why = f"it would have to be bent by {p95:.0f} mm"
        return Guided(coarse, quality, f"the shape was left out: {why}")
    report(0.85, "voxels held to the shape")
    wide = bent.voxels(bending)
    changed = _held(_matrix(few, middle), few, wide, wide) - wide
    size = (grid.size[2], grid.size[1], grid.size[0])
    changed = functional.interpolate(changed[None, None], size=size, mode="trilinear")[0, 0]
    voxels = _held(_matrix(lines, grid), lines, towards, (towards + changed).clamp_min(0.0))
    return Guided(replace(coarse, voxels=voxels, grid=grid), quality | {"used": True}, None)


def _placed(guide: ShapeGuide, middle: Box, lines: Beams, report: Progress) -> Bending:
    """The best of some starts by similarity, then affine; on wide voxels, then on ``middle``."""
    device = lines.values.device
    edge = middle.spacing_mm * middle.size[0]
    wide = Bent(guide, cube(middle.centre, edge, edge / _PLACING), device)
    few, trials = lines.thinned(4), list[tuple[float, Bending]]()
    starts = _starts(guide, middle.centre)
    for number, (turn, shift) in enumerate(starts):
        report(0.6 * number / len(starts), "placing the shape")
        bending = Bending.start(middle, turn, shift, device)
        trials.append((wide.fit(bending, few, _PLACE_STEPS, "similarity"), bending))
    placed, few = min(trials, key=itemgetter(0))[1], lines.thinned(2)
    bent = Bent(guide, middle, device)
    for number, stage in enumerate(("similarity", "affine")):
        report(0.6 + 0.2 * number, "placing the shape")
        bent.fit(placed, few, _PLACE_STEPS, stage)
    return placed


def _starts(guide: ShapeGuide, centre_world: Array) -> list[tuple[Array, Array]]:
    """Rotations (3, 3) from the world to the guide, and shifts (3,) in the world, mm."""
    none = np.zeros(3)
    if guide.ct_to_world is not None:
        to_world = np.asarray(guide.ct_to_world, dtype=float)
        middle = to_world[:3, :3] @ guide.middle_ct + to_world[:3, 3]
        return [(to_world[:3, :3].T, middle - centre_world)]
    out = [(np.eye(3), none)]
    for axis in range(3):
        for sign in (-1.0, 1.0):
            vector = sign * _START_DEG * np.eye(3)[axis]
            out.append((Rotation.from_rotvec(vector, degrees=True).as_matrix(), none))
    return out + [(np.eye(3), np.array([0.0, 0.0, sign * _START_MM])) for sign in (-1.0, 1.0)]


def _predictions(
    guide: ShapeGuide, placed: Bending, grid: Box, few: Beams, report: Progress
) -> tuple[float, float]:
    """How well views are predicted from the others, dB: with the guide and without.

    Of the guide only where it is placed is known from all views.
    """
    bent, folds = Bent(guide, grid, few.values.device), min(_FOLDS, len(few))
    decibels: tuple[list[float], list[float]] = ([], [])
    for fold in range(folds):
        report(fold / folds, "comparing with the shape and without")
        left = few.some([n for n in range(len(few)) if n % folds == fold])
        rest = few.some([n for n in range(len(few)) if n % folds != fold])
        matrix, asked = _matrix(rest, grid), _matrix(left, grid)
        trial = placed.copy()
        bent.fit(trial, rest, _BEND_STEPS // 2, "bend")
        shaped = bent.voxels(trial)
        for of, towards in zip(decibels, (shaped, None), strict=True):
            start = torch.zeros_like(shaped) if towards is None else towards
            voxels = _held(matrix, rest, towards, start)
            of.append(_mean_db(asked.forward(voxels), left))
    with_shape, without = (float(np.mean(of)) for of in decibels)
    return with_shape, without


def _held(matrix: SystemMatrix, lines: Beams, towards: Tensor | None, start: Tensor) -> Tensor:
    """Voxels of line integrals, held to a bent guide, or to tissue and air without one."""
    edge = matrix.index_to_world[0, 0] * matrix.shape[2]
    finer = (edge / bounds.REGION_MM) ** 3
    usual = Penalty()
    penalty = Penalty(finer * usual.tv, finer * usual.pull)
    if towards is not None:
        penalty = replace(penalty, pull=finer * bounds.SHAPE_PULL, towards=towards)
    return solve(matrix, lines.values, lines.weight, start, _ROUNDS, penalty=penalty)


def _edge_mm(coarse: Coarse, centre_world: Array, box_mm: float) -> float:
    """Edge of the cube that holds all there is: small only where hardly an X-ray shows anything at
    its rim. Then nothing is where a ray passes through air alone.
    """
    lines, grid = coarse.lines, coarse.grid
    full = lines.values > bounds.AIR_LINES
    for mask, shown in zip((lines.weight > 0).cpu().numpy(), full.cpu().numpy(), strict=True):
        rim = mask & ~binary_erosion(mask)
        if not rim.any() or float(shown[rim].mean()) > bounds.MOST_OF_RIM:
            return bounds.REGION_MM
    looked = torch.zeros_like(coarse.voxels)
    empty = torch.zeros_like(coarse.voxels, dtype=torch.bool)
    for n in range(len(lines)):
        single = lines.some([n])
        matrix = _matrix(single, grid)
        crossed = matrix.transpose(single.weight)
        empty |= matrix.transpose(single.weight * full[[n]]) < 0.5 * crossed
        looked += (crossed > 0).to(looked)
    there = ((2.0 * looked > len(lines)) & ~empty).nonzero().cpu().numpy()[:, ::-1]
    if not len(there):
        return bounds.REGION_MM
    places = grid.lower + grid.spacing_mm * (there + 0.5)
    reach = float(np.abs(places - centre_world).max()) + 2.0 * grid.spacing_mm
    return float(np.clip(2.0 * reach, box_mm, bounds.REGION_MM))


def _matrix(lines: Beams, grid: Box) -> SystemMatrix:
    shape = (grid.size[2], grid.size[1], grid.size[0])
    return SystemMatrix(lines.cameras, grid.index_to_world, shape, device=lines.values.device)


def _mean_db(rendered: Tensor, lines: Beams) -> float:
    each = zip(rendered, lines.values, lines.weight, strict=True)
    return float(np.mean([psnr_db(image, wanted, mask) for image, wanted, mask in each]))


def _explained(rendered: Tensor, lines: Beams) -> float:
    """Share of the line integrals' variance that a rendering explains."""
    total = lines.weight.sum().clamp_min(1.0)
    mean = (lines.weight * lines.values).sum() / total
    left = (lines.weight * (rendered - lines.values).square()).sum()
    return float(1.0 - left / (lines.weight * (lines.values - mean).square()).sum().clamp_min(1e-9))


def _how_bent(bending: Bending, grid: Box, voxels: Tensor) -> dict[str, Any]:
    """How far the guide was turned, scaled and bent, where there is something of it."""
    there = voxels > 0.5 * bounds.TISSUE_MU
    moves = bending.field(grid)[:3].norm(dim=0)[there].cpu().numpy()
    # A shape that was shrunk to nothing says nothing.
    moves = moves if moves.size else np.array([np.inf])
    linear = bending.linear().cpu().double().numpy()
    u, sizes, v = np.linalg.svd(linear)
    turned = Rotation.from_matrix(u @ v).magnitude()
    return {
        "bent_mm": {"median": float(np.median(moves)), "p95": float(np.percentile(moves, 95))},
        "turned_deg": float(np.degrees(turned)),
        "scales": [float(1.0 / size) for size in sizes],
        "gain": float(bending.gain.exp()),
    }
