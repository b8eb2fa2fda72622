"""Bodies on warp kernels, CPU: one set-up for all, then each body scatters into its own image.

Runs on the calling thread alone: a registration may call it for its views side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import warp as wp
from numpy.typing import NDArray
from torch import Tensor

from ..warp_runtime import flat_array, launch, start
from .bodies import Bodies
from .rays import pixel_rays
from .warp_backend import derivatives_by_motion

start()

from . import warp_kernels as kernels  # noqa: E402
from . import warp_setup_kernel  # noqa: E402

Array = NDArray[np.float64]


def _set_up(
    bodies: Bodies,
    inverse: Array,
    frame_to_camera: Array,
    bodies_to_frame: Sequence[Array],
    cutoff: float,
) -> tuple[Tensor, Tensor]:
    if len(bodies_to_frame) != len(bodies):
        raise ValueError(f"{len(bodies)} bodies need as many poses, not {len(bodies_to_frame)}")
    count = len(bodies.table)
    coefficients = torch.empty(count, 12, dtype=torch.float32)
    motion = torch.empty(count, 7, dtype=torch.float32)
    poses = torch.from_numpy((frame_to_camera @ np.stack(bodies_to_frame)).astype(np.float32))
    launch(
        warp_setup_kernel.set_up,
        count,
        [
            flat_array(bodies.table),
            wp.from_torch(bodies.body_of),
            wp.from_torch(poses.contiguous(), dtype=wp.mat44),
            wp.mat33(*inverse.ravel().tolist()),
            wp.mat33(*np.linalg.inv(inverse).ravel().tolist()),
            cutoff,
            flat_array(coefficients),
            flat_array(motion),
        ],
        coefficients,
    )
    return coefficients, motion


def rasterize(
    bodies: Bodies,
    inverse: Array,
    frame_to_camera: Array,
    bodies_to_frame: Sequence[Array],
    size: tuple[int, int],
    cutoff: float,
) -> Tensor:
    """See `bodies.rasterize_bodies`."""
    columns, rows = size
    stride = columns + kernels.LANES
    coefficients, _ = _set_up(bodies, inverse, frame_to_camera, bodies_to_frame, cutoff)
    images = torch.zeros(len(bodies), rows, stride, dtype=torch.float32)
    for image, (begin, end) in zip(images, bodies.ranges, strict=True):
        launch(
            kernels.scatter_values,
            end - begin,
            [
                flat_array(coefficients[begin:end]),
                flat_array(image),
                stride,
                columns,
                0,
                rows,
                cutoff * cutoff,
            ],
            image,
        )
    _, lengths = pixel_rays(inverse, size, torch.float32, images.device)
    return images[:, :, :columns] * lengths


def rasterize_with_jacobian(
    bodies: Bodies,
    inverse: Array,
    frame_to_camera: Array,
    bodies_to_frame: Sequence[Array],
    size: tuple[int, int],
    centre_frame: Array,
    cutoff: float,
) -> tuple[Tensor, Tensor]:
    """See `bodies.rasterize_bodies_with_jacobian`."""
    columns, rows = size
    stride = columns + kernels.LANES
    coefficients, motion = _set_up(bodies, inverse, frame_to_camera, bodies_to_frame, cutoff)
    centre = frame_to_camera[:3, :3] @ centre_frame + frame_to_camera[:3, 3]
    planes = torch.zeros(len(bodies), 5, rows, stride, dtype=torch.float32)
    for body, (begin, end) in zip(planes, bodies.ranges, strict=True):
        launch(
            kernels.scatter_derivatives,
            end - begin,
            [
                flat_array(coefficients[begin:end]),
                flat_array(motion[begin:end]),
                flat_array(body),
                rows * stride,
                stride,
                columns,
                0,
                rows,
                cutoff * cutoff,
                float(centre[2]),
            ],
            body,
        )
    rotation = torch.from_numpy(frame_to_camera[:3, :3].astype(np.float32))
    middle = torch.from_numpy(centre.astype(np.float32))
    return derivatives_by_motion(planes[..., :columns], inverse, rotation, middle)
