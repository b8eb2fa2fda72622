"""The reference for bodies: one call of a rasterizer for each body in each view."""

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from ..geometry import Array
from . import torch_backend
from .bodies import Bodies
from .cloud import as_matrix


@torch.no_grad()
def rasterize(
    bodies: Bodies,
    inverses: Array,
    frame_to_camera: Array,
    bodies_to_frame: Sequence[Array],
    size: tuple[int, int],
    cutoff: float,
    module: ModuleType = torch_backend,
) -> Tensor:
    """See `body_rasterizer.rasterize_bodies`; ``inverses`` (V, 3, 3) are K^-1."""

    def image(body: int, inverse: Array, to_camera: Array) -> Tensor:
        cloud = bodies.clouds[body]
        pose = as_matrix(to_camera @ bodies_to_frame[body], cloud.means)
        out: Tensor = module.rasterize(cloud, inverse, pose, size, cutoff)
        return out

    views = zip(inverses, frame_to_camera, strict=True)
    return torch.stack(
        [torch.stack([image(body, *view) for body in range(len(bodies))]) for view in views]
    )


@torch.no_grad()
def rasterize_with_jacobian(
    bodies: Bodies,
    inverses: Array,
    frame_to_camera: Array,
    bodies_to_frame: Sequence[Array],
    size: tuple[int, int],
    centre_frame: Array,
    cutoff: float,
    module: ModuleType = torch_backend,
) -> tuple[Tensor, Tensor]:
    """See `body_rasterizer.rasterize_bodies_with_jacobian`; ``inverses`` (V, 3, 3) are K^-1."""
    moved = [
        cloud.detach().transformed(body_to_frame)
        for cloud, body_to_frame in zip(bodies.clouds, bodies_to_frame, strict=True)
    ]
    images, jacobians = [], []
    for inverse, to_camera in zip(inverses, frame_to_camera, strict=True):
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
