"""Several rigid clouds in one frame, rendered apart: what a registration does at every step.

Each body may have moved within the frame. One call gives one image per view and body and, by
request, its derivative by the body's motion, for far less than as many calls of the rasterizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..geometry import inverse_intrinsic
from .backends import choose
from .cloud import GaussianCloud
from .rasterizer import DEFAULT_CUTOFF, rasterize, rasterize_with_jacobian

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bodies:
    """Rigid clouds, each in its own coordinates, and their numbers in one table for the kernels.

    Raises ValueError where there is no cloud.
    """

    clouds: tuple[GaussianCloud, ...]
    table: Tensor = field(init=False, repr=False, compare=False)
    """(N, 16) float32: mean, M = diag(1/s) R' by rows, s^2, density (warp_setup_kernel)."""
    body_of: Tensor = field(init=False, repr=False, compare=False)
    """(N,) int32: which body each Gaussian belongs to."""

    def __post_init__(self) -> None:
        if not self.clouds:
            raise ValueError("bodies need at least one cloud")
        rows, owners = [], []
        for n, cloud in enumerate(self.clouds):
            single = cloud.detach().to(dtype=torch.float32)
            factors = single.precision_factors().reshape(-1, 9)
            parts = [single.means, factors, single.scales**2, single.densities[:, None]]
            rows.append(torch.cat(parts, 1))
            owners.append(torch.full((len(cloud),), n, dtype=torch.int32, device=cloud.device))
        object.__setattr__(self, "table", torch.cat(rows).contiguous())
        object.__setattr__(self, "body_of", torch.cat(owners))

    def __len__(self) -> int:
        return len(self.clouds)


def _fused(bodies: Bodies) -> bool:
    first = bodies.clouds[0]
    module = choose("auto", first.device, first.dtype)
    return first.device.type == "cpu" and module.__name__.endswith("warp_backend")


def rasterize_bodies(
    bodies: Bodies,
    intrinsics: ArrayLike,
    frame_to_camera: ArrayLike,
    bodies_to_frame: Sequence[Array],
    size: tuple[int, int],
    *,
    cutoff: float = DEFAULT_CUTOFF,
) -> Tensor:
    """Line integrals (V, B, rows, columns) of each body, placed by ``bodies_to_frame``, in V views.

    Those are (4, 4), one for each body; the identity leaves it where its cloud has it.
    ``intrinsics`` (V, 3, 3) and ``frame_to_camera`` (V, 4, 4): one of each for every view, all of
    one ``size``. Otherwise as `rasterize`, without gradients. Raises ValueError where these numbers
    do not go together.
    """
    intrinsics, frame_to_camera = _views(intrinsics, frame_to_camera)
    if _fused(bodies):
        from . import warp_bodies

        inverses = np.stack([inverse_intrinsic(k) for k in intrinsics])
        return warp_bodies.rasterize(
            bodies, inverses, frame_to_camera, bodies_to_frame, size, cutoff
        )
    with torch.no_grad():
        images = [
            torch.stack(
                [
                    rasterize(cloud, intrinsic, to_camera @ body_to_frame, size, cutoff=cutoff)
                    for cloud, body_to_frame in zip(bodies.clouds, bodies_to_frame, strict=True)
                ]
            )
            for intrinsic, to_camera in zip(intrinsics, frame_to_camera, strict=True)
        ]
    return torch.stack(images)


def rasterize_bodies_with_jacobian(
    bodies: Bodies,
    intrinsics: ArrayLike,
    frame_to_camera: ArrayLike,
    bodies_to_frame: Sequence[Array],
    size: tuple[int, int],
    centre_frame: Array,
    *,
    cutoff: float = DEFAULT_CUTOFF,
) -> tuple[Tensor, Tensor]:
    """Images (V, B, rows, columns) and their derivatives (V, B, 6, rows, columns).

    The derivative of each body's image is by a motion of the moved body in the frame:
    ``frame_to_camera @ C @ exp(xi) @ C^-1 @ body_to_frame`` at xi = 0, with C the translation by
    ``centre_frame`` (3,) mm and xi = (rotation in radians, translation in mm).
    """
    intrinsics, frame_to_camera = _views(intrinsics, frame_to_camera)
    if _fused(bodies):
        from . import warp_bodies

        inverses = np.stack([inverse_intrinsic(k) for k in intrinsics])
        return warp_bodies.rasterize_with_jacobian(
            bodies, inverses, frame_to_camera, bodies_to_frame, size, centre_frame, cutoff
        )
    images, jacobians = [], []
    for intrinsic, to_camera in zip(intrinsics, frame_to_camera, strict=True):
        pairs = [
            rasterize_with_jacobian(
                cloud.transformed(body_to_frame),
                intrinsic,
                to_camera,
                size,
                centre_frame,
                cutoff=cutoff,
            )
            for cloud, body_to_frame in zip(bodies.clouds, bodies_to_frame, strict=True)
        ]
        images.append(torch.stack([image for image, _ in pairs]))
        jacobians.append(torch.stack([jacobian for _, jacobian in pairs]))
    return torch.stack(images), torch.stack(jacobians)


def _views(intrinsics: ArrayLike, frame_to_camera: ArrayLike) -> tuple[Array, Array]:
    matrices = np.asarray(intrinsics, dtype=np.float64)
    poses = np.asarray(frame_to_camera, dtype=np.float64)
    if matrices.shape[1:] != (3, 3) or poses.shape != (len(matrices), 4, 4):
        raise ValueError(
            f"{matrices.shape} and {poses.shape} are not as many intrinsics (3, 3) as poses (4, 4)"
        )
    return matrices, poses
