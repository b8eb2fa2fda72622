"""A projection matrix from pairs of points and pixels: the direct linear transformation."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry import Array

LEAST = 6


def _normalizing(points: Array) -> Array:
    """The similarity (D + 1, D + 1) that puts points (N, D) about 0, sqrt(D) from it on average."""
    dimension = points.shape[1]
    middle = points.mean(0)
    spread = max(float(np.linalg.norm(points - middle, axis=1).mean()), 1e-12)
    scale = np.sqrt(dimension) / spread
    out = np.diag([*[scale] * dimension, 1.0])
    out[:dimension, dimension] = -scale * middle
    return out


def _equations(points: Array, pixels: Array) -> Array:
    """The two equations of each pair (N, 2, 12) for the rows of the matrix."""
    homogeneous = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    out = np.zeros((len(points), 2, 12))
    out[:, 0, :4] = out[:, 1, 4:8] = homogeneous
    out[:, :, 8:] = -pixels[:, :, None] * homogeneous[:, None]
    return out


def dlt(points_world: ArrayLike, pixels: ArrayLike) -> Array:
    """The projection matrix (3, 4) of least algebraic error, after normalisation (Hartley).

    ``points_world`` (N, 3) mm and ``pixels`` (N, 2), at least 6 pairs. Raises ValueError for fewer,
    and for points in one plane, which fix no matrix.
    """
    points, uv = (np.asarray(a, dtype=float) for a in (points_world, pixels))
    if len(points) < LEAST:
        raise ValueError(f"a projection matrix needs {LEAST} pairs or more, not {len(points)}")
    world, picture = _normalizing(points), _normalizing(uv)
    matrix = _equations(
        points @ world[:3, :3].T + world[:3, 3], uv @ picture[:2, :2].T + picture[:2, 2]
    ).reshape(-1, 12)
    singular, rows = np.linalg.svd(matrix, full_matrices=True)[1:]
    if singular[10] < 1e-9 * singular[0]:
        raise ValueError("the points fix no projection matrix: do they lie in one plane?")
    return np.asarray(np.linalg.solve(picture, rows[11].reshape(3, 4) @ world))


def projected(matrix: Array, points_world: ArrayLike) -> Array:
    """Pixels (..., N, 2) of points (N, 3) through matrices (..., 3, 4)."""
    points = np.asarray(points_world, dtype=float)
    homogeneous = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    image = np.einsum("...ij,nj->...ni", matrix, homogeneous)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(image[..., :2] / image[..., 2:])


def robust_dlt(
    points_world: ArrayLike, pixels: ArrayLike, gate_px: float, draws: int = 200
) -> tuple[Array, NDArray[np.bool_]]:
    """A projection matrix (3, 4) that many pairs agree with, and which (N,) within ``gate_px``.

    Random subsets of six pairs (RANSAC; always the same ones), each measured by the distances of
    all pairs, cut off at the gate; then twice all that agree. Raises ValueError where no six agree.
    """
    points, uv = (np.asarray(a, dtype=float) for a in (points_world, pixels))
    count = len(points)
    if count < LEAST:
        raise ValueError(f"a projection matrix needs {LEAST} pairs or more, not {count}")
    world, picture = _normalizing(points), _normalizing(uv)
    rows = _equations(
        points @ world[:3, :3].T + world[:3, 3], uv @ picture[:2, :2].T + picture[:2, 2]
    )
    subsets = np.random.default_rng(0).random((draws, count)).argsort(axis=1)[:, :LEAST]
    solutions = np.linalg.svd(rows[subsets].reshape(draws, 2 * LEAST, 12))[2][:, 11]
    matrices = np.asarray(np.linalg.solve(picture, solutions.reshape(-1, 3, 4) @ world))
    apart = np.linalg.norm(projected(matrices, points) - uv, axis=-1)
    apart = np.where(np.isfinite(apart), apart, np.inf)
    best = int(np.minimum(apart / gate_px, 1.0).sum(axis=1).argmin())
    matrix, inside = matrices[best], apart[best] < gate_px
    for _ in range(2):
        if inside.sum() < LEAST:
            raise ValueError("no six pairs agree on a projection matrix")
        matrix = dlt(points[inside], uv[inside])
        inside = np.linalg.norm(projected(matrix, points) - uv, axis=1) < gate_px
    return matrix, inside
