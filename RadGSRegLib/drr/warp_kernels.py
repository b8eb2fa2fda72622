"""Warp kernels of the projector, one source for the CPU and for CUDA: one thread per ray of a
picture.

The march along a ray is plain C++ in a native snippet. Samples whose eight voxels all lie inside
the volume take the direct way; the others look up each voxel with zero outside. Where ``occupied``
is given (`projector.occupied_cells`), samples where all voxels around are zero are passed over.
"""

from typing import Any

import warp as wp

wp.set_module_options({"enable_backward": False})


@wp.struct
class March:
    """A volume of ``ni, nj, nk`` voxels, that of the next picture ``apart`` numbers further (0: all
    have the same one); ``rays`` to a picture; planes ``step`` mm apart."""

    ni: int
    nj: int
    nk: int
    apart: int
    rays: int
    step: float


# Of each picture: the rows of camera_to_index (12 numbers) and the depth that levers are measured
# from, and its first plane and the one past the last. Planes count from the first; the stretch of
# whole n whose sample lies in (-1, size) follows.
_RANGE = """
    const int ni = march.ni, nj = march.nj, nk = march.nk, rays = march.rays;
    const int picture = ray / rays, own = ray % rays;
    const int first = planes.data[2 * picture], stop = planes.data[2 * picture + 1];
    const float reference = (float)first, step = march.step;
    const float* m = matrix.data + (long long)picture * 13;
    const float* d = directions.data + (long long)picture * 3 * rays + own;
    const float dx = d[0], dy = d[rays], dz = d[2 * (long long)rays];
    const float ax = (m[0] * dx + m[1] * dy + m[2] * dz) * step;
    const float ay = (m[4] * dx + m[5] * dy + m[6] * dz) * step;
    const float az = (m[8] * dx + m[9] * dy + m[10] * dz) * step;
    const float bx = m[3] + ax * reference, by = m[7] + ay * reference, bz = m[11] + az * reference;
    float low = 0.0f, high = (float)(stop - first - 1);
    const float slope[3] = {ax, ay, az};
    const float at[3] = {bx, by, bz};
    const float limit[3] = {(float)ni, (float)nj, (float)nk};
    for (int axis = 0; axis < 3; ++axis) {
        if (slope[axis] > 1e-9f || slope[axis] < -1e-9f) {
            const float one = (-1.0f - at[axis]) / slope[axis];
            const float two = (limit[axis] - at[axis]) / slope[axis];
            const float near = one < two ? one : two, far = one < two ? two : one;
            low = near > low ? near : low;
            high = far < high ? far : high;
        } else if (at[axis] <= -1.0f || at[axis] >= limit[axis]) {
            high = -1.0f;
        }
    }
    // A ray along a face, beside the volume, has limits beyond what an int holds.
    const bool met = low <= high;
    const int n_first = met ? (int)::ceilf(low) : 0, n_last = met ? (int)::floorf(high) : -1;
"""

_MARCH = """
    const float* v = volume.data + (long long)picture * march.apart;
    const unsigned char* cells = occupied.data;
    const int nij = ni * nj;
    for (int n = n_first; n <= n_last; ++n) {
        const float x = bx + ax * (float)n, y = by + ay * (float)n, z = bz + az * (float)n;
        const int i = (int)(x + 1.0f) - 1, j = (int)(y + 1.0f) - 1, k = (int)(z + 1.0f) - 1;
        if (cells && i >= -1 && i < ni && j >= -1 && j < nj && k >= -1 && k < nk) {
            if (!cells[((long long)(k + 1) * (nj + 1) + (j + 1)) * (ni + 1) + (i + 1)]) continue;
        }
        const float fx = x - (float)i, fy = y - (float)j, fz = z - (float)k;
        float c000, c100, c010, c110, c001, c101, c011, c111;
        if (i >= 0 && i < ni - 1 && j >= 0 && j < nj - 1 && k >= 0 && k < nk - 1) {
            const float* p = v + ((long long)k * nij + j * ni + i);
            c000 = p[0]; c100 = p[1]; c010 = p[ni]; c110 = p[ni + 1];
            c001 = p[nij]; c101 = p[nij + 1]; c011 = p[nij + ni]; c111 = p[nij + ni + 1];
        } else {
            const bool i0 = i >= 0 && i < ni, i1 = i >= -1 && i < ni - 1;
            const bool j0 = j >= 0 && j < nj, j1 = j >= -1 && j < nj - 1;
            const bool k0 = k >= 0 && k < nk, k1 = k >= -1 && k < nk - 1;
            const long long p = (long long)k * nij + j * ni + i;
            c000 = i0 && j0 && k0 ? v[p] : 0.0f;
            c100 = i1 && j0 && k0 ? v[p + 1] : 0.0f;
            c010 = i0 && j1 && k0 ? v[p + ni] : 0.0f;
            c110 = i1 && j1 && k0 ? v[p + ni + 1] : 0.0f;
            c001 = i0 && j0 && k1 ? v[p + nij] : 0.0f;
            c101 = i1 && j0 && k1 ? v[p + nij + 1] : 0.0f;
            c011 = i0 && j1 && k1 ? v[p + nij + ni] : 0.0f;
            c111 = i1 && j1 && k1 ? v[p + nij + ni + 1] : 0.0f;
        }
        const float x00 = c000 + fx * (c100 - c000), x10 = c010 + fx * (c110 - c010);
        const float x01 = c001 + fx * (c101 - c001), x11 = c011 + fx * (c111 - c011);
        const float y0 = x00 + fy * (x10 - x00), y1 = x01 + fy * (x11 - x01);
        total += y0 + fz * (y1 - y0);
"""


_VALUE = (
    "    float total = 0.0f;\n" + _RANGE + _MARCH + "    }\n    sums.data[ray] = total * step;\n"
)

_MOMENTS = (
    """
    float total = 0.0f;
    float gx = 0.0f, gy = 0.0f, gz = 0.0f, hx = 0.0f, hy = 0.0f, hz = 0.0f;
"""
    + _RANGE
    + _MARCH
    + """
        const float gx0 = (c100 - c000) + fy * ((c110 - c010) - (c100 - c000));
        const float gx1 = (c101 - c001) + fy * ((c111 - c011) - (c101 - c001));
        const float gy0 = x10 - x00, gy1 = x11 - x01;
        const float px = gx0 + fz * (gx1 - gx0), py = gy0 + fz * (gy1 - gy0), pz = y1 - y0;
        const float lever = ((float)n + reference) * step - m[12];
        gx += px; gy += py; gz += pz;
        hx += lever * px; hy += lever * py; hz += lever * pz;
    }
    const long long plane = rays;
    float* out = sums.data + picture * 7 * plane + own;
    out[0] = total * step;
    out[plane] = gx * step; out[2 * plane] = gy * step; out[3 * plane] = gz * step;
    out[4 * plane] = hx * step; out[5 * plane] = hy * step; out[6 * plane] = hz * step;
"""
)


# The transpose: every sample spreads its ray's weight over its eight voxels.
_SPREAD = (
    _RANGE
    + """
    const float weight = sums.data[ray] * step;
    const int nij = ni * nj;
    for (int n = n_first; n <= n_last; ++n) {
        const float x = bx + ax * (float)n, y = by + ay * (float)n, z = bz + az * (float)n;
        const int i = (int)(x + 1.0f) - 1, j = (int)(y + 1.0f) - 1, k = (int)(z + 1.0f) - 1;
        const float fx = x - (float)i, fy = y - (float)j, fz = z - (float)k;
        for (int corner = 0; corner < 8; ++corner) {
            const int ci = i + (corner & 1), cj = j + ((corner >> 1) & 1), ck = k + (corner >> 2);
            if (ci < 0 || ci >= ni || cj < 0 || cj >= nj || ck < 0 || ck >= nk) continue;
            const float share = (corner & 1 ? fx : 1.0f - fx) * (corner & 2 ? fy : 1.0f - fy)
                                * (corner & 4 ? fz : 1.0f - fz);
            wp::atomic_add(volume.data + ((long long)ck * nij + cj * ni + ci), weight * share);
        }
    }
"""
)


def _kernel(snippet: str) -> Any:
    """A kernel whose every thread runs ``snippet`` for its ray, counted through V pictures.

    ``planes`` (V, 2), ``matrix`` (V, 13), ``directions`` (V, 3, rays).
    """

    @wp.func_native(snippet)
    def march_ray(
        volume: wp.array(dtype=float),  # type: ignore[valid-type]
        occupied: wp.array(dtype=wp.uint8),  # type: ignore[valid-type]
        march: March,
        planes: wp.array(dtype=int),  # type: ignore[valid-type]
        matrix: wp.array(dtype=float),  # type: ignore[valid-type]
        directions: wp.array(dtype=float),  # type: ignore[valid-type]
        ray: int,
        sums: wp.array(dtype=float),  # type: ignore[valid-type]
    ) -> None: ...

    @wp.kernel
    def march_rays(
        volume: wp.array(dtype=float),  # type: ignore[valid-type]
        occupied: wp.array(dtype=wp.uint8),  # type: ignore[valid-type]
        march: March,
        planes: wp.array(dtype=int),  # type: ignore[valid-type]
        matrix: wp.array(dtype=float),  # type: ignore[valid-type]
        directions: wp.array(dtype=float),  # type: ignore[valid-type]
        ray_begin: int,
        sums: wp.array(dtype=float),  # type: ignore[valid-type]
    ) -> None:
        ray = ray_begin + int(wp.tid())  # type: ignore[arg-type]
        march_ray(volume, occupied, march, planes, matrix, directions, ray, sums)

    return march_rays


# Sums of the samples along rays, times the depth step, into ``sums`` (V, rays).
project = _kernel(_VALUE)
# Into ``sums`` (V, 7, rays): the value, grad mu, and (z - depth) grad mu, times the depth step.
project_with_moments = _kernel(_MOMENTS)
# Add the transpose of `project` applied to ``sums`` (V, rays) to a volume (K, J, I).
spread = _kernel(_SPREAD)
