"""One simulated case: a CT, two X-rays of it on the operating table, and the truth."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from ..cases import Case, View
from ..drr import project_volume
from ..geometry import Array, Camera, Rigid, Volume, transform_points
from ..system import Progress, ProgressCallable
from .geometry import AP, LATERAL, c_arm_camera, move_about, random_offset, random_turn
from .imaging import DisplayCurve, add_noise, add_scatter, collimator_mask, random_display
from .materials import DENSITY, mass_attenuation
from .parameters import SimulationParameters
from .scene import Piece, Scene, covers_body, draw_surface_points, take_apart
from .shapes import cylinder_path, ellipsoid_path
from .spectrum import Spectrum, tungsten_spectrum

Image = NDArray[np.float32]
Framing = Callable[[dict[str, Camera], Array], dict[str, Camera]]
# Centre (3,) and axes (2 or 3, 3) in the world, radii mm, and g/cm^3 more than around it.
Ellipsoid = tuple[Array, Array, Array, float]

CLEAN_KEV = 60.0


@dataclass(frozen=True)
class SimulatedCase:
    """A case and its truth.

    ``truth`` holds ``label``, ``ct_to_world`` and ``start_ct_to_world`` (4, 4), ``level`` (of
    realism), ``kvp``, ``points_ct`` (N, 3) on the mask's surface, ``pivot_ct`` (3,), its centroid,
    ``neighbours`` (label to ct_to_world) and ``seed``. Millimetres, LPS. ``grey`` are the pictures
    as an X-ray device would store them (uint8 or uint16) where the case is a display one.
    """

    case: Case
    truth: dict[str, Any]
    grey: dict[str, NDArray[Any]]

    @property
    def start_ct_to_world(self) -> Array:
        """The rough start (4, 4) that goes with the case."""
        return np.asarray(self.truth["start_ct_to_world"])


@dataclass(frozen=True)
class Prepared:
    """What is there before a case is drawn: the CT taken apart, and the cameras to image it with.

    ``frame`` replaces the drawn cameras by others, such as windows of them: (cameras by name,
    target's centre (3,) world mm) to cameras whose pixels are as wide as the parameters say.
    """

    scene: Scene
    frame: Framing


@dataclass(frozen=True)
class _Trunk:
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


def simulate_case(
    ct: Volume,
    labels: Volume,
    label: int,
    parameters: SimulationParameters | str = "realistic",
    seed: int = 0,
    *,
    label_names: dict[int, str] | None = None,
    prepared: Prepared | None = None,
    progress: ProgressCallable | None = None,
) -> SimulatedCase:
    """Two X-rays of the CT (HU) with its spine moved, each vertebra also in itself.

    ``parameters`` or the name of a preset; the same seed gives the same case. Raises InputError for
    a label that is not there and grids that differ.
    """
    p = SimulationParameters.preset(parameters) if isinstance(parameters, str) else parameters
    rng = np.random.default_rng(seed)
    report = Progress(progress)
    report(0.0, "taking the CT apart")
    points = draw_surface_points(labels, label, 2000, rng)
    scene = take_apart(ct, labels) if prepared is None else prepared.scene
    pivot = scene.centroids[label]

    poses = _draw_poses(p, scene, label, rng)
    truth_pose = poses[label]
    kvp = float(rng.uniform(*p.kvp))
    spectrum = tungsten_spectrum(kvp, float(rng.uniform(*p.filter_mm))) if p.polychromatic else None
    cameras = {
        name: c_arm_camera(
            p,
            name,
            float(rng.uniform(-1, 1)) * p.primary_deg,
            float(rng.uniform(-1, 1)) * p.secondary_deg,
            rng.uniform(-1, 1, 2) * p.principal_px,
        )
        for name in (AP, LATERAL)
    }
    at = Rigid(truth_pose).apply(pivot)
    if prepared is not None:
        cameras = prepared.frame(cameras, at)
    trunk = None
    if p.trunk and covers_body(ct):
        trunk = _fitted_trunk(ct, poses[0], scene.rest)
    elif p.trunk:
        trunk = _draw_trunk(at, scene.rest, rng)
    gas = _draw_gas(p, at, trunk, rng)
    wires = _draw_wires(p, at, rng)
    bodies: list[Ellipsoid] = []
    if trunk is not None:
        scene = replace(scene, rest=_embed(scene.rest, poses[0], trunk))
        bodies = [(trunk.centre, trunk.axes, trunk.radii, trunk.density), *trunk.organs]
    bodies += gas
    finish = _draw_finish(p, rng)

    views, grey = [], {}
    for index, (name, camera) in enumerate(cameras.items()):
        report(0.1 + 0.45 * index, f"projecting {name}")
        soft, bone = _project(scene, poses, camera)
        steel = np.zeros_like(soft)
        rays = _rays(camera)
        source = camera.source_world
        for centre, axes, radii, density in bodies:
            path = ellipsoid_path(source, rays, centre, axes, radii)
            soft += (path * density).astype(np.float32)
        for start, end, radius, hollow in wires:
            path = cylinder_path(source, rays, start, end, radius, hollow)
            steel += (path * DENSITY["iron"]).astype(np.float32)
        # From (g/cm^3) mm to g/cm^2.
        pixels, stored = _expose(
            soft * 0.1, bone * 0.1, steel * 0.1, spectrum, p, camera, finish, rng
        )
        if stored is not None:
            grey[name] = stored
        centre = camera.project(at[None])[0] + rng.uniform(-1, 1, 2) * p.center_px
        views.append(
            View(
                name=name,
                pixels=pixels,
                camera=camera,
                pixel_spacing_mm=(p.pixel_mm, p.pixel_mm),
                intensity="display" if p.display else "attenuation",
                center_px=(float(centre[0]), float(centre[1])),
            )
        )
    start = truth_pose @ move_about(
        pivot,
        Rotation.from_euler("xyz", rng.uniform(-1, 1, 3) * p.start_deg, degrees=True),
        np.zeros(3),
    )
    start[:3, 3] += rng.uniform(-1, 1, 3) * p.start_mm
    truth: dict[str, Any] = {
        "label": int(label),
        "ct_to_world": truth_pose.tolist(),
        "start_ct_to_world": start.tolist(),
        "level": p.realism,
        "kvp": kvp,
        "points_ct": points.tolist(),
        "pivot_ct": pivot.tolist(),
        "neighbours": {str(n): poses[n].tolist() for n in scene.vertebrae if n != label},
        "spine_ct_to_world": poses[0].tolist(),
        "seed": int(seed),
    }
    case = Case(ct, labels, int(label), tuple(views), label_names=dict(label_names or {}))
    report(1.0, "simulated")
    return SimulatedCase(case, truth, grey)


def _draw_poses(
    p: SimulationParameters, scene: Scene, label: int, rng: np.random.Generator
) -> dict[int, Array]:
    """``ct_to_world`` of every label; 0 is the rest of the body."""
    pivot = scene.centroids[label]
    turn = Rotation.from_euler("xyz", rng.uniform(-1, 1, 3) * p.spine_deg, degrees=True)
    spine = move_about(pivot, turn, rng.uniform(-1, 1, 3) * p.spine_mm - pivot)
    poses = {0: spine}
    for number, centre in scene.centroids.items():
        move = move_about(
            centre, random_turn(rng, p.vertebra_deg), random_offset(rng, p.vertebra_mm)
        )
        poses[number] = spine @ move
    return poses


def _draw_trunk(at: Array, rest: Piece, rng: np.random.Generator) -> _Trunk:
    # As dense as the tissue in the CT's field, so that the field's edge hardly shows.
    tissue = rest.soft.array[rest.soft.array > 0.7]
    density = float(np.clip(tissue.mean() if tissue.size else 0.98, 0.9, 1.05))
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
    return _Trunk(centre, axes, radii, density, tuple(organs))


def _fitted_trunk(ct: Volume, ct_to_world: Array, rest: Piece) -> _Trunk:
    """The trunk that goes on above and below a CT which holds the whole cross-section."""
    kji = np.argwhere(ct.array[::4, ::4, ::4] > -300) * 4.0
    points = ct.physical_points(kji[:, ::-1])
    # A uniform ellipse's semi-axis is twice its standard deviation.
    centre = np.median(points, axis=0)
    radii = 2.0 * points[:, :2].std(axis=0)
    tissue = rest.soft.array[rest.soft.array > 0.7]
    return _Trunk(
        Rigid(ct_to_world).apply(centre),
        np.asarray(ct_to_world)[:3, :2].T,
        radii,
        float(np.clip(tissue.mean(), 0.9, 1.05)),
        (),
    )


def _draw_gas(
    p: SimulationParameters, at: Array, trunk: _Trunk | None, rng: np.random.Generator
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


def _draw_wires(
    p: SimulationParameters, at: Array, rng: np.random.Generator
) -> list[tuple[Array, Array, float, float]]:
    """Steel tools (start, end, radius, inner radius): K-wires, needles, cannulas."""
    out = []
    for _ in range(int(rng.integers(p.wires[0], p.wires[1] + 1)) if p.wires[1] > 0 else 0):
        middle = at + rng.normal(0.0, 16.0, 3)
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        half = rng.uniform(30.0, 85.0)
        radius = float(rng.uniform(0.7, 2.6))
        hollow = 0.7 * radius if radius > 1.5 and rng.random() < 0.4 else 0.0
        out.append((middle - half * direction, middle + half * direction, radius, hollow))
    return out


def _embed(rest: Piece, ct_to_world: Array, trunk: _Trunk) -> Piece:
    """What the rest of the CT has more or less than the trunk it lies in, faded at its edges."""
    shape = rest.soft.array.shape
    ijk = np.indices(shape, dtype=np.float32).reshape(3, -1)[::-1].T
    points = transform_points(ct_to_world @ rest.soft.index_to_physical, ijk)
    base = trunk.occupancy(points).reshape(shape).astype(np.float32)
    fade = np.ones(shape, dtype=np.float32)
    for axis, (n, step) in enumerate(zip(shape, rest.soft.spacing[::-1], strict=True)):
        edge = (np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5) * step
        ramp = np.clip(edge / 6.0, 0.0, 1.0).astype(np.float32)
        fade *= ramp.reshape([-1 if a == axis else 1 for a in range(3)])
    soft = (rest.soft.array - base * np.float32(trunk.density)) * fade
    return Piece(rest.soft.with_array(soft), rest.bone.with_array(rest.bone.array * fade))


def _project(scene: Scene, poses: dict[int, Array], camera: Camera) -> tuple[Image, Image]:
    """Line integrals of soft tissue and bone, (g/cm^3) mm, of the whole scene."""
    soft, bone = _line_integrals([scene.rest.soft, scene.rest.bone], camera, poses[0])
    for number, piece in scene.vertebrae.items():
        more_soft, more_bone = _line_integrals([piece.soft, piece.bone], camera, poses[number])
        soft, bone = soft + more_soft, bone + more_bone
    return soft, bone


def _line_integrals(volumes: list[Volume], camera: Camera, ct_to_world: Array) -> list[Image]:
    """The library's own projector, 1.5 samples to a voxel."""
    to_camera = camera.world_to_camera @ ct_to_world
    step = float(volumes[0].spacing.min()) / 1.5
    return [
        project_volume(v, camera.intrinsic, to_camera, camera.size, step_mm=step).numpy()
        for v in volumes
    ]


def _rays(camera: Camera) -> Array:
    """Unit directions (rows, cols, 3) of all pixels, world."""
    v, u = np.mgrid[: camera.rows, : camera.columns]
    pixels = np.stack([u.ravel(), v.ravel()], axis=-1)
    return camera.ray_directions(pixels).reshape(camera.rows, camera.columns, 3)


@dataclass(frozen=True)
class _Finish:
    """What the device does to both pictures alike."""

    scatter: float
    photons: float
    electronic: float
    blur_mm: float
    collimator: str
    curve: DisplayCurve


def _draw_finish(p: SimulationParameters, rng: np.random.Generator) -> _Finish:
    return _Finish(
        float(rng.uniform(*p.scatter)),
        float(rng.uniform(*p.photons)),
        float(rng.uniform(*p.electronic)),
        float(rng.uniform(*p.blur_mm)),
        str(rng.choice(p.collimator)),
        random_display(rng, p.bits),
    )


def _expose(
    soft: Image,
    bone: Image,
    steel: Image,
    spectrum: Spectrum | None,
    p: SimulationParameters,
    camera: Camera,
    finish: _Finish,
    rng: np.random.Generator,
) -> tuple[Image, NDArray[Any] | None]:
    """The picture (float32) from mass lengths (g/cm^2), and as stored if it is a display one."""
    if spectrum is None:
        attenuation = soft * float(mass_attenuation("soft", CLEAN_KEV))
        attenuation += bone * float(mass_attenuation("bone", CLEAN_KEV))
        attenuation += steel * float(mass_attenuation("iron", CLEAN_KEV))
        signal = np.exp(-attenuation).astype(np.float32)
    else:
        signal = spectrum.intensity(soft, bone, steel)
    signal = add_scatter(signal, finish.scatter, 50.0 / p.pixel_mm)
    if finish.blur_mm > 0:
        signal = gaussian_filter(signal, finish.blur_mm / p.pixel_mm)
    signal = add_noise(signal, finish.photons, finish.electronic, rng)
    if not p.display:
        if finish.photons <= 0 and finish.blur_mm <= 0 and spectrum is None and not steel.any():
            return np.maximum(attenuation, 0.0).astype(np.float32), None
        return -np.log(np.maximum(signal, 1e-6)).astype(np.float32), None
    mask = collimator_mask(finish.collimator, camera.rows, camera.columns, rng)
    grey = finish.curve(signal, mask > 0.5)
    grey = np.rint(grey * mask).astype(np.uint8 if finish.curve.bits <= 8 else np.uint16)
    return grey.astype(np.float32), grey
