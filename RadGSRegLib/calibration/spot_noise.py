"""Over how many pixels what a fit leaves is alike: bones and faults of a profile are no noise."""

from __future__ import annotations

import numpy as np

from ..geometry import Array


def alike_pixels(dx: Array, dy: Array, residual: Array) -> Array:
    """How many pixels (N,) residuals (N, P) at offsets (P,) go together over, 1 in white noise.

    The integral of their autocorrelation, its mean at each distance, up to where it first is not
    above 0. A mean of correlated values has a variance so many times as large as one of as many
    independent ones (G. Bayley, J. Hammersley, Suppl J R Stat Soc 8, 1946).
    """
    reach = int(np.abs(dx).max())
    width = 2 * reach + 1
    size = 2 * width
    grid = np.zeros((2, len(residual), size, size))
    rows, columns = (dy + reach).astype(int), (dx + reach).astype(int)
    grid[0][:, rows, columns] = residual
    grid[1][:, rows, columns] = 1.0
    values, pixels = np.fft.irfft2(np.abs(np.fft.rfft2(grid)) ** 2, s=(size, size))
    lag = np.fft.fftfreq(size, 1.0 / size)
    distance = np.rint(np.hypot(lag[:, None], lag[None, :])).astype(int)
    out = np.ones(len(residual))
    going = np.ones(len(residual), dtype=bool)
    none = np.maximum(values[:, 0, 0] / np.maximum(pixels[:, 0, 0], 1.0), 1e-30)
    for away in range(1, reach + 1):
        ring = distance == away
        alike = values[:, ring].sum(axis=1) / np.maximum(pixels[:, ring].sum(axis=1), 1.0) / none
        going &= alike > 0
        out += np.where(going, ring.sum() * alike, 0.0)
    return np.minimum(out, residual.shape[1])
