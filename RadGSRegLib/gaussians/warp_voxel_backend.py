"""Voxelizer on warp kernels: float32, CPU and CUDA from one source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

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
from .cloud import GaussianCloud
from .voxel_setup import index_coefficients

start()

from . import warp_voxel_kernels as kernels  # noqa: E402


def _slabs(coefficients: Tensor, slices: int) -> list[int]:
    """Edges of slabs of slices: one slice each on CUDA, else as many as there are threads."""
    if coefficients.is_cuda:
        return list(range(slices + 1))
    if worker_count() == 1 or coefficients.shape[0] < 64:
        return [0, slices]
    return balanced_edges(coefficients[:, 2], slices, worker_count())


class _Scatter(torch.autograd.Function):
    """Index coefficients (N, 10) to the volume (K, J, I)."""

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, size: tuple[int, int, int], cut2: float) -> Tensor:
        ni, nj, nk = size
        coefficients = coefficients.contiguous()
        stride = ni + kernels.LANES
        volume = torch.zeros(nk, nj, stride, dtype=torch.float32, device=coefficients.device)
        source, target, device = flat_array(coefficients), flat_array(volume), device_of(volume)
        edges = torch.tensor(
            _slabs(coefficients, nk), dtype=torch.int32, device=coefficients.device
        )
        pieces = [edges] if volume.is_cuda else [edges[n : n + 2] for n in range(len(edges) - 1)]

        def job(piece: Tensor) -> Callable[[], None]:
            first = wp.from_torch(piece.contiguous(), dtype=wp.int32)
            return lambda: wp.launch(
                kernels.scatter_densities,
                dim=len(piece) - 1,
                inputs=[source, coefficients.shape[0], target, stride, ni, nj, first, cut2],
                device=device,
            )

        run_jobs([job(piece) for piece in pieces])
        ctx.save_for_backward(coefficients)
        ctx.geometry = (size, cut2)
        return volume[:, :, :ni]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (coefficients,) = ctx.saved_tensors
        (ni, nj, nk), cut2 = ctx.geometry
        stride = ni + kernels.LANES
        weights = torch.zeros(nk, nj, stride, dtype=torch.float32, device=gradient.device)
        weights[:, :, :ni] = gradient
        result = torch.zeros_like(coefficients)
        source, target, device = flat_array(coefficients), flat_array(result), device_of(result)
        weight = flat_array(weights)

        def job(first: int, stop: int) -> Callable[[], None]:
            return lambda: wp.launch(
                kernels.gather_gradients,
                dim=stop - first,
                inputs=[source, weight, target, first, stride, ni, nj, nk, cut2],
                device=device,
            )

        count = coefficients.shape[0]
        run_jobs([job(*p) for p in split(count, 1 if result.is_cuda else worker_count())])
        return result, None, None


def voxelize(
    cloud: GaussianCloud,
    index_to_cloud: Tensor,
    size: tuple[int, int, int],
    cutoff: float,
    widen: bool,
) -> Tensor:
    """Attenuation (K, J, I) in 1/mm; see `voxelizer.voxelize`."""
    single = cloud.to(dtype=torch.float32)
    coefficients = index_coefficients(single, index_to_cloud.float(), widen)
    return cast(Tensor, _Scatter.apply(coefficients, size, cutoff * cutoff)).to(cloud.dtype)
