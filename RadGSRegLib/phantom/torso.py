"""Everything around the bones: trunk, fat, muscles, organs, vessels and bowel gas, in HU."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import map_coordinates

from .canvas import Grid
from .fields import Array, Points, coverage, superellipse
from .parameters import SpineParameters
from .placement import vertebra_poses
from .sizes import MOBILE_LEVELS
from .texture import Texture


@dataclass(frozen=True)
class _Painter:
    """Lays soft shapes of one HU value over what is there."""

    grid: Grid
    hu: Array

    def tube(self, z: ArrayLike, centre: ArrayLike, radii: ArrayLike, value: float) -> None:
        """A tube along z: centres (M, 2) and radii (M, 2) in x and y at heights ``z`` (M,)."""
        heights = np.asarray(z, dtype=float)
        c, r = np.asarray(centre, dtype=float), np.asarray(radii, dtype=float)
        order = np.argsort(heights)
        heights, c, r = heights[order], c[order], r[order]
        margin = 4 * self.grid.sigma
        low = [*(c - r).min(0) - margin, heights[0]]
        high = [*(c + r).max(0) + margin, heights[-1]]
        box = self.grid.box(low, high)
        if min(s.stop - s.start for s in box) <= 0:
            return

        def at(values: NDArray[np.float64]) -> Array:
            line = np.interp(self.grid.z[box[0]], heights, values)
            return np.asarray(line[:, None, None], dtype=np.float32)

        u = (self.grid.x[box[2]][None, None, :] - at(c[:, 0])) / at(r[:, 0])
        v = (self.grid.y[box[1]][None, :, None] - at(c[:, 1])) / at(r[:, 1])
        gauge = np.sqrt(u * u + v * v)
        self._lay(box, (gauge - 1.0) * np.minimum(at(r[:, 0]), at(r[:, 1])), value)

    def blob(self, centre: ArrayLike, radii: ArrayLike, value: float) -> None:
        """An ellipsoid."""
        c, r = np.asarray(centre, dtype=np.float32), np.asarray(radii, dtype=np.float32)
        margin = np.float32(4 * self.grid.sigma)
        box = self.grid.box(c - r - margin, c + r + margin)
        if min(s.stop - s.start for s in box) <= 0:
            return
        u = ((self.grid.x[box[2]] - c[0]) / r[0])[None, None, :]
        v = ((self.grid.y[box[1]] - c[1]) / r[1])[None, :, None]
        w = ((self.grid.z[box[0]] - c[2]) / r[2])[:, None, None]
        gauge = np.sqrt(u * u + v * v + w * w)
        self._lay(box, (gauge - 1.0) * r.min(), value)

    def _lay(self, box: tuple[slice, slice, slice], distance: Array, value: float) -> None:
        share = coverage(distance, max(self.grid.sigma, 0.6))
        here = self.hu[box]
        here += share * (np.float32(value) - here)


def trunk_centre(parameters: SpineParameters) -> tuple[float, float]:
    """The middle (x, y) of the trunk's outer ellipse; L3's body centre is the origin."""
    size = parameters.vertebrae["L3"].size
    skin = 0.5 * size.depth_lower + size.spinous_length + 8.0 + 0.6 * parameters.fat_mm
    sacrum = vertebra_poses(parameters)["S1"] @ [0.0, 0.5 * size.depth_lower + 18.0, -50.0, 1.0]
    skin = max(skin, float(sacrum[1]) + 12.0)
    return 0.0, skin - 0.5 * parameters.trunk_depth_mm


def paint_torso(parameters: SpineParameters, grid: Grid) -> Array:
    """HU (K, J, I) of the trunk without bones and discs."""
    rng = np.random.default_rng(parameters.seed)
    poses = vertebra_poses(parameters)
    x0, y0 = trunk_centre(parameters)
    half_w, half_d = parameters.trunk_width_mm / 2, parameters.trunk_depth_mm / 2
    fat = parameters.fat_mm

    xs, ys = np.meshgrid(grid.x - np.float32(x0), grid.y - np.float32(y0))

    def ring(inset_x: float, inset_y: float) -> Array:
        a = np.full(xs.size, max(half_w - inset_x, 5.0), dtype=np.float32)
        b = np.full(xs.size, max(half_d - inset_y, 5.0), dtype=np.float32)
        distance = superellipse(xs.ravel(), ys.ravel(), a, b, 2.35).reshape(xs.shape)
        return coverage(distance, max(grid.sigma, 0.6))

    # The outline and its layers change little with height, so they are painted once, flat.
    flat = np.full(xs.shape, -1000.0, dtype=np.float32)
    for inset_x, inset_y, value in (
        (0.0, 0.0, 20.0),
        (2.0, 2.0, -105.0),
        (fat, 0.8 * fat, 52.0),
        (fat + 15.0, 0.8 * fat + 10.0, -98.0),
    ):
        share = ring(inset_x, inset_y)
        flat += share * (np.float32(value) - flat)
    hu = np.broadcast_to(flat, grid.shape).copy()
    paint = _Painter(grid, hu)

    x, y, heights = np.array([poses[n][:3, 3] for n in (*MOBILE_LEVELS, "S1")])[::-1].T

    def spine_at(z: ArrayLike) -> NDArray[np.float64]:
        zz = np.asarray(z, dtype=float)
        return np.stack([np.interp(zz, heights, x), np.interp(zz, heights, y)], axis=-1)

    def along(
        z: list[float], offset: list[tuple[float, float]], radii: ArrayLike, v: float
    ) -> None:
        paint.tube(z, spine_at(z) + np.asarray(offset), radii, v)

    k = parameters.vertebrae["L3"].size.width_lower / 48.0
    top, bottom = 190.0, -190.0

    # Organs first, then bowel, then what lies against the spine.
    paint.blob((-80.0, y0 - 8.0, 118.0 * k), (66.0, 0.72 * half_d, 78.0), 58.0)
    paint.blob((88.0, y0 + 18.0, 112.0 * k), (34.0, 44.0, 48.0), 50.0)
    loops = int(rng.integers(40, 64))
    inner_w, inner_d = half_w - fat - 24.0, half_d - fat - 16.0
    pockets: list[tuple[NDArray[np.float64], float]] = []
    for _ in range(loops):
        radius = float(rng.uniform(11.0, 21.0))
        angle = rng.uniform(-np.pi, 0.0)
        reach = np.sqrt(rng.uniform(0.15, 0.85))
        centre = np.array(
            [
                x0 + reach * inner_w * np.cos(angle),
                y0 - 12.0 + reach * (inner_d - 14.0) * np.sin(angle),
                rng.uniform(-150.0, 110.0),
            ]
        )
        shape = radius * rng.uniform(0.8, 1.7, 3)
        paint.blob(centre, shape, float(rng.uniform(5.0, 45.0)))
        pockets.append((centre, radius))
    for index in range(min(parameters.gas, len(pockets))):
        centre, radius = pockets[index]
        # Gas rises: it collects in the front of a loop.
        size = radius * rng.uniform(0.5, 1.0, 3)
        paint.blob(centre - [0.0, 0.2 * radius, 0.0], size, -940.0)

    for side in (1.0, -1.0):
        z_kidney = 52.0 if side > 0 else 40.0
        kidney = [*(spine_at(z_kidney) + [side * 62.0 * k, -4.0]), z_kidney]
        paint.blob(kidney, (25.0, 21.0, 52.0), 36.0)
        paint.blob(np.add(kidney, [-side * 9.0, -3.0, 0.0]), (9.0, 8.0, 22.0), -60.0)

        lateral = [
            (side * 26.0 * k, 8.0),
            (side * 36.0 * k, 4.0),
            (side * 44.0 * k, -2.0),
            (side * 58.0, -22),
        ]
        sizes = [(8.0, 9.0), (15.0 * k, 16.0 * k), (19.0 * k, 21.0 * k), (20.0 * k, 20.0 * k)]
        along([75.0, 20.0, -45.0, -120.0], lateral, sizes, 56.0)
        along(
            [80.0, -75.0],
            [(side * 58.0, 30.0), (side * 70.0, 24.0)],
            [(15.0, 7.0), (20.0, 9.0)],
            55.0,
        )
        z_back = [top, 0.0, bottom]
        along(
            z_back,
            [(side * 34.0, 55.0), (side * 35.0 * k, 54.0 * k), (side * 28.0, 44.0)],
            [(30.0, 20.0), (33.0 * k, 25.0 * k), (26.0, 22.0)],
            54.0,
        )
        along(
            z_back,
            [(side * 12.0, 56.0), (side * 13.0, 55.0 * k), (side * 14.0, 46.0)],
            [(12.0, 18.0), (13.0, 20.0 * k), (14.0, 18.0)],
            50.0,
        )
    along(
        [top, -40.0, -60.0, bottom],
        [(9.0, -33.0), (8.0, -32.0), (18.0, -28.0), (50.0, -30.0)],
        [(10.5, 10.5), (9.0, 9.0), (6.5, 6.5), (6.0, 6.0)],
        45.0,
    )
    along(
        [top, -50.0, -70.0, bottom],
        [(-16.0, -34.0), (-16.0, -31.0), (-22.0, -24.0), (-50.0, -26.0)],
        [(12.0, 9.0), (12.0, 9.0), (8.0, 7.0), (7.0, 7.0)],
        42.0,
    )

    _bend(parameters, grid, hu)

    # Epidural fat and the dural sac follow the canal, through each vertebra's own frame.
    canal = []
    for name in MOBILE_LEVELS:
        level = parameters.vertebrae[name].size
        wall = 0.25 * (level.depth_upper + level.depth_lower)
        canal.append(poses[name] @ [0.0, wall + 0.5 * level.canal_depth, 0.0, 1.0])
    canal.append(poses["S1"] @ [0.0, 24.0, -20.0, 1.0])
    c = np.array(canal)
    paint.tube(c[:, 2], c[:, :2], np.full((len(c), 2), (10.5, 9.0)), -65.0)
    paint.tube(c[:, 2], c[:, :2] - [0.0, 1.0], np.full((len(c), 2), (8.0, 6.3)), 28.0)

    _marble(parameters, grid, hu)
    return hu


def _bend(parameters: SpineParameters, grid: Grid, hu: Array) -> None:
    """Displace the soft tissue smoothly by about 2 mm, so that no organ is a plain ellipse."""
    field = Texture(parameters.seed + 13, (9.0, 9.0, 14.0), size=24)
    dx = (np.float32(2.2) / (grid.x[1] - grid.x[0])) if len(grid.x) > 1 else 0.0
    dy = (np.float32(2.2) / (grid.y[1] - grid.y[0])) if len(grid.y) > 1 else 0.0
    j, i = np.indices(grid.shape[1:], dtype=np.float32)
    x, y = (a.ravel() for a in np.meshgrid(grid.x, grid.y))
    for k in range(grid.shape[0]):
        z = np.full(x.size, grid.z[k], dtype=np.float32)
        u = field(Points(x, y, z)).reshape(j.shape)
        v = field(Points(x + np.float32(71.0), y, z)).reshape(j.shape)
        hu[k] = map_coordinates(hu[k], np.stack([j + dy * v, i + dx * u]), order=1, mode="nearest")


def _marble(parameters: SpineParameters, grid: Grid, hu: Array) -> None:
    """Streaks of fat in the muscles of the back, strands in the fat, in place."""
    streaks = Texture(parameters.seed + 11, (2.2, 3.0, 9.0), grid.sigma, size=32)
    strands = Texture(parameters.seed + 12, (3.0, 3.0, 3.0), grid.sigma, size=32)
    share = np.float32(parameters.muscle_fat)
    threshold = np.float32(1.6 - 2.6 * share)
    for k in range(grid.shape[0]):
        slab = hu[k]
        here = np.flatnonzero((slab.ravel() > -140.0) & (slab.ravel() < 70.0))
        if len(here) == 0:
            continue
        j, i = np.divmod(here, grid.shape[2])
        z = np.full(len(here), grid.z[k], dtype=np.float32)
        points = Points(grid.x[i], grid.y[j], z)
        values = slab.ravel()[here]
        muscle = np.clip((values - 35.0) / 15.0, 0.0, 1.0) * (points.y > 20.0)
        fatty = np.clip((streaks(points) - threshold) * 1.5, 0.0, 1.0) * muscle
        values = values - fatty * np.float32(120.0)
        values += strands(points) * np.where(values < -40.0, np.float32(14.0), np.float32(4.0))
        slab.reshape(-1)[here] = values
