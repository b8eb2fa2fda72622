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
    """Sample a volume at a cube's voxels, ``edge`` of ``spacing_mm`` along each axis; 0 outside.

    ``cube_to_index`` (4, 4) takes the cube's (i, j, k) to those of the volume, which is smoothed
    first so far that nothing aliases. Returns (edge, edge, edge).
    """
    coarser = np.maximum((spacing_mm / volume.spacing) ** 2 - 1.0, 0.0)
    smooth = ndimage.gaussian_filter(
        np.asarray(volume.array, dtype=np.float32), 0.4 * np.sqrt(coarser)[::-1], mode="constant"
    )
    cube = ndimage.affine_transform(
        smooth,
        cube_to_index[:3, :3][::-1, ::-1],
        offset=cube_to_index[:3, 3][::-1],
        output_shape=(edge,) * 3,
        order=1,
        mode="constant",
    )
    return np.asarray(cube, dtype=np.float32)
