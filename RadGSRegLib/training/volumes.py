"""A subject's vertebra on RegM's grid."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..networks.regm import RegMConfig
from .subjects import Subject


def subject_cube(subject: Subject, config: RegMConfig) -> Tensor:
    """The excess attenuation (K, J, I), 1/mm, in centred CT axes on RegM's grid (float32)."""
    return excess_cube(
        subject.excess.array, subject.excess.index_to_physical, subject.centre_ct, config
    )


def excess_cube(
    array: np.ndarray, index_to_physical: np.ndarray, centre_ct: np.ndarray, config: RegMConfig
) -> Tensor:
    """The same from the parts of a `Volume`; smoothed first so far that nothing aliases."""
    spacing = np.linalg.norm(index_to_physical[:3, :3], axis=0)
    sigma = 0.4 * np.sqrt(np.maximum((config.spacing_mm / spacing) ** 2 - 1.0, 0.0))[::-1]
    smooth = ndimage.gaussian_filter(np.asarray(array, dtype=np.float32), sigma, mode="constant")
    to_box = config.index_to_box().numpy().copy()
    to_box[:3, 3] += centre_ct
    matrix = np.linalg.inv(index_to_physical) @ to_box
    cube = ndimage.affine_transform(
        smooth,
        matrix[:3, :3][::-1, ::-1],
        offset=matrix[:3, 3][::-1],
        output_shape=(config.voxels,) * 3,
        order=1,
        mode="constant",
    )
    return torch.from_numpy(cube.astype(np.float32))
