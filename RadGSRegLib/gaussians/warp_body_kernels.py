"""Warp kernels that gather the pictures of bodies in views, all in one launch, for GPUs.

One thread per pixel of every picture walks the Gaussians of its body in its view in the order of
the cloud. No lists are made, which a host would have to wait for: a body has some thousand
Gaussians, and most are passed over by their `reach` (warp_setup_kernel). The arithmetic is that of
scatter. They run on the CPU as well, which is how they are tested without a GPU.
"""

from typing import Any

import warp as wp
from torch import Tensor

from .bodies import Bodies
from .warp_gather_kernels import (
    ADD_DERIVATIVE,
    ADD_VALUE,
    GAUSSIAN,
    SUM_OF_DERIVATIVES,
    SUM_OF_VALUES,
    WRITE_DERIVATIVES,
)

wp.set_module_options({"enable_backward": False})

# Threads of a square this wide lie side by side: most of them meet the same Gaussians.
SQUARE = 8


@wp.struct
class Pictures:
    """``rows`` and ``columns`` of every picture, ``bodies`` to a view, ``count`` Gaussians in all
    bodies together; the square of the cutoff."""

    rows: int
    columns: int
    bodies: int
    count: int
    cut2: float


def pictures_of(images: Tensor, bodies: Bodies, cut2: float) -> tuple[Pictures, int]:
    """For images (V, B, ..., rows, columns) of bodies; and how many threads make them all."""
    out = Pictures()
    out.rows, out.columns = images.shape[-2:]
    out.bodies, out.count, out.cut2 = len(bodies), len(bodies.table), cut2
    squares = -(-images.shape[-2] // SQUARE) * -(-images.shape[-1] // SQUARE)
    return out, images.shape[0] * len(bodies) * squares * SQUARE * SQUARE


_WALK = f"""
    const int rows = pictures.rows, columns = pictures.columns;
    const float cut2 = pictures.cut2;
    const int across = (columns + {SQUARE - 1}) / {SQUARE}, down = (rows + {SQUARE - 1}) / {SQUARE};
    const int square = thread / {SQUARE * SQUARE}, within = thread % {SQUARE * SQUARE};
    const int number = square / (across * down), own = square % (across * down);
    const int row = own / across * {SQUARE} + within / {SQUARE};
    const int column = own % across * {SQUARE} + within % {SQUARE};
    if (row >= rows || column >= columns) return;
    const int body = number % pictures.bodies;
    const int base = number / pictures.bodies * pictures.count;
    const int stop = base + first.data[body + 1];
    const float u = (float)column, v = (float)row;
    const int i = 0;
"""

_ENTRIES = """
    for (int g = base + first.data[body]; g < stop; ++g) {
        const float* box = reach.data + (long long)g * 4;
        if (!(u >= box[0] && v >= box[1] && u <= box[2] && v <= box[3])) continue;
"""

_VALUE = (
    _WALK
    + SUM_OF_VALUES
    + _ENTRIES
    + GAUSSIAN
    + ADD_VALUE
    + "    images.data[((long long)number * rows + row) * columns + column] = total;\n"
)

_DERIVATIVE = (
    _WALK
    + "    const float depth = depths.data[number];\n"
    + SUM_OF_DERIVATIVES
    + _ENTRIES
    + GAUSSIAN
    + ADD_DERIVATIVE
    + """
    const long long plane = (long long)rows * columns;
    float* out = images.data + number * 5 * plane + row * columns + column;
"""
    + WRITE_DERIVATIVES
)


def _gather(snippet: str) -> Any:
    """A kernel whose every thread writes a pixel; values need neither ``motion`` nor ``depths``."""

    @wp.func_native(snippet)
    def gather_one(
        coefficients: wp.array(dtype=float),  # type: ignore[valid-type]
        motion: wp.array(dtype=float),  # type: ignore[valid-type]
        reach: wp.array(dtype=float),  # type: ignore[valid-type]
        first: wp.array(dtype=int),  # type: ignore[valid-type]
        depths: wp.array(dtype=float),  # type: ignore[valid-type]
        thread: int,
        images: wp.array(dtype=float),  # type: ignore[valid-type]
        pictures: Pictures,
    ) -> None: ...

    @wp.kernel
    def gather(
        coefficients: wp.array(dtype=float),  # type: ignore[valid-type]
        motion: wp.array(dtype=float),  # type: ignore[valid-type]
        reach: wp.array(dtype=float),  # type: ignore[valid-type]
        first: wp.array(dtype=int),  # type: ignore[valid-type]
        depths: wp.array(dtype=float),  # type: ignore[valid-type]
        images: wp.array(dtype=float),  # type: ignore[valid-type]
        pictures: Pictures,
    ) -> None:
        gather_one(coefficients, motion, reach, first, depths, wp.tid(), images, pictures)

    return gather


gather_body_values = _gather(_VALUE)
# Value, position (x, y) and slope (x, y) derivatives, into five planes of a picture.
gather_body_derivatives = _gather(_DERIVATIVE)
