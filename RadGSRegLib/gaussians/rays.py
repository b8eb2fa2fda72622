"""What rasterizers share about pinhole rays.

A pixel (u, v) looks along d = K^-1 (u, v, 1) = (x, y, 1), not normalised, from the camera's origin
(the X-ray source); an integral over the ray parameter of d times |d| is the one over millimetres.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


@lru_cache(maxsize=64)
def _cached(
    inverse: tuple[float, ...], size: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    columns, rows = size
    k = torch.tensor(inverse, dtype=torch.float64).reshape(3, 3)
    u = torch.arange(columns, dtype=torch.float64)
    v = torch.arange(rows, dtype=torch.float64)
    v, u = torch.meshgrid(v, u, indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)])
    directions = torch.einsum("ab,brc->arc", k, pixels)
    return directions.to(device, dtype), directions.norm(dim=0).to(device, dtype)


def pixel_rays(
    inverse: np.ndarray, size: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Directions (3, rows, columns) = (x, y, 1) of all pixels and their lengths (rows, columns).

    ``inverse`` is K^-1, ``size`` (columns, rows). Cached: do not write into the result.
    """
    return _cached(tuple(inverse.ravel().tolist()), (int(size[0]), int(size[1])), dtype, device)
