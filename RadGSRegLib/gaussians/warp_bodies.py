"""Bodies on warp kernels: one launch sets all up in all views, one scatters each body apart.

On CUDA each body in each view takes a launch of the rasterizer, which gathers there. On the CPU all
runs on the calling thread alone: a registration may call it for its views side by side.
"""

from typing import Any

import numpy as np
import torch
import warp as wp
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import Array
from ..system import flat_array, launch, launch_serially, start_warp
from . import torch_bodies, warp_backend
from .bodies import Bodies
from .rays import pixel_rays_of

start_warp()

from . import warp_kernels as kernels  # noqa: E402
from . import warp_setup_kernel  # noqa: E402


def _scatter(
    kernel: Any,
    bodies: Bodies,
    inverses: Array,
    frame_to_camera: Array,
    bodies_to_frame: Array,
    images: Tensor,
    cutoff: float,
    depths: Tensor | None = None,
) -> None:
    """Set all Gaussians up in all views, and let a kernel add each to its image in ``images``."""
    total = len(inverses) * len(bodies.table)
    coefficients = flat_array(torch.empty(total, 12, dtype=torch.float32))
    motion = flat_array(torch.empty(total, 7, dtype=torch.float32))
    place = flat_array(torch.empty(total, dtype=torch.int32), torch.int32)
    body_to_camera = frame_to_camera[:, None] @ bodies_to_frame
    launch(
        warp_setup_kernel.set_up,
        total,
        [
            flat_array(bodies.table),
            flat_array(bodies.body_of, torch.int32),
            wp.from_torch(_single(body_to_camera.reshape(-1, 4, 4)), dtype=wp.mat44),
            wp.from_torch(_single(np.stack([inverses, np.linalg.inv(inverses)])), dtype=wp.mat33),
            cutoff,
            place,
            coefficients,
            motion,
        ],
        images,
    )
    picture = kernels.picture_of(images, (0, images.shape[-2]), cutoff * cutoff)
    centres = None if depths is None else flat_array(depths)
    inputs = [coefficients, motion, place, centres, flat_array(images), picture]
    launch_serially(kernel, total, inputs, images)


def _single(array: NDArray[np.floating[Any]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def rasterize(
    bodies: Bodies,
    inverses: Array,
    frame_to_camera: Array,
    bodies_to_frame: Array,
    size: tuple[int, int],
    cutoff: float,
) -> Tensor:
    """See `body_rasterizer.rasterize_bodies`; ``inverses`` (V, 3, 3) are K^-1."""
    if bodies.table.is_cuda:
        return torch_bodies.rasterize(
            bodies, inverses, frame_to_camera, bodies_to_frame, size, cutoff, warp_backend
        )
    columns, rows = size
    padded = columns + kernels.LANES
    images = torch.zeros(len(inverses), len(bodies), rows, padded, dtype=torch.float32)
    scene = (bodies, inverses, frame_to_camera, bodies_to_frame)
    _scatter(kernels.scatter_values, *scene, images, cutoff)
    _, lengths = pixel_rays_of(inverses, size, images.device)
    return images[..., :columns] * lengths[:, None]


def rasterize_with_jacobian(
    bodies: Bodies,
    inverses: Array,
    frame_to_camera: Array,
    bodies_to_frame: Array,
    size: tuple[int, int],
    centre_frame: Array,
    cutoff: float,
) -> tuple[Tensor, Tensor]:
    """See `body_rasterizer.rasterize_bodies_with_jacobian`; ``inverses`` (V, 3, 3) are K^-1."""
    if bodies.table.is_cuda:
        return torch_bodies.rasterize_with_jacobian(
            bodies,
            inverses,
            frame_to_camera,
            bodies_to_frame,
            size,
            centre_frame,
            cutoff,
            warp_backend,
        )
    columns, rows = size
    centres_camera = _single(frame_to_camera[:, :3, :3] @ centre_frame + frame_to_camera[:, :3, 3])
    padded = columns + kernels.LANES
    planes = torch.zeros(len(inverses), len(bodies), 5, rows, padded, dtype=torch.float32)
    depths = centres_camera[:, 2].repeat_interleave(len(bodies))
    scene = (bodies, inverses, frame_to_camera, bodies_to_frame)
    _scatter(kernels.scatter_derivatives, *scene, planes, cutoff, depths)
    return warp_backend.derivatives_by_motion(
        planes[..., :columns],
        pixel_rays_of(inverses, size, planes.device),
        _single(frame_to_camera[:, :3, :3]),
        centres_camera,
    )
