"""Bodies on warp kernels: one launch sets all up in all views, one scatters each body apart.

On CUDA each body in each view takes a launch of the rasterizer, which gathers there. On the CPU all
runs on the calling thread alone: a registration may call it for its views side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import warp as wp
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import Array
from ..system import flat_array, launch, start_warp
from . import torch_bodies, warp_backend
from .bodies import Bodies
from .rays import pixel_rays

start_warp()

from . import warp_kernels as kernels  # noqa: E402
from . import warp_setup_kernel  # noqa: E402


@dataclass(frozen=True)
class _Footprints:
    """Of all Gaussians in all views: coefficients (V N, 12), motion (V N, 7), place (V N,)."""

    coefficients: Tensor
    motion: Tensor
    place: Tensor


def _set_up(
    bodies: Bodies,
    inverses: Array,
    frame_to_camera: Array,
    bodies_to_frame: Sequence[Array],
    cutoff: float,
) -> _Footprints:
    count = len(bodies.table)
    total = len(inverses) * count
    done = _Footprints(
        torch.empty(total, 12, dtype=torch.float32),
        torch.empty(total, 7, dtype=torch.float32),
        torch.empty(total, dtype=torch.int32),
    )
    body_to_camera = frame_to_camera[:, None] @ np.stack(bodies_to_frame)[None]
    launch(
        warp_setup_kernel.set_up,
        total,
        [
            flat_array(bodies.table),
            wp.from_torch(bodies.body_of),
            wp.from_torch(_single(body_to_camera.reshape(-1, 4, 4)), dtype=wp.mat44),
            wp.from_torch(_single(np.stack([inverses, np.linalg.inv(inverses)])), dtype=wp.mat33),
            cutoff,
            wp.from_torch(done.place),
            flat_array(done.coefficients),
            flat_array(done.motion),
        ],
        done.coefficients,
    )
    return done


def _single(array: NDArray[np.floating[Any]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def rasterize(
    bodies: Bodies,
    inverses: Array,
    frame_to_camera: Array,
    bodies_to_frame: Sequence[Array],
    size: tuple[int, int],
    cutoff: float,
) -> Tensor:
    """See `body_rasterizer.rasterize_bodies`; ``inverses`` (V, 3, 3) are K^-1."""
    if bodies.table.is_cuda:
        return torch_bodies.rasterize(
            bodies, inverses, frame_to_camera, bodies_to_frame, size, cutoff, warp_backend
        )
    columns, rows = size
    stride = columns + kernels.LANES
    prints = _set_up(bodies, inverses, frame_to_camera, bodies_to_frame, cutoff)
    images = torch.zeros(len(inverses), len(bodies), rows, stride, dtype=torch.float32)
    launch(
        kernels.scatter_values_apart,
        len(prints.place),
        [
            flat_array(prints.coefficients),
            wp.from_torch(prints.place),
            flat_array(images),
            kernels.picture_of(columns, (0, rows), cutoff * cutoff, plane=rows * stride),
        ],
        images,
    )
    lengths = torch.stack([pixel_rays(k, size, torch.float32, images.device)[1] for k in inverses])
    return images[..., :columns] * lengths[:, None]


def rasterize_with_jacobian(
    bodies: Bodies,
    inverses: Array,
    frame_to_camera: Array,
    bodies_to_frame: Sequence[Array],
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
    stride = columns + kernels.LANES
    prints = _set_up(bodies, inverses, frame_to_camera, bodies_to_frame, cutoff)
    centres_camera = _single(frame_to_camera[:, :3, :3] @ centre_frame + frame_to_camera[:, :3, 3])
    planes = torch.zeros(len(inverses), len(bodies), 5, rows, stride, dtype=torch.float32)
    launch(
        kernels.scatter_derivatives_apart,
        len(prints.place),
        [
            flat_array(prints.coefficients),
            flat_array(prints.motion),
            wp.from_torch(prints.place),
            flat_array(centres_camera[:, 2].repeat_interleave(len(bodies))),
            flat_array(planes),
            kernels.picture_of(columns, (0, rows), cutoff * cutoff, plane=rows * stride),
        ],
        planes,
    )
    rotations = _single(frame_to_camera[:, :3, :3])
    views = zip(planes[..., :columns], inverses, rotations, centres_camera, strict=True)
    found = [warp_backend.derivatives_by_motion(*view) for view in views]
    return torch.stack([image for image, _ in found]), torch.stack([slope for _, slope in found])
