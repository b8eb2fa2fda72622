"""The reference in plain torch: any floating dtype, any device, dense over pixels.

Slow and simple on purpose: it evaluates math.md section 1 directly, for every pair of Gaussian and
ray, and judges the other backends. Gradients come from torch's autograd.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..geometry import twist_generators
from .cloud import GaussianCloud, as_matrix, quaternions_to_matrices
from .rays import pixel_rays
from .voxel_setup import index_coefficients

# Pairs of Gaussian and ray evaluated at once: bounds the memory, not the result.
_PAIRS_AT_ONCE = 8_000_000


def _integrals(
    means: Tensor,
    scales: Tensor,
    quaternions: Tensor,
    densities: Tensor,
    cloud_to_camera: Tensor,
    directions: Tensor,
    cutoff: float,
) -> Tensor:
    """The sum over Gaussians of the integrals over the parameter of rays (P, 3) from the origin."""
    rotation = cloud_to_camera[:3, :3]
    centres = means @ rotation.T + cloud_to_camera[:3, 3]
    axes = rotation @ quaternions_to_matrices(quaternions)
    factors = axes.transpose(1, 2) / scales[:, :, None]
    depth_sigma = (axes[:, 2, :] * scales).norm(dim=1)
    valid = centres[:, 2] > cutoff * depth_sigma
    q = -torch.einsum("nij,nj->ni", factors, centres)
    w = torch.einsum("nij,pj->npi", factors, directions)
    square = (w * w).sum(-1)
    cross = torch.linalg.cross(q[:, None, :].expand_as(w), w)
    distance = (cross * cross).sum(-1) / square
    value = (
        densities[:, None] * math.sqrt(2.0 * math.pi) * square.rsqrt() * torch.exp(-0.5 * distance)
    )
    inside = (distance <= cutoff * cutoff) & valid[:, None]
    return torch.where(inside, value, torch.zeros_like(value)).sum(0)


def rasterize(
    cloud: GaussianCloud,
    inverse: np.ndarray,
    cloud_to_camera: Tensor,
    size: tuple[int, int],
    cutoff: float,
) -> Tensor:
    """Line integrals (rows, columns); ``inverse`` is K^-1; see `rasterizer.rasterize`."""
    columns, rows = size
    directions, lengths = pixel_rays(inverse, size, cloud.dtype, cloud.device)
    flat = directions.reshape(3, -1).T
    step = max(1, _PAIRS_AT_ONCE // max(1, flat.shape[0]))
    image = torch.zeros(flat.shape[0], dtype=cloud.dtype, device=cloud.device)
    # Forward-mode derivatives do not pass through a checkpoint; a graph over many chunks needs it.
    graph = torch.is_grad_enabled() and any(
        t.requires_grad for t in (*cloud.tensors, cloud_to_camera)
    )
    for start in range(0, len(cloud), step):
        means, scales, quaternions, densities = (t[start : start + step] for t in cloud.tensors)
        arguments = (means, scales, quaternions, densities, cloud_to_camera, flat, cutoff)
        if graph and len(cloud) > step:
            image = image + checkpoint(_integrals, *arguments, use_reentrant=False)
        else:
            image = image + _integrals(*arguments)
    return image.reshape(rows, columns) * lengths


def rasterize_with_jacobian(
    cloud: GaussianCloud,
    inverse: np.ndarray,
    cloud_to_camera: Tensor,
    size: tuple[int, int],
    centre_cloud: Tensor,
    cutoff: float,
) -> tuple[Tensor, Tensor]:
    """The image and its derivative (6, rows, columns) by six forward-mode sweeps."""
    shift = torch.eye(4, dtype=cloud.dtype, device=cloud.device)
    shift[:3, 3] = centre_cloud
    back = torch.eye(4, dtype=cloud.dtype, device=cloud.device)
    back[:3, 3] = -centre_cloud
    still = cloud.detach()

    def image_of(matrix: Tensor) -> Tensor:
        return rasterize(still, inverse, matrix, size, cutoff)

    with torch.no_grad():
        tangents = cloud_to_camera @ shift @ as_matrix(twist_generators(), cloud.means) @ back
        pairs = [torch.func.jvp(image_of, (cloud_to_camera,), (t,)) for t in tangents]
    return pairs[0][0], torch.stack([pair[1] for pair in pairs])


def _densities(coefficients: Tensor, points: Tensor, cutoff: float) -> Tensor:
    """The sum of Gaussians (N, 10), as of `index_coefficients`, at index points (P, 3)."""
    offset = points - coefficients[:, None, :3]
    di, dj, dk = offset.unbind(-1)
    pii, pij, pik, pjj, pjk, pkk = (c[:, None] for c in coefficients[:, 4:].unbind(1))
    distance = (
        pii * di * di
        + pjj * dj * dj
        + pkk * dk * dk
        + 2.0 * (pij * di * dj + pik * di * dk + pjk * dj * dk)
    )
    value = coefficients[:, 3, None] * torch.exp(-0.5 * distance)
    return torch.where(distance <= cutoff * cutoff, value, torch.zeros_like(value)).sum(0)


def voxelize(
    cloud: GaussianCloud,
    index_to_cloud: Tensor,
    size: tuple[int, int, int],
    cutoff: float,
    widen: bool,
) -> Tensor:
    """Attenuation (K, J, I) in 1/mm; see `voxelizer.voxelize`."""
    ni, nj, nk = size
    coefficients = index_coefficients(cloud, index_to_cloud, widen)
    axes = [torch.arange(n, dtype=cloud.dtype, device=cloud.device) for n in (nk, nj, ni)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).flip(1)
    step = max(1, _PAIRS_AT_ONCE // (4 * max(1, len(cloud))))
    graph = torch.is_grad_enabled() and coefficients.requires_grad
    parts = []
    for points in grid.split(step):
        if graph and len(grid) > step:
            parts.append(checkpoint(_densities, coefficients, points, cutoff, use_reentrant=False))
        else:
            parts.append(_densities(coefficients, points, cutoff))
    return torch.cat(parts).reshape(nk, nj, ni)
