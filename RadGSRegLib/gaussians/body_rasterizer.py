"""Bodies to X-rays, each apart: what a registration does at every step.

Each body may have moved within the frame. One call gives one image per view and body and, by
request, its derivative by the body's motion, for far less than as many calls of the rasterizer.
"""

from typing import Any

import torch
from torch import Tensor

from ..system import Backends, on_torch, on_warp
from ..tensors import Lenses
from .bodies import Bodies
from .bounds import DEFAULT_CUTOFF
from .rasterizer import check_cutoff, on_gsplat

BODY_RASTERIZERS = Backends(
    "rasterize bodies",
    on_torch(f"{__package__}.torch_bodies"),
    on_warp(f"{__package__}.warp_bodies"),
    on_gsplat(f"{__package__}.gsplat_bodies"),
)


def rasterize_bodies(
    bodies: Bodies,
    lenses: Lenses,
    frame_to_camera: Tensor,
    bodies_to_frame: Tensor,
    *,
    cutoff: float = DEFAULT_CUTOFF,
    backend: str = "auto",
) -> Tensor:
    """Line integrals (V, B, rows, columns) of each body, placed by ``bodies_to_frame``, in V views.

    Those are (B, 4, 4), or (V, B, 4, 4) where a body has a place of its own in each view; the
    identity leaves it where its cloud has it. ``lenses`` and ``frame_to_camera`` (V, 4, 4): one of
    each for every view. Poses are float64 and, as the lenses, on the device of the bodies.
    Otherwise as `rasterize`, without gradients; the host reads none of the numbers, but for the
    reference. Raises ValueError where they do not go together.
    """
    module, *scene = _scene(backend, bodies, lenses, frame_to_camera, bodies_to_frame)
    check_cutoff(cutoff)
    images: Tensor = module.rasterize(*scene, cutoff)
    return images


def rasterize_bodies_with_jacobian(
    bodies: Bodies,
    lenses: Lenses,
    frame_to_camera: Tensor,
    bodies_to_frame: Tensor,
    centre_frame: Tensor,
    *,
    cutoff: float = DEFAULT_CUTOFF,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Images (V, B, rows, columns) and their derivatives (V, B, 6, rows, columns).

    The derivative of each body's image is by a motion of the moved body in the frame:
    ``frame_to_camera @ C @ exp(xi) @ C^-1 @ body_to_frame`` at xi = 0, with C the translation by
    ``centre_frame`` (3,) mm, float64, and xi = (rotation in radians, translation in mm). Otherwise
    as `rasterize_bodies`.
    """
    module, *scene = _scene(backend, bodies, lenses, frame_to_camera, bodies_to_frame)
    check_cutoff(cutoff)
    if centre_frame.shape != (3,) or centre_frame.device != bodies.device:
        raise ValueError(f"a centre is (3,) on {bodies.device}, not {tuple(centre_frame.shape)}")
    centre = centre_frame.to(torch.float64)
    images, jacobians = module.rasterize_with_jacobian(*scene, centre, cutoff)
    return images, jacobians


def _scene(
    backend: str,
    bodies: Bodies,
    lenses: Lenses,
    frame_to_camera: Tensor,
    bodies_to_frame: Tensor,
) -> tuple[Any, Bodies, Lenses, Tensor, Tensor]:
    """The backend's module, and what its functions take first: checked, with a place (V, B, 4, 4)
    for each body in each view."""
    count, views = len(bodies), len(lenses)
    to_frame, to_camera = tuple(bodies_to_frame.shape), tuple(frame_to_camera.shape)
    if len(to_frame) not in (3, 4) or to_frame[-3:] != (count, 4, 4):
        raise ValueError(f"{count} bodies need as many poses (4, 4), not {to_frame}")
    if to_camera != (views, 4, 4):
        raise ValueError(f"{views} lenses need as many poses (4, 4), not {to_camera}")
    if len(to_frame) > 3 and to_frame[0] != views:
        raise ValueError(f"{views} views need as many sets of poses, not {to_frame[0]}")
    places = {lenses.device, frame_to_camera.device, bodies_to_frame.device}
    if places != {bodies.device}:
        raise ValueError(f"bodies on {bodies.device} need lenses and poses there, not on {places}")
    first = bodies.clouds[0]
    module = BODY_RASTERIZERS.choose(backend, first.device, first.dtype)
    moved = bodies_to_frame.to(torch.float64).expand(views, count, 4, 4)
    return module, bodies, lenses, frame_to_camera.to(torch.float64), moved
