"""From a placed template to the patient's own shape: a smooth deformation, coarse to fine."""

from dataclasses import dataclass

import numpy as np
import torch

from ..geometry import Array, transform_points
from ..system import Progress
from .image import Patch
from .pose import Placement
from .template import SHAPE_XYZ, SPACING_MM, grid_points

_WINDOW = 7  # voxels of the template: the correlation is local, brightness may drift
_STAGES = ((36.0, 25, 0.5), (22.0, 25, 0.15), (12.0, 30, 0.06))
"""Distance of control points (mm), steps, and weight of the bending."""


@dataclass(frozen=True)
class Deformation:
    """``points`` (Z, Y, X, 3): where each template voxel lies, patch mm; ``score`` the mean local
    correlation near the vertebra's surface."""

    points: Array
    score: float


def deform(patch: Patch, placement: Placement, progress: Progress) -> Deformation:
    """Bend the placed template until it fits the CT locally (free-form, cubic B-splines)."""
    mean = placement.template
    matrix = torch.from_numpy(placement.matrix.astype(np.float32))
    rest = torch.from_numpy(grid_points().astype(np.float32))
    fixed = torch.from_numpy(mean.hu)
    near = np.minimum(np.abs(mean.target), np.abs(mean.others) + 4.0)
    interest = torch.from_numpy(np.exp(-((near / 7.0) ** 2)) * mean.weight)[::2, ::2, ::2]
    field = torch.zeros((*rest.shape[:3], 3))
    score = torch.zeros(())
    done, total = 0, sum(stage[1] for stage in _STAGES)
    for distance, steps, stiffness in _STAGES:
        splines = [_spline(n, distance / SPACING_MM) for n in reversed(SHAPE_XYZ)]
        knots = torch.zeros((*(s.shape[1] for s in splines), 3), requires_grad=True)
        optimizer = torch.optim.Adam([knots], lr=1.0)
        for step in range(steps):
            if step % 5 == 0:
                progress((done + step) / total, "fitting the vertebra's shape")
            optimizer.param_groups[0]["lr"] = (0.9 * (1.0 - step / steps) + 0.1) * distance / 36.0
            optimizer.zero_grad()
            total_field = field + _expand(knots, splines)
            seen, known = patch.sample((rest + total_field) @ matrix[:3, :3].T + matrix[:3, 3])
            local = _local_correlation(fixed, seen, known)
            score = (local * interest).sum() / interest.sum()
            loss = -score + stiffness * _bending(knots, distance)
            torch.autograd.backward(loss)
            optimizer.step()
        done += steps
        with torch.no_grad():
            field = field + _expand(knots, splines)
    bent = (rest + field).numpy().astype(float)
    moved = transform_points(placement.matrix, bent.reshape(-1, 3)).reshape(bent.shape)
    return Deformation(moved, float(score.detach()))


def _spline(count: int, distance: float) -> torch.Tensor:
    """Cubic B-spline weights (count, knots) of ``count`` voxels for knots ``distance`` apart."""
    knots = int(np.ceil((count - 1) / distance)) + 3
    # Knots are centred on the grid, so that left and right are treated alike.
    first = (count - 1) / 2 - distance * (knots - 1) / 2
    t = np.abs((np.arange(count)[:, None] - first) / distance - np.arange(knots)[None])
    near = 2.0 / 3.0 - t**2 + 0.5 * t**3
    far = np.maximum(2.0 - t, 0.0) ** 3 / 6.0
    return torch.from_numpy(np.where(t < 1.0, near, far).astype(np.float32))


def _expand(knots: torch.Tensor, splines: list[torch.Tensor]) -> torch.Tensor:
    out = torch.einsum("zi,ijkc->zjkc", splines[0], knots)
    out = torch.einsum("yj,zjkc->zykc", splines[1], out)
    return torch.einsum("xk,zykc->zyxc", splines[2], out)


def _bending(knots: torch.Tensor, distance: float) -> torch.Tensor:
    """Mean squared second and (less) first differences of the knots, per distance."""
    total = torch.zeros(())
    for axis in range(3):
        first = torch.diff(knots, dim=axis) / distance
        second = torch.diff(first, dim=axis)
        total = total + first.square().mean() * 0.5 + second.square().mean()
    return total


def _windows(count: int) -> torch.Tensor:
    """Weights (windows, count) of the mean over ``_WINDOW`` voxels around every second voxel."""
    centers = np.arange(0, count, 2)[:, None]
    inside = np.abs(np.arange(count)[None] - centers) <= _WINDOW // 2
    return torch.from_numpy((inside / _WINDOW).astype(np.float32))


def _box(values: torch.Tensor) -> torch.Tensor:
    """Means of values (C, Z, Y, X) over cubes around every second voxel."""
    nx, ny, nz = SHAPE_XYZ
    out = values @ _windows(nx).T
    out = torch.einsum("yj,czjx->czyx", _windows(ny), out)
    return torch.einsum("zi,ciyx->czyx", _windows(nz), out)


def _local_correlation(a: torch.Tensor, b: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Correlation of a and b (Z, Y, X) in windows around every second voxel, where known."""
    a, b = a / 100.0, b / 100.0
    wa, wb = weight * a, weight * b
    stack = torch.stack([weight, wa, wb, wa * a, wb * b, wa * b])
    n, sa, sb, saa, sbb, sab = _box(stack)
    n = n.clamp_min(1e-3)
    cov = sab / n - sa * sb / n**2
    va = saa / n - (sa / n) ** 2
    vb = sbb / n - (sb / n) ** 2
    # The constant keeps windows of mere noise from counting.
    out: torch.Tensor = cov * n / ((va + 0.05) * (vb + 0.05)).sqrt()
    return out
