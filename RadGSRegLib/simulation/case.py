"""One simulated case: a CT, X-rays of it on the operating table, and the truth."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from ..cases import Case, View
from ..geometry import Array, Camera, Volume, transform_points
from ..system import Progress, ProgressCallable
from .drawing import Finish, Framing, Surroundings, Trunk, draw_case
from .geometry import move_about
from .imaging import SCATTER_MM, add_noise, add_scatter, collimator_mask
from .materials import DENSITY, mass_attenuation
from .parameters import SimulationParameters
from .parts import line_integrals, parts_on
from .scene import Piece, Scene, draw_surface_points, fade_of, take_apart
from .shapes import cylinder_path, ellipsoid_path
from .spectrum import Spectrum, tungsten_spectrum

Image = NDArray[np.float32]

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
    """What is there before a case is drawn: the CT taken apart, the cameras to image it with, and
    the device that follows their rays.

    ``scene`` None: `simulate_case` takes the CT apart. ``frame`` replaces the drawn cameras by
    others, such as windows of them: (cameras by name, target's centre (3,) world mm) to cameras
    whose pixels are as wide as the parameters say.
    """

    scene: Scene | None = None
    frame: Framing | None = None
    device: torch.device | str = "cpu"


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
    """X-rays of the CT (HU) with its spine moved, each vertebra also in itself.

    ``parameters`` or the name of a preset; the same seed gives the same case. Rays are followed on
    the device of ``prepared``; what is random, and what is made of it, is the CPU's. Raises
    InputError for a label that is not there and grids that differ.
    """
    p = SimulationParameters.preset(parameters) if isinstance(parameters, str) else parameters
    rng = np.random.default_rng(seed)
    report = Progress(progress)
    report(0.0, "taking the CT apart")
    points = draw_surface_points(labels, label, 2000, rng)
    given = prepared or Prepared()
    scene = given.scene or take_apart(ct, labels)
    pivot = scene.centroids[label]
    surroundings = Surroundings.of(ct, scene)
    drawn = draw_case(p, scene.centroids, label, rng, surroundings, given.frame)
    poses, truth_pose, cameras = drawn.ct_to_world, drawn.ct_to_world[label], drawn.cameras
    spectrum = None
    if drawn.filter_mm is not None:
        spectrum = tungsten_spectrum(drawn.kvp, drawn.filter_mm)
    if drawn.trunk is not None:
        scene = replace(scene, rest=_embed(scene.rest, poses[0], drawn.trunk))
    parts = parts_on(scene, given.device)

    views, grey = [], {}
    for index, (name, camera) in enumerate(cameras.items()):
        report(0.1 + 0.9 * index / len(cameras), f"projecting {name}")
        soft, bone = line_integrals(parts, poses, camera)
        steel = np.zeros_like(soft)
        rays = _rays(camera)
        source = camera.source_world
        for centre, axes, radii, density in drawn.ellipsoids:
            path = ellipsoid_path(source, rays, centre, axes, radii)
            soft += (path * density).astype(np.float32)
        for start, end, radius, hollow in drawn.wires:
            path = cylinder_path(source, rays, start, end, radius, hollow)
            steel += (path * DENSITY["iron"]).astype(np.float32)
        # From (g/cm^3) mm to g/cm^2.
        pixels, stored = _expose(
            soft * 0.1, bone * 0.1, steel * 0.1, spectrum, p, camera, drawn.finish, rng
        )
        if stored is not None:
            grey[name] = stored
        centre = camera.project(drawn.centre_world[None])[0] + rng.uniform(-1, 1, 2) * p.center_px
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
        "kvp": drawn.kvp,
        "points_ct": points.tolist(),
        "pivot_ct": pivot.tolist(),
        "neighbours": {str(n): poses[n].tolist() for n in scene.vertebrae if n != label},
        "spine_ct_to_world": poses[0].tolist(),
        "seed": int(seed),
    }
    case = Case(ct, labels, int(label), tuple(views), label_names=dict(label_names or {}))
    report(1.0, "simulated")
    return SimulatedCase(case, truth, grey)


def _embed(rest: Piece, ct_to_world: Array, trunk: Trunk) -> Piece:
    """What the rest of the CT has more or less than the trunk it lies in, faded at its edges."""
    shape = rest.soft.array.shape
    ijk = np.indices(shape, dtype=np.float32).reshape(3, -1)[::-1].T
    points = transform_points(ct_to_world @ rest.soft.index_to_physical, ijk)
    base = trunk.occupancy(points).reshape(shape).astype(np.float32)
    fade = fade_of(rest.soft)
    soft = (rest.soft.array - base * np.float32(trunk.density)) * fade
    return Piece(rest.soft.with_array(soft), rest.bone.with_array(rest.bone.array * fade))


def _rays(camera: Camera) -> Array:
    """Unit directions (rows, cols, 3) of all pixels, world."""
    v, u = np.mgrid[: camera.rows, : camera.columns]
    pixels = np.stack([u.ravel(), v.ravel()], axis=-1)
    return camera.ray_directions(pixels).reshape(camera.rows, camera.columns, 3)


def _expose(
    soft: Image,
    bone: Image,
    steel: Image,
    spectrum: Spectrum | None,
    p: SimulationParameters,
    camera: Camera,
    finish: Finish,
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
    signal = add_scatter(signal, finish.scatter, SCATTER_MM / p.pixel_mm)
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
