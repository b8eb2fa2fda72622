"""Each vertebra with what a registration needs of it, and where the spine's chain puts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..cases import Case, View
from ..geometry import Array, transform_points
from ..registration import (
    Arrangement,
    Candidate,
    LocallyNormalized,
    Refiner,
    RegistrationOptions,
    Scene,
    StretchedGaussNewton,
    case_bodies,
)
from ..system import Progress, side_by_side, side_by_side_reporting
from .unknowns import Target


@dataclass(frozen=True)
class Level:
    """A vertebra of a case: what is around it (``target``), and the X-rays with it (``scene``)."""

    case: Case
    target: Target
    scene: Scene

    def refiner(self) -> Refiner:
        """What refines it alone."""
        return Refiner(self.scene, LocallyNormalized(), StretchedGaussNewton)

    @property
    def centre_ct(self) -> Array:
        """Where it turns about (3,), mm."""
        return self.target.bodies.centre_ct


def make_levels(
    case: Case, labels: Sequence[int], scene: Scene, options: RegistrationOptions
) -> dict[int, Level]:
    """Take vertebrae out of the CT; ``scene`` is the case's own, whose X-rays all share.

    Raises InputError for a label without bone.
    """

    def level(label: int) -> Level:
        # A click is of the case's own vertebra.
        views = tuple(replace(view, center_px=None) for view in case.views)
        own = case if label == case.label else replace(case, label=label, views=views)
        if label == case.label:
            there = scene
        else:
            bodies = case_bodies(own, options).to(scene.device)
            there = replace(
                scene, bodies=bodies, parameters=own.to_parameters(), start_ct_to_world=None
            )
        name = case.label_names.get(label, str(label))
        return Level(own, Target(label, name, there.bodies), there)  # type: ignore[arg-type]

    return dict(zip(labels, side_by_side(level, list(labels)), strict=True))


def chained(
    levels: Mapping[int, Level],
    begun_with: int,
    ct_to_world: Array,
    signs: tuple[int, ...],
    options: RegistrationOptions,
    progress: Progress,
) -> dict[int, Array]:
    """Return a pose (4, 4) of each vertebra, one after the other along the spine.

    Each begins where it would be had it moved with the last one beside it, whose fit has placed
    this one too as its neighbour.
    """
    order = list(levels)
    first = order.index(begun_with)
    begun = _fitted(levels[begun_with], ct_to_world, signs, options, Progress())
    progress(0.2, "going along the spine")

    def walk(labels: Sequence[int], part: Progress) -> dict[int, Array]:
        out: dict[int, Array] = {}
        before, there = levels[begun_with], begun
        for number, label in enumerate(labels):
            part(number / max(len(labels), 1), "going along the spine")
            start = _neighbour(before, there, levels[label])
            before = levels[label]
            there = _fitted(before, start, signs, options, part)
            out[label] = there.ct_to_world
        return out

    ways = [order[:first][::-1], order[first + 1 :]]
    walked = side_by_side_reporting(walk, ways, progress.part(0.2, 1.0), "going along the spine")
    return {begun_with: begun.ct_to_world} | walked[0] | walked[1]


def _fitted(
    level: Level,
    start_ct_to_world: Array,
    signs: tuple[int, ...],
    options: RegistrationOptions,
    progress: Progress,
) -> Arrangement:
    """A vertebra refined from a pose, with what is around it."""
    refiner = level.refiner()
    candidate = Candidate(start_ct_to_world, 0.0, signs)
    coarse = refiner.refine(options.coarse, candidate, progress)
    return refiner.refine(options.middle, coarse, progress).arrangement


def _neighbour(level: Level, there: Arrangement, other: Level) -> Array:
    """Where a fit has put a vertebra beside it, or where that would be as in the CT."""
    for body, shift in zip(level.target.bodies.neighbours, there.shifts_ct, strict=False):
        if body.vertebra and body.name == other.target.name:
            return np.asarray(there.ct_to_world @ shift)
    return there.ct_to_world


def least_shown(views: Sequence[View], points_world: Array) -> tuple[float, str]:
    """Return the share of points (N, 3) mm that the view which shows the fewest of them shows, and
    that view's name."""
    least = (1.0, "")
    for view in views:
        pixels = view.camera.project(points_world)
        inside = (pixels >= 0).all(axis=1) & (pixels < np.array(view.camera.size)).all(axis=1)
        inside &= transform_points(view.camera.world_to_camera, points_world)[:, 2] > 0
        least = min(least, (float(inside.mean()), view.name))
    return least
