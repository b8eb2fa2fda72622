"""Warp kernels of the fast simulator: mass lengths along rays, one thread per ray of many pictures.

Each picture has its own list of bodies, so that views, poses and patients of a batch are one
launch. A body's voxels hold four numbers each (`voxels.Voxels`), which lie beside each other and
are read together; its outermost voxels are zero, so that no sample needs a look at the border.
"""

from typing import Any

import warp as wp

wp.set_module_options({"enable_backward": False})

BODY = 20
"""Numbers of a row of the table of bodies: camera_to_index (12), the first and last column and row
that show it, the step in depth, the first plane in steps, and two that are not used."""
ELLIPSOID = 13
"""Of an ellipsoid: its shape (9) and the source less its centre (3), so that the ray's point at
depth 1 is o + S d, and what it has more than is around it, g/cm^3."""
WIRE = 15
"""Of a wire: two axes across it (6) and the one along (3), its start (3), length, radius, and inner
radius, in the camera."""


@wp.struct
class Pictures:
    """``columns, rows`` of each picture, ``bodies``, ``ellipsoids`` and ``wires`` of each (padded).

    Rays go through the middle of ``every`` x ``every`` pixels.
    """

    columns: int
    rows: int
    every: int
    bodies: int
    ellipsoids: int
    wires: int


# ``lens``: focal length and principal point of each picture, pixels.
_RAY = """
    const int per = pictures.columns * pictures.rows;
    const int picture = ray / per, place = ray - picture * per;
    const int row = place / pictures.columns, column = place - row * pictures.columns;
    const float half = 0.5f * (float)(pictures.every - 1);
    const float u = (float)(column * pictures.every) + half;
    const float v = (float)(row * pictures.every) + half;
    const float* l = lens.data + picture * 3;
    const float dx = (u - l[1]) / l[0], dy = (v - l[2]) / l[0];
    const float length = ::sqrtf(1.0f + dx * dx + dy * dy);
    float soft = 0.0f, bone = 0.0f, excess = 0.0f;
"""

# Samples lie on planes of whole multiples of the step in depth, as in `drr.grid_rays`.
_BODIES = """
    for (int body = 0; body < pictures.bodies; ++body) {
        const int at = picture * pictures.bodies + body;
        const float* m = tables.data + at * 20;
        if (u < m[12] || u > m[13] || v < m[14] || v > m[15]) continue;
        const int ni = sizes.data[at * 3], nj = sizes.data[at * 3 + 1];
        const int nk = sizes.data[at * 3 + 2];
        const float* voxels = (const float*)addresses.data[at * 2];
        const float step = m[16];
        const float ax = (m[0] * dx + m[1] * dy + m[2]) * step;
        const float ay = (m[4] * dx + m[5] * dy + m[6]) * step;
        const float az = (m[8] * dx + m[9] * dy + m[10]) * step;
        const float bx = m[3] + ax * m[17], by = m[7] + ay * m[17], bz = m[11] + az * m[17];
        float low = 0.0f, high = 1e6f;
        const float slope[3] = {ax, ay, az};
        const float begin[3] = {bx, by, bz};
        const float limit[3] = {(float)ni - 1.001f, (float)nj - 1.001f, (float)nk - 1.001f};
        for (int axis = 0; axis < 3; ++axis) {
            if (slope[axis] > 1e-9f || slope[axis] < -1e-9f) {
                const float first = -begin[axis] / slope[axis];
                const float second = (limit[axis] - begin[axis]) / slope[axis];
                low = wp::max(low, wp::min(first, second));
                high = wp::min(high, wp::max(first, second));
            } else if (begin[axis] <= 0.0f || begin[axis] >= limit[axis]) {
                high = -1.0f;
            }
        }
        if (!(low <= high) || high > 9e5f) continue;
        const int n_first = (int)::ceilf(low), n_last = (int)::floorf(high);
        const int nij = ni * nj;
        float total[4] = {0.0f, 0.0f, 0.0f, 0.0f};
"""

_SAMPLE = """
            const float x = bx + ax * (float)n, y = by + ay * (float)n, z = bz + az * (float)n;
            const int i = (int)x, j = (int)y, k = (int)z;
            const float* p = voxels + ((long long)k * nij + j * ni + i) * 4;
"""

# The four numbers of a voxel as one vector, where the compiler has such.
_BLEND = """
            const float fx = x - (float)i, fy = y - (float)j, fz = z - (float)k;
            const float* q = p + 4LL * nij;
            const int up = 4 * ni;
#if defined(__CUDA_ARCH__)
            float value[3];
            for (int c = 0; c < 3; ++c) {
                const float x00 = p[c] + fx * (p[4 + c] - p[c]);
                const float x10 = p[up + c] + fx * (p[up + 4 + c] - p[up + c]);
                const float x01 = q[c] + fx * (q[4 + c] - q[c]);
                const float x11 = q[up + c] + fx * (q[up + 4 + c] - q[up + c]);
                const float y0 = x00 + fy * (x10 - x00), y1 = x01 + fy * (x11 - x01);
                value[c] = y0 + fz * (y1 - y0);
            }
#else
            typedef float Four __attribute__((vector_size(16)));
            const Four* a0 = (const Four*)p;
            const Four* a1 = (const Four*)(p + up);
            const Four* b0 = (const Four*)q;
            const Four* b1 = (const Four*)(q + up);
            const Four x00 = a0[0] + fx * (a0[1] - a0[0]), x10 = a1[0] + fx * (a1[1] - a1[0]);
            const Four x01 = b0[0] + fx * (b0[1] - b0[0]), x11 = b1[0] + fx * (b1[1] - b1[0]);
            const Four y0 = x00 + fy * (x10 - x00), y1 = x01 + fy * (x11 - x01);
            const Four value = y0 + fz * (y1 - y0);
#endif
"""

# Vertebrae: soft tissue, bone, and excess of the target.
_PIECES = (
    _RAY
    + _BODIES
    + """
        // Most samples are of nothing: which are not is asked of sixteen at once.
        const unsigned char* cells = (const unsigned char*)addresses.data[at * 2 + 1];
        for (int block = n_first; block <= n_last; block += 16) {
            unsigned int filled = 0;
            for (int lane = 0; lane < 16; ++lane) {
                const float n = (float)wp::min(block + lane, n_last);
                const int i = (int)(bx + ax * n), j = (int)(by + ay * n), k = (int)(bz + az * n);
                filled |= (unsigned int)cells[k * nij + j * ni + i] << lane;
            }
            const int stop = wp::min(n_last - block, 15);
            for (int lane = 0; lane <= stop; ++lane) {
                if (!((filled >> lane) & 1)) continue;
                const int n = block + lane;
"""
    + _SAMPLE
    + _BLEND
    + """
                for (int c = 0; c < 3; ++c) total[c] += value[c];
            }
        }
        soft += total[0] * step; bone += total[1] * step; excess += total[2] * step;
    }
    float solid = 0.0f;
    for (int body = 0; body < pictures.ellipsoids; ++body) {
        const float* e = ellipsoids.data + (picture * pictures.ellipsoids + body) * 13;
        if (e[12] == 0.0f) continue;
        const float a = e[0] * dx + e[1] * dy + e[2], b = e[3] * dx + e[4] * dy + e[5];
        const float c = e[6] * dx + e[7] * dy + e[8];
        const float dd = a * a + b * b + c * c;
        // The point nearest to the centre: the discriminant itself would cancel badly.
        const float t = -(a * e[9] + b * e[10] + c * e[11]) / wp::max(dd, 1e-20f);
        const float oa = e[9] + t * a, ob = e[10] + t * b, oc = e[11] + t * c;
        const float left = 1.0f - (oa * oa + ob * ob + oc * oc);
        if (left > 0.0f) solid += 2.0f * ::sqrtf(left / wp::max(dd, 1e-20f)) * e[12];
    }
    float steel = 0.0f;
    for (int body = 0; body < pictures.wires; ++body) {
        const float* w = wires.data + (picture * pictures.wires + body) * 15;
        if (w[13] <= 0.0f) continue;
        const float a = w[0] * dx + w[1] * dy + w[2], b = w[3] * dx + w[4] * dy + w[5];
        float along = w[6] * dx + w[7] * dy + w[8];
        along = wp::abs(along) < 1e-9f ? 1e-9f : along;
        const float ahead = w[6] * w[9] + w[7] * w[10] + w[8] * w[11];
        const float begin = ahead / along, end = (ahead + w[12]) / along;
        const float oa = -(w[0] * w[9] + w[1] * w[10] + w[2] * w[11]);
        const float ob = -(w[3] * w[9] + w[4] * w[10] + w[5] * w[11]);
        const float dd = wp::max(a * a + b * b, 1e-20f), t = -(a * oa + b * ob) / dd;
        const float na = oa + t * a, nb = ob + t * b, near = na * na + nb * nb;
        for (int wall = 0; wall < 2; ++wall) {
            const float radius = w[13 + wall];
            const float left = radius * radius - near;
            if (left <= 0.0f) continue;
            const float reach = ::sqrtf(left / dd);
            const float from = wp::max(t - reach, wp::min(begin, end));
            const float to = wp::min(t + reach, wp::max(begin, end));
            if (to > from) steel += (wall ? from - to : to - from);
        }
    }
    float* out = sums.data + (long long)picture * 4 * per + place;
    out[0] = (soft + solid) * length;
    out[per] = bone * length;
    out[2 * per] = steel * length;
    out[3 * per] = excess * length;
"""
)

# The rest of the body lies in a trunk: what it has more or less than that. ``ellipsoids``: the
# trunk of each picture, whose last number is its density, and before it its least radius over 3 mm.
_REST = (
    _RAY
    + _BODIES
    + """
        const float* e = ellipsoids.data + picture * 13;
        const float sharp = e[8], density = e[12];
        const float a = e[0] * dx + e[1] * dy + e[2], b = e[3] * dx + e[4] * dy + e[5];
        const float dd = a * a + b * b, od = a * e[9] + b * e[10], oo = e[9] * e[9] + e[10] * e[10];
        // Within this gauge the trunk is whole: no root is needed there.
        const float whole = density != 0.0f ? 1.0f - 0.5f / sharp : 1e9f;
        for (int n = n_first; n <= n_last; ++n) {
"""
    + _SAMPLE
    + _BLEND
    + """
            const float depth = ((float)n + m[17]) * step;
            const float gauge = oo + depth * (2.0f * od + depth * dd);
            float share = 1.0f;
            if (gauge > whole * whole) {
                share = (1.0f - ::sqrtf(wp::max(gauge, 0.0f))) * sharp + 0.5f;
                share = share < 0.0f ? 0.0f : (share > 1.0f ? 1.0f : share);
            }
            total[0] += value[0] - density * share * value[2];
            total[1] += value[1];
        }
        soft += total[0] * step; bone += total[1] * step;
    }
    float* out = sums.data + (long long)picture * 2 * per + place;
    out[0] = soft * length;
    out[per] = bone * length;
"""
)


def _kernel(snippet: str) -> Any:
    """A kernel whose every thread runs ``snippet`` for its ray."""

    @wp.func_native(snippet)
    def follow_ray(
        pictures: Pictures,
        lens: wp.array(dtype=float),  # type: ignore[valid-type]
        tables: wp.array(dtype=float),  # type: ignore[valid-type]
        sizes: wp.array(dtype=int),  # type: ignore[valid-type]
        addresses: wp.array(dtype=wp.uint64),  # type: ignore[valid-type]
        ellipsoids: wp.array(dtype=float),  # type: ignore[valid-type]
        wires: wp.array(dtype=float),  # type: ignore[valid-type]
        ray: int,
        sums: wp.array(dtype=float),  # type: ignore[valid-type]
    ) -> None: ...

    @wp.kernel
    def follow_rays(
        pictures: Pictures,
        lens: wp.array(dtype=float),  # type: ignore[valid-type]
        tables: wp.array(dtype=float),  # type: ignore[valid-type]
        sizes: wp.array(dtype=int),  # type: ignore[valid-type]
        addresses: wp.array(dtype=wp.uint64),  # type: ignore[valid-type]
        ellipsoids: wp.array(dtype=float),  # type: ignore[valid-type]
        wires: wp.array(dtype=float),  # type: ignore[valid-type]
        ray_begin: int,
        sums: wp.array(dtype=float),  # type: ignore[valid-type]
    ) -> None:
        ray = ray_begin + int(wp.tid())  # type: ignore[arg-type]
        follow_ray(pictures, lens, tables, sizes, addresses, ellipsoids, wires, ray, sums)

    return follow_rays


# Into ``sums`` (P, 4, rows, columns): soft tissue, bone, steel (mm, not weighted), excess.
pieces = _kernel(_PIECES)
# Into ``sums`` (P, 2, rows, columns): soft tissue and bone of the rest.
rest = _kernel(_REST)
