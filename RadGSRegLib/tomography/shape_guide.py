"""A CT whose shape guides: of another patient, or a phantom's, as attenuation at any coarseness."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ..drr import BONE_HU, hu_to_attenuation
from ..errors import InputError
from ..geometry import Array, Volume

# A blur of less than this many voxels does nothing.
_NO_BLUR = 0.1


@dataclass(frozen=True)
class ShapeGuide:
    """The CT of another patient or of a phantom, in HU, that resembles what the X-rays show.

    ``ct``: its axes are the patient's (LPS), its air -1000 HU or less. ``ct_to_world`` (4, 4) where
    it lies about, rigid; None: upright, as the world's axes are, or tilted by up to some 30 degrees
    about one of them, with the middle of its bone near the middle of the beams. Raises InputError
    for a CT without bone.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.geometry import Volume
        >>> from RadGSRegLib.tomography import ShapeGuide
        >>> hu = np.full((8, 8, 8), -1000.0)
        >>> hu[2:6, 2:6, 2:6] = 300.0
        >>> ShapeGuide(Volume(hu, np.diag([2.0, 2.0, 2.0, 1.0]))).middle_ct
        array([7., 7., 7.])
    """

    ct: Volume
    ct_to_world: Array | None = None

    def __post_init__(self) -> None:
        if not bool((self.ct.array > BONE_HU).any()):
            raise InputError("the shape", "has no bone", "give a CT in Hounsfield units")

    @cached_property
    def middle_ct(self) -> Array:
        """The middle of all bone (3,), mm of the CT."""
        ijk = np.argwhere(self.ct.array > BONE_HU)[:, ::-1].mean(0)
        return np.asarray(self.ct.physical_points([ijk])[0])

    @cached_property
    def _attenuation(self) -> NDArray[np.float32]:
        return hu_to_attenuation(self.ct.array)

    def attenuation(self, voxel_mm: float) -> Tensor:
        """Attenuation (K, J, I) 1/mm on the CT's own grid, as blurred as voxels of ``voxel_mm``."""
        wider = np.maximum((voxel_mm / self.ct.spacing) ** 2 - 1.0, 0.0)
        sigma = np.sqrt(wider / 12.0)[::-1]
        values = self._attenuation
        if float(sigma.max()) > _NO_BLUR:
            values = gaussian_filter(values, sigma, mode="nearest")
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
