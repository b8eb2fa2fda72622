"""Poses from three points and the directions in which they are seen, for many triples at once."""

from __future__ import annotations

import numpy as np

from ..geometry import Array


def _quartic_roots(coefficients: Array) -> Array:
    """The roots (N, 4), complex, of polynomials (N, 5), highest power first: Ferrari's formula."""
    a, b, c, d, e = coefficients.T.astype(complex)
    b, c, d, e = b / a, c / a, d / a, e / a
    # x = y - b / 4 leaves no third power: y^4 + p y^2 + q y + r.
    p = c - 3 * b**2 / 8
    q = d - b * c / 2 + b**3 / 8
    r = e - b * d / 4 + b**2 * c / 16 - 3 * b**4 / 256
    # A root m of the resolvent, by Cardano: 8 m^3 + 8 p m^2 + (2 p^2 - 8 r) m - q^2 = 0.
    linear, constant = p**2 / 4 - r, -(q**2) / 8
    s, t = linear - p**2 / 3, 2 * p**3 / 27 - p * linear / 3 + constant
    root = np.sqrt(t**2 / 4 + s**3 / 27)
    plus, minus = -t / 2 + root, -t / 2 - root
    cube = np.where(np.abs(plus) > np.abs(minus), plus, minus) ** (1 / 3)
    with np.errstate(divide="ignore", invalid="ignore"):
        m = cube - np.where(cube == 0, 0, s / (3 * cube)) - p / 3
        w = np.sqrt(2 * m)
        rest = np.where(w == 0, 0, 2 * q / w)
    roots = []
    for sign in (1, -1):
        inner = np.sqrt(-(2 * p + 2 * m + sign * rest))
        roots += [(sign * w + inner) / 2, (sign * w - inner) / 2]
    return np.asarray(np.stack(roots, axis=1) - b[:, None] / 4)


def three_point_poses(points: Array, rays: Array) -> tuple[Array, Array, Array]:
    """Poses from triples of points (N, 3, 3) and three unit directions (3, 3), rows one each.

    Returns rotations (K, 3, 3), translations (K, 3) and the number (K,) of each one's triple: up
    to four of a triple have all points before the camera. After J. A. Grunert (1841), as in
    R. M. Haralick et al., Int J Comput Vis 13, 1994.
    """
    a2, b2, c2 = (
        np.sum((points[:, i] - points[:, j]) ** 2, axis=1) for i, j in ((1, 2), (0, 2), (0, 1))
    )
    alpha, beta, gamma = rays[1] @ rays[2], rays[0] @ rays[2], rays[0] @ rays[1]
    less, more = (a2 - c2) / b2, (a2 + c2) / b2
    polynomial = np.stack(
        [
            (less - 1) ** 2 - 4 * c2 / b2 * alpha**2,
            4
            * (
                less * (1 - less) * beta
                - (1 - more) * alpha * gamma
                + 2 * c2 / b2 * alpha**2 * beta
            ),
            2
            * (
                less**2
                - 1
                + 2 * less**2 * beta**2
                + 2 * (b2 - c2) / b2 * alpha**2
                - 4 * more * alpha * beta * gamma
                + 2 * (b2 - a2) / b2 * gamma**2
            ),
            4
            * (
                -less * (1 + less) * beta
                + 2 * a2 / b2 * gamma**2 * beta
                - (1 - more) * alpha * gamma
            ),
            (1 + less) ** 2 - 4 * a2 / b2 * gamma**2,
        ],
        axis=1,
    )
    polynomial[:, 0] = np.where(np.abs(polynomial[:, 0]) < 1e-12, 1e-12, polynomial[:, 0])
    roots = _quartic_roots(polynomial)
    # Noise makes a pair of equal roots (a triangle square to the beam) a little complex.
    real = np.abs(roots.imag) < 0.05 * (1 + np.abs(roots.real))
    triple, which = np.nonzero(real & (roots.real > 0))
    v = roots.real[triple, which]
    with np.errstate(divide="ignore", invalid="ignore"):
        u = ((less[triple] - 1) * v**2 - 2 * less[triple] * beta * v + 1 + less[triple]) / (
            2 * (gamma - v * alpha)
        )
        first = np.sqrt(b2[triple] / (1 + v**2 - 2 * v * beta))
    lengths = np.stack([first, u * first, v * first], axis=1)
    good = np.isfinite(lengths).all(axis=1) & (lengths > 0).all(axis=1)
    triple, lengths = triple[good], lengths[good]
    return _aligned(points[triple], lengths[:, :, None] * rays, triple)


def _aligned(points: Array, place: Array, triple: Array) -> tuple[Array, Array, Array]:
    """Rigid transforms from triples (K, 3, 3) to places (K, 3, 3) of the same shape, nearly."""

    def axes(p: Array) -> Array:
        along = p[:, 1] - p[:, 0]
        normal = np.cross(along, p[:, 2] - p[:, 0])
        x = along / np.linalg.norm(along, axis=1, keepdims=True)
        z = normal / np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-12)
        return np.stack([x, np.cross(z, x), z], axis=2)

    rotation = axes(place) @ axes(points).swapaxes(1, 2)
    move = place.mean(1) - np.einsum("kij,kj->ki", rotation, points.mean(1))
    return rotation, move, triple
