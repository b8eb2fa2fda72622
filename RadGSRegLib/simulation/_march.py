"""A plain ray marcher, until the library's own projector is there."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..geometry import Camera, Volume, invert_rigid, transform_points

Matrix = NDArray[np.float64]


def line_integrals(
    volumes: list[Volume], camera: Camera, ct_to_world: Matrix, step_mm: float | None = None
) -> list[NDArray[np.float32]]:
    """Integrals (rows, cols) in value times mm of volumes on one grid, along the camera's rays."""
    grid = volumes[0]
    data = torch.from_numpy(np.stack([v.array.astype(np.float32) for v in volumes]))[None]
    size = np.array(grid.size, dtype=float)
    step = step_mm or 0.6 * float(grid.spacing.min())
    ends = np.array(
        [
            [a, b, c]
            for a in (-0.5, size[0] - 0.5)
            for b in (-0.5, size[1] - 0.5)
            for c in (-0.5, size[2] - 0.5)
        ]
    )
    corners = transform_points(ct_to_world, grid.physical_points(ends))
    pixels = camera.project(corners)
    low = np.clip(np.floor(pixels.min(0)).astype(int), 0, [camera.columns, camera.rows])
    high = np.clip(np.ceil(pixels.max(0)).astype(int) + 1, 0, [camera.columns, camera.rows])
    out = [np.zeros((camera.rows, camera.columns), dtype=np.float32) for _ in volumes]
    if (high <= low).any():
        return out
    distances = np.linalg.norm(corners - camera.source_world, axis=1)
    near = float(transform_points(camera.world_to_camera, corners)[:, 2].min())
    far = float(distances.max())
    count = int(np.ceil((far - near) / step))
    t = torch.from_numpy(
        (near + (np.arange(count) + 0.5) * (far - near) / count).astype(np.float32)
    )
    world_to_index = grid.physical_to_index @ invert_rigid(ct_to_world)
    source = transform_points(world_to_index, camera.source_world[None])[0]
    scale = 2.0 / size
    for row in range(low[1], high[1], 16):
        rows = np.arange(row, min(row + 16, high[1]))
        cols = np.arange(low[0], high[0])
        uv = np.stack(np.meshgrid(cols, rows), -1).reshape(-1, 2).astype(float)
        d = camera.ray_directions(uv) @ world_to_index[:3, :3].T
        origin = torch.from_numpy(((source + 0.5) * scale - 1.0).astype(np.float32))
        direction = torch.from_numpy((d * scale).astype(np.float32))
        where = origin + t[None, :, None] * direction[:, None, :]
        sample = torch.nn.functional.grid_sample(
            data, where[None, None], mode="bilinear", padding_mode="zeros", align_corners=False
        )
        total = sample[0, :, 0].sum(-1) * float((far - near) / count)
        for channel, image in enumerate(out):
            image[rows[0] : rows[-1] + 1, low[0] : high[0]] = (
                total[channel].reshape(len(rows), len(cols)).numpy()
            )
    return out
