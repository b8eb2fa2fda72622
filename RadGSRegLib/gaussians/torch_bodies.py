"""The reference for bodies: one call of a rasterizer for each body in each view."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from ..geometry import Array, inverse_intrinsic
from ..tensors import Lenses
from . import torch_backend
from .bodies import Bodies
from .cloud import GaussianCloud, as_matrix

# Of a body's cloud: K^-1 and the poses (4, 4) of frame and body.
Draw = Callable[[GaussianCloud, Array, Array, Array], tuple[Tensor, ...]]


def _each(
    draw: Draw, bodies: Bodies, lenses: Lenses, frame_to_camera: Tensor, bodies_to_frame: Tensor
) -> tuple[Tensor, ...]:
    """What is drawn of each body in each view, stacked (V, B, ...)."""
    inverses = [inverse_intrinsic(k) for k in _host(lenses.intrinsics)]
    of_views = zip(inverses, _host(frame_to_camera), _host(bodies_to_frame), strict=True)
    drawn = [
        [
            draw(cloud, inverse, to_camera, place)
            for cloud, place in zip(bodies.clouds, places, strict=True)
        ]
        for inverse, to_camera, places in of_views
    ]
    views = [[torch.stack(each) for each in zip(*view, strict=True)] for view in drawn]
    return tuple(torch.stack(each) for each in zip(*views, strict=True))


def _host(numbers: Tensor) -> Array:
    return np.asarray(numbers.cpu().numpy(), dtype=np.float64)


@torch.no_grad()
def rasterize(
    bodies: Bodies,
    lenses: Lenses,
    frame_to_camera: Tensor,
    bodies_to_frame: Tensor,
    cutoff: float,
    module: ModuleType = torch_backend,
) -> Tensor:
    """See `body_rasterizer.rasterize_bodies`."""

    def draw(
        cloud: GaussianCloud, inverse: Array, to_camera: Array, to_frame: Array
    ) -> tuple[Tensor]:
        pose = as_matrix(to_camera @ to_frame, cloud.means)
        return (module.rasterize(cloud, inverse, pose, lenses.size, cutoff),)

    (images,) = _each(draw, bodies, lenses, frame_to_camera, bodies_to_frame)
    return images


@torch.no_grad()
def rasterize_with_jacobian(
    bodies: Bodies,
    lenses: Lenses,
    frame_to_camera: Tensor,
    bodies_to_frame: Tensor,
    centre_frame: Tensor,
    cutoff: float,
    module: ModuleType = torch_backend,
) -> tuple[Tensor, Tensor]:
    """See `body_rasterizer.rasterize_bodies_with_jacobian`."""

    def draw(
        cloud: GaussianCloud, inverse: Array, to_camera: Array, to_frame: Array
    ) -> tuple[Tensor, Tensor]:
        moved = cloud.detach().transformed(to_frame)
        pose, centre = as_matrix(to_camera, cloud.means), as_matrix(centre_frame, cloud.means)
        image, jacobian = module.rasterize_with_jacobian(
            moved, inverse, pose, lenses.size, centre, cutoff
        )
        return image, jacobian

    images, jacobians = _each(draw, bodies, lenses, frame_to_camera, bodies_to_frame)
    return images, jacobians
