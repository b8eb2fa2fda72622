"""Voxels on a device, as the projector reads them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..geometry import Volume
from ..tensors import inverse_affine


@dataclass(frozen=True)
class Voxels:
    """Hold a volume's attenuation (1/mm), or that of a volume for each picture, on one device.

    Args:
        values: (K, J, I), or (V, K, J, I) for V pictures of a volume each, float32 or float64.
            Beyond the outermost voxel centres values fall to zero within one voxel.
        index_to_physical: (4, 4), float64.
        spacing_mm: the smallest edge of a voxel.
        occupied: `occupied_cells` of a volume that all pictures share, so that empty space is
            passed over.

    Raises:
        ValueError: for other shapes or dtypes.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.drr import Voxels
        >>> from RadGSRegLib.geometry import Volume
        >>> cube = Volume(np.full((5, 6, 7), 0.02, np.float32), np.diag([2.0, 1.0, 3.0, 1.0]))
        >>> voxels = Voxels.of(cube, occupied=True)
        >>> voxels.shape, voxels.spacing_mm
        ((5, 6, 7), 1.0)
    """

    values: Tensor
    index_to_physical: Tensor
    spacing_mm: float
    occupied: Tensor | None = None

    def __post_init__(self) -> None:
        if self.values.dim() not in (3, 4) or min(self.values.shape) < 1:
            raise ValueError("voxels have three axes (K, J, I), none of them empty")
        if self.index_to_physical.shape != (4, 4):
            raise ValueError(f"index_to_physical is (4, 4), not {self.index_to_physical.shape}")
        if self.occupied is not None:
            wanted = tuple(length + 1 for length in self.shape)
            right = self.values.dim() == 3 and tuple(self.occupied.shape) == wanted
            if self.occupied.dtype != torch.uint8 or not right:
                raise ValueError(f"occupied cells of this volume are {wanted} uint8")

    @classmethod
    def of(
        cls, volume: Volume, device: torch.device | str = "cpu", occupied: bool = False
    ) -> Voxels:
        """Make them of a volume on the host: float64 where that is, else float32."""
        exact = volume.array.dtype == np.float64
        array = np.ascontiguousarray(volume.array, np.float64 if exact else np.float32)
        matrix = torch.from_numpy(np.array(volume.index_to_physical, dtype=np.float64))
        cells = occupied_cells(volume) if occupied else None
        spacing_mm = float(volume.spacing.min())
        return cls(torch.from_numpy(array), matrix, spacing_mm, cells).to(device)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(K, J, I)."""
        k, j, i = self.values.shape[-3:]
        return k, j, i

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.values.device

    @cached_property
    def physical_to_index(self) -> Tensor:
        """The inverse of ``index_to_physical`` (4, 4)."""
        return inverse_affine(self.index_to_physical)

    def to(self, device: torch.device | str) -> Voxels:
        """Return them on another device."""
        wanted = torch.device(device)
        if wanted == self.device == self.index_to_physical.device:
            return self
        return replace(
            self,
            values=self.values.to(wanted),
            index_to_physical=self.index_to_physical.to(wanted),
            occupied=None if self.occupied is None else self.occupied.to(wanted),
        )


def occupied_cells(volume: Volume) -> Tensor:
    """Return between which voxels (K, J, I) a volume is anything but zero: (K+1, J+1, I+1) uint8.

    Cell (k, j, i) lies between voxels k-1 and k, j-1 and j, i-1 and i, with zero outside.
    """
    padded = np.pad(np.asarray(volume.array) != 0, 1)
    cells = padded[1:] | padded[:-1]
    cells = cells[:, 1:] | cells[:, :-1]
    cells = cells[:, :, 1:] | cells[:, :, :-1]
    return torch.from_numpy(cells.astype(np.uint8))
