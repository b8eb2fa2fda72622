"""What a segmentation is in memory, whatever file it comes from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..segmentnames import Named


@dataclass(frozen=True)
class Segment(Named):
    """One segment of a file, with its voxels' value and layer."""

    value: int
    layer: int


@dataclass(frozen=True)
class Segmentation:
    """Label values ``array`` (layers, K, J, I) on a grid, and the segments that the file names."""

    array: NDArray[np.int32]
    index_to_physical: NDArray[np.float64]
    segments: tuple[Segment, ...]

    def values(self) -> list[int]:
        """The labels that have voxels, without 0."""
        return [int(v) for v in np.unique(self.array) if v != 0]
