"""What pictures of pinhole cameras have in common, many at a time.

A pixel (u, v) looks along d = K^-1 (u, v, 1) = (x, y, 1), not normalised, from the camera's origin
(the X-ray source); an integral over the ray parameter of d times |d| is the one over millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .rigid import inverse_linear


@dataclass(frozen=True)
class Lenses:
    """Hold the inner geometry of V pictures of one size.

    Args:
        intrinsics: (V, 3, 3), float64, in pixels, with the last row (0, 0, 1).
        size: (columns, rows).

    Raises:
        ValueError: for other shapes.

    Example:
        >>> from RadGSRegLib.tensors import Lenses
        >>> intrinsic = [[1000.0, 0.0, 16.0], [0.0, 1000.0, 16.0], [0.0, 0.0, 1.0]]
        >>> lens = Lenses.of([intrinsic], (33, 33))
        >>> lens.rays[0][0, :, 16, 32].tolist()
        [0.01600000075995922, 0.0, 1.0]
    """

    intrinsics: Tensor
    size: tuple[int, int]

    def __post_init__(self) -> None:
        if self.intrinsics.dim() != 3 or self.intrinsics.shape[1:] != (3, 3):
            raise ValueError(f"intrinsics are (V, 3, 3), not {tuple(self.intrinsics.shape)}")
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"a size is (columns, rows), both at least 1, not {self.size}")

    @classmethod
    def of(
        cls,
        intrinsics: ArrayLike,
        size: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> Lenses:
        """Make them of numbers on the host, scaled to K[2, 2] = 1.

        Raises ValueError unless each K is finite and invertible with the last row (0, 0, K22).
        """
        k = np.array(intrinsics, dtype=np.float64)
        out = cls(torch.from_numpy(k), (int(size[0]), int(size[1])))
        if not np.isfinite(k).all():
            raise ValueError("an intrinsic is a finite 3x3 matrix")
        if k[:, 2, :2].any() or not (k[:, 2, 2].all() and np.linalg.det(k).all()):
            raise ValueError("an intrinsic is invertible and has the last row (0, 0, 1)")
        k /= k[:, 2:, 2:].copy()
        return cls(out.intrinsics.to(device), out.size)

    def __len__(self) -> int:
        return len(self.intrinsics)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.intrinsics.device

    @cached_property
    def inverses(self) -> Tensor:
        """K^-1 (V, 3, 3), float64."""
        return inverse_linear(self.intrinsics)

    @cached_property
    def rays(self) -> tuple[Tensor, Tensor]:
        """Directions (V, 3, rows, columns) = (x, y, 1) of all pixels and their lengths (V, rows,
        columns), float32. Not to be written into."""
        directions, lengths = self.exact_rays()
        return directions.float(), lengths.float()

    def exact_rays(self) -> tuple[Tensor, Tensor]:
        """Return `rays` in float64, which are not kept."""
        columns, rows = self.size
        u = torch.arange(columns, dtype=torch.float64, device=self.device)
        v = torch.arange(rows, dtype=torch.float64, device=self.device)
        by_column, by_row, constant = self.inverses[..., None, None].unbind(2)
        directions = by_column * u + by_row * v[:, None] + constant
        x, y, z = directions.unbind(1)
        return directions, (x * x + y * y + z * z).sqrt()

    def repeated(self, count: int) -> Lenses:
        """Return a single one so many times over; its rays stay in memory once."""
        out = Lenses(self.intrinsics.expand(count, 3, 3), self.size)
        out.__dict__["inverses"] = self.inverses.expand(count, 3, 3)
        directions, lengths = self.rays
        out.__dict__["rays"] = directions.expand(count, -1, -1, -1), lengths.expand(count, -1, -1)
        return out

    def part(self, index: slice | Tensor) -> Lenses:
        """Return those of some pictures, with their rays where these are known."""
        out = Lenses(self.intrinsics[index], self.size)
        known = self.__dict__
        if "inverses" in known:
            out.__dict__["inverses"] = self.inverses[index]
        if "rays" in known:
            directions, lengths = self.rays
            out.__dict__["rays"] = directions[index], lengths[index]
        return out
