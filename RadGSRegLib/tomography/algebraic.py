"""Voxels from X-rays by conjugate gradients, with total variation and a pull towards tissue.

Minimises over x >= 0 by reweighting: at each round the penalties are quadratics that touch them at
the last x, and conjugate gradients take a few steps on

    1/2 |A x - t|^2_w + tv sum |grad x| + pull sum |x - class(x)|,

class(x) being soft tissue or air, whichever it resembles, or nothing where bone alone is shown; or
what they are known to resemble, if anything is.
Conjugate gradients, because what is wide (the trunk) is settled in few steps, where simultaneous
updates take hundreds; measured on 40 whole trunks' X-rays (docs/experiments/beam.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..drr import SystemMatrix
from . import bounds
from .watch import Watch

# Differences and distances count as in a square below these, 1/mm.
_SMOOTH_BELOW = 5e-4
_NEAR = 2e-3
# The first round knows no differences yet: it takes them for this, 1/mm.
_FIRST = 2e-3


@dataclass(frozen=True)
class Penalty:
    """Weights of total variation and of the pull to tissue, in units of squared line integrals a
    pixel times mm: per voxel; they fit X-rays of about 2 mm a pixel. ``tissue``: there is soft
    tissue. ``towards`` (K, J, I): what the voxels resemble, instead of tissue or air."""

    tv: float = 3.0
    pull: float = 0.3
    tissue: bool = True
    towards: Tensor | None = None


def solve(
    matrix: SystemMatrix,
    targets: Tensor,
    weight: Tensor,
    voxels: Tensor,
    rounds: int,
    *,
    penalty: Penalty | None = None,
    inner: int = 6,
    report: Watch | None = None,
) -> Tensor:
    """Improve voxels (K, J, I) so that their line integrals approach ``targets`` (V, rows,
    columns), which count by ``weight``; never negative, 1/mm. ``report`` hears the share done, and
    ends it early once it is late."""
    chosen = penalty or Penalty()
    for number in range(rounds):
        if report is not None:
            report(number / rounds)
            if report.late:
                break
        fresh = not bool(voxels.any())
        tv = chosen.tv / (_slopes(voxels).square().sum(0) + _SMOOTH_BELOW**2).sqrt()
        if fresh:
            tv = torch.full_like(tv, chosen.tv / _FIRST)
        nearest = _resembled(voxels, chosen)
        pull = chosen.pull / ((voxels - nearest).abs() + _NEAR)
        if fresh:
            pull = torch.zeros_like(pull)

        def hessian(x: Tensor, tv: Tensor = tv, pull: Tensor = pull) -> Tensor:
            return (
                matrix.transpose(matrix.forward(x) * weight)
                + _slopes_transposed(tv * _slopes(x))
                + pull * x
            )

        residual = matrix.transpose(targets * weight) + pull * nearest - hessian(voxels)
        voxels = _conjugate(hessian, residual, voxels, inner, report).clamp_min(0.0)
    return voxels


def _resembled(voxels: Tensor, penalty: Penalty) -> Tensor:
    if penalty.towards is not None:
        return penalty.towards
    return tissue_or_air(voxels) if penalty.tissue else torch.zeros_like(voxels)


def tissue_or_air(voxels: Tensor) -> Tensor:
    """Which of the two each voxel resembles, as its attenuation."""
    tissue = voxels > bounds.TISSUE_SHARE * bounds.TISSUE_MU
    return bounds.TISSUE_MU * tissue.to(voxels.dtype)


def _conjugate(
    hessian: Callable[[Tensor], Tensor],
    residual: Tensor,
    start: Tensor,
    steps: int,
    watch: Watch | None,
) -> Tensor:
    x, direction = start, residual
    power = (residual * residual).sum()
    for _ in range(steps):
        if not float(power) > 0.0 or (watch is not None and watch.late):
            break
        ahead = hessian(direction)
        length = power / (direction * ahead).sum()
        x = x + length * direction
        residual = residual - length * ahead
        now = (residual * residual).sum()
        direction = residual + now / power * direction
        power = now
    return x


def _slopes(x: Tensor) -> Tensor:
    """Differences (3, K, J, I) to the next voxel along each axis; 0 at the end."""
    out = torch.zeros((3, *x.shape), dtype=x.dtype, device=x.device)
    for axis in range(3):
        out[axis].narrow(axis, 0, x.shape[axis] - 1).copy_(x.diff(dim=axis))
    return out


def _slopes_transposed(g: Tensor) -> Tensor:
    out = torch.zeros_like(g[0])
    for axis in range(3):
        inner = g[axis].narrow(axis, 0, g.shape[axis + 1] - 1)
        out.narrow(axis, 1, inner.shape[axis]).add_(inner)
        out.narrow(axis, 0, inner.shape[axis]).sub_(inner)
    return out
