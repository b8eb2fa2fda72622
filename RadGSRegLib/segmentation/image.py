"""The CT around a click, upright and isotropic, for sampling at any point."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter

from ..geometry import Array, Volume, transform_points


@dataclass(frozen=True)
class Patch:
    """HU ``array`` (Z, Y, X) float32 with LPS axes, ``spacing`` mm, voxel (0, 0, 0) at ``origin``.

    ``known`` is 1 where the CT has data, else 0. Patch mm are LPS mm of the CT's own frame.
    """

    array: NDArray[np.float32]
    known: NDArray[np.float32]
    origin: Array
    spacing: float

    @cached_property
    def _both(self) -> torch.Tensor:
        return torch.from_numpy(np.stack([self.array, self.known]))[None]

    def sample(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """HU and share of known data (...), trilinear, at points (..., 3) in mm; 0 outside."""
        nz, ny, nx = self.array.shape
        size = torch.tensor([nx, ny, nz], dtype=torch.float32)
        origin = torch.from_numpy(self.origin.astype(np.float32))
        grid = (points - origin) / self.spacing * (2.0 / (size - 1.0)) - 1.0
        shape = points.shape[:-1]
        out = torch.nn.functional.grid_sample(
            self._both, grid.reshape(1, -1, 1, 1, 3), align_corners=True, padding_mode="zeros"
        )
        out = out.reshape(2, *shape)
        return out[0], out[1]


def cut_patch(
    ct: Volume,
    center: Array,
    half_mm: Array,
    spacing: float,
    clip_hu: tuple[float, float],
    blur_mm: float,
) -> Patch:
    """The CT around ``center`` (3,) LPS mm, resampled to an isotropic grid with LPS axes.

    ``blur_mm`` is the standard deviation of a Gaussian against noise, and against aliasing where
    the CT is finer than the grid.
    """
    # Only the part that is needed: a whole-body CT is large.
    corners = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])
    ends = transform_points(ct.physical_to_index, center + corners * (half_mm + 6.0 * blur_mm))
    part = ct.crop(np.floor(ends.min(0)) - 1, np.ceil(ends.max(0)) + 2)
    hu = np.clip(part.array.astype(np.float32), *clip_hu)
    sigma_ijk = blur_mm / part.spacing
    hu = gaussian_filter(hu, sigma_ijk[::-1])
    count = (2 * np.ceil(half_mm / spacing) + 1).astype(int)
    origin = center - spacing * (count - 1) / 2
    to_index = part.physical_to_index
    # affine_transform maps output (z, y, x) to input (k, j, i).
    matrix = (to_index[:3, :3] * spacing)[::-1, ::-1]
    offset = transform_points(to_index, origin)[::-1]
    shape = tuple(count[::-1])
    array = affine_transform(hu, matrix, offset, shape, order=1, mode="nearest")
    known = affine_transform(
        np.ones(hu.shape, dtype=np.float32), matrix, offset, shape, order=0, mode="constant"
    )
    return Patch(array * known, known, origin, spacing)
