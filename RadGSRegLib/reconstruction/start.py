"""A fresh cloud: Gaussians where all views agree that something is (a soft visual hull)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..gaussians import GaussianCloud
from ..geometry import Camera
from . import bounds
from .box import Box

_GRID_VOXELS = 48


def sample_image(image: Tensor, camera: Camera, points_world: np.ndarray) -> Tensor:
    """``image`` (rows, columns), bilinear, where points (N, 3) world mm project; 0 outside."""
    uv = camera.project(points_world)
    size = np.array([max(camera.columns - 1, 1), max(camera.rows - 1, 1)])
    grid = torch.as_tensor(2.0 * uv / size - 1.0).to(image)
    values = functional.grid_sample(
        image[None, None], grid[None, None], mode="bilinear", align_corners=True
    )
    return values[0, 0, 0]


def fresh_cloud(
    images: Sequence[Tensor],
    cameras: Sequence[Camera],
    box: Box,
    count: int,
    generator: np.random.Generator,
) -> GaussianCloud:
    """``count`` round Gaussians, drawn where the least of the back-projected images is high.

    ``images`` (rows, columns) are attenuation with the background taken off, on ``cameras``.
    Densities are proportional to that least value, and about what makes a ray through the box reach
    the images' values; the exact factor is the caller's to solve for.
    """
    edges = box.upper - box.lower
    step = float(edges.max()) / _GRID_VOXELS
    counts = np.maximum(np.round(edges / step).astype(int), 1)
    axes = [box.lower[a] + edges[a] * (np.arange(n) + 0.5) / n for a, n in enumerate(counts)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    hull = torch.stack(
        [sample_image(i, c, points) for i, c in zip(images, cameras, strict=True)]
    ).amin(0)
    values = hull.clamp_min(0.0).cpu().double().numpy()
    strong = float(np.percentile(values, 99.0)) or float(values.max())
    values = np.where(values > bounds.HULL_SHARE * strong, values, 0.0)
    if not values.any():
        values = np.ones_like(values)
    occupied = int(np.count_nonzero(values))
    chosen = generator.choice(
        len(points), size=count, replace=count > occupied, p=values / values.sum()
    )
    cell = edges / counts
    places = points[chosen] + (generator.random((count, 3)) - 0.5) * cell
    sigma = 0.7 * (occupied * float(cell.prod()) / count) ** (1.0 / 3.0)
    like = images[0]
    quaternions = torch.zeros(count, 4).to(like)
    quaternions[:, 0] = 1.0
    return GaussianCloud(
        torch.as_tensor(places).to(like),
        torch.full((count, 3), sigma).to(like),
        quaternions,
        torch.as_tensor(np.maximum(values[chosen], 1e-3 * values.max()) / edges.min()).to(like),
    )
