"""Clusters of weighted points as Gaussians of the same mass, mean and covariance."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from .cloud import GaussianCloud

Array = NDArray[Any]

_LLOYD_STEPS = 4


def cluster(points: Array, weights: Array, count: int, seed: int) -> Array:
    """Labels (P,) of at most ``count`` clusters of points (P, 3): weighted k-means, seeded.

    Starts at points drawn with probability proportional to ``weights`` (P,) > 0.
    """
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(points), count, replace=False, p=weights / weights.sum())
    centres = points[np.sort(chosen)]
    for _ in range(_LLOYD_STEPS):
        labels = cKDTree(centres).query(points)[1]
        total = np.bincount(labels, weights, len(centres))
        sums = [np.bincount(labels, weights * points[:, a], len(centres)) for a in range(3)]
        centres = (np.stack(sums, 1)[total > 0]) / total[total > 0, None]
    labels = cKDTree(centres).query(points)[1]
    return np.asarray(np.unique(labels, return_inverse=True)[1])


def match_moments(
    points: Array, masses: Array, labels: Array, covariances: Array, *, floor_mm: float
) -> GaussianCloud:
    """One Gaussian (float32) per cluster with the mass, mean and covariance of its members.

    ``points`` (P, 3) mm, ``masses`` (P,) in mm^2 (1/mm times mm^3), ``labels`` (P,) from 0 without
    a gap, ``covariances`` (P, 3, 3) or (3, 3) mm^2 of the members themselves. No standard deviation
    falls below ``floor_mm``.
    """
    count = int(labels.max()) + 1
    total = np.bincount(labels, masses, count)
    sums = [np.bincount(labels, masses * points[:, a], count) for a in range(3)]
    means: Array = np.stack(sums, 1) / total[:, None]
    offset = points - means[labels]
    spread = np.empty((count, 3, 3))
    own = np.broadcast_to(covariances, (len(points), 3, 3))
    for a in range(3):
        for b in range(a + 1):
            second = offset[:, a] * offset[:, b] + own[:, a, b]
            spread[:, a, b] = spread[:, b, a] = np.bincount(labels, masses * second, count) / total
    variances, axes = np.linalg.eigh(spread)
    axes[:, :, 0] *= np.sign(np.linalg.det(axes))[:, None]
    scales = np.sqrt(np.maximum(variances, floor_mm**2))
    quaternions = Rotation.from_matrix(axes).as_quat()[:, [3, 0, 1, 2]]
    densities = total / (scales.prod(1) * (2.0 * math.pi) ** 1.5)
    tensors = (means, scales, quaternions, densities)
    return GaussianCloud(*(torch.from_numpy(np.ascontiguousarray(t)).float() for t in tensors))


def coarsen(cloud: GaussianCloud, count: int, *, seed: int = 0) -> GaussianCloud:
    """The cloud with at most ``count`` Gaussians, each with its group's mass, mean and covariance.

    Mass and centre of mass stay exactly; detail below the groups' size goes. For searches far from
    the answer. Grouped on the CPU; in float32 on the cloud's device, without a graph. ValueError
    for a count below 1.
    """
    if count < 1:
        raise ValueError(f"a cloud has at least one Gaussian, not {count}")
    still = cloud.detach().to("cpu", torch.float64)
    still = still.select(still.densities > 0)
    if len(still) <= count:
        return still.to(cloud.device, torch.float32)
    masses = still.masses().numpy()
    points = still.means.numpy()
    labels = cluster(points, masses, count, seed)
    floor = float(still.scales.min())
    covariances = still.covariances().numpy()
    return match_moments(points, masses, labels, covariances, floor_mm=floor).to(cloud.device)
