"""A search in one X-ray: across its line of sight at several depths along it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...geometry import Array, Camera, Rigid
from ...system import Progress
from ..options import RegistrationOptions
from ..scene import Scene
from .correlation import search
from .types import Candidate, Proposal, Tried


@dataclass(frozen=True)
class SightSearch:
    """Searches one X-ray about an approximate pose (4, 4), moved along its line of sight.

    A bone that is moved along the line of sight is shown where it was, a little larger or smaller,
    so each of ``depths_mm`` is searched by itself, and only across the line of sight.
    ``range_deg`` and ``range_mm``: about and along each axis.
    """

    start_ct_to_world: Array
    depths_mm: tuple[float, ...]
    range_deg: float
    range_mm: float
    options: RegistrationOptions
    name: str = "search"
    views_needed: int = 1

    def propose(self, scene: Scene, tried: Tried, progress: Progress) -> Proposal:
        """Propose several positions for each rotation and depth, the likeliest first."""
        given = self.options.start_places
        # At two depths a bone is in two places.
        places = replace(given, count=2 * given.count, keep=2 * given.keep)
        ranges = replace(
            self.options.search,
            rotation_range_deg=self.range_deg,
            translation_range_mm=self.range_mm,
        ).for_places(places)
        (view,) = scene.views
        away = scene.centre_world(self.start_ct_to_world) - view.camera.source_world
        distance_mm = float(np.linalg.norm(away))
        candidates: list[Candidate] = []
        for n, depth_mm in enumerate(self.depths_mm):
            part = progress.part(n / len(self.depths_mm), (n + 1) / len(self.depths_mm))
            moved = np.array(self.start_ct_to_world, dtype=float)
            moved[:3, 3] += depth_mm / distance_mm * away
            candidates += search(scene, moved, ranges, part)
        return Proposal(sorted(candidates, key=lambda c: -c.score), places)


def depths_about_start(range_mm: float, step_mm: float) -> tuple[float, ...]:
    """Return depths that fill +- ``range_mm`` in steps of at most ``step_mm``, the middle first."""
    steps = int(np.ceil(range_mm / step_mm))
    every = np.linspace(-range_mm, range_mm, 2 * steps + 1)
    return tuple(float(depth) for depth in sorted(every, key=abs))


def on_click(
    start_ct_to_world: Array, centre_ct: Array, camera: Camera, pixel: Sequence[float]
) -> Array:
    """Return an approximate pose (4, 4) moved across the line of sight to where a click (column,
    row) shows its centre, at the same distance from the source."""
    centre = Rigid(start_ct_to_world).apply(centre_ct)
    ray = camera.ray_directions(np.asarray(pixel, dtype=float)[None])[0]
    distance_mm = float(np.linalg.norm(centre - camera.source_world))
    moved = np.array(start_ct_to_world, dtype=float)
    moved[:3, 3] += camera.source_world + distance_mm * ray - centre
    return moved
