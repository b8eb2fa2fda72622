"""What rasterizers share about pinhole rays.

A pixel (u, v) looks along d = K^-1 (u, v, 1) = (x, y, 1), not normalised, from the camera's origin
(the X-ray source); an integral over the ray parameter of d times |d| is the one over millimetres.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


def inverse_intrinsic(intrinsic: Tensor | ArrayLike) -> np.ndarray:
    """K^-1 (3, 3), float64, for K scaled to K[2, 2] = 1.

    Raises ValueError unless K is a finite (3, 3) with the last row (0, 0, K22) and invertible.
    """
    if isinstance(intrinsic, Tensor):
        intrinsic = intrinsic.detach().cpu().numpy()
    k = np.asarray(intrinsic, dtype=np.float64)
    if k.shape != (3, 3) or not np.isfinite(k).all():
        raise ValueError("an intrinsic is a finite 3x3 matrix")
    if k[2, 0] != 0.0 or k[2, 1] != 0.0 or k[2, 2] == 0.0 or np.linalg.det(k) == 0.0:
        raise ValueError("an intrinsic is invertible and has the last row (0, 0, 1)")
    inverse = np.linalg.inv(k / k[2, 2])
    inverse[2] = (0.0, 0.0, 1.0)
    return np.asarray(inverse)


@lru_cache(maxsize=64)
def _cached(
    inverse: tuple[float, ...], size: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    columns, rows = size
    k = torch.tensor(inverse, dtype=torch.float64).reshape(3, 3)
    u = torch.arange(columns, dtype=torch.float64)
    v = torch.arange(rows, dtype=torch.float64)
    pixels = torch.stack(
        [u.expand(rows, columns), v[:, None].expand(rows, columns), torch.ones(rows, columns)]
    )
    directions = torch.einsum("ab,brc->arc", k, pixels)
    lengths = directions.norm(dim=0)
    return (
        directions.to(device=device, dtype=dtype),
        lengths.to(device=device, dtype=dtype),
    )


def pixel_rays(
    inverse: np.ndarray, size: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Directions (3, rows, columns) = (x, y, 1) of all pixels and their lengths (rows, columns).

    ``inverse`` is K^-1, ``size`` (columns, rows). Cached: do not write into the result.
    """
    return _cached(tuple(inverse.ravel().tolist()), (int(size[0]), int(size[1])), dtype, device)
