"""diffdrr's renderers, alone and driven by gradient descent.

Only ``diffdrr.renderers`` is needed (`pip install --no-deps diffdrr` is enough); rays, pose and
loss are set up here, so that the many packages of diffdrr's other modules are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffdrr.renderers import Siddon, Trilinear
from numpy.typing import NDArray
from peer_views import DETECTOR_MM, Problem
from torch import Tensor

from RadGSRegLib.geometry import Camera, Volume

Array = NDArray[np.float64]


class DiffdrrProjector:
    """Line integrals of a moved volume, differentiable by the pose and the voxels."""

    def __init__(self, volume: Volume, cameras: Sequence[Camera], renderer: str) -> None:
        self.renderer: Any = {"siddon": Siddon, "trilinear": Trilinear}[renderer]()
        voxels = np.ascontiguousarray(volume.array.transpose(2, 1, 0), np.float32)
        self.voxels = torch.from_numpy(voxels)
        self.to_index = torch.as_tensor(volume.physical_to_index).float()
        self.rows, self.columns = cameras[0].rows, cameras[0].columns
        v, u = np.mgrid[0 : self.rows, 0 : self.columns].reshape(2, -1).astype(float)
        sources, targets = [], []
        for camera in cameras:
            plane = np.column_stack([u, v, np.ones(len(u))])
            in_camera = np.linalg.solve(camera.intrinsic, plane.T).T * DETECTOR_MM
            targets.append(camera.source_world + in_camera @ camera.world_to_camera[:3, :3])
            sources.append(camera.source_world[None])
        self.sources = torch.as_tensor(np.stack(sources)).float()
        self.targets = torch.as_tensor(np.stack(targets)).float()
        self.lengths = (self.targets - self.sources).norm(dim=-1).unsqueeze(1)

    def __call__(self, ct_to_world: Tensor) -> Tensor:
        """X-rays (views, rows, columns) of the volume at a pose (4, 4)."""
        turned, shift = ct_to_world[:3, :3], ct_to_world[:3, 3]
        linear, offset = self.to_index[:3, :3], self.to_index[:3, 3]
        source, target = (
            ((points - shift) @ turned) @ linear.T + offset
            for points in (self.sources, self.targets)
        )
        image: Tensor = self.renderer(self.voxels, source, target, self.lengths)
        stack: Tensor = image.reshape(-1, self.rows, self.columns)
        return stack


def _twist_matrix(twist: Tensor) -> Tensor:
    rx, ry, rz, tx, ty, tz = twist
    zero = torch.zeros((), dtype=twist.dtype)
    rows = [[zero, -rz, ry, tx], [rz, zero, -rx, ty], [-ry, rx, zero, tz], [zero] * 4]
    matrix: Tensor = torch.matrix_exp(torch.stack([torch.stack(row) for row in rows]))
    return matrix


def _whiten(x: Tensor) -> Tensor:
    flat: Tensor = x.flatten(-2)
    flat = flat - flat.mean(-1, keepdim=True)
    white: Tensor = flat / (flat.norm(dim=-1, keepdim=True) + 1e-8)
    return white


def _patches(x: Tensor, size: int) -> Tensor:
    return x.unfold(-2, size, size // 2).unfold(-2, size, size // 2)


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """Multiscale (whole image and patches) and gradient normalised correlation, as xvr uses."""
    whole = (_whiten(a) * _whiten(b)).sum(-1).mean()
    local = (_whiten(_patches(a, 13)) * _whiten(_patches(b, 13))).sum(-1).mean()
    parts = []
    for axis in (-1, -2):
        da, db = a.diff(dim=axis), b.diff(dim=axis)
        parts.append((_whiten(da) * _whiten(db)).sum(-1).mean())
    return 0.25 * (whole + local) + 0.25 * (parts[0] + parts[1])


def register(problem: Problem, iterations: int = 100, pixels: int = 64) -> Array:
    """Adam on the pose through diffdrr's Siddon, one level."""
    cameras, radiographs = problem.windows(pixels)
    project = DiffdrrProjector(problem.volume, cameras, "siddon")
    wanted = torch.as_tensor(np.stack(radiographs)).float()
    start = torch.as_tensor(problem.start).float()
    centre = torch.eye(4)
    centre[:3, 3] = torch.as_tensor(problem.centre_ct).float()
    before, after = start @ centre, torch.linalg.inv(centre)
    rotation = torch.zeros(3, requires_grad=True)
    shift = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam(
        [{"params": [rotation], "lr": 2e-2}, {"params": [shift], "lr": 1.0}]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    best, pose = -np.inf, np.array(problem.start)
    for _ in range(iterations):
        optimizer.zero_grad()
        current = before @ _twist_matrix(torch.cat([rotation, shift])) @ after
        score = similarity(project(current), wanted)
        if float(score.detach()) > best:
            best, pose = float(score.detach()), current.detach().double().numpy()
        (-score).backward()
        optimizer.step()
        schedule.step()
    return pose
