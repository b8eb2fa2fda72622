"""Warp kernels that gather Gaussian footprints per pixel, for GPUs; the same arithmetic as scatter.

One thread per pixel walks the list of its tile (tiles.py). They run on the CPU as well, which is
how they are tested without a GPU.
"""

from typing import Any

import warp as wp

from .tiles import TILE
from .warp_kernels import PAIR, UNPACK, Picture

wp.set_module_options({"enable_backward": False})

_WALK = (
    UNPACK
    + f"""
    const int row = pixel / columns, column = pixel % columns;
    const int tile = (row / {TILE}) * across + column / {TILE};
    const int stop = first.data[tile + 1];
    const int i = 0;
"""
)

_ENTRIES = """
    for (int entry = first.data[tile]; entry < stop; ++entry) {
        const int g = order.data[entry];
"""

# The pair of Gaussian ``g`` with the pixel at ``row`` and ``column``, in a loop with ``i`` = 0.
GAUSSIAN = """
        const float* c = coefficients.data + (long long)g * 12;
        const float a11 = c[3], a12 = c[4], a22 = c[5];
        if (!(a11 > 0.0f)) continue;
        const float amplitude = c[2];
        const float d0 = c[6], d1 = c[7], d2 = c[8], d11 = c[9], d12 = c[10], d22 = c[11];
        const float start = (float)column - c[0], dv = (float)row - c[1];
        const float n0 = a22 * dv * dv, n1 = 2.0f * a12 * dv;
        const float m0 = (d22 * dv + 2.0f * d2) * dv + d0, m1 = 2.0f * (d12 * dv + d1);
"""

SUM_OF_VALUES = "    float total = 0.0f;\n"
ADD_VALUE = PAIR + "        total += amplitude * value;\n    }\n"

SUM_OF_DERIVATIVES = "    float total = 0.0f, px = 0.0f, py = 0.0f, sx = 0.0f, sy = 0.0f;\n"
ADD_DERIVATIVE = (
    PAIR
    + """
        const float* s = motion.data + (long long)g * 7;
        const float z = s[0];
        value *= amplitude;
        const float dt = -z * inv * ((d11 * du + 2.0f * d12 * dv + d1) * du + (d22 * dv + d2) * dv);
        const float ox = s[2] * du + s[3] * dv, oy = s[5] * du + s[6] * dv;
        const float gx = ox + s[1], gy = oy + s[4];
        const float hx = z * ox + dt * gx, hy = z * oy + dt * gy;
        const float lever = dt + z - depth;
        total += value;
        px -= value * hx;
        py -= value * hy;
        sx -= value * (lever * hx + gx * inv);
        sy -= value * (lever * hy + gy * inv);
    }
"""
)
# Into five planes, ``plane`` numbers apart.
WRITE_DERIVATIVES = """
    out[0] = total;
    out[plane] = px;
    out[2 * plane] = py;
    out[3 * plane] = sx;
    out[4 * plane] = sy;
"""

_PLACE = "    float* out = image.data + (long long)row * stride + column;\n"
_VALUE = _WALK + SUM_OF_VALUES + _ENTRIES + GAUSSIAN + ADD_VALUE + _PLACE + "    out[0] = total;\n"
_DERIVATIVE = (
    _WALK + SUM_OF_DERIVATIVES + _ENTRIES + GAUSSIAN + ADD_DERIVATIVE + _PLACE + WRITE_DERIVATIVES
)


def _gather(snippet: str) -> Any:
    """A kernel whose every thread writes a pixel; values need neither ``motion`` nor ``depth``."""

    @wp.func_native(snippet)
    def gather_one(
        coefficients: wp.array(dtype=float),  # type: ignore[valid-type]
        motion: wp.array(dtype=float),  # type: ignore[valid-type]
        order: wp.array(dtype=int),  # type: ignore[valid-type]
        first: wp.array(dtype=int),  # type: ignore[valid-type]
        pixel: int,
        image: wp.array(dtype=float),  # type: ignore[valid-type]
        picture: Picture,
        depth: float,
    ) -> None: ...

    @wp.kernel
    def gather(
        coefficients: wp.array(dtype=float),  # type: ignore[valid-type]
        motion: wp.array(dtype=float),  # type: ignore[valid-type]
        order: wp.array(dtype=int),  # type: ignore[valid-type]
        first: wp.array(dtype=int),  # type: ignore[valid-type]
        image: wp.array(dtype=float),  # type: ignore[valid-type]
        picture: Picture,
        depth: float,
    ) -> None:
        gather_one(coefficients, motion, order, first, wp.tid(), image, picture, depth)

    return gather


gather_values = _gather(_VALUE)
# Value, position (x, y) and slope (x, y) derivatives, into five planes of an image.
gather_derivatives = _gather(_DERIVATIVE)
