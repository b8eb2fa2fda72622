"""The reference for bodies: one call of a rasterizer for each body in each view."""

from types import ModuleType

import torch
from torch import Tensor

from ..geometry import Array
from . import torch_backend
from .bodies import Bodies
from .cloud import GaussianCloud, as_matrix


@torch.no_grad()
def rasterize(
    bodies: Bodies,
    inverses: Array,
    frame_to_camera: Array,
    bodies_to_frame: Array,
    size: tuple[int, int],
    cutoff: float,
    module: ModuleType = torch_backend,
) -> Tensor:
    """See `body_rasterizer.rasterize_bodies`; ``inverses`` (V, 3, 3) are K^-1."""

    def image(
        cloud: GaussianCloud, inverse: Array, to_camera: Array, cloud_to_frame: Array
    ) -> Tensor:
        pose = as_matrix(to_camera @ cloud_to_frame, cloud.means)
        out: Tensor = module.rasterize(cloud, inverse, pose, size, cutoff)
        return out

    images = []
    for inverse, to_camera, to_frame in zip(
        inverses, frame_to_camera, bodies_to_frame, strict=True
    ):
        pairs = zip(bodies.clouds, to_frame, strict=True)
        images.append(torch.stack([image(c, inverse, to_camera, each) for c, each in pairs]))
    return torch.stack(images)


@torch.no_grad()
def rasterize_with_jacobian(
    bodies: Bodies,
    inverses: Array,
    frame_to_camera: Array,
    bodies_to_frame: Array,
    size: tuple[int, int],
    centre_frame: Array,
    cutoff: float,
    module: ModuleType = torch_backend,
) -> tuple[Tensor, Tensor]:
    """See `body_rasterizer.rasterize_bodies_with_jacobian`; ``inverses`` (V, 3, 3) are K^-1."""
    images, jacobians = [], []
    for inverse, to_camera, to_frame in zip(
        inverses, frame_to_camera, bodies_to_frame, strict=True
    ):
        moved = [
            cloud.detach().transformed(cloud_to_frame)
            for cloud, cloud_to_frame in zip(bodies.clouds, to_frame, strict=True)
        ]
        pairs = [
            module.rasterize_with_jacobian(
                cloud,
                inverse,
                as_matrix(to_camera, cloud.means),
                size,
                as_matrix(centre_frame, cloud.means),
                cutoff,
            )
            for cloud in moved
        ]
        images.append(torch.stack([image for image, _ in pairs]))
        jacobians.append(torch.stack([jacobian for _, jacobian in pairs]))
    return torch.stack(images), torch.stack(jacobians)
