"""Rasterizer on warp kernels: float32, CPU and CUDA from one source.

On the CPU the work is split over threads: disjoint bands of rows when scattering into an image,
disjoint ranges of Gaussians when gathering gradients. Both leave the result independent of how many
threads there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch
import warp as wp
from torch import Tensor

# A library says nothing on its own: no banner, no "compiled" lines, no "no CUDA driver" warning.
if hasattr(wp, "LOG_ERROR"):
    wp.config.log_level = wp.LOG_ERROR
else:
    wp.config.quiet = True
wp.init()

from . import warp_kernels as kernels  # noqa: E402
from .cloud import GaussianCloud  # noqa: E402
from .rays import pixel_rays  # noqa: E402
from .splat_setup import footprint_coefficients, footprint_motion, inverse_on  # noqa: E402

# Below this many Gaussians a second thread costs more than it brings.
_WORTH_A_THREAD = 256


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=worker_count(), thread_name_prefix="radgs")


@lru_cache(maxsize=1)
def worker_count() -> int:
    """How many CPU threads a call may use: the cores this process may run on, at most 16."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, min(16, len(os.sched_getaffinity(0))))
    return max(1, min(16, os.cpu_count() or 1))


def _run(jobs: list[Callable[[], None]]) -> None:
    """Run the jobs, side by side where there is more than one."""
    if len(jobs) == 1:
        jobs[0]()
        return
    futures = [_pool().submit(job) for job in jobs[1:]]
    jobs[0]()
    for future in futures:
        future.result()


def _array(tensor: Tensor) -> Any:
    """A flat float32 warp array on the memory of a contiguous tensor."""
    return wp.from_torch(tensor.view(-1), dtype=wp.float32, requires_grad=False)


def _bands(coefficients: Tensor, rows: int) -> list[tuple[int, int]]:
    """Bands of rows with about as many Gaussians each; one band on CUDA."""
    count = worker_count()
    if coefficients.is_cuda or count == 1 or coefficients.shape[0] < _WORTH_A_THREAD:
        return [(0, rows)]
    inner = torch.arange(1, count, dtype=torch.float32) / count
    edges = torch.quantile(coefficients[:, 1].clamp(0, rows), inner).round().int().tolist()
    edges = sorted({0, rows, *(min(max(edge, 0), rows) for edge in edges)})
    return list(zip(edges[:-1], edges[1:], strict=True))


def _device(tensor: Tensor) -> Any:
    return wp.device_from_torch(tensor.device)


def _stride(columns: int) -> int:
    return columns + kernels.LANES


class _Scatter(torch.autograd.Function):
    """Footprint coefficients (N, 12) to the image (rows, columns) over the ray's parameter."""

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, columns: int, rows: int, cut2: float) -> Tensor:
        coefficients = coefficients.contiguous()
        stride = _stride(columns)
        image = torch.zeros(rows, stride, dtype=torch.float32, device=coefficients.device)
        source, target, device = _array(coefficients), _array(image), _device(image)

        def job(begin: int, end: int) -> Callable[[], None]:
            return lambda: wp.launch(
                kernels.scatter_values,
                dim=coefficients.shape[0],
                inputs=[source, target, stride, columns, begin, end, cut2],
                device=device,
            )

        _run([job(*band) for band in _bands(coefficients, rows)])
        ctx.save_for_backward(coefficients)
        ctx.geometry = (columns, rows, cut2)
        return image[:, :columns]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (coefficients,) = ctx.saved_tensors
        columns, rows, cut2 = ctx.geometry
        stride = _stride(columns)
        weights = torch.zeros(rows, stride, dtype=torch.float32, device=gradient.device)
        weights[:, :columns] = gradient
        result = torch.zeros_like(coefficients)
        source, target, device = _array(coefficients), _array(result), _device(result)
        weight = _array(weights)
        count = coefficients.shape[0]
        parts = 1 if result.is_cuda or count < _WORTH_A_THREAD else worker_count()

        def job(first: int, stop: int) -> Callable[[], None]:
            return lambda: wp.launch(
                kernels.gather_gradients,
                dim=stop - first,
                inputs=[source, weight, target, first, stride, columns, rows, cut2],
                device=device,
            )

        edges = [count * part // parts for part in range(parts + 1)]
        _run([job(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)])
        return result, None, None, None


def rasterize(
    cloud: GaussianCloud,
    inverse: object,
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
    _, lengths = pixel_rays(inverse, size, torch.float32, cloud.device)  # type: ignore[arg-type]
    image = _Scatter.apply(coefficients, columns, rows, cutoff * cutoff) * lengths
    return image.to(cloud.dtype)


@torch.no_grad()
def rasterize_with_jacobian(
    cloud: GaussianCloud,
    inverse: object,
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
    source, target, device = _array(coefficients), _array(planes), _device(planes)
    beside = _array(motion)

    def job(begin: int, end: int) -> Callable[[], None]:
        return lambda: wp.launch(
            kernels.scatter_derivatives,
            dim=coefficients.shape[0],
            inputs=[source, beside, target, rows * stride, stride, columns, begin, end]
            + [cutoff * cutoff, depth],
            device=device,
        )

    _run([job(*band) for band in _bands(coefficients, rows)])
    directions, lengths = pixel_rays(inverse, size, torch.float32, cloud.device)  # type: ignore[arg-type]
    x, y = directions[0], directions[1]
    value, px, py, sx, sy = (planes[:, :, :columns] * lengths).unbind(0)
    # By the position and by the direction of the ray as free 3-vectors: moving along the ray changes
    # nothing, and stretching the direction by a factor divides the integral by it.
    by_position = torch.stack([px, py, -(x * px + y * py)])
    by_direction = torch.stack([sx, sy, -(x * sx + y * sy) - value])
    arm = depth * directions - centre[:, None, None]
    torque = torch.linalg.cross(arm, by_position, dim=0)
    torque += torch.linalg.cross(directions, by_direction, dim=0)
    both = torch.stack([torque, by_position]).reshape(2, 3, -1)
    jacobian = -(rotation.T @ both).reshape(6, rows, columns)
    return value.to(cloud.dtype), jacobian.to(cloud.dtype)
