"""A phantom of steel beads in simulated X-rays, and what distorts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ..errors import InputError
from ..geometry import Array, Camera, Distortion, Rigid, distort, undistort
from .drawing import Wire
from .shapes import ellipsoid_path

_TILT_DEG = 10.0
_OFFSET_MM = 5.0
# Rays along each edge of a pixel: a bead is a few pixels wide.
_FINER = 4
# Draws of their own: a case without beads or distortion stays what it was for its seed.
_BEADS, _DISTORTION = 1701, 1702
_LEAST_PINCUSHION = 0.5


@dataclass(frozen=True)
class BeadPhantom:
    """Beads to simulate, in the phantom's frame, mm.

    ``centres_mm`` (N, 3), ``diameters_mm`` (N,); ``posts_mm`` (M, 2, 3) start and end of the
    plastic posts they stand on, ``posts_radius_mm`` (M,).
    """

    name: str
    centres_mm: Array
    diameters_mm: Array
    posts_mm: Array | None = None
    posts_radius_mm: Array | None = None


@dataclass(frozen=True)
class PlacedBeads:
    """A phantom in the world: ``centres_world`` (N, 3) mm, ``radii_mm`` (N,), ``posts``."""

    phantom: BeadPhantom
    beads_to_world: Rigid
    centres_world: Array
    radii_mm: Array
    posts: tuple[Wire, ...]

    def truth(
        self, cameras: Mapping[str, Camera], distortions: Mapping[str, Distortion]
    ) -> dict[str, Any]:
        """What the truth of a case says of them."""
        shown = {name: self.shown_px(c, distortions.get(name)) for name, c in cameras.items()}
        return {
            "beads": {
                "name": self.phantom.name,
                "centres_mm": self.phantom.centres_mm.tolist(),
                "diameters_mm": self.phantom.diameters_mm.tolist(),
            },
            "beads_to_world": self.beads_to_world.matrix.tolist(),
            "beads_px": {name: places.tolist() for name, places in shown.items()},
        }

    def shown_px(self, camera: Camera, distortion: Distortion | None) -> Array:
        """Where the centres (N, 2) are shown in a picture, (column, row)."""
        places = camera.project(self.centres_world)
        return places if distortion is None else distort(places, distortion)


def place_beads(phantom: BeadPhantom, seed: int) -> PlacedBeads:
    """Stand a phantom near the isocentre, as the seed says: its middle 5 mm off along each axis at
    most, turned by up to 10 degrees about each."""
    rng = np.random.default_rng([seed, _BEADS])
    turn = Rotation.from_euler("xyz", rng.uniform(-1, 1, 3) * _TILT_DEG, degrees=True).as_matrix()
    low, high = phantom.centres_mm.min(axis=0), phantom.centres_mm.max(axis=0)
    middle = 0.5 * (low + high)
    beads_to_world = Rigid.carrying(turn, middle, rng.uniform(-1, 1, 3) * _OFFSET_MM)
    posts: list[Wire] = []
    if phantom.posts_mm is not None and phantom.posts_radius_mm is not None:
        for ends, radius in zip(phantom.posts_mm, phantom.posts_radius_mm, strict=True):
            start, end = beads_to_world.apply(ends)
            posts.append((start, end, float(radius), 0.0))
    return PlacedBeads(
        phantom,
        beads_to_world,
        beads_to_world.apply(phantom.centres_mm),
        0.5 * np.asarray(phantom.diameters_mm, dtype=float),
        tuple(posts),
    )


def draw_distortions(
    cameras: Mapping[str, Camera], pixels: float, seed: int
) -> dict[str, Distortion]:
    """A distortion for each view that moves a picture's corner by ``pixels``, none for 0.

    Pincushion and S shape together; the S's share and sense are drawn for each view, as they change
    with how the C-arm stands in the earth's field. Raises InputError for a negative number and
    for more than a tenth of the picture's edge.
    """
    out: dict[str, Distortion] = {}
    rng = np.random.default_rng([seed, _DISTORTION])
    for name, camera in cameras.items():
        if not 0 <= pixels <= 0.1 * min(camera.size):
            most = f"0 to {0.1 * min(camera.size):g} pixels can be simulated in this picture"
            raise InputError("distortion", f"{pixels:g} pixels is not possible", most)
        if pixels == 0:
            continue
        size = np.array(camera.size) - 1.0
        unit = float(np.linalg.norm(size)) / 2.0
        outwards = rng.uniform(_LEAST_PINCUSHION, 1.0)
        across = np.sqrt(1.0 - outwards**2) * rng.choice([-1.0, 1.0])
        moved = complex(1.0 + outwards * pixels / unit, across * pixels / unit)
        out[name] = Distortion(
            (float(size[0]) / 2.0, float(size[1]) / 2.0),
            unit,
            radial=(abs(moved) - 1.0, 0.0),
            spiral=(float(np.angle(moved)), 0.0),
        )
    return out


def distortion_truth(distortions: Mapping[str, Distortion]) -> dict[str, Any]:
    """What the truth of a case says of distortion; nothing where there is none."""
    views = {name: asdict(distortion) for name, distortion in distortions.items()}
    return {"distortion": views} if views else {}


def bead_path(beads: PlacedBeads, camera: Camera, distortion: Distortion | None) -> Array:
    """Length (rows, columns) mm in the beads, the mean over each pixel."""
    out = np.zeros((camera.rows, camera.columns))
    shown = beads.shown_px(camera, distortion)
    depth = (beads.centres_world - camera.source_world) @ camera.view_direction_world
    inside = (np.arange(_FINER) + 0.5) / _FINER - 0.5
    for centre, radius, place, away in zip(
        beads.centres_world, beads.radii_mm, shown, depth, strict=True
    ):
        # Off the axis a ball's shadow is longer than its diameter, and a distortion stretches it.
        reach = 1.5 * radius * camera.focal_px / away + 2.0
        low = np.maximum(np.ceil(place - reach), 0).astype(int)
        high = np.minimum(np.floor(place + reach) + 1, camera.size).astype(int)
        if (low >= high).any():
            continue
        columns = (np.arange(low[0], high[0])[:, None] + inside).ravel()
        rows = (np.arange(low[1], high[1])[:, None] + inside).ravel()
        u, v = np.meshgrid(columns, rows)
        pixels = np.stack([u.ravel(), v.ravel()], axis=1)
        if distortion is not None:
            pixels = undistort(pixels, distortion)
        rays = camera.ray_directions(pixels)
        path = ellipsoid_path(camera.source_world, rays, centre, np.eye(3), np.full(3, radius))
        shape = (high[1] - low[1], _FINER, high[0] - low[0], _FINER)
        out[low[1] : high[1], low[0] : high[0]] += path.reshape(shape).mean(axis=(1, 3))
    return out
