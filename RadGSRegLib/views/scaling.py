"""Values on a scale of their own where the gain is not known, and the noise of their pixels."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def rescaled(
    values: NDArray[np.float32], inside: NDArray[np.float32], percentiles: tuple[float, float]
) -> NDArray[np.floating]:
    """Scale values (any shape) so that these two percentiles of ``inside`` become 0 and 1."""
    low, high = np.percentile(inside, percentiles)
    return np.asarray((values - low) / max(float(high - low), 1e-12))


def pixel_noise(pixels: NDArray[np.float32], valid: NDArray[np.bool_]) -> float:
    """Measure the standard deviation of the noise of valid pixels (rows, columns), in their unit.

    From the second difference along both axes (Immerkaer 1996), robust to edges.
    """
    kernel = np.outer([1.0, -2.0, 1.0], [1.0, -2.0, 1.0])
    response = ndimage.convolve(pixels, kernel)[valid]
    if response.size == 0:
        return 0.0
    # A median deviation to a standard one, and the norm of the kernel.
    return float(np.median(np.abs(response)) / 0.6745 / 6.0)
