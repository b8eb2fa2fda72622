"""The system matrix of tomography: a grid of voxels to many X-rays, and its transpose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..geometry import Camera
from ..tensors import Lenses, inverse_affine, inverse_rigid
from .grid_rays import PictureRays, depth_planes
from .pictures import PROJECTORS
from .voxels import Voxels


class SystemMatrix:
    """Line integrals A x of voxels x along all pixels' rays, and A^T y, never held in memory.

    The transpose is exact: <A x, y> = <x, A^T y> but for rounding, which conjugate gradients need.

    Args:
        cameras: V cameras of one size.
        index_to_world: (4, 4), of the grid's indices (i, j, k), mm.
        shape: (K, J, I).
        step_mm: between samples in depth; the smallest voxel edge unless given.
        device: where to compute, in float32; float64 goes to the reference.

    Raises:
        ValueError: for cameras of several sizes, or none.

    Example:
        >>> import numpy as np, torch
        >>> from RadGSRegLib.drr import SystemMatrix
        >>> from RadGSRegLib.geometry import Camera, pinhole
        >>> away = np.eye(4)
        >>> away[2, 3] = 700.0
        >>> camera = Camera(pinhole((1000.0, 1000.0), (8.0, 8.0)), away, 17, 17)
        >>> grid = np.diag([4.0, 4.0, 4.0, 1.0])
        >>> grid[:3, 3] = -18.0
        >>> matrix = SystemMatrix([camera], grid, (10, 10, 10))
        >>> lines = matrix.forward(torch.full((10, 10, 10), 0.02))
        >>> round(lines[0, 8, 8].item(), 1)  # 40 mm of 0.02 per mm
        0.8
        >>> matrix.transpose(lines).shape
        torch.Size([10, 10, 10])
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        index_to_world: ArrayLike,
        shape: tuple[int, int, int],
        *,
        step_mm: float | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        sizes = {camera.size for camera in cameras}
        if len(sizes) != 1:
            raise ValueError(f"a system matrix is of cameras of one size, not of {sorted(sizes)}")
        self.index_to_world = np.asarray(index_to_world, dtype=np.float64)
        self.shape = shape
        to_world = torch.from_numpy(self.index_to_world).to(device)
        step = step_mm or float(np.linalg.norm(self.index_to_world[:3, :3], axis=0).min())
        lenses = Lenses.of([c.intrinsic for c in cameras], cameras[0].size, device)
        to_camera = torch.from_numpy(np.stack([c.world_to_camera for c in cameras])).to(device)
        directions, lengths = lenses.exact_rays() if dtype == torch.float64 else lenses.rays
        self._lengths = lengths.to(dtype)
        self._rays = PictureRays(
            (inverse_affine(to_world) @ inverse_rigid(to_camera)).to(dtype),
            directions.flatten(2).to(dtype),
            depth_planes(to_camera @ to_world, shape, step),
            step,
        )
        self._module = PROJECTORS.choose("auto", lenses.device, dtype)

    def _of(self, some: Tensor | slice) -> PictureRays:
        rays = self._rays
        return PictureRays(
            rays.camera_to_index[some], rays.directions[some], rays.planes[some], rays.step
        )

    @torch.no_grad()
    def forward(self, voxels: Tensor, some: Tensor | slice = slice(None)) -> Tensor:
        """Return line integrals (V, rows, columns) of voxels (K, J, I), of ``some`` views."""
        there = torch.from_numpy(self.index_to_world).to(voxels.device)
        sums = self._module.project_pictures(Voxels(voxels, there, self._rays.step), self._of(some))
        lengths = self._lengths[some]
        image: Tensor = sums.view(lengths.shape) * lengths
        return image

    @torch.no_grad()
    def transpose(self, pictures: Tensor, some: Tensor | slice = slice(None)) -> Tensor:
        """Return the back projection (K, J, I) of pictures (V, rows, columns) of ``some`` views."""
        weighted = (pictures * self._lengths[some]).flatten(1)
        volume: Tensor = self._module.spread_pictures(weighted, self.shape, self._of(some))
        return volume
