"""Volumes on cubes about a vertebra: RegM's, and those that shapes are learned from."""

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from torch import Tensor

from ..geometry import Array, Volume
from .regm import RegMConfig


def excess_cube(excess: Volume, centre_ct: ArrayLike, config: RegMConfig) -> Tensor:
    """Put excess attenuation (1/mm) on RegM's grid, in CT axes about ``centre_ct`` (3,) mm.

    Returns float32 (K, J, I).
    """
    to_ct = config.index_to_box().numpy().copy()
    to_ct[:3, 3] += np.asarray(centre_ct, dtype=float)
    matrix = excess.physical_to_index @ to_ct
    return torch.from_numpy(sample_cube(excess, matrix, config.spacing_mm, config.voxels))


def sample_cube(
    volume: Volume, cube_to_index: Array, spacing_mm: float, edge: int
) -> NDArray[np.float32]:
    """Do what `sample_grid` does with a cube of ``edge`` voxels along each axis."""
    return sample_grid(volume, cube_to_index, spacing_mm, (edge,) * 3)


def sample_grid(
    volume: Volume, grid_to_index: Array, spacing_mm: float, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Sample a volume at a grid's voxels of ``spacing_mm``, ``shape`` (K, J, I); 0 outside.

    ``grid_to_index`` (4, 4) takes the grid's (i, j, k) to those of the volume, which is smoothed
    first so far that nothing aliases.
    """
    coarser = np.maximum((spacing_mm / volume.spacing) ** 2 - 1.0, 0.0)
    smooth = ndimage.gaussian_filter(
        np.asarray(volume.array, dtype=np.float32), 0.4 * np.sqrt(coarser)[::-1], mode="constant"
    )
    sampled = ndimage.affine_transform(
        smooth,
        grid_to_index[:3, :3][::-1, ::-1],
        offset=grid_to_index[:3, 3][::-1],
        output_shape=shape,
        order=1,
        mode="constant",
    )
    return np.asarray(sampled, dtype=np.float32)
