"""Bodies to X-rays, each apart: what a registration does at every step.

Each body may have moved within the frame. One call gives one image per view and body and, by
request, its derivative by the body's motion, for far less than as many calls of the rasterizer.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from ..geometry import Array, inverse_intrinsic
from ..system import Backends, on_torch, on_warp
from .bodies import Bodies
from .bounds import DEFAULT_CUTOFF
from .rasterizer import check_picture, on_gsplat

BODY_RASTERIZERS = Backends(
    "rasterize bodies",
    on_torch(f"{__package__}.torch_bodies"),
    on_warp(f"{__package__}.warp_bodies"),
    on_gsplat(f"{__package__}.gsplat_bodies"),
)


def rasterize_bodies(
    bodies: Bodies,
    intrinsics: ArrayLike,
    frame_to_camera: ArrayLike,
    bodies_to_frame: ArrayLike,
    size: tuple[int, int],
    *,
    cutoff: float = DEFAULT_CUTOFF,
    backend: str = "auto",
) -> Tensor:
    """Line integrals (V, B, rows, columns) of each body, placed by ``bodies_to_frame``, in V views.

    Those are (B, 4, 4), or (V, B, 4, 4) where a body has a place of its own in each view; the
    identity leaves it where its cloud has it.
    ``intrinsics`` (V, 3, 3) and ``frame_to_camera`` (V, 4, 4): one of each for every view, all of
    one ``size``. Otherwise as `rasterize`, without gradients. Raises ValueError where these numbers
    do not go together.
    """
    check_picture(size, cutoff)
    module, *scene = _scene(backend, bodies, intrinsics, frame_to_camera, bodies_to_frame)
    images: Tensor = module.rasterize(*scene, size, cutoff)
    return images


def rasterize_bodies_with_jacobian(
    bodies: Bodies,
    intrinsics: ArrayLike,
    frame_to_camera: ArrayLike,
    bodies_to_frame: ArrayLike,
    size: tuple[int, int],
    centre_frame: Array,
    *,
    cutoff: float = DEFAULT_CUTOFF,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Images (V, B, rows, columns) and their derivatives (V, B, 6, rows, columns).

    The derivative of each body's image is by a motion of the moved body in the frame:
    ``frame_to_camera @ C @ exp(xi) @ C^-1 @ body_to_frame`` at xi = 0, with C the translation by
    ``centre_frame`` (3,) mm and xi = (rotation in radians, translation in mm).
    """
    check_picture(size, cutoff)
    module, *scene = _scene(backend, bodies, intrinsics, frame_to_camera, bodies_to_frame)
    images, jacobians = module.rasterize_with_jacobian(*scene, size, centre_frame, cutoff)
    return images, jacobians


def _scene(
    backend: str,
    bodies: Bodies,
    intrinsics: ArrayLike,
    frame_to_camera: ArrayLike,
    bodies_to_frame: ArrayLike,
) -> tuple[Any, Bodies, Array, Array, Array]:
    """The backend's module, and what its functions take first: checked, with K^-1 for K, and a
    place (V, B, 4, 4) for each body in each view."""
    to_frame = np.asarray(bodies_to_frame, dtype=np.float64)
    if to_frame.ndim < 3 or to_frame.shape[-3:] != (len(bodies), 4, 4):
        raise ValueError(f"{len(bodies)} bodies need as many poses (4, 4), not {to_frame.shape}")
    matrices = np.asarray(intrinsics, dtype=np.float64)
    poses = np.asarray(frame_to_camera, dtype=np.float64)
    if matrices.shape[1:] != (3, 3) or poses.shape != (len(matrices), 4, 4):
        raise ValueError(
            f"{matrices.shape} and {poses.shape} are not as many intrinsics (3, 3) as poses (4, 4)"
        )
    if to_frame.ndim > 3 and len(to_frame) != len(poses):
        raise ValueError(f"{len(poses)} views need as many sets of poses, not {len(to_frame)}")
    to_frame = np.broadcast_to(to_frame, (len(poses), len(bodies), 4, 4)).copy()
    first = bodies.clouds[0]
    module = BODY_RASTERIZERS.choose(backend, first.device, first.dtype)
    inverses = np.stack([inverse_intrinsic(k) for k in matrices])
    return module, bodies, inverses, poses, to_frame
