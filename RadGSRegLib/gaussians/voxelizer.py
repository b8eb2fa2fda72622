"""Gaussians to a volume: their density at voxel centres (math.md section 1)."""

from __future__ import annotations

from numpy.typing import ArrayLike
from torch import Tensor

from ..system import Backends, on_torch, on_warp
from .cloud import GaussianCloud, as_matrix
from .rasterizer import DEFAULT_CUTOFF, check_cutoff
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
    """Attenuation (K, J, I) in 1/mm at the voxel centres of a grid.

    ``index_to_cloud`` (4, 4) maps (i, j, k, 1) to mm in the cloud's frame, ``size`` = (I, J, K).
    Each Gaussian counts within ``cutoff`` standard deviations; one narrower than a voxel is
    widened with its mass kept (`voxel_setup.widened`), so that it neither falls between the voxels
    nor loses its gradient. Differentiable by all four tensors of the cloud; dtype and device are
    the cloud's. With ``widen=False`` every Gaussian is sampled as it is.

    ``backend`` as for `rasterize` ("gsplat" has no voxelizer). Raises ValueError for a bad grid.
    """
    matrix = as_matrix(index_to_cloud, cloud.means).detach()
    check_grid(matrix.cpu().double().numpy(), size)
    check_cutoff(cutoff)
    module = VOXELIZERS.choose(backend, cloud.device, cloud.dtype)
    volume: Tensor = module.voxelize(cloud, matrix, size, cutoff, widen)
    return volume
