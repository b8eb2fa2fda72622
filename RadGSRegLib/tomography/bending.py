"""A guide's shape placed and bent: similarity, affine, then smoothly, by gradient descent.

A point x of the world shows what the guide has at

    c + R S (x - m - t) + u(x),   times exp(g + g(x)),

with rotation and scale R, a stretch S, a shift t, and displacements u and a log gain g that are
cubic B-splines on a coarse lattice (D. Rueckert et al., IEEE TMI 18, 1999), held by their second
differences. The misfit is that of line integrals, through the exact transpose of the projector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..drr import SystemMatrix
from ..geometry import Array
from ..reconstruction import Box
from . import bounds
from .beams import Beams
from .display import Lines
from .shape_guide import ShapeGuide

# Adam's steps of each number: radians, mm, logarithms; of what is placed already, a share of them.
_TURN, _SHIFT, _LOG, _STRETCH, _BEND = 0.03, 2.0, 0.01, 0.01, 0.4
_LAST_RATE = 0.05
# Differences of line integrals count as in a square below this share of their strength.
_SMOOTH_BELOW = 0.01


@dataclass
class Bending:
    """Where a guide lies and how it is bent, in numbers.

    ``turn`` (3,) a rotation vector after ``first`` (3, 3), ``shift`` (3,) mm, ``log_scale`` (1,),
    ``stretch`` (3, 3) before its exponential, ``gain`` (1,) a logarithm; ``nodes`` (4, n, n, n) of
    the splines over the cube ``over``: displacements in mm of the guide, and a log gain.
    """

    over: Box
    first: Tensor
    shift: Tensor
    nodes: Tensor
    turn: Tensor = field(default_factory=lambda: torch.zeros(3))
    log_scale: Tensor = field(default_factory=lambda: torch.zeros(1))
    stretch: Tensor = field(default_factory=lambda: torch.zeros(3, 3))
    gain: Tensor = field(default_factory=lambda: torch.zeros(1))

    @classmethod
    def start(cls, over: Box, world_to_guide: Array, shift_mm: Array, device: object) -> Bending:
        """Return one that is not bent yet, turned by ``world_to_guide`` (3, 3)."""
        count = round(float((over.upper - over.lower).max()) / bounds.NODE_MM)
        edge = int(np.clip(count, bounds.LEAST_NODES, bounds.MOST_NODES)) + 3
        like = torch.zeros((), device=device)  # type: ignore[call-overload]
        return cls(
            over,
            torch.from_numpy(np.asarray(world_to_guide, dtype=np.float32)).to(like),
            torch.from_numpy(np.asarray(shift_mm, dtype=np.float32)).to(like),
            torch.zeros(4, edge, edge, edge).to(like),
            *(torch.zeros(size).to(like) for size in (3, 1, (3, 3), 1)),
        )

    def copy(self) -> Bending:
        """Return the same numbers in tensors of their own."""
        names = ("first", "shift", "nodes", "turn", "log_scale", "stretch", "gain")
        return Bending(self.over, *(getattr(self, name).detach().clone() for name in names))

    def linear(self) -> Tensor:
        """The matrix (3, 3) from the world to the guide, without the bending."""
        x, y, z = self.turn
        zero = torch.zeros_like(x)
        skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).view(3, 3)
        turned = torch.linalg.matrix_exp(skew) @ self.first
        stretched: Tensor = turned @ torch.linalg.matrix_exp(self.stretch)
        return stretched * self.log_scale.exp()

    def field(self, grid: Box) -> Tensor:
        """Displacements in mm of the guide and the log gain (4, K, J, I) at a grid's voxels."""
        out = self.nodes
        for axis in (2, 1, 0):
            at = grid.lower[axis] + grid.spacing_mm * (np.arange(grid.size[axis]) + 0.5)
            basis = _splines(at, self.over.lower[axis], self.over.upper[axis], out.shape[1])
            # The next axis to the front of the three, the done ones to the end.
            out = torch.tensordot(out, basis.to(out), dims=([1], [1]))
        return out


class Bent:
    """A guide seen on one grid (K, J, I): voxels by its bending."""

    def __init__(self, guide: ShapeGuide, grid: Box, device: torch.device) -> None:
        self.grid = grid
        like = torch.zeros((), device=device)
        axes = [
            torch.from_numpy(grid.lower[a] + grid.spacing_mm * (np.arange(n) + 0.5)).to(like)
            for a, n in enumerate(grid.size)
        ]
        z, y, x = torch.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
        self._places = torch.stack([x, y, z], -1)
        self._middle = torch.from_numpy(grid.centre).to(like)
        self._middle_ct = torch.from_numpy(guide.middle_ct).to(like)
        self._values = guide.attenuation(grid.spacing_mm).to(like)[None, None]
        to_index = np.linalg.inv(guide.ct.index_to_physical)
        self._to_index = torch.from_numpy(to_index).to(like)
        self._size = torch.tensor(guide.ct.size).to(like)

    def voxels(self, bending: Bending, bent: bool = True) -> Tensor:
        """Attenuation (K, J, I), 1/mm; ``bent``: by the splines too."""
        places = (self._places - self._middle - bending.shift) @ bending.linear().T
        places, gain = places + self._middle_ct, bending.gain
        if bent:
            moved = bending.field(self.grid)
            places, gain = places + moved[:3].permute(1, 2, 3, 0), gain + moved[3]
        index = places @ self._to_index[:3, :3].T + self._to_index[:3, 3]
        unit = 2.0 * (index + 0.5) / self._size - 1.0
        # A trunk goes on where its CT has ended; an isolated bone's CT ends in air.
        values = functional.grid_sample(
            self._values, unit[None], padding_mode="border", align_corners=False
        )[0, 0]
        return values * gain.exp()

    def fit(self, bending: Bending, beams: Beams, steps: int, stage: str) -> float:
        """Improve a bending in place so that its line integrals approach those of ``beams``.

        ``stage``: "similarity", "affine" or "bend", each with what is before it. Returns the last
        misfit: the mean distance of line integrals over their root mean square.
        """
        groups = _groups(bending, stage)
        optimizer = torch.optim.Adam(
            [{"params": [t.requires_grad_()], "lr": rate} for t, rate in groups], betas=(0.9, 0.98)
        )
        shape = self.grid.size[2], self.grid.size[1], self.grid.size[0]
        matrix = SystemMatrix(
            beams.cameras, self.grid.index_to_world, shape, device=beams.values.device
        )
        misfit_of = _Misfit(
            beams, bounds.DETAIL_BENDING if stage == "bend" else bounds.DETAIL_PLACING
        )
        misfit = torch.zeros(())
        for step in range(steps):
            slower = _LAST_RATE + (1.0 - _LAST_RATE) * 0.5 * (1.0 + np.cos(np.pi * step / steps))
            for group, (_, rate) in zip(optimizer.param_groups, groups, strict=True):
                group["lr"] = rate * slower
            misfit = misfit_of(Lines.apply(self.voxels(bending, stage == "bend"), matrix))
            optimizer.zero_grad()
            torch.autograd.backward(misfit + _unlikely(bending))
            optimizer.step()
        for tensor, _ in groups:
            tensor.requires_grad_(False)
        return float(misfit.detach())


class _Misfit:
    """How far line integrals are from those of X-rays, as they are and in their details, each as a
    mean distance over the X-rays' own root mean square. A trunk's soft tissue would hide its bones.
    """

    def __init__(self, beams: Beams, details: float) -> None:
        """``details``: the weight of the second."""
        self._weight = details
        self._beams, self._total = beams, beams.weight.sum().clamp_min(1.0)
        self._reach = max(round(0.5 * bounds.DETAIL_MM / beams.pixel_mm), 1)
        self._share = self._mean(beams.weight).clamp_min(1e-6)
        self._strengths = [
            ((beams.weight * x.square()).sum() / self._total).sqrt().clamp_min(1e-6)
            for x in (beams.values, self._details(beams.values))
        ]

    def __call__(self, lines: Tensor) -> Tensor:
        apart = lines - self._beams.values
        parts = [
            (self._beams.weight * ((x / size).square() + _SMOOTH_BELOW**2).sqrt()).sum()
            for x, size in zip((apart, self._details(apart)), self._strengths, strict=True)
        ]
        return (parts[0] + self._weight * parts[1]) / self._total

    def _mean(self, x: Tensor) -> Tensor:
        reach = self._reach
        mean = functional.avg_pool2d(
            x[:, None], 2 * reach + 1, stride=1, padding=reach, count_include_pad=True
        )
        return mean[:, 0]

    def _details(self, x: Tensor) -> Tensor:
        return x - self._mean(x * self._beams.weight) / self._share


def _groups(bending: Bending, stage: str) -> list[tuple[Tensor, float]]:
    """What is fitted in a stage, with Adam's steps."""
    slow = {"similarity": 1.0, "affine": 0.4, "bend": 0.15}[stage]
    out = [
        (bending.turn, slow * _TURN),
        (bending.shift, slow * _SHIFT),
        (bending.log_scale, slow * _LOG),
        (bending.gain, max(slow, 0.5) * _LOG),
    ]
    if stage != "similarity":
        out.append((bending.stretch, max(slow, 0.3) * _STRETCH))
    if stage == "bend":
        out.append((bending.nodes, _BEND))
    return out


def _unlikely(bending: Bending) -> Tensor:
    """What is unlikely: other sizes, and of the splines to bend, be large or change brightness."""
    moves, gains = bending.nodes[:3], bending.nodes[3:]
    bends = [moves.diff(n=2, dim=axis).square().mean() for axis in (1, 2, 3)]
    sizes = bending.log_scale.square().sum() + bending.stretch.square().sum()
    sizes = sizes + (bending.shift / bounds.SHIFT_MM).square().sum()
    return (
        bounds.PLACE_WEIGHT * sizes
        + bounds.BEND_WEIGHT * torch.stack(bends).sum()
        + bounds.MOVE_WEIGHT * moves.square().mean()
        + bounds.GAIN_WEIGHT * gains.square().mean()
    )


def _splines(at: Array, lower: float, upper: float, nodes: int) -> Tensor:
    """Weights (n, nodes) of the nodes of a cubic B-spline over [lower, upper] at places (n,)."""
    pieces = nodes - 3
    place = np.clip((at - lower) / (upper - lower), 0.0, 1.0 - 1e-9) * pieces
    first = np.floor(place).astype(int)
    t = place - first
    out = np.zeros((len(at), nodes))
    weights: Sequence[Array] = (
        (1.0 - t) ** 3,
        3.0 * t**3 - 6.0 * t**2 + 4.0,
        -3.0 * t**3 + 3.0 * t**2 + 3.0 * t + 1.0,
        t**3,
    )
    for offset, weight in enumerate(weights):
        out[np.arange(len(at)), first + offset] = weight / 6.0
    return torch.from_numpy(out)
