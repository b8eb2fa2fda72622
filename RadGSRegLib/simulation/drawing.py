"""What is drawn at random of a simulated case, but for its noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ..geometry import Array, Camera, Rigid, Volume
from .geometry import AP, LATERAL, c_arm_camera, move_about, random_offset, random_turn
from .imaging import DisplayCurve, random_display
from .parameters import SimulationParameters
from .paths import path_cameras
from .scene import Scene, covers_body

Framing = Callable[[dict[str, Camera], Array], dict[str, Camera]]
# Centre (3,) and axes (2 or 3, 3) in the world, radii mm, and g/cm^3 more than around it.
Ellipsoid = tuple[Array, Array, Array, float]
# Start and end (3,) in the world, radius and inner radius mm.
Wire = tuple[Array, Array, float, float]


@dataclass(frozen=True)
class Trunk:
    """A synthetic trunk in the world: an endless elliptic cylinder, organs and gas in it."""

    centre: Array
    axes: Array
    radii: Array
    density: float
    organs: tuple[Ellipsoid, ...]

    def occupancy(self, points: Array) -> Array:
        """Share (N,) of the trunk at points (N, 3), soft over about a voxel."""
        shape = self.axes / self.radii[:, None]
        gauge = np.linalg.norm((points - self.centre) @ shape.T, axis=1)
        return np.asarray(np.clip((1.0 - gauge) * self.radii.min() / 3.0 + 0.5, 0.0, 1.0))


@dataclass(frozen=True)
class Surroundings:
    """What a CT says of the body around it, once for all cases.

    ``tissue``: the mean density of its soft tissue, g/cm^3. ``ellipse_ct``: centre (3,) and radii
    (2,) mm of what fits a CT which holds the whole cross-section; None for others.
    """

    tissue: float
    ellipse_ct: tuple[Array, Array] | None

    @classmethod
    def of(cls, ct: Volume, scene: Scene) -> Surroundings:
        """Measure them on a CT (HU) and what it was taken apart into."""
        soft = scene.rest.soft.array
        dense = soft[soft > 0.7]
        tissue = float(dense.mean()) if dense.size else 0.98
        if not covers_body(ct):
            return cls(tissue, None)
        kji = np.argwhere(ct.array[::4, ::4, ::4] > -300) * 4.0
        points = ct.physical_points(kji[:, ::-1])
        # A uniform ellipse's semi-axis is twice its standard deviation.
        return cls(tissue, (np.median(points, axis=0), 2.0 * points[:, :2].std(axis=0)))

    def trunk(self, ct_to_world: Array) -> Trunk | None:
        """The trunk that goes on above and below a CT which holds the whole cross-section."""
        if self.ellipse_ct is None:
            return None
        centre_ct, radii = self.ellipse_ct
        axes = np.asarray(ct_to_world)[:3, :2].T
        density = float(np.clip(self.tissue, 0.9, 1.05))
        return Trunk(Rigid(ct_to_world).apply(centre_ct), axes, radii, density, ())


@dataclass(frozen=True)
class Finish:
    """What the device does to both pictures alike."""

    scatter: float
    photons: float
    electronic: float
    blur_mm: float
    collimator: str
    curve: DisplayCurve


@dataclass(frozen=True)
class Drawn:
    """What one case is, but for its noise.

    ``ct_to_world`` (4, 4) by label, 0 being the rest of the body; ``centre_world`` (3,) of the
    target; ``filter_mm``: None for a single energy.
    """

    ct_to_world: dict[int, Array]
    cameras: dict[str, Camera]
    centre_world: Array
    kvp: float
    filter_mm: float | None
    trunk: Trunk | None
    gas: list[Ellipsoid]
    wires: list[Wire]
    finish: Finish

    @property
    def ellipsoids(self) -> list[Ellipsoid]:
        """All bodies of another density than what is around them."""
        trunk = self.trunk
        if trunk is None:
            return self.gas
        return [(trunk.centre, trunk.axes, trunk.radii, trunk.density), *trunk.organs, *self.gas]


def draw_case(
    p: SimulationParameters,
    centroids: Mapping[int, Array],
    label: int,
    rng: np.random.Generator,
    surroundings: Surroundings,
    frame: Framing | None = None,
) -> Drawn:
    """Draw a case of a CT with vertebrae at ``centroids`` (3,) mm.

    ``frame`` replaces the cameras (`case.Prepared`).
    """
    poses = _draw_poses(p, centroids, label, rng)
    kvp = float(rng.uniform(*p.kvp))
    filter_mm = float(rng.uniform(*p.filter_mm)) if p.polychromatic else None
    cameras = draw_cameras(p, rng)
    at = Rigid(poses[label]).apply(centroids[label])
    if frame is not None:
        cameras = frame(cameras, at)
    trunk = None
    if p.trunk:
        trunk = surroundings.trunk(poses[0]) or _draw_trunk(at, surroundings.tissue, rng)
    gas = _draw_gas(p, at, trunk, rng)
    wires = _draw_wires(p, at, rng)
    finish = draw_finish(p, rng)
    return Drawn(poses, cameras, at, kvp, filter_mm, trunk, gas, wires, finish)


def draw_cameras(p: SimulationParameters, rng: np.random.Generator) -> dict[str, Camera]:
    """Draw where the C-arm stands."""
    if p.path != "biplanar":
        return path_cameras(p, p.path, p.views, rng)
    return {
        name: c_arm_camera(
            p,
            name,
            float(rng.uniform(-1, 1)) * p.primary_deg,
            float(rng.uniform(-1, 1)) * p.secondary_deg,
            rng.uniform(-1, 1, 2) * p.principal_px,
        )
        for name in (AP, LATERAL)
    }


def _draw_poses(
    p: SimulationParameters, centroids: Mapping[int, Array], label: int, rng: np.random.Generator
) -> dict[int, Array]:
    """``ct_to_world`` of every label; 0 is the rest of the body."""
    pivot = centroids[label]
    turn = Rotation.from_euler("xyz", rng.uniform(-1, 1, 3) * p.spine_deg, degrees=True)
    spine = move_about(pivot, turn, rng.uniform(-1, 1, 3) * p.spine_mm - pivot)
    poses = {0: spine}
    for number, centre in centroids.items():
        move = move_about(
            centre, random_turn(rng, p.vertebra_deg), random_offset(rng, p.vertebra_mm)
        )
        poses[number] = spine @ move
    return poses


def _draw_trunk(at: Array, tissue: float, rng: np.random.Generator) -> Trunk:
    # As dense as the tissue in the CT's field, so that the field's edge hardly shows.
    density = float(np.clip(tissue, 0.9, 1.05))
    density += float(rng.normal(0.0, 0.01))
    tilt = Rotation.from_euler("xyz", rng.normal(0.0, 3.0, 3), degrees=True)
    axes = tilt.as_matrix().T[:2]
    radii = np.array([rng.uniform(105.0, 165.0), rng.uniform(95.0, 125.0)])
    # The vertebra's centroid lies 65 to 85 mm in front of the skin of the back.
    centre = at + np.array([rng.normal(0.0, 8.0), rng.uniform(65.0, 85.0) - radii[1], 0.0])
    organs = []
    for _ in range(int(rng.integers(2, 9))):
        offset = rng.uniform(-0.6, 0.6, 2) * radii
        place = centre + [offset[0], min(offset[1], 0.0) - 15.0, rng.uniform(-110.0, 110.0)]
        size = rng.uniform(20.0, 50.0, 3)
        turned = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
        organs.append((place, turned, size, float(rng.uniform(-0.09, 0.09))))
    return Trunk(centre, axes, radii, density, tuple(organs))


def _draw_gas(
    p: SimulationParameters, at: Array, trunk: Trunk | None, rng: np.random.Generator
) -> list[Ellipsoid]:
    """Pockets of bowel gas: in the belly, in front of the spine."""
    out: list[Ellipsoid] = []
    depth = 150.0 if trunk is None else at[1] - (trunk.centre[1] - trunk.radii[1])
    for _ in range(int(rng.integers(p.gas[0], p.gas[1] + 1)) if p.gas[1] > 0 else 0):
        radius = rng.uniform(7.0, 19.0)
        ahead = rng.uniform(32.0 + radius, max(depth - radius - 12.0, 36.0 + radius))
        place = at + [rng.uniform(-95.0, 95.0), -ahead, rng.uniform(-95.0, 95.0)]
        if trunk is not None and trunk.occupancy(place[None])[0] < 1.0:
            continue
        out.append((place, np.eye(3), radius * rng.uniform(0.75, 1.35, 3), -0.97))
    return out


def _draw_wires(p: SimulationParameters, at: Array, rng: np.random.Generator) -> list[Wire]:
    """Steel tools: K-wires, needles, cannulas."""
    out: list[Wire] = []
    for _ in range(int(rng.integers(p.wires[0], p.wires[1] + 1)) if p.wires[1] > 0 else 0):
        middle = at + rng.normal(0.0, 16.0, 3)
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        half = rng.uniform(30.0, 85.0)
        radius = float(rng.uniform(0.7, 2.6))
        hollow = 0.7 * radius if radius > 1.5 and rng.random() < 0.4 else 0.0
        out.append((middle - half * direction, middle + half * direction, radius, hollow))
    return out


def draw_finish(p: SimulationParameters, rng: np.random.Generator) -> Finish:
    """Draw what the device does."""
    return Finish(
        float(rng.uniform(*p.scatter)),
        float(rng.uniform(*p.photons)),
        float(rng.uniform(*p.electronic)),
        float(rng.uniform(*p.blur_mm)),
        str(rng.choice(p.collimator)),
        random_display(rng, p.bits),
    )
