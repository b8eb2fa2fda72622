"""Launching the gather kernels: Gaussians to images, one thread per pixel."""

from __future__ import annotations

import warp as wp
from torch import Tensor

from ..system import flat_array, launch, start_warp
from .tiles import TileLists

start_warp()

from . import warp_gather_kernels as kernels  # noqa: E402
from .warp_kernels import picture_of  # noqa: E402


def gather_values(
    coefficients: Tensor, lists: TileLists, image: Tensor, columns: int, cut2: float
) -> None:
    """Fill an image (rows, columns + padding) from coefficients (N, 12)."""
    launch(
        kernels.gather_values,
        image.shape[0] * columns,
        [
            flat_array(coefficients),
            wp.from_torch(lists.order),
            wp.from_torch(lists.first),
            flat_array(image),
            picture_of(columns, (0, image.shape[0]), cut2, across=lists.across),
        ],
        image,
    )


def gather_derivatives(
    coefficients: Tensor,
    motion: Tensor,
    lists: TileLists,
    planes: Tensor,
    columns: int,
    cut2: float,
    depth: float,
) -> None:
    """Fill five planes (5, rows, columns + padding); see `warp_gather_kernels`."""
    _, rows, stride = planes.shape
    launch(
        kernels.gather_derivatives,
        rows * columns,
        [
            flat_array(coefficients),
            flat_array(motion),
            wp.from_torch(lists.order),
            wp.from_torch(lists.first),
            flat_array(planes),
            picture_of(columns, (0, rows), cut2, plane=rows * stride, across=lists.across),
            depth,
        ],
        planes,
    )
