"""Bodies as Gaussians for searching: fast, one Gaussian per block of voxels.

The same moments as the voxels (`match_moments`), no fitting: a search renders far more often than
it fits. The reconstruction's finer cloud is `gaussians.fit_vertebra`'s.
"""

import numpy as np

from ..gaussians import GaussianCloud, match_moments
from ..geometry import Volume


def block_cloud(excess: Volume, block_mm: float) -> GaussianCloud:
    """Return a cloud (float32, CPU, the volume's frame) of one Gaussian per occupied block.

    ``excess`` in 1/mm, zero outside the body; blocks are about ``block_mm`` wide.
    """
    k, j, i = np.nonzero(excess.array > 0)
    indices = np.column_stack([i, j, k]).astype(float)
    masses = excess.array[k, j, i].astype(float) * float(np.prod(excess.spacing))
    blocks = np.floor(indices * excess.spacing / block_mm + 0.5).astype(int)
    blocks -= blocks.min(0)
    numbers = np.ravel_multi_index(tuple(blocks.T), tuple(blocks.max(0) + 1))
    _, labels = np.unique(numbers, return_inverse=True)
    # A voxel's value is spread by the trilinear hat, of variance h^2 / 6 along each axis.
    axes = excess.index_to_physical[:3, :3]
    covariance = axes @ axes.T / 6.0
    return match_moments(
        excess.physical_points(indices),
        masses,
        labels.ravel(),
        covariance,
        floor_mm=float(excess.spacing.min()) / 3.0,
    )
