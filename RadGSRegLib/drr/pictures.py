"""Voxels to X-rays, many pictures at a time: one launch, and nothing that the host would read."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..geometry import twist_generators
from ..system import Backends, on_torch, on_warp
from ..tensors import Lenses, applied, inverse_rigid
from .grid_rays import PictureRays, depth_planes
from .voxels import Voxels

# Samples per smallest voxel edge: two of them keep the error of the sum under 0.1 % of the image.
SAMPLES_PER_VOXEL = 2.0

PROJECTORS = Backends(
    "project", on_torch(f"{__package__}.torch_backend"), on_warp(f"{__package__}.warp_backend")
)


@torch.no_grad()
def project_pictures(
    voxels: Voxels,
    lenses: Lenses,
    volume_to_camera: Tensor,
    *,
    step_mm: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """Project voxels into V pictures: line integrals (V, rows, columns), without gradients.

    ``volume_to_camera`` (V, 4, 4) rigid, float64, from the voxels' physical frame, mm; it and the
    ``lenses`` are on the device of the voxels. Otherwise as `project_volume`; the host reads none
    of the numbers, but for the reference. Raises ValueError where they do not go together.
    """
    module, rays, lengths = _scene(backend, voxels, lenses, volume_to_camera, step_mm)
    sums: Tensor = module.project_pictures(voxels, rays)
    return sums.view(lengths.shape) * lengths


@torch.no_grad()
def project_pictures_with_jacobian(
    voxels: Voxels,
    lenses: Lenses,
    volume_to_camera: Tensor,
    centre_physical: Tensor,
    *,
    step_mm: float | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """`project_pictures` and the derivatives (V, 6, rows, columns) by each picture's pose.

    The six columns follow `RadGSRegLib.geometry.pose`: ``volume_to_camera @ C @ exp(xi) @ C^-1``
    with C the translation by ``centre_physical`` (3,) mm, float64, and xi = (rotation in radians,
    translation in mm), at xi = 0.
    """
    module, rays, lengths = _scene(backend, voxels, lenses, volume_to_camera, step_mm)
    volume_to_camera = volume_to_camera.to(torch.float64)
    centre_physical = centre_physical.to(torch.float64)
    depths = applied(volume_to_camera, centre_physical)[:, 2]
    sums: Tensor = module.project_pictures_with_moments(voxels, rays, depths)
    value, flat, lever = sums[:, 0], sums[:, 1:4], sums[:, 4:7]
    # z L d + t = (z - depth) L d + (depth L d + t): linear in these twelve numbers of L and t.
    turns = lever + depths.to(sums.dtype)[:, None, None] * flat
    moments = torch.cat([(turns[:, :, None] * rays.directions[:, None]).flatten(1, 2), flat], 1)
    changes = _changes(voxels, volume_to_camera, centre_physical)
    slopes = changes.to(sums.dtype) @ moments
    slopes = slopes.view(len(lenses), 6, *lengths.shape[1:]) * lengths[:, None]
    return value.view(lengths.shape) * lengths, slopes


def _changes(voxels: Voxels, volume_to_camera: Tensor, centre_physical: Tensor) -> Tensor:
    """What motions change in rays in index coordinates: (V, 6, 12), of L and of t.

    Moving the volume by xi moves the ray by exp(-xi) about the centre, in its frame.
    """
    device = centre_physical.device
    about = torch.eye(4, dtype=torch.float64, device=device).repeat(2, 1, 1)
    about[0, :3, 3], about[1, :3, 3] = centre_physical, -centre_physical
    generators = about[0] @ _generators(device) @ about[1]
    back = inverse_rigid(volume_to_camera)
    changes = -(voxels.physical_to_index @ generators) @ back[:, None]
    return torch.cat([changes[..., :3, :3].flatten(2), changes[..., :3, 3]], 2)


@lru_cache(maxsize=16)
def _generators(device: torch.device) -> Tensor:
    return torch.from_numpy(twist_generators()).to(device)


def step_of(step_mm: float | None, spacing_mm: float) -> float:
    """Return the step between planes, mm. Raises ValueError unless it is positive."""
    step = spacing_mm / SAMPLES_PER_VOXEL if step_mm is None else float(step_mm)
    if not step > 0:
        raise ValueError(f"a step is positive, not {step_mm}")
    return step


def _scene(
    backend: str, voxels: Voxels, lenses: Lenses, volume_to_camera: Tensor, step_mm: float | None
) -> tuple[Any, PictureRays, Tensor]:
    """The backend's module, the rays, and their lengths (V, rows, columns)."""
    views = len(lenses)
    if tuple(volume_to_camera.shape) != (views, 4, 4):
        shape = tuple(volume_to_camera.shape)
        raise ValueError(f"{views} lenses need as many poses (4, 4), not {shape}")
    if voxels.values.dim() == 4 and len(voxels.values) != views:
        raise ValueError(f"{views} pictures need as many volumes, or one, not {len(voxels.values)}")
    places = {lenses.device, volume_to_camera.device}
    if places != {voxels.device}:
        raise ValueError(f"voxels on {voxels.device} need lenses and poses there, not on {places}")
    step = step_of(step_mm, voxels.spacing_mm)
    dtype = voxels.values.dtype
    volume_to_camera = volume_to_camera.to(torch.float64)
    index_to_camera = volume_to_camera @ voxels.index_to_physical
    planes = depth_planes(index_to_camera, voxels.shape, step)
    # In float64 until the last step: translations of hundreds of millimetres enter here.
    camera_to_index = (voxels.physical_to_index @ inverse_rigid(volume_to_camera)).to(dtype)
    directions, lengths = lenses.exact_rays() if dtype == torch.float64 else lenses.rays
    rays = PictureRays(camera_to_index, directions.flatten(2).to(dtype), planes, step)
    module = PROJECTORS.choose(backend, voxels.device, dtype)
    return module, rays, lengths.to(dtype)
