"""X-rays of beads, as plain arithmetic: no code of the calibration makes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from RadGSRegLib.calibration import Beads, Spots
from RadGSRegLib.geometry import Array, Camera, affine

SIZE = (1000, 1000)
SPACING = (0.4, 0.4)
FOCAL = 2500.0


def two_plates(seed: int = 0, each: int = 7) -> Beads:
    """Beads on two plates, 140 mm wide and 80 mm apart, of two sizes, without symmetry."""
    rng = np.random.default_rng(seed)
    places: list[Array] = []
    for height in (-40.0, 40.0):
        plate: list[Array] = []
        while len(plate) < each:
            place = np.array([*rng.uniform(-70, 70, 2), height])
            if all(np.linalg.norm(place - other) > 90.0 / np.sqrt(each) for other in plate):
                plate.append(place)
        places += plate
    sizes = np.where(rng.random(2 * each) < 0.4, 5.0, 3.0)
    return Beads("two plates", np.array(places), sizes)


def pixels_of(camera: Camera, points: Array) -> Array:
    """Where points are shown, by hand."""
    place = points @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
    k = camera.intrinsic
    columns = k[0, 0] * place[:, 0] / place[:, 2] + k[0, 2]
    rows = k[1, 1] * place[:, 1] / place[:, 2] + k[1, 2]
    return np.column_stack([columns, rows])


def random_camera(seed: int, mirrored: bool = False) -> Camera:
    """A C-arm somewhere about the beads; the plates tilted against the beam by up to 50 degrees."""
    rng = np.random.default_rng(seed + 77)
    roll, tilt, about = rng.uniform(-180, 180), rng.uniform(0, 50), rng.uniform(-180, 180)
    turn = Rotation.from_euler("ZXZ", [roll, tilt, about], degrees=True).as_matrix()
    if rng.random() < 0.5:
        turn = np.diag([1.0, -1.0, -1.0]) @ turn
    focal = FOCAL * (1 + rng.normal(0, 0.02))
    centre = 499.5 + rng.normal(0, 10, 2)
    k = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])
    if mirrored:
        k[0, 0] *= -1
    move = np.array([*rng.uniform(-15, 15, 2), rng.uniform(580, 700)])
    return Camera(k, affine(turn, move), *SIZE)


@dataclass(frozen=True)
class Scene:
    """Spots in a picture; ``bead`` of each spot, -1 where it is false."""

    camera: Camera
    beads: Beads
    spots: Spots
    bead: Array


def scene(
    beads: Beads,
    camera: Camera,
    seed: int,
    noise_px: float = 0.2,
    *,
    missing: float = 0.25,
    false: float = 0.35,
    radii: float = 0.1,
) -> Scene:
    """A picture of which a share of the beads is missing, and a share of the spots false."""
    rng = np.random.default_rng(seed)
    shown = rng.permutation(len(beads))[: len(beads) - round(missing * len(beads))]
    pixels = pixels_of(camera, beads.centres_mm[shown])
    inside = ((pixels > 5) & (pixels < np.array(SIZE) - 6)).all(axis=1)
    shown, pixels = shown[inside], pixels[inside]
    depth = (beads.centres_mm @ camera.world_to_camera[2, :3])[shown] + camera.world_to_camera[2, 3]
    sizes = camera.focal_px * beads.diameters_mm[shown] / 2 / depth
    strays = round(len(shown) * false / (1 - false))
    low, high = pixels.min(0) - 60, pixels.max(0) + 60
    pixels = np.concatenate([pixels, rng.uniform(low, high, (strays, 2))])
    sizes = np.concatenate([sizes, rng.uniform(5, 12, strays)])
    bead = np.concatenate([shown, np.full(strays, -1)])
    pixels[: len(shown)] += rng.normal(0, noise_px, (len(shown), 2))
    sizes = sizes * (1 + rng.normal(0, radii, len(sizes)))
    order = rng.permutation(len(bead))
    return Scene(camera, beads, Spots(pixels[order], sizes[order], np.ones(len(bead))), bead[order])
