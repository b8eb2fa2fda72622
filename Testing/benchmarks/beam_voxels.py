"""A plain voxel fit that shares as little as it can with ours, for `bench_beam`.

Voxels of 3 mm fill a cube of 400 mm, all with one resolution and one weight. Adam lowers the mean
L1 between their line integrals and the pictures, and their total variation; what is negative
becomes zero after each step. It starts from one grey, the mean that the pictures ask for. Of ours
it shares `drr.SystemMatrix` alone. It knows no display curve, no scatter, no tissue, no other
stage: grey values of a display are taken for line integrals as `grey_lines` makes them, scaled to
[0, 1] as SART gets them, or minus the logarithm of the signal that they stand for then.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from RadGSRegLib.cases import View
from RadGSRegLib.drr import SystemMatrix
from RadGSRegLib.geometry import Camera, Volume
from RadGSRegLib.reconstruction import cube

Array = NDArray[np.float32]
_REGION_MM, _VOXEL_MM = 400.0, 3.0
_VIEWS_PER_STEP = 4
_RATE, _LAST_RATE = 0.1, 0.03
_VARIATION = 0.1
# The signal that the blackest grey of a picture is taken for, before the logarithm.
_LEAST_SIGNAL = 0.01


class _Lines(torch.autograd.Function):
    """Voxels to line integrals of some views, with the transpose for the gradient."""

    @staticmethod
    def forward(ctx: object, voxels: Tensor, matrix: SystemMatrix, some: Tensor) -> Tensor:
        ctx.matrix, ctx.some = matrix, some  # type: ignore[attr-defined]
        return matrix.forward(voxels.contiguous(), some)

    @staticmethod
    @once_differentiable
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None, None]:
        matrix, some = ctx.matrix, ctx.some  # type: ignore[attr-defined]
        return matrix.transpose(gradient.contiguous(), some), None, None


def grey_lines(view: View, bone_bright: bool = True, logarithm: bool = False) -> Array:
    """A picture (rows, columns) as line integrals, in some unit: those that it shows, or of a
    display its grey values in [0, 1], turned where bone is dark.

    ``logarithm``: minus the logarithm of what such grey values leave to the full signal.
    """
    picture = np.asarray(view.pixels, np.float32)
    if view.intensity == "attenuation":
        return picture
    picture = picture / max(float(picture.max()), 1e-6)
    picture = picture if bone_bright else 1.0 - picture
    if logarithm:
        picture = -np.log(np.maximum(1.0 - picture, _LEAST_SIGNAL))
    return picture


def fit_voxels(
    cameras: Sequence[Camera],
    lines: Array,
    centre_world: ArrayLike,
    *,
    steps: int,
    seed: int,
    variation: float = _VARIATION,
) -> Volume:
    """Fit voxels (in the world) to line integrals (V, rows, columns) of cameras of one size."""
    grid = cube(centre_world, _REGION_MM, _VOXEL_MM)
    shape = grid.size[::-1]
    matrix = SystemMatrix(cameras, grid.index_to_world, shape)
    wanted = torch.from_numpy(np.asarray(lines, np.float32))
    level = wanted.mean().clamp_min(1e-6)
    unit = level / matrix.forward(torch.ones(shape)).mean()
    relative = torch.ones(shape, requires_grad=True)
    optimizer = torch.optim.Adam([relative], lr=_RATE)
    generator = np.random.default_rng(seed)
    order = np.zeros(0, dtype=int)
    for step in range(steps):
        if len(order) < _VIEWS_PER_STEP:
            order = np.concatenate([order, generator.permutation(len(cameras))])
        some, order = torch.from_numpy(order[:_VIEWS_PER_STEP]), order[_VIEWS_PER_STEP:]
        rendered = _Lines.apply(relative * unit, matrix, some)
        misfit = (rendered - wanted[some]).abs().mean() / level
        slopes = [relative.diff(dim=axis).abs().mean() for axis in range(3)]
        loss = misfit + variation * torch.stack(slopes).mean()
        optimizer.param_groups[0]["lr"] = _RATE * _LAST_RATE ** (step / steps)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        with torch.no_grad():
            relative.clamp_(min=0.0)
    voxels = (relative.detach() * unit).numpy()
    return Volume(voxels, grid.index_to_world)
