"""From Gaussians to the numbers of their footprints, once per Gaussian and image.

With M = diag(1/s) R' in camera axes, W = M K^-1, pixel p = (u, v, 1) and w = W p, math.md section 1
gives the integral over the ray's parameter as rho sqrt(2 pi) / |w| exp(-1/2 |q x w|^2 / |w|^2),
q = -M p_c. Because q is parallel to w at the centre's own pixel (u0, v0), with (du, dv) the offset
from it and w0 = M p_c / z::

    |q x w|^2 = A11 du^2 + 2 A12 du dv + A22 dv^2,      A_ij = z^2 (w0 x W_i).(w0 x W_j)
    |w|^2     = D0 + 2 D1 du + 2 D2 dv + D11 du^2 + 2 D12 du dv + D22 dv^2

exactly, for any intrinsic, with no difference of large numbers: float32 is enough, and a pair of
Gaussian and pixel costs about 15 operations and one exponential.
"""

import math
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from ..tensors import inverse_linear
from .cloud import GaussianCloud, quaternions_to_matrices

# u0, v0, rho sqrt(2 pi), A11, A12, A22, D0, D1, D2, D11, D12, D22
COEFFICIENTS = 12
# z, then the x rows and y rows of S^-1 K^-1 at w0, W1, W2
MOTION = 7


def footprint_coefficients(
    cloud: GaussianCloud, inverse: Tensor, cloud_to_camera: Tensor, cutoff: float
) -> tuple[Tensor, Tensor]:
    """Coefficients (N, 12) and depth (N,) mm, differentiable in the cloud and the pose.

    A Gaussian whose ellipsoid at ``cutoff`` sigma reaches the plane of the source (or lies behind
    it) has no bounded footprint: it is left out, marked by A11 = -1.
    """
    coefficients, depth, *_ = _setup(cloud, inverse, cloud_to_camera, cutoff)
    return coefficients, depth


def footprint_motion(
    cloud: GaussianCloud, inverse: Tensor, cloud_to_camera: Tensor, cutoff: float
) -> tuple[Tensor, Tensor]:
    """Coefficients (N, 12) and what the derivative by the ray needs beside them (N, 7)."""
    coefficients, depth, factors, w0, w = _setup(cloud, inverse, cloud_to_camera, cutoff)
    x, y = factors[:, :, 0], factors[:, :, 1]
    along = [(a * b).sum(1) for a in (x, y) for b in (w0, w[:, :, 0], w[:, :, 1])]
    return coefficients, torch.stack([depth, *along], 1)


def _setup(
    cloud: GaussianCloud, inverse: Tensor, cloud_to_camera: Tensor, cutoff: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    rotation = cloud_to_camera[:3, :3]
    centres = cloud.means @ rotation.T + cloud_to_camera[:3, 3]
    axes = quaternions_to_matrices(cloud.quaternions).transpose(1, 2) @ rotation.T
    factors = axes / cloud.scales[:, :, None]
    depth = centres[:, 2]
    with torch.no_grad():
        depth_sigma = (axes[:, :, 2] * cloud.scales).norm(dim=1)
        valid = depth > cutoff * depth_sigma
    safe_depth = torch.where(valid, depth, torch.ones_like(depth))
    intrinsic = inverse_linear(inverse)
    pixel = (centres / safe_depth[:, None]) @ intrinsic.T
    w = factors @ inverse
    zw0 = torch.einsum("nij,nj->ni", factors, centres)
    w0 = zw0 / safe_depth[:, None]
    w1, w2 = w[:, :, 0], w[:, :, 1]
    b1 = torch.linalg.cross(zw0, w1)
    b2 = torch.linalg.cross(zw0, w2)

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(1)

    a11 = torch.where(valid, dot(b1, b1), -torch.ones_like(depth))
    coefficients = torch.stack(
        [
            pixel[:, 0],
            pixel[:, 1],
            cloud.densities * math.sqrt(2.0 * math.pi),
            a11,
            dot(b1, b2),
            dot(b2, b2),
            *(dot(a, b) for a, b in combinations_with_replacement((w0, w1, w2), 2)),
        ],
        1,
    )
    return coefficients, safe_depth, factors, w0, w
