"""What projectors share: rays in index coordinates, sampled on planes of constant camera depth.

A pixel's ray is z d(u, v) in the camera, d = K^-1 (u, v, 1) = (x, y, 1). In index coordinates that
is z A d + b with [A | b] the upper rows of ``camera_to_index``. Samples lie at depths z = n step
for whole n: a lattice that belongs to the camera and not to the volume, so that the image's
derivative by the pose is exactly that of the sum of samples. |d| step is the length that a sample
stands for.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..geometry import Array


@dataclass(frozen=True)
class Lattice:
    """Depths ``first * step`` to ``(stop - 1) * step`` mm along the camera's axis."""

    step: float
    first: int
    stop: int


def depth_lattice(index_to_camera: Array, shape: tuple[int, ...], step: float) -> Lattice:
    """The depths that can meet a volume (K, J, I), one voxel around it included.

    Planes at or behind the source are left out.
    """
    nk, nj, ni = shape
    corners = np.array([(i, j, k, 1.0) for i in (-1.0, ni) for j in (-1.0, nj) for k in (-1.0, nk)])
    depths = corners @ index_to_camera[2]
    first = max(1, int(np.floor(depths.min() / step)))
    return Lattice(step, first, max(first, int(np.ceil(depths.max() / step)) + 1))


def pixel_directions(inverse: Array, size: tuple[int, int], like: Tensor) -> Tensor:
    """Directions (rows * columns, 3) = (x, y, 1) of all pixels, row by row."""
    columns, rows = size
    v, u = np.mgrid[0:rows, 0:columns].astype(np.float64)
    pixels = np.stack([u.ravel(), v.ravel(), np.ones(rows * columns)], 1)
    return torch.as_tensor(pixels @ inverse.T, device=like.device).to(like.dtype)
