"""From Gaussians to what a voxelizer needs of them in index coordinates, once per Gaussian."""

import numpy as np
import torch
from torch import Tensor

from ..tensors import inverse_linear
from .cloud import GaussianCloud, quaternions_to_matrices

# mean i, j, k; peak density; P_ii, P_ij, P_ik, P_jj, P_jk, P_kk of the precision in index axes
COEFFICIENTS = 10


def widened(cloud: GaussianCloud, index_to_cloud: Tensor) -> tuple[Tensor, Tensor]:
    """Scales (N, 3) mm and densities (N,) after widening what a grid cannot resolve.

    math.md section 1: a Gaussian narrower than a voxel is widened by the voxel's own variance,
    h^2/12, and its density lowered so that its mass stays. Decided here: along each of its own
    axes, with h the voxel's extent in that direction (h^2 = |A' r|^2 for the grid's linear part A,
    which is the spacing for a cubic voxel), in full up to s = h and then fading linearly to nothing
    at s = 2 h, so that the voxels change smoothly with the scales.
    """
    axes = quaternions_to_matrices(cloud.quaternions)
    extent = torch.einsum("ab,nak->nbk", index_to_cloud[:3, :3], axes).norm(dim=1)
    share = (2.0 - cloud.scales / extent).clamp(0.0, 1.0)
    scales = (cloud.scales**2 + share * extent**2 / 12.0).sqrt()
    return scales, cloud.densities * (cloud.scales / scales).prod(1)


def index_coefficients(cloud: GaussianCloud, index_to_cloud: Tensor, widen: bool) -> Tensor:
    """Coefficients (N, 10), differentiable in all parameters of the cloud."""
    scales, densities = cloud.scales, cloud.densities
    if widen:
        scales, densities = widened(cloud, index_to_cloud)
    linear = index_to_cloud[:3, :3]
    inverse = inverse_linear(linear)
    means = (cloud.means - index_to_cloud[:3, 3]) @ inverse.T
    rotations = quaternions_to_matrices(cloud.quaternions)
    factors = (rotations.transpose(1, 2) / scales[:, :, None]) @ linear
    precision = factors.transpose(1, 2) @ factors
    upper = [precision[:, a, b] for a, b in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))]
    return torch.cat([means, densities[:, None], torch.stack(upper, 1)], 1)


def check_grid(index_to_cloud: np.ndarray, size: tuple[int, int, int]) -> None:
    """Raise ValueError unless the grid has voxels and its matrix an inverse."""
    if len(size) != 3 or min(size) < 1:
        raise ValueError(f"a size is (I, J, K), each at least 1, not {size}")
    if index_to_cloud.shape != (4, 4) or not np.isfinite(index_to_cloud).all():
        raise ValueError("index_to_cloud is a finite 4x4 matrix")
    if abs(np.linalg.det(index_to_cloud[:3, :3])) < 1e-12:
        raise ValueError("index_to_cloud has no inverse")
