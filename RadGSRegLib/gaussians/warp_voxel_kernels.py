"""Warp kernels of the voxelizer, one source for the CPU and for CUDA.

As in warp_kernels.py the innermost loop, along i, is plain C++ in blocks of `LANES` voxels, and the
volume is padded by `LANES` along i.
"""

import warp as wp

from .warp_kernels import EXPONENTIAL, LANES, LOOP

wp.set_module_options({"enable_backward": False})


@wp.struct
class Grid:
    """``ni, nj, nk`` voxels, rows along i padded to ``stride``; the square of the cutoff."""

    stride: int
    ni: int
    nj: int
    nk: int
    cut2: float


def grid_of(size: tuple[int, int, int], cut2: float) -> Grid:
    """The grid of a volume of (I, J, K) voxels, padded by `LANES` along i."""
    out = Grid()
    out.ni, out.nj, out.nk = size
    out.stride, out.cut2 = size[0] + LANES, cut2
    return out


# One Gaussian's rows (j, k): those that the ellipsoid at the cut reaches, and the stretch along i.
_ROWS = """
    const int stride = grid.stride, ni = grid.ni, nj = grid.nj;
    const float cut2 = grid.cut2;
    const float* c = coefficients.data + (long long)g * 10;
    const float mi = c[0], mj = c[1], mk = c[2], density = c[3];
    const float pii = c[4], pij = c[5], pik = c[6], pjj = c[7], pjk = c[8], pkk = c[9];
    const float qjj = pjj - pij * pij / pii, qjk = pjk - pij * pik / pii;
    const float qkk = pkk - pik * pik / pii, rkk = qkk - qjk * qjk / qjj;
    if (!(pii > 0.0f && qjj > 0.0f && rkk > 0.0f)) return;
    const float reach_k = ::sqrtf(cut2 / rkk);
    const float low_k = mk - reach_k, high_k = mk + reach_k;
    if (!(high_k >= (float)k_begin && low_k <= (float)(k_end - 1))) return;
    const int first_k = low_k <= (float)k_begin ? k_begin : (int)::ceilf(low_k);
    const int last_k = high_k >= (float)(k_end - 1) ? k_end - 1 : (int)::floorf(high_k);
    for (int k = first_k; k <= last_k; ++k) {
      const float dk = (float)k - mk;
      const float centre_j = mj - qjk / qjj * dk;
      const float rest_k = cut2 - rkk * dk * dk;
      if (!(rest_k > 0.0f)) continue;
      const float reach_j = ::sqrtf(rest_k / qjj);
      const float low_j = centre_j - reach_j, high_j = centre_j + reach_j;
      if (!(high_j >= (float)j_begin && low_j <= (float)(j_end - 1))) continue;
      const int first_j = low_j <= (float)j_begin ? j_begin : (int)::ceilf(low_j);
      const int last_j = high_j >= (float)(j_end - 1) ? j_end - 1 : (int)::floorf(high_j);
      for (int j = first_j; j <= last_j; ++j) {
        const float dj = (float)j - mj;
        const float offset_j = (float)j - centre_j;
        const float rest_j = rest_k - qjj * offset_j * offset_j;
        if (!(rest_j > 0.0f)) continue;
        const float n1 = 2.0f * (pij * dj + pik * dk);
        const float n0 = (pjj * dj + 2.0f * pjk * dk) * dj + pkk * dk * dk;
        const float centre_i = mi - 0.5f * n1 / pii;
        const float reach_i = ::sqrtf(rest_j / pii);
        const float low_i = centre_i - reach_i, high_i = centre_i + reach_i;
        if (!(high_i >= 0.0f && low_i <= (float)(ni - 1))) continue;
        const int begin = low_i <= 0.0f ? 0 : (int)low_i;
        const int end = high_i >= (float)(ni - 1) ? ni : (int)high_i + 1;
        const int count = (end - begin + 7) & ~7;
        const float start = (float)begin - mi;
        const long long place = ((long long)k * nj + j) * stride + begin;
"""

# exp(-n / 2), zero beyond the cut.
_PAIR = (
    """
            const float di = start + (float)i;
            const float n = (pii * di + n1) * di + n0;
            const float y = n * (-0.5f / 32.0f);
"""
    + EXPONENTIAL
    + "            float value = n <= cut2 ? e : 0.0f;\n"
)

_FORWARD = (
    _ROWS
    + "        float* out = volume.data + place;\n"
    + LOOP
    + _PAIR
    + "            out[i] += density * value;\n        }\n      }\n    }\n"
)


@wp.func_native(_FORWARD)
def _scatter_density(
    coefficients: wp.array(dtype=float),  # type: ignore[valid-type]
    g: int,
    volume: wp.array(dtype=float),  # type: ignore[valid-type]
    grid: Grid,
    j_begin: int,
    j_end: int,
    k_begin: int,
    k_end: int,
) -> None: ...


@wp.kernel
def scatter_slab(
    coefficients: wp.array(dtype=float),  # type: ignore[valid-type]
    volume: wp.array(dtype=float),  # type: ignore[valid-type]
    grid: Grid,
    k_begin: int,
    k_end: int,
) -> None:
    """For the CPU: thread g adds Gaussian g of (N, 10) to the slices ``k_begin`` to ``k_end``."""
    g = int(wp.tid())  # type: ignore[arg-type]
    _scatter_density(coefficients, g, volume, grid, 0, grid.nj, k_begin, k_end)


@wp.kernel
def fill_rows(
    coefficients: wp.array(dtype=float),  # type: ignore[valid-type]
    count: int,
    volume: wp.array(dtype=float),  # type: ignore[valid-type]
    grid: Grid,
) -> None:
    """For CUDA: thread (k, j) adds all Gaussians to its own row, in the order of the cloud."""
    row = int(wp.tid())  # type: ignore[arg-type]
    k = row // grid.nj
    j = row - k * grid.nj
    for g in range(count):
        _scatter_density(coefficients, g, volume, grid, j, j + 1, k, k + 1)


# Backward: moments of the weighted value over the ellipsoid.
_BACKWARD = (
    """
#if defined(__clang__) && !defined(__CUDA_ARCH__)
#pragma clang fp reassociate(on)
#endif
    float* result = gradient.data + (long long)g * 10;
    float s0 = 0.0f, si = 0.0f, sj = 0.0f, sk = 0.0f;
    float sii = 0.0f, sij = 0.0f, sik = 0.0f, sjj = 0.0f, sjk = 0.0f, skk = 0.0f;
    const int k_begin = 0, k_end = grid.nk, j_begin = 0, j_end = grid.nj;
"""
    + _ROWS
    + """
        const float* weight = weights.data + place;
        float r0 = 0.0f, r1 = 0.0f, r2 = 0.0f;
"""
    + LOOP
    + _PAIR
    + """
            value *= weight[i];
            r0 += value; r1 += value * di; r2 += value * di * di;
        }
        s0 += r0; si += r1; sj += r0 * dj; sk += r0 * dk;
        sii += r2; sij += r1 * dj; sik += r1 * dk;
        sjj += r0 * dj * dj; sjk += r0 * dj * dk; skk += r0 * dk * dk;
      }
    }
    result[0] = density * (pii * si + pij * sj + pik * sk);
    result[1] = density * (pij * si + pjj * sj + pjk * sk);
    result[2] = density * (pik * si + pjk * sj + pkk * sk);
    result[3] = s0;
    result[4] = -0.5f * density * sii;
    result[5] = -density * sij;
    result[6] = -density * sik;
    result[7] = -0.5f * density * sjj;
    result[8] = -density * sjk;
    result[9] = -0.5f * density * skk;
"""
)


@wp.func_native(_BACKWARD)
def _gather_gradient(
    coefficients: wp.array(dtype=float),  # type: ignore[valid-type]
    g: int,
    weights: wp.array(dtype=float),  # type: ignore[valid-type]
    gradient: wp.array(dtype=float),  # type: ignore[valid-type]
    grid: Grid,
) -> None: ...


@wp.kernel
def gather_gradients(
    coefficients: wp.array(dtype=float),  # type: ignore[valid-type]
    weights: wp.array(dtype=float),  # type: ignore[valid-type]
    gradient: wp.array(dtype=float),  # type: ignore[valid-type]
    first: int,
    grid: Grid,
) -> None:
    """Write the gradient (N, 10) by the coefficients, zero where a Gaussian misses the grid."""
    g = first + int(wp.tid())  # type: ignore[arg-type]
    _gather_gradient(coefficients, g, weights, gradient, grid)
