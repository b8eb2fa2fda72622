"""Rasterizer on warp kernels: float32, CPU and CUDA from one source.

On CUDA every pixel gathers from the list of its tile (tiles.py). On the CPU Gaussians scatter, and
the work is split over threads: disjoint bands of rows when scattering into an image, disjoint
ranges of Gaussians when gathering gradients. All leave the result independent of how many threads
there are.
"""

from functools import partial
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..system import (
    balanced_edges,
    flat_array,
    launch,
    launch_serially,
    run_jobs,
    split,
    start_warp,
    worker_count,
)
from .cloud import GaussianCloud, as_matrix
from .rays import pixel_rays
from .splat_setup import footprint_coefficients, footprint_motion
from .tiles import TileLister, TileLists, list_tiles

start_warp()

from . import warp_gather_kernels as gather_kernels  # noqa: E402
from . import warp_kernels as kernels  # noqa: E402
from . import warp_motion_kernel  # noqa: E402

# Below this many Gaussians a second thread costs more than it brings.
_WORTH_A_THREAD = 256


def _bands(coefficients: Tensor, rows: int) -> list[tuple[int, int]]:
    """Bands of rows with about as many Gaussians each."""
    count = worker_count()
    if count == 1 or coefficients.shape[0] < _WORTH_A_THREAD:
        return [(0, rows)]
    return list(pairwise(balanced_edges(coefficients[:, 1], rows, count)))


def _fill(
    coefficients: Tensor,
    image: Tensor,
    cut2: float,
    lists: TileLists | None,
    motion: Tensor | None = None,
    depth: float = 0.0,
) -> None:
    """Add footprints to an empty image (rows, columns + LANES), or to five planes of one.

    Those take derivatives, with what makes them: ``motion`` (N, 7) and the centre's ``depth``.
    """
    source, target = flat_array(coefficients), flat_array(image)
    beside = None if motion is None else flat_array(motion)
    rows, columns = image.shape[-2], image.shape[-1] - kernels.LANES
    if lists is not None:
        kernel = (
            gather_kernels.gather_values if motion is None else gather_kernels.gather_derivatives
        )
        picture = kernels.picture_of(image, (0, rows), cut2, lists.across)
        order, first = (flat_array(t, torch.int32) for t in (lists.order, lists.first))
        inputs = [source, beside, order, first, target, picture, depth]
        launch(kernel, rows * columns, inputs, image)
        return
    kernel = kernels.scatter_values if motion is None else kernels.scatter_derivatives
    count = coefficients.shape[0]
    depths = None if motion is None else flat_array(torch.tensor([depth]))
    head = [source, beside, None, depths, target]
    pictures = [kernels.picture_of(image, band, cut2) for band in _bands(coefficients, rows)]
    run_jobs([partial(launch_serially, kernel, count, [*head, p], image) for p in pictures])


class _Splat(torch.autograd.Function):
    """Footprint coefficients (N, 12) to the image (rows, columns) over the ray's parameter."""

    @staticmethod
    def forward(
        ctx: Any,
        coefficients: Tensor,
        columns: int,
        rows: int,
        cut2: float,
        lists: TileLists | None,
    ) -> Tensor:
        coefficients = coefficients.contiguous()
        padded = columns + kernels.LANES
        image = torch.zeros(rows, padded, dtype=torch.float32, device=coefficients.device)
        ctx.save_for_backward(coefficients)
        ctx.cut2 = cut2
        _fill(coefficients, image, cut2, lists)
        return image[:, :columns]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (coefficients,) = ctx.saved_tensors
        weights = torch.nn.functional.pad(gradient, (0, kernels.LANES))
        result = torch.zeros_like(coefficients)
        source, target = flat_array(coefficients), flat_array(result)
        weight = flat_array(weights)
        picture = kernels.picture_of(weights, (0, len(weights)), ctx.cut2)
        count = coefficients.shape[0]
        parts = 1 if result.is_cuda or count < _WORTH_A_THREAD else worker_count()
        run_jobs(
            [
                partial(
                    launch,
                    kernels.gather_gradients,
                    stop - first,
                    [source, weight, target, first, picture],
                    result,
                )
                for first, stop in split(count, parts)
            ]
        )
        return result, None, None, None, None


def rasterize(
    cloud: GaussianCloud,
    inverse: np.ndarray,
    cloud_to_camera: Tensor,
    size: tuple[int, int],
    cutoff: float,
    lister: TileLister | None = None,
) -> Tensor:
    """Line integrals (rows, columns); ``inverse`` is K^-1; see `rasterizer.rasterize`.

    With a ``lister`` of tiles pixels gather (always on CUDA), without Gaussians scatter.
    """
    columns, rows = size
    single = cloud.to(dtype=torch.float32)
    coefficients, _ = footprint_coefficients(
        single, as_matrix(inverse, single.means), cloud_to_camera.float(), cutoff
    )
    _, lengths = pixel_rays(inverse, size, torch.float32, cloud.device)
    lists = _lists(coefficients.detach(), size, cutoff, lister)
    image = _Splat.apply(coefficients, columns, rows, cutoff * cutoff, lists) * lengths
    return cast(Tensor, image.to(cloud.dtype))


def _lists(
    coefficients: Tensor, size: tuple[int, int], cutoff: float, lister: TileLister | None
) -> TileLists | None:
    if lister is None and coefficients.is_cuda:
        lister = list_tiles
    return None if lister is None else lister(coefficients, size, cutoff)


@torch.no_grad()
def rasterize_with_jacobian(
    cloud: GaussianCloud,
    inverse: np.ndarray,
    cloud_to_camera: Tensor,
    size: tuple[int, int],
    centre_cloud: Tensor,
    cutoff: float,
    lister: TileLister | None = None,
) -> tuple[Tensor, Tensor]:
    """Image (rows, columns) and derivative (6, rows, columns); see `rasterizer`.

    A rigid motion of the cloud is the opposite motion of every ray, so one pass accumulates four
    derivatives per pixel, by the ray's position at the centre's depth and by its slope, and a small
    product per pixel makes the six columns of them.
    """
    columns, rows = size
    single = cloud.to(dtype=torch.float32)
    pose = cloud_to_camera.float()
    coefficients, motion = footprint_motion(single, as_matrix(inverse, single.means), pose, cutoff)
    rotation = pose[:3, :3]
    centre = rotation @ centre_cloud.float() + pose[:3, 3]
    padded = columns + kernels.LANES
    planes = torch.zeros(5, rows, padded, dtype=torch.float32, device=cloud.device)
    lists = _lists(coefficients, size, cutoff, lister)
    _fill(coefficients, planes, cutoff * cutoff, lists, motion, float(centre[2]))
    directions, lengths = pixel_rays(inverse, size, torch.float32, cloud.device)
    values, jacobians = warp_motion_kernel.derivatives_by_motion(
        planes[None, None],
        (directions[None], lengths[None]),
        rotation[None],
        centre[None],
    )
    return values[0, 0].to(cloud.dtype), jacobians[0, 0].to(cloud.dtype)
