"""A cloud of radiative Gaussians (math.md section 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..tensors import reads_are_free


def quaternions_to_matrices(quaternions: Tensor) -> Tensor:
    """Rotations (N, 3, 3) of quaternions (N, 4) in the order w, x, y, z, normalised here."""
    w, x, y, z = (quaternions / quaternions.norm(dim=1, keepdim=True)).unbind(1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def multiply_quaternions(left: Tensor, right: Tensor) -> Tensor:
    """The quaternions (N, 4) of "first ``right``, then ``left``"; w, x, y, z; broadcasting."""
    a, b, c, d = left.unbind(-1)
    w, x, y, z = right.unbind(-1)
    return torch.stack(
        [
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        ],
        -1,
    )


def _rotation_to_quaternion(rotation: Tensor) -> Tensor:
    """The quaternion (4,) of a rotation (3, 3), differentiable.

    The largest of the four components is taken from the diagonal (Shepperd), the rest from it.
    """
    m = rotation
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    squares = torch.stack([1 + trace, *(1 + 2 * m[i, i] - trace for i in range(3))])
    best = squares.argmax()
    sums = torch.stack([m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1]])
    differences = torch.stack([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]])
    table = (
        (squares[0], differences[0], differences[1], differences[2]),
        (differences[0], squares[1], sums[0], sums[1]),
        (differences[1], sums[0], squares[2], sums[2]),
        (differences[2], sums[1], sums[2], squares[3]),
    )
    if reads_are_free(best):
        row = torch.stack(table[int(best)])
    else:
        row = torch.stack([torch.stack(entries) for entries in table]).index_select(0, best)[0]
    unit: Tensor = row / row.norm()
    return unit


@dataclass(frozen=True)
class GaussianCloud:
    """Hold N radiative Gaussians: mu(x) = sum_i rho_i exp(-1/2 (x-p_i)' S_i^-1 (x-p_i)).

    mu is linear attenuation, S_i = R_i diag(s_i^2) R_i' (math.md section 1; Zha et al.,
    R2-Gaussian, 2024). All tensors are on one device and of one floating dtype.

    Args:
        means: (N, 3) mm, the centres p.
        scales: (N, 3) mm > 0, the standard deviations s along the Gaussian's axes.
        quaternions: (N, 4) in the order w, x, y, z, for R; normalised on use.
        densities: (N,) 1/mm >= 0, the peak values rho.

    Raises:
        ValueError: where the shapes, dtypes or devices do not fit together.

    Example:
        >>> import torch
        >>> from RadGSRegLib.gaussians import GaussianCloud
        >>> cloud = GaussianCloud(
        ...     means=torch.zeros(1, 3),
        ...     scales=torch.full((1, 3), 5.0),
        ...     quaternions=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        ...     densities=torch.tensor([0.02]),
        ... )
        >>> len(cloud), cloud.dtype
        (1, torch.float32)
    """

    means: Tensor
    scales: Tensor
    quaternions: Tensor
    densities: Tensor

    def __post_init__(self) -> None:
        count = self.means.shape[0]
        wanted: dict[str, tuple[int, ...]] = {"means": (count, 3), "scales": (count, 3)}
        wanted |= {"quaternions": (count, 4), "densities": (count,)}
        for name, shape in wanted.items():
            tensor = getattr(self, name)
            if tuple(tensor.shape) != shape:
                raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {shape}")
            if tensor.dtype != self.means.dtype or tensor.device != self.means.device:
                raise ValueError(f"{name} differs from the means in dtype or device")
        if not self.means.dtype.is_floating_point:
            raise ValueError("a cloud needs a floating dtype")

    def __len__(self) -> int:
        return int(self.means.shape[0])

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.means.device

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the tensors."""
        return self.means.dtype

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(means, scales, quaternions, densities)."""
        return self.means, self.scales, self.quaternions, self.densities

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> GaussianCloud:
        """The cloud on another device or in another floating dtype."""
        return GaussianCloud(*(t.to(device=device, dtype=dtype) for t in self.tensors))

    def detach(self) -> GaussianCloud:
        """The same numbers without a graph."""
        return GaussianCloud(*(t.detach() for t in self.tensors))

    def select(self, index: Tensor) -> GaussianCloud:
        """The Gaussians of a mask (N,) or of indices."""
        return GaussianCloud(*(t[index] for t in self.tensors))

    def transformed(self, a_to_b: Tensor | ArrayLike) -> GaussianCloud:
        """The cloud moved by a rigid ``a_to_b`` (4, 4), from frame a to frame b.

        Differentiable with respect to the cloud and to a torch ``a_to_b``.
        """
        matrix = as_matrix(a_to_b, self.means)
        rotation = matrix[:3, :3]
        return GaussianCloud(
            self.means @ rotation.T + matrix[:3, 3],
            self.scales,
            multiply_quaternions(_rotation_to_quaternion(rotation), self.quaternions),
            self.densities,
        )

    def rotations(self) -> Tensor:
        """R (N, 3, 3), one column per own axis."""
        return quaternions_to_matrices(self.quaternions)

    def covariances(self) -> Tensor:
        """S = R diag(s^2) R' (N, 3, 3), mm^2."""
        scaled = self.rotations() * self.scales[:, None, :]
        return scaled @ scaled.transpose(1, 2)

    def precision_factors(self) -> Tensor:
        """M = diag(1/s) R' (N, 3, 3), 1/mm, with S^-1 = M' M."""
        return self.rotations().transpose(1, 2) / self.scales[:, :, None]

    def masses(self) -> Tensor:
        """The integral of each Gaussian over space (N,): rho (2 pi)^(3/2) s1 s2 s3, in mm^2."""
        volumes: Tensor = self.scales.prod(1) * (2.0 * math.pi) ** 1.5
        return self.densities * volumes

    def mass(self) -> Tensor:
        """The integral of the attenuation over space, a scalar in mm^2 (= 1/mm times mm^3)."""
        return self.masses().sum()

    @staticmethod
    def concatenate(clouds: Sequence[GaussianCloud]) -> GaussianCloud:
        """All Gaussians of several clouds of one dtype and device."""
        if not clouds:
            raise ValueError("nothing to concatenate")
        parts = zip(*(cloud.tensors for cloud in clouds), strict=True)
        return GaussianCloud(*(torch.cat(part) for part in parts))


def numbers_of(matrix: Tensor | ArrayLike) -> NDArray[np.float64]:
    """The numbers of a matrix, float64; the host waits for them only where they are a tensor."""
    if isinstance(matrix, Tensor):
        matrix = matrix.detach().cpu().numpy()
    return np.asarray(matrix, dtype=np.float64)


def as_matrix(matrix: Tensor | ArrayLike, like: Tensor) -> Tensor:
    """A matrix (numpy, nested lists or torch) as a tensor of ``like``'s device and dtype.

    A torch matrix keeps its graph.
    """
    if isinstance(matrix, Tensor):
        return matrix.to(device=like.device, dtype=like.dtype)
    return torch.as_tensor(np.asarray(matrix, dtype=np.float64), device=like.device).to(like.dtype)
