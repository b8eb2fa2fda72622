"""Bodies on warp kernels: one launch sets all up in all views, another makes all pictures.

On the CPU the second one scatters, and all runs on the calling thread alone: a registration may
call it for its views side by side. Where the host may not look at numbers each pixel gathers, and
nothing waits for the GPU.
"""

from typing import Any

import torch
import warp as wp
from torch import Tensor

from ..system import flat_array, launch, launch_serially, start_warp
from ..tensors import Lenses, applied, reads_are_free
from .bodies import Bodies

start_warp()

from . import warp_body_kernels as body_kernels  # noqa: E402
from . import warp_kernels as kernels  # noqa: E402
from . import warp_motion_kernel, warp_setup_kernel  # noqa: E402


def _drawn(
    bodies: Bodies,
    lenses: Lenses,
    body_to_camera: Tensor,
    cutoff: float,
    depths: Tensor | None = None,
) -> Tensor:
    """Sums over the ray's parameter (V, B, rows, columns), or with the ``depths`` (V B,) of the
    centres that the bodies turn about, five planes of sums (V, B, 5, rows, columns). Rows may be
    longer, by numbers that mean nothing."""
    total = len(lenses) * len(bodies.table)
    draw = _scattered if reads_are_free(bodies.table) else _gathered

    def empty(width: int, dtype: torch.dtype = torch.float32) -> Any:
        return flat_array(torch.empty(total * width, dtype=dtype, device=bodies.device), dtype)

    place, coefficients, motion = empty(1, torch.int32), empty(12), empty(7)
    reach = empty(4) if draw is _gathered else None
    launch(
        warp_setup_kernel.set_up,
        total,
        [
            flat_array(bodies.table),
            flat_array(bodies.body_of, torch.int32),
            _matrices(body_to_camera.reshape(-1, 4, 4), wp.mat44),
            _matrices(torch.stack([lenses.inverses, lenses.intrinsics]), wp.mat33),
            cutoff,
            place,
            coefficients,
            motion,
            reach,
        ],
        bodies.table,
    )
    columns, rows = lenses.size
    shape = (len(lenses), len(bodies), *(() if depths is None else (5,)), rows, columns)
    among = place if reach is None else reach
    return draw(bodies, shape, [coefficients, motion, among], depths, cutoff * cutoff)


def _scattered(
    bodies: Bodies,
    shape: tuple[int, ...],
    footprints: list[Any],
    depths: Tensor | None,
    cut2: float,
) -> Tensor:
    """Each Gaussian adds itself to the picture of its place, one after the other."""
    images = torch.zeros(*shape[:-1], shape[-1] + kernels.LANES, dtype=torch.float32)
    picture = kernels.picture_of(images, (0, shape[-2]), cut2)
    kernel = kernels.scatter_values if depths is None else kernels.scatter_derivatives
    centres = None if depths is None else flat_array(depths)
    inputs = [*footprints, centres, flat_array(images), picture]
    launch_serially(kernel, shape[0] * len(bodies.table), inputs, images)
    return images


def _gathered(
    bodies: Bodies,
    shape: tuple[int, ...],
    footprints: list[Any],
    depths: Tensor | None,
    cut2: float,
) -> Tensor:
    """Each pixel walks the Gaussians of its body, with their reach."""
    images = torch.empty(shape, dtype=torch.float32, device=bodies.device)
    pictures, threads = body_kernels.pictures_of(images, bodies, cut2)
    kernel, centres = body_kernels.gather_body_values, None
    if depths is not None:
        kernel, centres = body_kernels.gather_body_derivatives, flat_array(depths)
    first = flat_array(bodies.first, torch.int32)
    inputs = [*footprints, first, centres, flat_array(images), pictures]
    launch(kernel, threads, inputs, images)
    return images


def _matrices(matrices: Tensor, dtype: Any) -> Any:
    single = matrices.to(torch.float32).contiguous()
    return wp.from_torch(single, dtype=dtype, requires_grad=False)


@torch.no_grad()
def rasterize(
    bodies: Bodies,
    lenses: Lenses,
    frame_to_camera: Tensor,
    bodies_to_frame: Tensor,
    cutoff: float,
) -> Tensor:
    """See `body_rasterizer.rasterize_bodies`."""
    sums = _drawn(bodies, lenses, frame_to_camera[:, None] @ bodies_to_frame, cutoff)
    _, lengths = lenses.rays
    return sums[..., : lenses.size[0]] * lengths[:, None]


@torch.no_grad()
def rasterize_with_jacobian(
    bodies: Bodies,
    lenses: Lenses,
    frame_to_camera: Tensor,
    bodies_to_frame: Tensor,
    centre_frame: Tensor,
    cutoff: float,
) -> tuple[Tensor, Tensor]:
    """See `body_rasterizer.rasterize_bodies_with_jacobian`."""
    centres = applied(frame_to_camera, centre_frame).float()
    depths = centres[:, 2].repeat_interleave(len(bodies))
    body_to_camera = frame_to_camera[:, None] @ bodies_to_frame
    sums = _drawn(bodies, lenses, body_to_camera, cutoff, depths)
    rotations = frame_to_camera[:, :3, :3].float()
    return warp_motion_kernel.derivatives_by_motion(sums, lenses.rays, rotations, centres)
