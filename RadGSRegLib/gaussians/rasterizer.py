"""Gaussians to X-ray: exact line integrals through a cloud (math.md section 1)."""

from __future__ import annotations

from functools import lru_cache

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..geometry import inverse_intrinsic
from ..system import Backend, Backends, never_by_itself, on_torch, on_warp
from .cloud import GaussianCloud, as_matrix

# Gaussians end where their line integral has fallen to exp(-k^2 / 2) of its peak: 4e-5.
DEFAULT_CUTOFF = 4.5


@lru_cache(maxsize=1)
def _gsplat_problem() -> str:
    if not torch.cuda.is_available():
        return "needs a CUDA device, and torch finds none"
    try:
        import gsplat  # noqa: F401
    except Exception as error:
        return f"gsplat cannot be imported ({error})"
    return ""


RASTERIZERS = Backends(
    "rasterize",
    on_torch(f"{__package__}.torch_backend"),
    on_warp(f"{__package__}.warp_backend"),
    Backend("gsplat", f"{__package__}.gsplat_backend", never_by_itself, _gsplat_problem),
)


def rasterize(
    cloud: GaussianCloud,
    intrinsic: Tensor | ArrayLike,
    cloud_to_camera: Tensor | ArrayLike,
    size: tuple[int, int],
    *,
    cutoff: float = DEFAULT_CUTOFF,
    backend: str = "auto",
) -> Tensor:
    """Line integrals (rows, columns), dimensionless, of a cloud along every pixel's ray.

    ``intrinsic`` (3, 3) in pixels, ``cloud_to_camera`` (4, 4) rigid in mm (numpy or torch),
    ``size`` = (columns, rows). Rays start at the source and do not end. Exact for a cone beam
    up to ``cutoff`` (standard deviations, beyond which a Gaussian counts as zero: at the default
    4.5 what is cut is under 5e-5 of a Gaussian's peak). Gaussians whose ellipsoid at ``cutoff``
    reaches the plane of the source are left out. Differentiable by the cloud's tensors and by a
    torch ``cloud_to_camera``; dtype and device are the cloud's.

    ``backend``: "auto" (the fastest for the device; float64 goes to the reference), "torch", "warp"
    or "gsplat". Raises ValueError for a bad intrinsic, size or cutoff, RuntimeError for a backend
    that is not available.
    """
    inverse = inverse_intrinsic(_numbers(intrinsic))
    check_picture(size, cutoff)
    module = RASTERIZERS.choose(backend, cloud.device, cloud.dtype)
    pose = as_matrix(cloud_to_camera, cloud.means)
    image: Tensor = module.rasterize(cloud, inverse, pose, size, cutoff)
    return image


def rasterize_with_jacobian(
    cloud: GaussianCloud,
    intrinsic: Tensor | ArrayLike,
    cloud_to_camera: Tensor | ArrayLike,
    size: tuple[int, int],
    centre_cloud: Tensor | ArrayLike,
    *,
    cutoff: float = DEFAULT_CUTOFF,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """The image (rows, columns) of `rasterize` and its derivative (6, rows, columns) by the pose.

    The six columns follow `RadGSRegLib.geometry.pose`: the cloud moves by
    ``cloud_to_camera @ C @ exp(xi) @ C^-1`` with C the translation by ``centre_cloud`` (3,) mm and
    xi = (rotation in radians, translation in mm), at xi = 0. Nothing carries a graph. Arguments
    and errors otherwise as for `rasterize`.
    """
    inverse = inverse_intrinsic(_numbers(intrinsic))
    check_picture(size, cutoff)
    module = RASTERIZERS.choose(backend, cloud.device, cloud.dtype)
    with torch.no_grad():
        pose = as_matrix(cloud_to_camera, cloud.means)
        centre = as_matrix(centre_cloud, cloud.means)
        image, jacobian = module.rasterize_with_jacobian(
            cloud.detach(), inverse, pose, size, centre, cutoff
        )
    return image, jacobian


def check_cutoff(cutoff: float) -> None:
    """Raise ValueError unless 1 <= cutoff <= 8 (the kernels' exponential ends at exp(-32))."""
    if not 1.0 <= cutoff <= 8.0:
        raise ValueError(f"a cutoff lies between 1 and 8 standard deviations, not {cutoff}")


def _numbers(matrix: Tensor | ArrayLike) -> ArrayLike:
    return matrix.detach().cpu().numpy() if isinstance(matrix, Tensor) else matrix


def check_picture(size: tuple[int, int], cutoff: float) -> None:
    """Raise ValueError for an empty picture or a bad cutoff."""
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"a size is (columns, rows), both at least 1, not {size}")
    check_cutoff(cutoff)
