"""The box that is reconstructed: axis-aligned in the world, a whole number of voxels."""

from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from ..gaussians import GaussianCloud, voxelize
from ..geometry import Array, Volume

FRESH_BOX_MM = 112.0
_MARGIN_MM = 6.0


class Box:
    """A grid of voxels: ``index_to_world`` (4, 4) and ``size`` (I, J, K)."""

    def __init__(self, lower_mm: ArrayLike, upper_mm: ArrayLike, spacing_mm: float) -> None:
        lower, upper = np.asarray(lower_mm, dtype=float), np.asarray(upper_mm, dtype=float)
        counts = np.maximum(np.ceil((upper - lower) / spacing_mm - 1e-6).astype(int), 1)
        self.size: tuple[int, int, int] = (int(counts[0]), int(counts[1]), int(counts[2]))
        self.spacing_mm = spacing_mm
        edges = counts * spacing_mm
        self.lower = (lower + upper - edges) / 2.0
        self.upper = self.lower + edges
        self.index_to_world = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
        self.index_to_world[:3, 3] = self.lower + spacing_mm / 2.0

    @property
    def corners(self) -> Array:
        """The eight corners (8, 3), world mm."""
        return np.array(list(product(*zip(self.lower, self.upper, strict=True))))

    @property
    def centre(self) -> Array:
        """The middle (3,), world mm."""
        return np.asarray((self.lower + self.upper) / 2.0)

    def voxelize(self, cloud: GaussianCloud) -> Volume:
        """The cloud's attenuation on this grid, float32."""
        array = voxelize(cloud.detach(), self.index_to_world, self.size)
        return Volume(array.cpu().numpy().astype(np.float32), self.index_to_world)


def cube(centre_world: ArrayLike, edge_mm: float, spacing_mm: float) -> Box:
    """A cube about a point (3,) in world mm."""
    centre = np.asarray(centre_world, dtype=float)
    return Box(centre - edge_mm / 2.0, centre + edge_mm / 2.0, spacing_mm)


def box_of_cloud(cloud: GaussianCloud, spacing_mm: float) -> Box:
    """The box of a cloud: its Gaussians to two standard deviations, and a margin of 6 mm."""
    spread = cloud.covariances().diagonal(dim1=1, dim2=2).sqrt()
    low = (cloud.means - 2.0 * spread).amin(0).cpu().double().numpy()
    high = (cloud.means + 2.0 * spread).amax(0).cpu().double().numpy()
    return Box(low - _MARGIN_MM, high + _MARGIN_MM, spacing_mm)
