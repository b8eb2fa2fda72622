"""Warp kernels that scatter Gaussian footprints, one source for the CPU and for CUDA.

The inner loops over the pixels of a footprint's row are native snippets of plain C++, so that the
CPU compiler turns them into vector instructions: a row is walked in blocks of `LANES` pixels with a
mask instead of branches, and images are padded by `LANES` columns so that a block may run over the
edge. On the CPU warp runs one launch serially, so plain additions are safe; parallelism comes from
launches over disjoint bands of rows (see warp_backend.py).
"""

from typing import Any

import warp as wp
from torch import Tensor

LANES = 8

wp.set_module_options({"enable_backward": False})


@wp.struct
class Picture:
    """Where footprints go: rows ``row_begin`` to ``row_end`` of ``columns`` pixels, padded to
    ``stride``; ``plane`` numbers to each plane; ``across`` tiles side by side, where pixels gather;
    the square of the cutoff."""

    plane: int
    stride: int
    columns: int
    row_begin: int
    row_end: int
    across: int
    cut2: float


def picture_of(image: Tensor, rows: tuple[int, int], cut2: float, across: int = 0) -> Picture:
    """For an image (..., rows, columns + LANES); ``rows``: the first and the one past the last."""
    out = Picture()
    out.stride, out.columns = image.shape[-1], image.shape[-1] - LANES
    out.plane = image.shape[-2] * out.stride
    out.row_begin, out.row_end = rows
    out.across, out.cut2 = across, cut2
    return out


# Its members by their names, at the head of every snippet.
UNPACK = """
    const int plane = picture.plane, stride = picture.stride, columns = picture.columns;
    const int row_begin = picture.row_begin, row_end = picture.row_end, across = picture.across;
    const float cut2 = picture.cut2;
"""

# The head of every snippet: one Gaussian's coefficients, and the rows its ellipse reaches.
_ROWS = (
    UNPACK
    + """
    const float* c = coefficients.data + (long long)g * 12;
    const float a11 = c[3], a12 = c[4], a22 = c[5];
    if (!(a11 > 0.0f)) return;
    const float u0 = c[0], v0 = c[1], amplitude = c[2];
    const float d0 = c[6], d1 = c[7], d2 = c[8], d11 = c[9], d12 = c[10], d22 = c[11];
    const float e11 = a11 - cut2 * d11, e12 = a12 - cut2 * d12, e22 = a22 - cut2 * d22;
    const float e1 = -cut2 * d1, e2 = -cut2 * d2, e0 = -cut2 * d0;
    const float qa = e12 * e12 - e11 * e22;
    const float qb = e12 * e1 - e11 * e2;
    const float qc = e1 * e1 - e11 * e0;
    const float qd = qb * qb - qa * qc;
    if (!(e11 > 0.0f && qa < 0.0f && qd > 0.0f)) return;
    const float qr = ::sqrtf(qd);
    const float top = v0 + (qb - qr) / -qa, bottom = v0 + (qb + qr) / -qa;
    if (!(bottom >= (float)row_begin && top <= (float)(row_end - 1))) return;
    const int first_row = top <= (float)row_begin ? row_begin : (int)::ceilf(top);
    const int last_row = bottom >= (float)(row_end - 1) ? row_end - 1 : (int)::floorf(bottom);
    for (int row = first_row; row <= last_row; ++row) {
        const float dv = (float)row - v0;
        const float rb = e12 * dv + e1;
        const float rc = (e22 * dv + 2.0f * e2) * dv + e0;
        const float rd = rb * rb - e11 * rc;
        if (!(rd > 0.0f)) continue;
        const float rr = ::sqrtf(rd);
        const float left = u0 + (-rb - rr) / e11, right = u0 + (rr - rb) / e11;
        if (!(right >= 0.0f && left <= (float)(columns - 1))) continue;
        const int begin = left <= 0.0f ? 0 : (int)left;
        const int end = right >= (float)(columns - 1) ? columns : (int)right + 1;
        const int count = (end - begin + 7) & ~7;
        const float n0 = a22 * dv * dv, n1 = 2.0f * a12 * dv;
        const float m0 = (d22 * dv + 2.0f * d2) * dv + d0, m1 = 2.0f * (d12 * dv + d1);
        const float start = (float)begin - u0;
"""
)

# e = exp(32 y), from -32 to 0, as the 32nd power of a short Taylor series: no branch, no table, a
# relative error of 2e-6 where it matters.
EXPONENTIAL = """
            float e = 1.0f + y * (1.0f + y * (0.5f + y * (1.0f / 6.0f + y * (1.0f / 24.0f
                      + y * (1.0f / 120.0f)))));
            e *= e; e *= e; e *= e; e *= e; e *= e;
"""

# One pair: value = amplitude / |w| exp(-1/2 n / m), zero beyond the cut.
PAIR = (
    """
            const float du = start + (float)i;
            const float n = (a11 * du + n1) * du + n0;
            const float m = (d11 * du + m1) * du + m0;
            const float inv = 1.0f / m;
            const float y = n * inv * (-0.5f / 32.0f);
"""
    + EXPONENTIAL
    + """
            float value = ::sqrtf(inv) * e;
            value = n <= cut2 * m ? value : 0.0f;
"""
)

# The head of a loop over ``count`` pixels in a row.
LOOP = """
#if defined(__clang__) && !defined(__CUDA_ARCH__)
        __builtin_assume(count % 8 == 0);
        __builtin_assume(count > 0);
#pragma clang loop vectorize(assume_safety) vectorize_width(8) interleave(disable)
#endif
        for (int i = 0; i < count; ++i) {
"""

# Without places there is but one image.
_NUMBER = "    const int number = place.data ? place.data[g] : 0;\n"

_VALUE = (
    _NUMBER
    + _ROWS
    + """
        float* out = images.data + (long long)number * plane
                     + (long long)row * stride + begin;
"""
    + LOOP
    + PAIR
    + "            out[i] += amplitude * value;\n        }\n    }\n"
)

# The derivative by the ray. A line (X + x (z - z_c), Y + y (z - z_c), z) has four parameters; with
# f the pair's integral, t the depth of the ray's nearest point and h = M'(q + t w):
# f_X = -f h_x, f_x = -f ((t - z_c) h_x + (S^-1 d)_x / |w|^2), y alike. h is built from the offset
# to the centre (dt = t - z_p), where nothing cancels.
_DERIVATIVE = (
    _NUMBER
    + _ROWS
    + """
        float* out = images.data + (long long)number * 5 * plane
                     + (long long)row * stride + begin;
        float* out_px = out + plane;
        float* out_py = out + 2 * plane;
        float* out_sx = out + 3 * plane;
        float* out_sy = out + 4 * plane;
        const float* s = motion.data + (long long)g * 7;
        const float z = s[0], dz = s[0] - depths.data[number];
        const float gx1 = s[2], gx2 = s[3] * dv, gx0 = s[1] + gx2;
        const float gy1 = s[5], gy2 = s[6] * dv, gy0 = s[4] + gy2;
        const float k0 = (d22 * dv + d2) * dv, k1 = 2.0f * d12 * dv + d1;
"""
    + LOOP
    + PAIR
    + """
            value *= amplitude;
            const float dt = -z * inv * ((d11 * du + k1) * du + k0);
            const float gx = gx1 * du + gx0;
            const float gy = gy1 * du + gy0;
            const float hx = z * (gx1 * du + gx2) + dt * gx;
            const float hy = z * (gy1 * du + gy2) + dt * gy;
            const float lever = dt + dz;
            out[i] += value;
            out_px[i] -= value * hx;
            out_py[i] -= value * hy;
            out_sx[i] -= value * (lever * hx + gx * inv);
            out_sy[i] -= value * (lever * hy + gy * inv);
        }
    }
"""
)


def _scatter(snippet: str) -> Any:
    """A kernel whose every thread adds one Gaussian to the image of its ``place``.

    ``coefficients`` (N, 12) and ``motion`` (N, 7) as of `splat_setup`, ``depths`` that of each
    image's centre; values need neither ``motion`` nor ``depths``.
    """

    @wp.func_native(snippet)
    def scatter_one(
        coefficients: wp.array(dtype=float),  # type: ignore[valid-type]
        motion: wp.array(dtype=float),  # type: ignore[valid-type]
        place: wp.array(dtype=int),  # type: ignore[valid-type]
        depths: wp.array(dtype=float),  # type: ignore[valid-type]
        g: int,
        images: wp.array(dtype=float),  # type: ignore[valid-type]
        picture: Picture,
    ) -> None: ...

    @wp.kernel
    def scatter(
        coefficients: wp.array(dtype=float),  # type: ignore[valid-type]
        motion: wp.array(dtype=float),  # type: ignore[valid-type]
        place: wp.array(dtype=int),  # type: ignore[valid-type]
        depths: wp.array(dtype=float),  # type: ignore[valid-type]
        images: wp.array(dtype=float),  # type: ignore[valid-type]
        picture: Picture,
    ) -> None:
        scatter_one(coefficients, motion, place, depths, wp.tid(), images, picture)

    return scatter


scatter_values = _scatter(_VALUE)
# Value, position (x, y) and slope (x, y) derivatives, to five planes of an image.
scatter_derivatives = _scatter(_DERIVATIVE)


# Backward: per Gaussian the gradient of sum(G f) by its 12 coefficients. With a = G df/dn and
# b = G df/dm, everything is a moment of a, b and f over the footprint.
_BACKWARD = (
    """
#if defined(__clang__) && !defined(__CUDA_ARCH__)
#pragma clang fp reassociate(on)
#endif
    float* result = gradient.data + (long long)g * 12;
    float sf = 0.0f, sa11 = 0.0f, sa12 = 0.0f, sa22 = 0.0f, sa1 = 0.0f, sa2 = 0.0f;
    float sb0 = 0.0f, sb1 = 0.0f, sb2 = 0.0f, sb11 = 0.0f, sb12 = 0.0f, sb22 = 0.0f;
"""
    + _ROWS
    + """
        const float* weight = weights.data + (long long)row * stride + begin;
        float rf = 0.0f, ra0 = 0.0f, ra1 = 0.0f, ra2 = 0.0f, rb0 = 0.0f, rb1 = 0.0f, rb2 = 0.0f;
"""
    + LOOP
    + PAIR
    + """
            value *= weight[i];
            const float a = -0.5f * value * inv;
            const float b = a * (1.0f - n * inv);
            rf += value;
            ra0 += a; ra1 += a * du; ra2 += a * du * du;
            rb0 += b; rb1 += b * du; rb2 += b * du * du;
        }
        sf += rf;
        sa1 += ra1; sa2 += ra0 * dv;
        sa11 += ra2; sa12 += ra1 * dv; sa22 += ra0 * dv * dv;
        sb0 += rb0; sb1 += rb1; sb2 += rb0 * dv;
        sb11 += rb2; sb12 += rb1 * dv; sb22 += rb0 * dv * dv;
    }
    result[0] = -2.0f * amplitude * (a11 * sa1 + a12 * sa2 + d1 * sb0 + d11 * sb1 + d12 * sb2);
    result[1] = -2.0f * amplitude * (a12 * sa1 + a22 * sa2 + d2 * sb0 + d12 * sb1 + d22 * sb2);
    result[2] = sf;
    result[3] = amplitude * sa11;
    result[4] = 2.0f * amplitude * sa12;
    result[5] = amplitude * sa22;
    result[6] = amplitude * sb0;
    result[7] = 2.0f * amplitude * sb1;
    result[8] = 2.0f * amplitude * sb2;
    result[9] = amplitude * sb11;
    result[10] = 2.0f * amplitude * sb12;
    result[11] = amplitude * sb22;
"""
)


@wp.func_native(_BACKWARD)
def _gather_gradient(
    coefficients: wp.array(dtype=float),  # type: ignore[valid-type]
    g: int,
    weights: wp.array(dtype=float),  # type: ignore[valid-type]
    gradient: wp.array(dtype=float),  # type: ignore[valid-type]
    picture: Picture,
) -> None: ...


@wp.kernel
def gather_gradients(
    coefficients: wp.array(dtype=float),  # type: ignore[valid-type]
    weights: wp.array(dtype=float),  # type: ignore[valid-type]
    gradient: wp.array(dtype=float),  # type: ignore[valid-type]
    first: int,
    picture: Picture,
) -> None:
    """Write the gradient (N, 12) by the coefficients, zero where a Gaussian misses the image."""
    g = first + int(wp.tid())  # type: ignore[arg-type]
    _gather_gradient(coefficients, g, weights, gradient, picture)
