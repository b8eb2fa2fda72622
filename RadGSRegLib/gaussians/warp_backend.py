"""Rasterizer on warp kernels: float32, CPU and CUDA from one source.

On the CPU the work is split over threads: disjoint bands of rows when scattering into an image,
disjoint ranges of Gaussians when gathering gradients. Both leave the result independent of how many
threads there are.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
import warp as wp
from torch import Tensor

from ..warp_runtime import (
    balanced_edges,
    device_of,
    flat_array,
    run_jobs,
    split,
    start,
    worker_count,
)
from . import warp_kernels as kernels
from .cloud import GaussianCloud
from .rays import pixel_rays
from .splat_setup import footprint_coefficients, footprint_motion, inverse_on

start()

# Below this many Gaussians a second thread costs more than it brings.
_WORTH_A_THREAD = 256


def _bands(coefficients: Tensor, rows: int) -> list[tuple[int, int]]:
    """Bands of rows with about as many Gaussians each; one band on CUDA."""
    count = worker_count()
    if coefficients.is_cuda or count == 1 or coefficients.shape[0] < _WORTH_A_THREAD:
        return [(0, rows)]
    return list(pairwise(balanced_edges(coefficients[:, 1], rows, count)))


def _stride(columns: int) -> int:
    return columns + kernels.LANES


class _Scatter(torch.autograd.Function):
    """Footprint coefficients (N, 12) to the image (rows, columns) over the ray's parameter."""

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, columns: int, rows: int, cut2: float) -> Tensor:
        coefficients = coefficients.contiguous()
        stride = _stride(columns)
        image = torch.zeros(rows, stride, dtype=torch.float32, device=coefficients.device)
        source, target, device = flat_array(coefficients), flat_array(image), device_of(image)

        def job(begin: int, end: int) -> Callable[[], None]:
            return lambda: wp.launch(
                kernels.scatter_values,
                dim=coefficients.shape[0],
                inputs=[source, target, stride, columns, begin, end, cut2],
                device=device,
            )

        run_jobs([job(*band) for band in _bands(coefficients, rows)])
        ctx.save_for_backward(coefficients)
        ctx.geometry = (columns, rows, cut2)
        return image[:, :columns]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (coefficients,) = ctx.saved_tensors
        columns, rows, cut2 = ctx.geometry
        stride = _stride(columns)
        weights = torch.zeros(rows, stride, dtype=torch.float32, device=gradient.device)
        weights[:, :columns] = gradient
        result = torch.zeros_like(coefficients)
        source, target, device = flat_array(coefficients), flat_array(result), device_of(result)
        weight = flat_array(weights)
        count = coefficients.shape[0]
        parts = 1 if result.is_cuda or count < _WORTH_A_THREAD else worker_count()

        def job(first: int, stop: int) -> Callable[[], None]:
            return lambda: wp.launch(
                kernels.gather_gradients,
                dim=stop - first,
                inputs=[source, weight, target, first, stride, columns, rows, cut2],
                device=device,
            )

        run_jobs([job(*part) for part in split(count, parts)])
        return result, None, None, None


def rasterize(
    cloud: GaussianCloud,
    inverse: np.ndarray,
    cloud_to_camera: Tensor,
    size: tuple[int, int],
    cutoff: float,
) -> Tensor:
    """Line integrals (rows, columns); ``inverse`` is K^-1; see `rasterizer.rasterize`."""
    columns, rows = size
    single = cloud.to(dtype=torch.float32)
    coefficients, _ = footprint_coefficients(
        single, inverse_on(inverse, single.means), cloud_to_camera.float(), cutoff
    )
    _, lengths = pixel_rays(inverse, size, torch.float32, cloud.device)
    image = _Scatter.apply(coefficients, columns, rows, cutoff * cutoff) * lengths
    return cast(Tensor, image.to(cloud.dtype))


@torch.no_grad()
def rasterize_with_jacobian(
    cloud: GaussianCloud,
    inverse: np.ndarray,
    cloud_to_camera: Tensor,
    size: tuple[int, int],
    centre_cloud: Tensor,
    cutoff: float,
) -> tuple[Tensor, Tensor]:
    """Image (rows, columns) and derivative (6, rows, columns); see `rasterizer`.

    A rigid motion of the cloud is the opposite motion of every ray, so one pass accumulates four
    derivatives per pixel, by the ray's position at the centre's depth and by its slope, and a small
    product per pixel makes the six columns of them.
    """
    columns, rows = size
    single = cloud.to(dtype=torch.float32)
    pose = cloud_to_camera.float()
    coefficients, motion = footprint_motion(single, inverse_on(inverse, single.means), pose, cutoff)
    rotation = pose[:3, :3]
    centre = rotation @ centre_cloud.float() + pose[:3, 3]
    depth = float(centre[2])
    stride = _stride(columns)
    planes = torch.zeros(5, rows, stride, dtype=torch.float32, device=cloud.device)
    source, target, device = flat_array(coefficients), flat_array(planes), device_of(planes)
    beside = flat_array(motion)

    def job(begin: int, end: int) -> Callable[[], None]:
        return lambda: wp.launch(
            kernels.scatter_derivatives,
            dim=coefficients.shape[0],
            inputs=[source, beside, target, rows * stride, stride, columns, begin, end]
            + [cutoff * cutoff, depth],
            device=device,
        )

    run_jobs([job(*band) for band in _bands(coefficients, rows)])
    directions, lengths = pixel_rays(inverse, size, torch.float32, cloud.device)
    x, y = directions[0], directions[1]
    value, px, py, sx, sy = (planes[:, :, :columns] * lengths).unbind(0)
    # By the position and by the direction of the ray as free 3-vectors: moving along the ray
    # changes nothing, and stretching the direction by a factor divides the integral by it.
    by_position = torch.stack([px, py, -(x * px + y * py)])
    by_direction = torch.stack([sx, sy, -(x * sx + y * sy) - value])
    arm = depth * directions - centre[:, None, None]
    torque = torch.linalg.cross(arm, by_position, dim=0)
    torque += torch.linalg.cross(directions, by_direction, dim=0)
    both = torch.stack([torque, by_position]).reshape(2, 3, -1)
    jacobian = -(rotation.T @ both).reshape(6, rows, columns)
    return value.to(cloud.dtype), jacobian.to(cloud.dtype)
