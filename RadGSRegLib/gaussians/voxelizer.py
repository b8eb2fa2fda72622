"""Gaussians to a volume: their density at voxel centres (math.md section 1)."""

from numpy.typing import ArrayLike
from torch import Tensor

from ..system import Backends, on_torch, on_warp
from .bounds import DEFAULT_CUTOFF
from .cloud import GaussianCloud, as_matrix, numbers_of
from .rasterizer import check_cutoff
from .voxel_setup import check_grid

VOXELIZERS = Backends(
    "voxelize",
    on_torch(f"{__package__}.torch_backend"),
    on_warp(f"{__package__}.warp_voxel_backend"),
)


def voxelize(
    cloud: GaussianCloud,
    index_to_cloud: Tensor | ArrayLike,
    size: tuple[int, int, int],
    *,
    cutoff: float = DEFAULT_CUTOFF,
    widen: bool = True,
    backend: str = "auto",
) -> Tensor:
    """Sample the attenuation of a cloud at the voxel centres of a grid.

    Differentiable by all four tensors of the cloud (math.md section 1, "Voxelizer").

    Args:
        cloud: N Gaussians, mm.
        index_to_cloud: (4, 4), from (i, j, k, 1) to mm in the cloud's frame.
        size: (I, J, K).
        cutoff: standard deviations within which a Gaussian counts.
        widen: widen a Gaussian narrower than a voxel, with its mass kept, so that it neither falls
            between the voxels nor loses its gradient; False: sample it as it is.
        backend: as for `rasterize`; "gsplat" has no voxelizer.

    Returns:
        Attenuation (K, J, I) in 1/mm, in the cloud's dtype and on its device.

    Raises:
        ValueError: for an invalid grid or cutoff.
        RuntimeError: for a backend that is not available.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from RadGSRegLib.gaussians import GaussianCloud, voxelize
        >>> cloud = GaussianCloud(
        ...     means=torch.zeros(1, 3),
        ...     scales=torch.full((1, 3), 5.0),
        ...     quaternions=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        ...     densities=torch.tensor([0.02]),
        ... )
        >>> index_to_cloud = np.eye(4)
        >>> index_to_cloud[:3, 3] = -10.0  # 21 voxels of 1 mm about the origin
        >>> volume = voxelize(cloud, index_to_cloud, (21, 21, 21), widen=False)
        >>> round(volume[10, 10, 10].item(), 4), round(volume[10, 10, 15].item(), 4)
        (0.02, 0.0121)
    """
    check_grid(numbers_of(index_to_cloud), size)
    matrix = as_matrix(index_to_cloud, cloud.means).detach()
    check_cutoff(cutoff)
    module = VOXELIZERS.choose(backend, cloud.device, cloud.dtype)
    volume: Tensor = module.voxelize(cloud, matrix, size, cutoff, widen)
    return volume
