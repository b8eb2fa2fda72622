"""A round shadow fitted to the pixels: its centre to a hundredth of a pixel.

The profile is a disc with a soft edge, flat in its centre (the symmetrised Fermi function),

    p(d) = sinh(R / w) / (cosh(R / w) + cosh(d / w)),

on a plane of grey values, or a curved ground: R the radius at half height, w how soft the edge is.
It is as symmetric as a sphere's shadow, and near enough to one under a blur and any monotone
display curve, also a clipping one. All spots are fitted at once, by Levenberg and Marquardt's
method with weights that forget what lies beside (other beads, edges of bones).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry import Array
from .bounds import (
    CENTRE_DOUBT,
    FIT_STEPS,
    LEAST_NOISE_PX,
    OUTLYING,
    REACH_PX,
    REACH_RADII,
    SIZE_STEP,
)
from .spot_noise import alike_pixels

Image = NDArray[np.float32]

_SOFT_PX = (0.25, 40.0)


@dataclass(frozen=True)
class Fitted:
    """Spots as fitted: ``centres_px`` (N, 2), ``radii_px``, ``soft_px``, ``heights`` (N,) of the
    centre over the ground, ``left`` (N,) what the fit leaves within the spot (root mean square),
    ``sigma_px`` (N,) of the centre along an axis, ``within`` (N,) share of it that is fitted,
    ``clear`` (N,) the height over its own standard deviation."""

    centres_px: Array
    radii_px: Array
    soft_px: Array
    heights: Array
    left: Array
    sigma_px: Array
    within: Array
    clear: Array

    def some(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Fitted:
        """Return some of them."""
        return Fitted(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def joined(parts: list[Fitted]) -> Fitted:
    """Several as one."""
    names = Fitted.__dataclass_fields__
    return Fitted(*(np.concatenate([getattr(part, n) for part in parts]) for n in names))


@dataclass(frozen=True)
class Ground:
    """What spots lie on: ``curved`` whether it may bend, and what covers it, ``others`` (N, K, 3):
    column, row and radius of K circles beside each spot whose pixels do not count; NaN for none."""

    curved: bool = False
    others: Array | None = None


FLAT = Ground()


def fitted(
    picture: Image, centres_px: Array, radii_px: Array, steps: int = FIT_STEPS, on: Ground = FLAT
) -> Fitted:
    """Fit a spot to each candidate (N, 2), (N,); in the candidates' order."""
    # Those of about the same size are fitted at once, over as many pixels.
    size = np.exp(np.rint(np.log(np.maximum(radii_px, 0.5)) / SIZE_STEP) * SIZE_STEP)
    order, parts = [], []
    for radius in np.unique(size):
        index = np.nonzero(size == radius)[0]
        order.append(index)
        others = None if on.others is None else on.others[index]
        own = Ground(on.curved, others)
        parts.append(_fitted_alike(picture, centres_px[index], float(radius), steps, own))
    if not parts:
        none = np.zeros(0)
        return Fitted(np.zeros((0, 2)), *[none] * 7)
    return joined(parts).some(np.argsort(np.concatenate(order), kind="stable"))


def _fitted_alike(
    picture: Image, centres_px: Array, radius: float, steps: int, on: Ground
) -> Fitted:
    """`fitted` for candidates of about the same radius."""
    reach = REACH_RADII * radius + REACH_PX
    side = np.arange(-int(np.ceil(reach)), int(np.ceil(reach)) + 1)
    dy, dx = (g.ravel() for g in np.meshgrid(side, side, indexing="ij"))
    near = np.hypot(dx, dy) <= reach
    dx, dy = dx[near], dy[near]
    corner = np.rint(centres_px).astype(np.int64)
    columns, rows = corner[:, :1] + dx, corner[:, 1:] + dy
    height, width = picture.shape
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    if on.others is not None:
        x, y, size = (on.others[:, :, n, None] for n in range(3))
        inside &= ~(np.hypot(columns[:, None] - x, rows[:, None] - y) < size).any(axis=1)
    grey = picture[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)].astype(float)
    fit = _Fit(dx.astype(float), dy.astype(float), grey, inside.astype(float), radius, on.curved)
    for _ in range(steps):
        fit.step()
    return fit.result(corner.astype(float))


class _Fit:
    """Spots of a size in patches: ``dx``, ``dy`` (P,) from the corner, ``grey`` (N, P)."""

    def __init__(
        self, dx: Array, dy: Array, grey: Array, inside: Array, radius: float, curved: bool
    ) -> None:
        self.dx, self.dy, self.grey, self.inside, self.start = dx, dy, grey, inside, radius
        x, y = dx / radius, dy / radius
        flat = [np.ones_like(x), x, y]
        self.ground = np.stack([*flat, x * x, x * y, y * y] if curved else flat, axis=-1)
        count = len(grey)
        # Unknown: column, row, log radius, log softness; height, ground.
        self.shape = np.tile([0.0, 0.0, np.log(radius), np.log(max(0.3 * radius, 0.5))], (count, 1))
        self.damping = np.full(count, 1e-3)
        basis, _ = self._basis(self.shape)
        self.linear = _solved(basis, inside, grey)
        self.weights = inside
        self.cost = self._cost(self.shape, self.linear, self.weights)

    def _basis(self, shape: Array) -> tuple[Array, Array]:
        """(N, P, 1 + G) profile and ground; (N, P, 4) the profile's derivative by the shape."""
        x, y = self.dx - shape[:, :1], self.dy - shape[:, 1:2]
        distance = np.sqrt(x * x + y * y) + 1e-9
        radius, soft = np.exp(shape[:, 2:3]), np.exp(shape[:, 3:4])
        # Divided by exp(max): neither cosh overflows.
        a, b = radius / soft, distance / soft
        top = np.maximum(a, b)
        ea, eb, na, nb = (np.exp(v - top) for v in (a, b, -a, -b))
        sinh_a, cosh_a, sinh_b, cosh_b = ea - na, ea + na, eb - nb, eb + nb
        below = cosh_a + cosh_b
        profile = sinh_a / below
        by_b = -profile * sinh_b / below
        by_a = (cosh_a - profile * sinh_a) / below
        by_distance = by_b / soft
        derivative = np.stack(
            [
                -by_distance * x / distance,
                -by_distance * y / distance,
                by_a * a,
                -by_a * a - by_b * b,
            ],
            axis=-1,
        )
        ground = np.broadcast_to(self.ground, (*profile.shape, self.ground.shape[1]))
        return np.concatenate([profile[..., None], ground], axis=-1), derivative

    def _residual(self, shape: Array, linear: Array) -> Array:
        basis, _ = self._basis(shape)
        return np.asarray(self.grey - np.einsum("npk,nk->np", basis, linear))

    def _cost(self, shape: Array, linear: Array, weights: Array) -> Array:
        return np.asarray(np.sum(weights * self._residual(shape, linear) ** 2, axis=1))

    def _jacobian(self) -> tuple[Array, Array]:
        basis, derivative = self._basis(self.shape)
        residual = self.grey - np.einsum("npk,nk->np", basis, self.linear)
        jacobian = np.concatenate([derivative * self.linear[:, None, :1], basis], axis=-1)
        return jacobian, residual

    def step(self) -> None:
        """A step of all spots; those that got worse stay and are damped."""
        jacobian, residual = self._jacobian()
        self.weights = self.inside * _robust(residual, self.inside)
        before = np.sum(self.weights * residual**2, axis=1)
        weighted = jacobian * self.weights[..., None]
        normal = np.swapaxes(weighted, 1, 2) @ jacobian
        right = np.einsum("npk,np->nk", weighted, residual)
        diagonal = np.einsum("nkk->nk", normal)
        size = np.eye(normal.shape[1]) * (
            self.damping[:, None, None] * diagonal[:, None, :]
            + 1e-9 * diagonal.max(axis=1)[:, None, None]
            + 1e-12
        )
        change = np.linalg.solve(normal + size, right[..., None])[..., 0]
        shape = self.shape + np.clip(change[:, :4], -0.5, 0.5)
        shape[:, :2] = np.clip(shape[:, :2], -self.start - 1.0, self.start + 1.0)
        shape[:, 2] = np.clip(shape[:, 2], np.log(self.start / 2.0), np.log(self.start * 2.0))
        shape[:, 3] = np.clip(shape[:, 3], *np.log(_SOFT_PX))
        linear = self.linear + change[:, 4:]
        after = self._cost(shape, linear, self.weights)
        better = after <= before
        self.shape = np.where(better[:, None], shape, self.shape)
        self.linear = np.where(better[:, None], linear, self.linear)
        self.damping = np.clip(np.where(better, self.damping * 0.3, self.damping * 8.0), 1e-6, 1e6)

    def result(self, corner: Array) -> Fitted:
        """What came of it, in pixels of the picture."""
        jacobian, residual = self._jacobian()
        weights = self.inside * _robust(residual, self.inside)
        radius, soft = np.exp(self.shape[:, 2]), np.exp(self.shape[:, 3])
        distance = np.hypot(self.dx - self.shape[:, :1], self.dy - self.shape[:, 1:2])
        spot = distance <= radius[:, None] + 1.5
        own = self.inside * spot
        left = np.sqrt(np.sum(own * residual**2, axis=1) / np.maximum(own.sum(axis=1), 1.0))
        normal = np.swapaxes(jacobian * weights[..., None], 1, 2) @ jacobian
        normal += np.eye(normal.shape[1]) * 1e-9 * np.einsum("nkk->n", normal)[:, None, None]
        normal += np.eye(normal.shape[1]) * 1e-12
        inverse = np.linalg.inv(normal)
        freedom = np.maximum(weights.sum(axis=1) - normal.shape[1], 1.0)
        variance = np.sum(weights * residual**2, axis=1) / freedom
        variance *= CENTRE_DOUBT**2 * alike_pixels(self.dx, self.dy, np.sqrt(weights) * residual)
        sigma = np.sqrt(np.abs(0.5 * (inverse[:, 0, 0] + inverse[:, 1, 1])) * variance)
        sigma = np.hypot(sigma, LEAST_NOISE_PX)
        clear = self.linear[:, 0] / np.sqrt(np.abs(inverse[:, 4, 4]) * variance + 1e-30)
        height = self.linear[:, 0] * np.tanh(0.5 * radius / soft)
        within = own.sum(axis=1) / np.maximum(spot.sum(axis=1), 1)
        return Fitted(corner + self.shape[:, :2], radius, soft, height, left, sigma, within, clear)


def _solved(basis: Array, weights: Array, grey: Array) -> Array:
    """The linear unknowns (N, 1 + G) that fit best."""
    weighted = basis * weights[..., None]
    normal = np.swapaxes(weighted, 1, 2) @ basis
    normal += np.eye(normal.shape[1]) * 1e-9 * np.einsum("nkk->n", normal)[:, None, None]
    right = np.einsum("npk,np->nk", weighted, grey)
    return np.asarray(
        np.linalg.solve(normal + 1e-12 * np.eye(normal.shape[1]), right[..., None])[..., 0]
    )


def _robust(residual: Array, inside: Array) -> Array:
    """Weights (N, P), 1 for small residuals, less beyond `OUTLYING` deviations (Geman, McClure)."""
    size = np.where(inside > 0, np.abs(residual), np.nan)
    scale = 1.4826 * np.nanmedian(size, axis=1)[:, None] + 1e-9
    return np.asarray(1.0 / (1.0 + (residual / (OUTLYING * scale)) ** 2) ** 2)
