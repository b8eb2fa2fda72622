"""What projectors share: rays in index coordinates, sampled on planes of constant camera depth.

A pixel's ray is z d(u, v) in the camera, d = K^-1 (u, v, 1) = (x, y, 1). In index coordinates that
is z A d + b with [A | b] the upper rows of ``camera_to_index``. Samples lie at depths z = n step
for whole n: a lattice that belongs to the camera and not to the volume, so that the image's
derivative by the pose is exactly that of the sum of samples. |d| step is the length that a sample
stands for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..geometry import Array

# Planes are counted in 32 bits; no plane this far from the source meets anything.
_FURTHEST = 2**30


@dataclass(frozen=True)
class Lattice:
    """Depths ``first * step`` to ``(stop - 1) * step`` mm along the camera's axis."""

    step: float
    first: int
    stop: int


@dataclass(frozen=True)
class PictureRays:
    """The rays of V pictures through volumes, of the volumes' dtype and device.

    ``camera_to_index`` (V, 4, 4); ``directions`` (V, 3, P) = (x, y, 1); ``planes`` (V, 2) int32:
    each picture's first plane and the one past its last, ``step`` mm apart.
    """

    camera_to_index: Tensor
    directions: Tensor
    planes: Tensor
    step: float

    @classmethod
    def of_one(cls, camera_to_index: Tensor, directions: Tensor, lattice: Lattice) -> PictureRays:
        """Make those of one picture: ``directions`` (P, 3)."""
        planes = torch.tensor([[lattice.first, lattice.stop]], dtype=torch.int32)
        return cls(
            camera_to_index[None], directions.T[None], planes.to(directions.device), lattice.step
        )

    def lattice(self, picture: int) -> Lattice:
        """Return the depths of one picture, which the host reads."""
        first, stop = self.planes[picture].tolist()
        return Lattice(self.step, first, stop)


def depth_planes(index_to_camera: Tensor, shape: tuple[int, ...], step: float) -> Tensor:
    """Return the first plane that can meet a volume (K, J, I) and the one past the last (V, 2).

    As `depth_lattice` for each ``index_to_camera`` (V, 4, 4), int32, without a look at the numbers;
    none where these are not finite.
    """
    depths = index_to_camera[:, 2] @ _corners(tuple(shape), index_to_camera.device)
    first = (depths.amin(1) / step).floor()
    stop = (depths.amax(1) / step).ceil() + 1.0
    planes = torch.stack([first, stop], 1).nan_to_num(1.0, 1.0, 1.0)
    return planes.clamp(1.0, _FURTHEST).to(torch.int32)


@lru_cache(maxsize=64)
def _corners(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Of a volume (K, J, I) with one voxel around it: (4, 8), homogeneous indices, float64."""
    return torch.from_numpy(_box(shape).T.copy()).to(device)


def _box(shape: tuple[int, ...]) -> Array:
    nk, nj, ni = shape
    return np.array([(i, j, k, 1.0) for i in (-1.0, ni) for j in (-1.0, nj) for k in (-1.0, nk)])


def depth_lattice(index_to_camera: Array, shape: tuple[int, ...], step: float) -> Lattice:
    """The depths that can meet a volume (K, J, I), one voxel around it included.

    Planes at or behind the source are left out.
    """
    depths = _box(shape) @ index_to_camera[2]
    first = max(1, int(np.floor(depths.min() / step)))
    return Lattice(step, first, max(first, int(np.ceil(depths.max() / step)) + 1))


def pixel_directions(inverse: Array, size: tuple[int, int], like: Tensor) -> Tensor:
    """Directions (rows * columns, 3) = (x, y, 1) of all pixels, row by row. Not to be written
    into."""
    numbers = tuple(np.asarray(inverse, dtype=np.float64).ravel().tolist())
    return _directions(numbers, (int(size[0]), int(size[1])), like.device, like.dtype)


# The parts of a body are projected one after the other into one picture.
@lru_cache(maxsize=2)
def _directions(
    inverse: tuple[float, ...], size: tuple[int, int], device: torch.device, dtype: torch.dtype
) -> Tensor:
    columns, rows = size
    v, u = np.mgrid[0:rows, 0:columns].astype(np.float64)
    pixels = np.stack([u.ravel(), v.ravel(), np.ones(rows * columns)], 1)
    directions = torch.from_numpy(pixels @ np.reshape(inverse, (3, 3)).T)
    return directions.to(device).to(dtype)
