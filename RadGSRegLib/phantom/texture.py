"""Band-limited noise that belongs to the anatomy: the same at any spacing and in any pose."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from .fields import Points

Array = NDArray[np.float32]


class Texture:
    """A periodic block of noise of unit variance, sampled at local coordinates in mm.

    ``length_mm`` (3,) are the correlation lengths along x, y, z; ``blur_mm`` is what the voxel and
    the scanner add, which lowers the amplitude as it does in a real scan.
    """

    def __init__(
        self,
        seed: int,
        length_mm: tuple[float, float, float],
        blur_mm: float = 0.0,
        size: int = 48,
    ) -> None:
        generator = np.random.default_rng(seed)
        lengths = np.asarray(length_mm, dtype=float)
        self.step = lengths * 0.8
        block = generator.standard_normal((size, size, size))
        coarse = gaussian_filter(block, 0.9, mode="wrap")
        scale = 1.0 / coarse.std()
        extra = np.sqrt(0.9**2 + (blur_mm / self.step[::-1]) ** 2)
        self.block: Array = (gaussian_filter(block, extra, mode="wrap") * scale).astype(np.float32)

    def __call__(self, points: Points) -> Array:
        """Values (N,) at the points."""
        inverse = (1.0 / self.step).astype(np.float32)
        index = np.stack([points.z * inverse[2], points.y * inverse[1], points.x * inverse[0]])
        return np.asarray(
            map_coordinates(self.block, index, order=1, mode="grid-wrap"), dtype=np.float32
        )
