"""A scalar image on a regular grid with its place in space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import Array
from .pose import transform_points


@dataclass(frozen=True)
class Volume:
    """Hold a scalar image on a regular grid with its place in space.

    Args:
        array: voxels (K, J, I) of any type; the unit is the image's own (HU, 1/mm, a label).
        index_to_physical: (4, 4), from (i, j, k, 1) to LPS mm: direction cosines times spacing, and
            the origin. Indices are at voxel centres.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.geometry import Volume
        >>> volume = Volume(np.zeros((10, 20, 30)), np.diag([0.5, 0.5, 2.0, 1.0]))
        >>> volume.size
        (30, 20, 10)
        >>> volume.spacing
        array([0.5, 0.5, 2. ])
        >>> volume.physical_points([[1, 2, 3]])
        array([[0.5, 1. , 6. ]])
    """

    array: NDArray[Any]
    index_to_physical: Array

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "index_to_physical", np.asarray(self.index_to_physical, dtype=float)
        )

    @property
    def size(self) -> tuple[int, int, int]:
        """(I, J, K)."""
        k, j, i = self.array.shape
        return i, j, k

    @property
    def spacing(self) -> Array:
        """Voxel size (3,) mm along i, j and k."""
        return np.asarray(np.linalg.norm(self.index_to_physical[:3, :3], axis=0))

    @property
    def direction(self) -> Array:
        """Direction cosines (3, 3), one column per index axis."""
        return np.asarray(self.index_to_physical[:3, :3] / self.spacing)

    @property
    def origin(self) -> Array:
        """Physical position (3,) mm of voxel (0, 0, 0)."""
        return np.asarray(self.index_to_physical[:3, 3])

    @property
    def physical_to_index(self) -> Array:
        """The inverse of ``index_to_physical`` (4, 4)."""
        return np.asarray(np.linalg.inv(self.index_to_physical))

    def physical_points(self, indices_ijk: ArrayLike) -> Array:
        """Physical positions (N, 3) mm of (fractional) indices (N, 3) given as (i, j, k)."""
        return transform_points(self.index_to_physical, indices_ijk)

    def with_array(self, array: NDArray[Any]) -> Volume:
        """Other voxels on the same grid."""
        if array.shape != self.array.shape:
            raise ValueError(f"shape {array.shape} does not fit the grid {self.array.shape}")
        return Volume(array, self.index_to_physical)

    def crop(self, lower_ijk: ArrayLike, upper_ijk: ArrayLike) -> Volume:
        """The part from ``lower_ijk`` (inclusive) to ``upper_ijk`` (exclusive), inside the grid."""
        low = np.clip(np.asarray(lower_ijk, dtype=int), 0, self.size)
        high = np.clip(np.asarray(upper_ijk, dtype=int), low, self.size)
        matrix = self.index_to_physical.copy()
        matrix[:3, 3] = self.physical_points(low[None].astype(float))[0]
        part = self.array[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
        return Volume(part, matrix)
