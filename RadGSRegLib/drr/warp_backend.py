"""The projector on warp kernels: float32, CPU and CUDA from one source."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..system import flat_array, launch, run_jobs, split, start_warp, worker_count
from .grid_rays import Lattice

start_warp()

from . import warp_kernels as kernels  # noqa: E402


def _launch(
    kernel: Any,
    volume: Tensor,
    shape: torch.Size,
    matrix: Tensor,
    directions: Tensor,
    lattice: Lattice,
    result: Tensor,
    occupied: Tensor | None = None,
) -> None:
    """Run a kernel over all rays: threads take disjoint ranges of rays.

    A ``volume`` with one axis more than ``shape`` holds one buffer per thread.
    """
    cells = None if occupied is None else flat_array(occupied, torch.uint8)
    matrices, ahead, sums = flat_array(matrix), flat_array(directions), flat_array(result)
    march = kernels.March()
    march.ni, march.nj, march.nk = shape[2], shape[1], shape[0]
    march.first, march.stop = lattice.first, lattice.stop
    march.reference, march.step = float(lattice.first), lattice.step

    voxels = [flat_array(buffer) for buffer in (volume if volume.dim() == 4 else [volume])]
    parts = split(directions.shape[0], 1 if result.is_cuda else worker_count())
    run_jobs(
        [
            partial(
                launch,
                kernel,
                end - begin,
                [voxels[n % len(voxels)], cells, march, matrices, ahead, begin, sums],
                result,
            )
            for n, (begin, end) in enumerate(parts)
        ]
    )


def _packed(camera_to_index: Tensor, depth: float = 0.0) -> Tensor:
    rows = camera_to_index[:3].reshape(-1).float()
    return torch.cat([rows, rows.new_tensor([depth])])


class _Project(torch.autograd.Function):
    """Voxels (K, J, I) and camera_to_index (4, 4) to sums along rays (P,)."""

    @staticmethod
    def forward(
        ctx: Any, volume: Tensor, camera_to_index: Tensor, directions: Tensor, lattice: Lattice
    ) -> Tensor:
        volume = volume.contiguous()
        sums = torch.zeros(directions.shape[0], dtype=torch.float32, device=volume.device)
        packed = _packed(camera_to_index)
        _launch(kernels.project, volume, volume.shape, packed, directions, lattice, sums)
        ctx.save_for_backward(volume, camera_to_index, directions)
        ctx.lattice = lattice
        return sums

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        volume, camera_to_index, directions = ctx.saved_tensors
        lattice = ctx.lattice
        by_volume = by_matrix = None
        if ctx.needs_input_grad[0]:
            buffers = 1 if volume.is_cuda else worker_count()
            spread = torch.zeros(
                (buffers, *volume.shape), dtype=torch.float32, device=volume.device
            )
            weights = gradient.contiguous().float()
            packed = _packed(camera_to_index)
            _launch(kernels.spread, spread, volume.shape, packed, directions, lattice, weights)
            by_volume = spread.sum(0)
        if ctx.needs_input_grad[1]:
            _, flat, lever = project_with_moments(volume, camera_to_index, directions, lattice, 0.0)
            by_matrix = torch.zeros_like(camera_to_index)
            by_matrix[:3, :3] = (gradient[:, None] * lever).T @ directions
            by_matrix[:3, 3] = (gradient[:, None] * flat).sum(0)
        return by_volume, by_matrix, None, None


def project(
    volume: Tensor, camera_to_index: Tensor, directions: Tensor, lattice: Lattice
) -> Tensor:
    """Sums (P,) of the samples along rays, times the depth step; see torch_backend."""
    sums = _Project.apply(volume.float(), camera_to_index.float(), directions.float(), lattice)
    return sums.to(volume.dtype)  # type: ignore[no-any-return]


@torch.no_grad()
def project_with_moments(
    volume: Tensor,
    camera_to_index: Tensor,
    directions: Tensor,
    lattice: Lattice,
    depth: float,
    occupied: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The sums (P,), and those (P, 3) of grad mu and (z - depth) grad mu; see torch_backend."""
    voxels = volume.float().contiguous()
    sums = torch.zeros(directions.shape[0], 7, dtype=torch.float32, device=volume.device)
    packed = _packed(camera_to_index, depth)
    kernel = kernels.project_with_moments
    _launch(kernel, voxels, voxels.shape, packed, directions.float(), lattice, sums, occupied)
    sums = sums.to(volume.dtype)
    return sums[:, 0], sums[:, 1:4], sums[:, 4:7]
