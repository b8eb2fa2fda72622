"""Voxelizer on warp kernels: float32, CPU and CUDA from one source."""

from functools import partial
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor

from ..system import (
    balanced_edges,
    flat_array,
    launch,
    launch_in_parts,
    launch_serially,
    run_jobs,
    start_warp,
    worker_count,
)
from .cloud import GaussianCloud
from .voxel_setup import index_coefficients

start_warp()

from . import warp_voxel_kernels as kernels  # noqa: E402


def _slabs(coefficients: Tensor, slices: int) -> list[tuple[int, int]]:
    """Slabs of slices with about as many Gaussians in each, as many as there are threads."""
    if worker_count() == 1 or coefficients.shape[0] < 64:
        return [(0, slices)]
    return list(pairwise(balanced_edges(coefficients[:, 2], slices, worker_count())))


class _Scatter(torch.autograd.Function):
    """Index coefficients (N, 10) to the volume (K, J, I)."""

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, size: tuple[int, int, int], cut2: float) -> Tensor:
        ni, nj, nk = size
        coefficients = coefficients.contiguous()
        stride = ni + kernels.LANES
        volume = torch.zeros(nk, nj, stride, dtype=torch.float32, device=coefficients.device)
        source, target = flat_array(coefficients), flat_array(volume)
        count, grid = coefficients.shape[0], kernels.grid_of(size, cut2)
        if volume.is_cuda:
            launch(kernels.fill_rows, nk * nj, [source, count, target, grid], volume)
        else:
            run_jobs(
                [
                    partial(
                        launch_serially,
                        kernels.scatter_slab,
                        count,
                        [source, target, grid, *slab],
                        volume,
                    )
                    for slab in _slabs(coefficients, nk)
                ]
            )
        ctx.save_for_backward(coefficients)
        ctx.geometry = (size, cut2)
        return volume[:, :, :ni]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (coefficients,) = ctx.saved_tensors
        (ni, nj, nk), cut2 = ctx.geometry
        weights = torch.nn.functional.pad(gradient, (0, kernels.LANES))
        result = torch.zeros_like(coefficients)
        source, target = flat_array(coefficients), flat_array(result)
        weight, grid = flat_array(weights), kernels.grid_of((ni, nj, nk), cut2)
        launch_in_parts(
            kernels.gather_gradients,
            coefficients.shape[0],
            lambda first: [source, weight, target, first, grid],
            result,
        )
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
