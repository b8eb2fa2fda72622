"""A vertebra bent, turned and moved until it looks as the X-rays do.

The unknowns are the coefficients of `Shapes` and a pose; the residual is that of the registration's
refinement (images normalised in their neighbourhoods, a robust loss). Coefficients are held near
zero, a population's mean or the patient's own vertebra as its CT shows it, by their own
distribution, because two views do not say everything.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..gaussians import Adam, GaussianCloud, rasterize
from ..geometry import Array
from ..registration import (
    LocallyNormalized,
    NormalizedTerm,
    RefineOptions,
    contrast_floor,
    footprint,
)
from ..system import Progress
from ..views import PreparedView, Windows, windows
from . import bounds
from .anchors import Anchors
from .crops import Frame
from .recm import Deformation, Prediction
from .rigid import POSE_NUMBERS, apply_step, step_from_raw
from .shapes import Shapes

# A first step of Adam: 0.15 deviations of a coefficient, about a millimetre, about two degrees.
_RATE = 0.15
_OPTIONS = RefineOptions(contrast_floor=0.3, margin_mm=2.0)


class Bent(NamedTuple):
    """A ``prediction`` after it was bent, and the ``misfit`` (scalar) with the X-rays, prior
    included: the less the better, of the same views."""

    prediction: Prediction
    misfit: Tensor


def bend(
    prediction: Prediction,
    anchors: Anchors,
    shapes: Shapes,
    frame: Frame,
    views: Sequence[PreparedView],
    signs: Sequence[int],
    progress: Progress | None = None,
) -> Bent:
    """RecM's answer (a batch of one) with the shape and the pose that fit the views best, and what
    is left of the misfit there.

    To be called within `system.one_torch_thread`. It begins at the answer's pose and at the
    shape of the population that is nearest to it. ``signs``: +1 per view where bone is bright, else
    -1. Raises Cancelled when ``progress`` says so.
    """
    report = progress or Progress()
    effect = prediction.effect
    device = effect.poses.device
    anchors = copy.deepcopy(anchors).to(device, torch.float32)
    shapes = copy.deepcopy(shapes).to(device, torch.float32)
    begin = effect.each(lambda t: t.to(device, torch.float32))
    coefficients = shapes.nearest(_positions(begin, anchors))
    still = torch.zeros(1, POSE_NUMBERS, device=device)
    unknowns = [coefficients.requires_grad_(), still.requires_grad_()]
    body = _Body(anchors, shapes, begin.poses)
    box_to_world = torch.from_numpy(frame.box_to_world).float().to(device)
    with torch.no_grad():
        middle_box = body.cloud(*unknowns).means.mean(0)
    centre_world = (box_to_world[:3, :3] @ middle_box + box_to_world[:3, 3]).double()[None]
    shown = [
        _Shown.of(view, centre_world, sign, box_to_world)
        for view, sign in zip(views, signs, strict=True)
    ]

    def misfit() -> Tensor:
        prior = bounds.PRIOR * unknowns[0].square().sum()
        return _misfit(body.cloud(*unknowns), shown) + prior

    adam = Adam(unknowns, (0.8, 0.95))
    for step in range(bounds.BEND_STEPS):
        report(step / bounds.BEND_STEPS, "bending the vertebra to the X-rays")
        adam.step(misfit(), _RATE * (1.0 - step / bounds.BEND_STEPS) + 0.005)
    with torch.no_grad():
        shape, left = body.shape(*unknowns), misfit()
    fitted = shape.each(lambda t: t.to(effect.poses))
    return Bent(replace(prediction, effect=fitted, fitted=True), left)


class _Body:
    """Unknowns to a shape and a cloud; ``poses`` (1, 4, 4) anchors to box, before any step."""

    def __init__(self, anchors: Anchors, shapes: Shapes, poses: Tensor) -> None:
        self.anchors, self.shapes, self.poses = anchors, shapes, poses
        self.base = anchors.base.detach() if anchors.free else torch.zeros_like(anchors.base)

    def shape(self, coefficients: Tensor, step: Tensor) -> Deformation:
        """Return shape and pose of coefficients (K,) and a raw step (1, 9)."""
        poses = apply_step(self.poses, *step_from_raw(step))
        # What the anchors add of their own is in the shapes already.
        raw = self.shapes.raw(coefficients[None]) - self.base
        return Deformation(poses, torch.ones_like(poses[:, :3, 3]), raw)

    def cloud(self, coefficients: Tensor, step: Tensor) -> GaussianCloud:
        """Return the same as Gaussians in the box's frame."""
        shape = self.shape(coefficients, step)
        return self.anchors.decode(shape.raw, shape.poses, shape.stretch)[0]


def _positions(effect: Deformation, anchors: Anchors) -> Tensor:
    """Raw positions (N, 3) of where an answer puts the Gaussians, stretch included."""
    base = anchors.base.detach() if anchors.free else 0.0
    offset = anchors.reach_mm * torch.tanh((effect.raw[0] + base)[:, :3])
    moved = (anchors.means + offset) * effect.stretch[0] - anchors.means
    reached = (moved / anchors.reach_mm).clamp(-bounds.REACHED_SHARE, bounds.REACHED_SHARE)
    return torch.atanh(reached)


@dataclass(frozen=True)
class _Shown:
    """A window of an X-ray, normalised, its intrinsic (3, 3), and the way there from the box
    (4, 4)."""

    part: Windows
    term: NormalizedTerm
    intrinsic: Array
    box_to_camera: Tensor

    @classmethod
    def of(
        cls, view: PreparedView, centre_world: Tensor, sign: int, box_to_world: Tensor
    ) -> _Shown:
        lengths = bounds.HALF_WIDTH_MM, bounds.BEND_PIXEL_MM, bounds.BEND_BLUR_MM
        part = windows(view, centre_world, *lengths)
        signs = torch.full((1,), float(sign), device=centre_world.device)
        options = replace(_OPTIONS, neighbourhoods_mm=(bounds.BEND_NEAR_MM,))
        (term,) = LocallyNormalized().prepare(part, signs, options)
        intrinsic = part.lenses.intrinsics[0].cpu().numpy()
        return cls(part, term, intrinsic, part.world_to_camera[0].float() @ box_to_world)


def _misfit(cloud: GaussianCloud, shown: Sequence[_Shown]) -> Tensor:
    """The weighted mean robust residual of a cloud in the box's frame."""
    cost = cloud.means.new_zeros(())
    weights = cost.double()
    for one in shown:
        part, term = one.part, one.term
        drawn = rasterize(cloud, one.intrinsic, one.box_to_camera, part.lenses.size)[None]
        still = drawn.detach()
        weight = footprint(still, bounds.BEND_PIXEL_MM, _OPTIONS.margin_mm) * part.valid
        floor = contrast_floor(term.normalizer.contrast(still), weight, _OPTIONS)
        residual = term.observed - term.normalizer.normalize(drawn, floor)
        square = residual**2
        cost = cost + (weight * square / (1.0 + square)).sum()
        weights = weights + weight.sum()
    return cost / weights.clamp_min(1e-9).to(cost.dtype)
