"""Gaussians to X-ray: exact line integrals through a cloud (math.md section 1)."""

from functools import lru_cache
from importlib.util import find_spec

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..geometry import inverse_intrinsic
from ..system import Backend, Backends, on_torch, on_warp
from .bounds import DEFAULT_CUTOFF
from .cloud import GaussianCloud, as_matrix, numbers_of


@lru_cache(maxsize=1)
def _gsplat_problem() -> str:
    if not torch.cuda.is_available():
        return "needs a CUDA device, and torch finds none"
    if find_spec("gsplat") is None:
        return "gsplat is not installed"
    try:
        from torch.utils.cpp_extension import CUDA_HOME

        if CUDA_HOME is None and find_spec("gsplat.csrc") is None:
            return "gsplat's kernels are compiled on first use, and there is no nvcc"
    except Exception as error:
        return f"gsplat cannot be imported ({error})"
    return ""


def _suits_gsplat(device: torch.device, dtype: torch.dtype) -> bool:
    return device.type == "cuda" and dtype != torch.float64


def on_gsplat(module: str) -> Backend:
    """A backend with gsplat's tiles, used only where it is asked for."""
    return Backend("gsplat", module, _suits_gsplat, _gsplat_problem, by_itself=False)


RASTERIZERS = Backends(
    "rasterize",
    on_torch(f"{__package__}.torch_backend"),
    on_warp(f"{__package__}.warp_backend"),
    on_gsplat(f"{__package__}.gsplat_backend"),
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
    """Render the X-ray of a cloud: exact line integrals along every pixel's ray.

    Closed form for a cone beam (math.md section 1, "Rasterizer"; not the approximation of
    splatting). Rays start at the source and do not end. Differentiable by the cloud's tensors and
    by a torch ``cloud_to_camera``.

    Args:
        cloud: N Gaussians, mm.
        intrinsic: (3, 3) in pixels.
        cloud_to_camera: (4, 4) rigid, mm; numpy or torch.
        size: (columns, rows).
        cutoff: standard deviations beyond which a Gaussian counts as zero; at the default 4.5 what
            is cut is under 5e-5 of its peak. Gaussians whose ellipsoid at ``cutoff`` reaches the
            plane of the source are left out.
        backend: "auto" (the fastest for the device; float64 goes to the reference), "torch", "warp"
            or "gsplat".

    Returns:
        Line integrals (rows, columns), dimensionless, in the cloud's dtype and on its device.

    Raises:
        ValueError: for an invalid intrinsic, size or cutoff.
        RuntimeError: for a backend that is not available.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from RadGSRegLib.gaussians import GaussianCloud, rasterize
        >>> cloud = GaussianCloud(
        ...     means=torch.zeros(1, 3),
        ...     scales=torch.full((1, 3), 5.0),
        ...     quaternions=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        ...     densities=torch.tensor([0.02]),
        ... )
        >>> to_camera = np.eye(4)
        >>> to_camera[2, 3] = 700.0
        >>> intrinsic = [[1000.0, 0.0, 16.0], [0.0, 1000.0, 16.0], [0.0, 0.0, 1.0]]
        >>> image = rasterize(cloud, intrinsic, to_camera, (33, 33))
        >>> image.shape
        torch.Size([33, 33])
        >>> round(image[16, 16].item(), 4)  # 0.02 sqrt(2 pi) 5
        0.2507
    """
    inverse = inverse_intrinsic(numbers_of(intrinsic))
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
    inverse = inverse_intrinsic(numbers_of(intrinsic))
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


def check_picture(size: tuple[int, int], cutoff: float) -> None:
    """Raise ValueError for an empty picture or a bad cutoff."""
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"a size is (columns, rows), both at least 1, not {size}")
    check_cutoff(cutoff)
