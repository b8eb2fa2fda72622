"""The projector on warp kernels: float32, CPU and CUDA from one source."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..system import flat_array, launch, run_jobs, split, start_warp, worker_count
from .grid_rays import Lattice, PictureRays
from .voxels import Voxels

start_warp()

from . import warp_kernels as kernels  # noqa: E402


def _launch(
    kernel: Any,
    volumes: list[Tensor],
    shape: tuple[int, ...],
    rays: PictureRays,
    result: Tensor,
    *,
    depths: Tensor | None = None,
    occupied: Tensor | None = None,
) -> None:
    """Run a kernel over all rays of all pictures: threads take disjoint ranges of rays.

    ``volumes``: a single one, or a buffer for each thread; ``shape`` ends in K, J, I. ``depths``
    (V,) as of `project_pictures_with_moments`.
    """
    pictures, count = len(rays.directions), rays.directions.shape[-1]
    march = kernels.March()
    march.nk, march.nj, march.ni = shape[-3:]
    march.apart = march.ni * march.nj * march.nk if len(shape) > 3 else 0
    march.rays, march.step = count, rays.step
    matrix = rays.camera_to_index.new_zeros(pictures, 13, dtype=torch.float32)
    matrix[:, :12] = rays.camera_to_index[:, :3].flatten(1)
    if depths is not None:
        matrix[:, 12] = depths
    cells = None if occupied is None else flat_array(occupied.contiguous(), torch.uint8)
    planes = flat_array(rays.planes.contiguous(), torch.int32)
    matrices = flat_array(matrix)
    ahead = flat_array(rays.directions.float().contiguous())
    sums = flat_array(result)
    voxels = [flat_array(volume) for volume in volumes]
    parts = split(pictures * count, 1 if result.is_cuda else worker_count())
    run_jobs(
        [
            partial(
                launch,
                kernel,
                end - begin,
                [voxels[n % len(voxels)], cells, march, planes, matrices, ahead, begin, sums],
                result,
            )
            for n, (begin, end) in enumerate(parts)
        ]
    )


def _moments(
    values: Tensor, rays: PictureRays, depths: Tensor | None, occupied: Tensor | None = None
) -> Tensor:
    voxels = values.float().contiguous()
    pictures, _, count = rays.directions.shape
    sums = torch.empty(pictures, 7, count, dtype=torch.float32, device=values.device)
    kernel = kernels.project_with_moments
    _launch(kernel, [voxels], values.shape, rays, sums, depths=depths, occupied=occupied)
    return sums


class _Project(torch.autograd.Function):
    """Voxels (K, J, I) and camera_to_index (4, 4) to sums along rays (P,)."""

    @staticmethod
    def forward(
        ctx: Any, volume: Tensor, camera_to_index: Tensor, directions: Tensor, lattice: Lattice
    ) -> Tensor:
        volume = volume.contiguous()
        sums = torch.empty(directions.shape[0], dtype=torch.float32, device=volume.device)
        rays = PictureRays.of_one(camera_to_index, directions, lattice)
        _launch(kernels.project, [volume], volume.shape, rays, sums)
        ctx.save_for_backward(volume, camera_to_index, directions)
        ctx.lattice = lattice
        return sums

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        volume, camera_to_index, directions = ctx.saved_tensors
        rays = PictureRays.of_one(camera_to_index, directions, ctx.lattice)
        by_volume = by_matrix = None
        if ctx.needs_input_grad[0]:
            by_volume = spread_pictures(gradient[None], tuple(volume.shape), rays)
        if ctx.needs_input_grad[1]:
            sums = _moments(volume, rays, None)[0]
            by_matrix = torch.zeros_like(camera_to_index)
            by_matrix[:3, :3] = (gradient * sums[4:7]) @ directions
            by_matrix[:3, 3] = (gradient * sums[1:4]).sum(1)
        return by_volume, by_matrix, None, None


def project(
    volume: Tensor, camera_to_index: Tensor, directions: Tensor, lattice: Lattice
) -> Tensor:
    """Sums (P,) of the samples along rays, times the depth step; see torch_backend."""
    sums = _Project.apply(volume.float(), camera_to_index.float(), directions.float(), lattice)
    return sums.to(volume.dtype)  # type: ignore[no-any-return]


@torch.no_grad()
def project_pictures(voxels: Voxels, rays: PictureRays) -> Tensor:
    """Sums (V, P) of the samples along rays, times the depth step; see torch_backend."""
    values = voxels.values.float().contiguous()
    pictures, _, count = rays.directions.shape
    sums = torch.empty(pictures, count, dtype=torch.float32, device=values.device)
    kernel, occupied = kernels.project, voxels.occupied
    _launch(kernel, [values], values.shape, rays, sums, occupied=occupied)
    return sums.to(voxels.values.dtype)


@torch.no_grad()
def spread_pictures(sums: Tensor, shape: tuple[int, int, int], rays: PictureRays) -> Tensor:
    """The transpose of `project_pictures`; see torch_backend."""
    # Threads of the CPU would wait for each other's voxels: each has a volume of its own.
    buffers = 1 if sums.is_cuda else worker_count()
    volumes = torch.zeros((buffers, *shape), dtype=torch.float32, device=sums.device)
    _launch(kernels.spread, list(volumes), shape, rays, sums.float().contiguous())
    return volumes.sum(0).to(sums.dtype)


@torch.no_grad()
def project_pictures_with_moments(voxels: Voxels, rays: PictureRays, depths: Tensor) -> Tensor:
    """Sums (V, 7, P), then of grad mu and (z - depth) grad mu; see torch_backend."""
    sums = _moments(voxels.values, rays, depths, voxels.occupied)
    return sums.to(voxels.values.dtype)
