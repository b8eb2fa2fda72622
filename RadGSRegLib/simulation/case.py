"""One simulated case: a CT, X-rays of it on the operating table, and the truth."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ..cases import Case, View
from ..geometry import Array, Volume, distort, transform_points
from ..system import Progress, ProgressCallable
from .beads import BeadPhantom, distortion_truth, draw_distortions, place_beads
from .drawing import Drawn, Framing, Surroundings, Trunk, draw_case
from .geometry import move_about
from .parameters import SimulationParameters
from .parts import Part, parts_on
from .pixels import expose, mass_lengths_of, with_beads
from .scene import Piece, Scene, draw_surface_points, fade_of, take_apart
from .spectrum import Spectrum, tungsten_spectrum


@dataclass(frozen=True)
class SimulatedCase:
    """A case and its truth.

    ``truth`` holds ``label``, ``ct_to_world`` and ``start_ct_to_world`` (4, 4), ``level`` (of
    realism), ``kvp``, ``points_ct`` (N, 3) on the mask's surface, ``pivot_ct`` (3,), its centroid,
    ``neighbours`` (label to ct_to_world) and ``seed``; with beads ``beads_to_world`` (4, 4) and
    ``beads_px`` (view to (N, 2) pixels as shown), with distortion its numbers by view
    (``distortion``). Millimetres, LPS. ``grey`` are the pictures
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
    whose pixels are as wide as the parameters say. ``beads`` stand near the isocentre in all
    X-rays; ``distortion_px``: how far the pictures' corners are moved (`draw_distortions`).
    """

    scene: Scene | None = None
    frame: Framing | None = None
    device: torch.device | str = "cpu"
    beads: BeadPhantom | None = None
    distortion_px: float = 0.0


@dataclass(frozen=True)
class SetUp:
    """What is there before the beam goes on: the CT taken apart, its parts on a device, what was
    drawn, points (N, 3) of the target's surface, and the spectrum (None: a single energy)."""

    scene: Scene
    parts: list[Part]
    drawn: Drawn
    points_ct: Array
    spectrum: Spectrum | None


def set_up(
    ct: Volume,
    labels: Volume,
    label: int,
    p: SimulationParameters,
    given: Prepared,
    rng: np.random.Generator,
) -> SetUp:
    """Take a CT (HU) apart, draw a case of it and embed it in what is around."""
    points = draw_surface_points(labels, label, 2000, rng)
    scene = given.scene or take_apart(ct, labels)
    surroundings = Surroundings.of(ct, scene)
    drawn = draw_case(p, scene.centroids, label, rng, surroundings, given.frame)
    spectrum = None
    if drawn.filter_mm is not None:
        spectrum = tungsten_spectrum(drawn.kvp, drawn.filter_mm)
    if drawn.trunk is not None:
        scene = replace(scene, rest=_embed(scene.rest, drawn.ct_to_world[0], drawn.trunk))
    return SetUp(scene, parts_on(scene, given.device), drawn, points, spectrum)


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
    given = prepared or Prepared()
    stage = set_up(ct, labels, label, p, given, rng)
    scene, drawn, points, spectrum = stage.scene, stage.drawn, stage.points_ct, stage.spectrum
    pivot, parts = scene.centroids[label], stage.parts
    poses, truth_pose, cameras = drawn.ct_to_world, drawn.ct_to_world[label], drawn.cameras
    distortions = draw_distortions(cameras, given.distortion_px, seed)
    beads = None if given.beads is None else place_beads(given.beads, seed)

    views, grey = [], {}
    for index, (name, camera) in enumerate(cameras.items()):
        report(0.1 + 0.9 * index / len(cameras), f"projecting {name}")
        bent = distortions.get(name)
        lengths = mass_lengths_of(parts, drawn, camera, bent)
        if beads is not None:
            lengths = with_beads(lengths, beads, camera, bent)
        pixels, stored = expose(lengths, spectrum, p, drawn.finish, rng)
        if stored is not None:
            grey[name] = stored
        shown = camera.project(drawn.centre_world[None])
        shown = shown if bent is None else distort(shown, bent)
        centre = shown[0] + rng.uniform(-1, 1, 2) * p.center_px
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
        **distortion_truth(distortions),
        **({} if beads is None else beads.truth(cameras, distortions)),
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
