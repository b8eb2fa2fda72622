"""Cameras, and fixtures of beads, that explain spots: one least-squares problem.

A bead at p of fixture f is at Y = F p in the world, at x = R (Y - S) in camera axes (R: world to
camera, S: source), and in the picture at

    u = cx + a f x / z,   v = cy + f y / (z a),

with one focal length f, a the root of the pixels' rows over columns (negative where the picture is
mirrored). On top come the shift of a sphere's shadow, held while the rest moves, and distortion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from ..geometry import (
    Array,
    Camera,
    Distortion,
    affine,
    distort,
    projection_by_camera,
    projection_by_point,
    skew,
)
from . import bounds
from .prior import Prior

SphereShift = Callable[[Camera, Array, Array], Array]
_ROUNDS = 8
# Of 95 % efficiency where the noise is normal.
_LOSS_SCALE = {"huber": 1.345, "cauchy": 2.385}
_QUARTER = np.array([[0.0, -1.0], [1.0, 0.0]])


@dataclass(frozen=True)
class Block:
    """Spots in one view of beads of one fixture.

    ``points`` (M, 3) mm of the fixture, ``pixels`` (M, 2) as shown, ``sigma_px`` (M,),
    ``diameters_mm`` (M,); ``view`` and ``fixture`` are numbers; fixture 0 is the world.
    """

    view: int
    fixture: int
    points: Array
    pixels: Array
    sigma_px: Array
    diameters_mm: Array

    def some(self, keep: Array) -> Block:
        """Those of its pairs where ``keep`` (M,) holds."""
        index = np.flatnonzero(keep)
        return replace(
            self,
            points=self.points[index],
            pixels=self.pixels[index],
            sigma_px=self.sigma_px[index],
            diameters_mm=self.diameters_mm[index],
        )


@dataclass(frozen=True)
class State:
    """Cameras and fixtures as they are so far.

    ``groups`` (V,): which intrinsics each view uses; ``fixtures`` (F, 4, 4) to the world.
    """

    cameras: tuple[Camera, ...]
    groups: tuple[int, ...]
    fixtures: Array
    distortions: tuple[Distortion, ...] | None = None

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers of views' parameters, of intrinsics', of distortions'; fixtures come last."""
        count = len(set(self.groups))
        return 6 * len(self.cameras), 3 * count, 4 * count if self.distortions else 0

    @property
    def parameters(self) -> int:
        """How many numbers a step has."""
        return sum(self.sizes) + 6 * (len(self.fixtures) - 1)


def _left(vector: Array) -> Array:
    """How exp(w) turns as w moves, (3, 3): the left Jacobian of SO(3)."""
    angle = float(np.linalg.norm(vector))
    k = skew(vector)
    if angle < 1e-6:
        return np.asarray(np.eye(3) + k / 2.0)
    a, b = (1.0 - np.cos(angle)) / angle**2, (angle - np.sin(angle)) / angle**3
    return np.asarray(np.eye(3) + a * k + b * k @ k)


def moved(state: State, x: Array) -> State:
    """The state after a step (P,): per view w and S, then f, cx, cy, distortions, fixtures."""
    views, intrinsics, bends = state.sizes
    inner = x[views : views + intrinsics].reshape(-1, 3)
    cameras = []
    for number, (camera, group) in enumerate(zip(state.cameras, state.groups, strict=True)):
        step = x[6 * number : 6 * number + 6]
        turn = Rotation.from_rotvec(step[:3]).as_matrix() @ camera.world_to_camera[:3, :3]
        source = camera.source_world + step[3:]
        k = camera.intrinsic.copy()
        k[:2, :2] *= (camera.focal_px + inner[group, 0]) / camera.focal_px
        k[:2, 2] += inner[group, 1:]
        cameras.append(Camera(k, affine(turn, -turn @ source), *camera.size))
    fixtures = state.fixtures.copy()
    for number, step in enumerate(x[views + intrinsics + bends :].reshape(-1, 6), start=1):
        fixtures[number, :3, :3] = (
            Rotation.from_rotvec(step[:3]).as_matrix() @ (fixtures[number, :3, :3])
        )
        fixtures[number, :3, 3] += step[3:]
    distortions = state.distortions
    if distortions:
        steps = x[views + intrinsics : views + intrinsics + bends].reshape(-1, 2, 2)
        distortions = tuple(
            replace(
                old,
                radial=tuple(np.asarray(old.radial) + step[0]),
                spiral=tuple(np.asarray(old.spiral) + step[1]),
            )
            for old, step in zip(distortions, steps, strict=True)
        )
    return replace(state, cameras=tuple(cameras), fixtures=fixtures, distortions=distortions)


def in_world(state: State, block: Block) -> Array:
    """The beads of a block, world mm (M, 3)."""
    pose = state.fixtures[block.fixture]
    return np.asarray(block.points @ pose[:3, :3].T + pose[:3, 3])


def predicted(state: State, block: Block, shift: Array) -> Array:
    """Where the spots of a block would be shown, pixels (M, 2)."""
    straight = state.cameras[block.view].project(in_world(state, block)) + shift
    if state.distortions:
        return distort(straight, state.distortions[state.groups[block.view]])
    return np.asarray(straight)


def _bent(straight: Array, distortion: Distortion) -> tuple[Array, Array]:
    """How shown points move with straight ones (M, 2, 2), and with the distortion (M, 2, 4)."""
    q = (straight - np.asarray(distortion.centre_px)) / distortion.unit_px
    square = np.sum(q**2, axis=1)
    (k1, k2), (s1, s2) = distortion.radial, distortion.spiral
    stretch = 1.0 + k1 * square + k2 * square**2
    turn = Rotation.from_rotvec(
        np.column_stack([np.zeros((len(q), 2)), s1 * square + s2 * square**2])
    ).as_matrix()[:, :2, :2]
    along = np.einsum("mij,mj->mi", turn, q)
    across = stretch[:, None] * (along @ _QUARTER.T)
    by_point = (
        stretch[:, None, None] * turn
        + along[:, :, None] * ((2 * k1 + 4 * k2 * square)[:, None] * q)[:, None, :]
        + across[:, :, None] * ((2 * s1 + 4 * s2 * square)[:, None] * q)[:, None, :]
    )
    powers = np.stack([square, square**2], axis=1)
    by_number = np.concatenate(
        [along[:, :, None] * powers[:, None], across[:, :, None] * powers[:, None]], axis=2
    )
    return by_point, distortion.unit_px * by_number


def _block_jacobian(start: State, x: Array, block: Block, shift: Array) -> Array:
    """How a block's predicted pixels (2 M) move with the step (2 M, P), at the step ``x``."""
    state = moved(start, x)
    views, intrinsics, bends = start.sizes
    camera, group = state.cameras[block.view], state.groups[block.view]
    world = in_world(state, block)
    by_camera = projection_by_camera(camera, world)
    at = 6 * block.view
    out = np.zeros((len(world), 2, len(x)))
    out[:, :, at : at + 3] = by_camera[:, :, :3] @ _left(x[at : at + 3])
    out[:, :, at + 3 : at + 6] = by_camera[:, :, 3:6]
    out[:, :, views + 3 * group : views + 3 * group + 3] = by_camera[:, :, 6:]
    if block.fixture:
        own = views + intrinsics + bends + 6 * (block.fixture - 1)
        arm = world - state.fixtures[block.fixture][:3, 3]
        by_place = projection_by_point(camera, world)
        out[:, :, own : own + 3] = by_place @ (-skew(arm)) @ _left(x[own : own + 3])
        out[:, :, own + 3 : own + 6] = by_place
    if state.distortions:
        straight = camera.project(world) + shift
        by_point, by_number = _bent(straight, state.distortions[group])
        out = by_point @ out
        own = views + intrinsics + 4 * group
        out[:, :, own : own + 4] = by_number
    return np.asarray(out.reshape(-1, len(x)))


@dataclass(frozen=True)
class Solved:
    """The state, its parameters' covariance (P, P), and each block's residuals (M, 2), px.

    ``noise`` is the standard deviation found, in units of the spots' own; ``kept``: which pairs
    of each block were used.
    """

    state: State
    covariance: Array
    residuals: tuple[Array, ...]
    noise: float
    freedom: float
    kept: tuple[Array, ...]


class Problem:
    """Blocks of spots, what is known before, and the shadow's shift of spheres."""

    def __init__(
        self, blocks: list[Block], prior: Prior, sphere_shift: SphereShift | None = None
    ) -> None:
        self.blocks, self.prior, self.sphere_shift = blocks, prior, sphere_shift

    def shifts(self, state: State) -> list[Array]:
        """The shift of each block's spots, pixels (M, 2)."""
        if self.sphere_shift is None:
            return [np.zeros_like(block.pixels) for block in self.blocks]
        return [
            np.asarray(
                self.sphere_shift(
                    state.cameras[block.view], in_world(state, block), block.diameters_mm
                )
            )
            for block in self.blocks
        ]

    def _prior(self, state: State, count: int) -> tuple[Array, Array]:
        """Residuals of the prior (Q,), and how they move with the step (Q, P)."""
        views = state.sizes[0]
        values, rows = [np.zeros(0)], [np.zeros((0, count))]
        for group in range(len(set(state.groups))):
            camera = state.cameras[state.groups.index(group)]
            value, by_intrinsics = self.prior.residual(camera)
            row = np.zeros((len(value), count))
            row[:, views + 3 * group : views + 3 * group + 3] = by_intrinsics
            values.append(value)
            rows.append(row)
        return np.concatenate(values), np.concatenate(rows)

    def residuals(self, state: State, shifts: list[Array]) -> list[Array]:
        """Shown minus predicted of each block, pixels (M, 2)."""
        pairs = zip(self.blocks, shifts, strict=True)
        return [block.pixels - predicted(state, block, shift) for block, shift in pairs]

    def solve(self, start: State, loss: str, noise: float) -> tuple[State, Array, Array]:
        """The state of least squares (or another of SciPy's losses), and the Jacobians.

        These are of the data (E, P) and of the prior (Q, P).

        ``noise`` is what the spots' own standard deviations are multiplied by, which weighs them
        against the prior.
        """
        count = start.parameters
        shifts = self.shifts(start)

        def weighed(parts: list[Array]) -> Array:
            pairs = zip(parts, self.blocks, strict=True)
            return np.concatenate([(p / b.sigma_px[:, None] / noise).ravel() for p, b in pairs])

        def cost(x: Array) -> Array:
            state = moved(start, x)
            return np.concatenate(
                [-weighed(self.residuals(state, shifts)), self._prior(state, count)[0]]
            )

        def data_jacobian(base: State, x: Array) -> Array:
            return np.concatenate(
                [
                    _block_jacobian(base, x, b, s) / np.repeat(b.sigma_px, 2)[:, None] / noise
                    for b, s in zip(self.blocks, shifts, strict=True)
                ]
            )

        prior = self._prior(start, count)[1]
        answer = least_squares(
            cost,
            np.zeros(count),
            lambda x: np.concatenate([data_jacobian(start, x), prior]),
            x_scale="jac",
            loss=loss,
            f_scale=_LOSS_SCALE.get(loss, 1.0),
            max_nfev=50,
        )
        state = moved(start, answer.x)
        return state, data_jacobian(state, np.zeros(count)), prior

    def _noise(self, parts: list[Array], freedom: float, robust: bool = True) -> float:
        """The standard deviation in units of the spots' own; ``freedom``: equations left over."""
        pairs = zip(parts, self.blocks, strict=True)
        scaled = np.concatenate([(p / b.sigma_px[:, None]).ravel() for p, b in pairs])
        own = float(np.median(np.concatenate([b.sigma_px for b in self.blocks])))
        if robust:
            # As many equations as there are parameters may be met exactly: they say nothing.
            met = min(max(round(len(scaled) - freedom) - 1, 0), len(scaled) - 1)
            spread = float(np.median(np.sort(np.abs(scaled))[met:])) / 0.6745
        else:
            spread = float(np.sqrt(np.sum(scaled**2) / max(freedom, 1.0)))
        return max(spread, bounds.LEAST_NOISE_PX / own)

    def refined(self, start: State) -> Solved:
        """Robust first, then without the outliers, until which they are stays.

        Raises ValueError where too few pairs are left, or these do not fix all parameters.
        """
        kept = [np.ones(len(block.pixels), dtype=bool) for block in self.blocks]
        freedom = float(2 * sum(len(block.pixels) for block in self.blocks) - start.parameters)
        state = start
        least = 0.0
        for loss in ("huber", "huber", "cauchy", "cauchy"):
            noise = self._noise(self._now(state), freedom)
            # A loss that forgets outliers fits few pairs exactly, if it may, and forgets the rest.
            least = 0.5 * noise if loss == "huber" else least
            state, *_ = self.solve(state, loss, max(noise, least))
        for _ in range(_ROUNDS):
            parts = self._now(state)
            limit = bounds.OUTLIER_SIGMAS * max(self._noise(parts, freedom), least)
            now = [
                np.linalg.norm(p / b.sigma_px[:, None], axis=1) < limit * np.sqrt(2.0)
                for p, b in zip(parts, self.blocks, strict=True)
            ]
            left = Problem(
                [b.some(k) for b, k in zip(self.blocks, now, strict=True)],
                self.prior,
                self.sphere_shift,
            )
            if min(len(b.pixels) for b in left.blocks) < bounds.LEAST_PAIRS:
                raise ValueError(f"fewer than {bounds.LEAST_PAIRS} pairs fit one camera")
            solved = left._linear(state)
            state, settled = solved.state, all(map(np.array_equal, now, kept))
            kept, least = now, 0.0
            if settled:
                break
        return replace(solved, kept=tuple(kept))

    def _now(self, state: State) -> list[Array]:
        return self.residuals(state, self.shifts(state))

    def _linear(self, state: State) -> Solved:
        """Least squares, the noise found along with it."""
        equations = 2 * sum(len(block.pixels) for block in self.blocks)
        freedom = float(equations - state.parameters)
        noise = self._noise(self._now(state), freedom)
        covariance = np.zeros((0, 0))
        for _ in range(4):
            state, data, prior = self.solve(state, "linear", noise)
            normal = data.T @ data + prior.T @ prior
            scale = 1.0 / np.sqrt(np.diag(normal).clip(1e-300))
            scaled = scale[:, None] * normal * scale
            if np.linalg.cond(scaled) > 1e13:
                raise ValueError("the beads do not fix the camera (do they lie in one plane?)")
            covariance = scale[:, None] * np.linalg.inv(scaled) * scale
            freedom = equations - float(np.trace(covariance @ (data.T @ data)))
            before, noise = noise, self._noise(self._now(state), freedom, False)
            if abs(noise - before) < 0.01 * before:
                break
        return Solved(state, covariance, tuple(self._now(state)), noise, freedom, ())
