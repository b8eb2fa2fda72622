"""A picture without its distortion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from ..geometry import Distortion, distort


def corrected(pixels: NDArray[np.float32], distortion: Distortion) -> NDArray[np.float32]:
    """Return a picture (rows, columns) as a pinhole would show it, on the same pixels.

    What it shows of places beyond the picture's edge is the edge's.
    """
    rows, columns = pixels.shape
    v, u = np.mgrid[:rows, :columns]
    at = distort(np.column_stack([u.ravel(), v.ravel()]), distortion)
    values = map_coordinates(pixels, [at[:, 1], at[:, 0]], order=1, mode="nearest")
    return np.asarray(values.reshape(rows, columns), dtype=np.float32)
