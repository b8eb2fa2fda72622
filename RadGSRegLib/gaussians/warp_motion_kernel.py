"""The warp kernel that turns a picture's derivatives by its rays into those by a body's motion.

A rigid motion of the body is the opposite motion of every ray. By the position and by the direction
of the ray as free 3-vectors: moving along the ray changes nothing, and stretching the direction by
a factor divides the integral by it. One pass over memory instead of two dozen tensor operations.
"""

from typing import Any

import torch
import warp as wp
from torch import Tensor

from ..system import flat_array, launch

wp.set_module_options({"enable_backward": False})


@wp.struct
class Stretches:
    """Pictures of ``rows`` and ``columns``, ``bodies`` to a view, whose planes of sums have rows of
    ``stride`` numbers; a thread's stretch of a row is ``run`` pixels long, ``parts`` to a row."""

    rows: int
    columns: int
    bodies: int
    stride: int
    run: int
    parts: int


# f is arm x position + direction x slope, with an arm in the plane of the centre's depth.
_PIXEL = """
        const float x = by_x[i], y = by_y[i], l = length[i];
        const float value = sums[i] * l;
        const float px = sums[plane + i] * l, py = sums[2 * plane + i] * l;
        const float sx = sums[3 * plane + i] * l, sy = sums[4 * plane + i] * l;
        const float pz = -(x * px + y * py);
        const float sz = -(x * sx + y * sy) - value;
        const float ax = c[2] * x - c[0], ay = c[2] * y - c[1];
        const float f0 = ay * pz + y * sz - sy;
        const float f1 = sx - ax * pz - x * sz;
        const float f2 = ax * py - ay * px + x * sy - y * sx;
        image[i] = value;
        out[i] = -(m[0] * f0 + m[3] * f1 + m[6] * f2);
        out[area + i] = -(m[1] * f0 + m[4] * f1 + m[7] * f2);
        out[2 * area + i] = -(m[2] * f0 + m[5] * f1 + m[8] * f2);
        out[3 * area + i] = -(m[0] * px + m[3] * py + m[6] * pz);
        out[4 * area + i] = -(m[1] * px + m[4] * py + m[7] * pz);
        out[5 * area + i] = -(m[2] * px + m[5] * py + m[8] * pz);
"""

_STRETCH = (
    """
    const int rows = s.rows, columns = s.columns;
    const long long plane = (long long)rows * s.stride, area = (long long)rows * columns;
    const int line = thread / s.parts, begin = thread % s.parts * s.run;
    const int number = line / rows, row = line % rows, view = number / s.bodies;
    const int left = columns - begin, count = s.run < left ? s.run : left;
    const long long place = (long long)row * columns + begin;
    const float* sums = planes.data + number * 5 * plane + (long long)row * s.stride + begin;
    const float* by_x = directions.data + view * 3 * area + place;
    const float* by_y = by_x + area;
    const float* length = lengths.data + view * area + place;
    const float* m = rotations.data + view * 9;
    const float* c = centres.data + view * 3;
    float* image = values.data + number * area + place;
    float* out = jacobians.data + number * 6 * area + place;
#if defined(__clang__) && !defined(__CUDA_ARCH__)
#pragma clang loop vectorize(assume_safety) vectorize_width(8) interleave(disable)
#endif
    for (int i = 0; i < count; ++i) {
"""
    + _PIXEL
    + "    }\n"
)


@wp.func_native(_STRETCH)
def _turn_stretch(
    planes: wp.array(dtype=float),  # type: ignore[valid-type]
    directions: wp.array(dtype=float),  # type: ignore[valid-type]
    lengths: wp.array(dtype=float),  # type: ignore[valid-type]
    rotations: wp.array(dtype=float),  # type: ignore[valid-type]
    centres: wp.array(dtype=float),  # type: ignore[valid-type]
    thread: int,
    values: wp.array(dtype=float),  # type: ignore[valid-type]
    jacobians: wp.array(dtype=float),  # type: ignore[valid-type]
    s: Stretches,
) -> None: ...


@wp.kernel
def turn(
    planes: wp.array(dtype=float),  # type: ignore[valid-type]
    directions: wp.array(dtype=float),  # type: ignore[valid-type]
    lengths: wp.array(dtype=float),  # type: ignore[valid-type]
    rotations: wp.array(dtype=float),  # type: ignore[valid-type]
    centres: wp.array(dtype=float),  # type: ignore[valid-type]
    values: wp.array(dtype=float),  # type: ignore[valid-type]
    jacobians: wp.array(dtype=float),  # type: ignore[valid-type]
    s: Stretches,
) -> None:
    """Write values (V, B, rows, columns) and derivatives (V, B, 6, rows, columns) of a stretch."""
    _turn_stretch(planes, directions, lengths, rotations, centres, wp.tid(), values, jacobians, s)


def derivatives_by_motion(
    planes: Tensor, rays: tuple[Tensor, Tensor], rotations: Tensor, centres: Tensor
) -> tuple[Tensor, Tensor]:
    """Images (V, B, rows, columns) of B bodies in V views, and derivatives (V, B, 6, ...) by
    their motions.

    ``planes`` (V, B, 5, rows, columns or more): the integral over the ray's parameter and its
    derivatives by the ray's position (x, y) at the depth of ``centres`` (V, 3) and by its slope
    (x, y); ``rays``: directions (V, 3, rows, columns) and lengths (V, rows, columns); ``rotations``
    (V, 3, 3) from the frame of the motion to the camera. All float32.
    """
    directions, lengths = (tensor.contiguous() for tensor in rays)
    views, bodies = planes.shape[:2]
    rows, columns = lengths.shape[-2:]
    values = torch.empty(views, bodies, rows, columns, device=planes.device)
    jacobians = torch.empty(views, bodies, 6, rows, columns, device=planes.device)
    s = Stretches()
    s.rows, s.columns, s.bodies, s.stride = rows, columns, bodies, planes.shape[-1]
    # Threads side by side read side by side on a GPU; a processor takes a row in one go.
    s.run, s.parts = (1, columns) if planes.is_cuda else (columns, 1)
    given = (planes, directions, lengths, rotations.contiguous(), centres.contiguous())
    inputs: list[Any] = [flat_array(tensor) for tensor in (*given, values, jacobians)]
    launch(turn, views * bodies * rows * s.parts, [*inputs, s], planes)
    return values, jacobians
