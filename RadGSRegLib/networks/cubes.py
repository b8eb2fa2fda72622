"""A vertebra on RegM's grid."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import ndimage
from torch import Tensor

from ..geometry import Volume
from .regm import RegMConfig


def excess_cube(excess: Volume, centre_ct: ArrayLike, config: RegMConfig) -> Tensor:
    """Excess attenuation (K, J, I), 1/mm, on RegM's grid in CT axes about ``centre_ct`` (3,) mm.

    Float32; smoothed first so far that nothing aliases.
    """
    coarser = np.maximum((config.spacing_mm / excess.spacing) ** 2 - 1.0, 0.0)
    smooth = ndimage.gaussian_filter(
        np.asarray(excess.array, dtype=np.float32), 0.4 * np.sqrt(coarser)[::-1], mode="constant"
    )
    to_ct = config.index_to_box().numpy().copy()
    to_ct[:3, 3] += np.asarray(centre_ct, dtype=float)
    matrix = excess.physical_to_index @ to_ct
    cube = ndimage.affine_transform(
        smooth,
        matrix[:3, :3][::-1, ::-1],
        offset=matrix[:3, 3][::-1],
        output_shape=(config.voxels,) * 3,
        order=1,
        mode="constant",
    )
    return torch.from_numpy(cube.astype(np.float32))
