"""Searches: around clicks, around a rough start, around what was proposed before."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from ...geometry import Array, Rigid
from ...system import Progress, side_by_side_reporting
from ...views import sign_choices
from ..bounds import EVERY_TURN_DEG, EVERY_TURN_KEPT
from ..options import RegistrationOptions, SearchOptions
from ..scene import Scene
from .correlation import search
from .types import Candidate, Proposal, Tried


def search_around(
    scene: Scene, axes: Array, centre_world: Array, ranges: SearchOptions, progress: Progress
) -> list[Candidate]:
    """Search where ``axes`` (3, 3) turn the CT's axes to the world's and put the target's centre
    at ``centre_world`` (3,); the likeliest come first."""
    ct_to_world = Rigid.carrying(axes, scene.bodies.centre_ct, centre_world).matrix
    return search(scene, ct_to_world, ranges, progress)


@dataclass(frozen=True)
class ClickSearch:
    """Searches where clicks say the target's centre is (`cases.clicked_centre`).

    ``axes`` (3, 3) turn the CT's axes to the world's, within ``range_deg`` about each.
    """

    centre_world: Array
    axes: Array
    range_deg: float
    options: RegistrationOptions
    name: str = "search"
    views_needed: int = 2

    def propose(self, scene: Scene, tried: Tried, progress: Progress) -> Proposal:
        """Propose one pose for each rotation, the likeliest first."""
        places = self.options.click_places
        ranges = replace(_near_a_click(self.options), rotation_range_deg=self.range_deg)
        candidates = search_around(scene, self.axes, self.centre_world, ranges, progress)
        return Proposal(candidates, places)


@dataclass(frozen=True)
class EveryTurnSearch:
    """Searches where clicks say the target's centre is, turned in any way.

    The turns of a cube and turns between them, then the likeliest of these more closely.
    """

    centre_world: Array
    options: RegistrationOptions
    name: str = "search"
    views_needed: int = 2

    def propose(self, scene: Scene, tried: Tried, progress: Progress) -> Proposal:
        """Propose the likeliest poses first."""
        near, places = _near_a_click(self.options), self.options.click_places

        def around(turns: list[Array], step_deg: float, part: Progress) -> list[Candidate]:
            ranges = replace(near, rotation_range_deg=step_deg, rotation_step_deg=step_deg)
            candidates = []
            for n, axes in enumerate(turns):
                report = part.part(n / len(turns), (n + 1) / len(turns))
                candidates += search_around(scene, axes, self.centre_world, ranges, report)
            return sorted(candidates, key=lambda c: -c.score)

        cube = list(Rotation.create_group("O").as_matrix())
        rough = around(cube, EVERY_TURN_DEG, progress.part(0.0, 0.7))[:EVERY_TURN_KEPT]
        likely = [candidate.ct_to_world[:3, :3] for candidate in rough]
        close = around(likely, EVERY_TURN_DEG / 2.0, progress.part(0.7, 1.0))
        # Twice as many rotations look right here.
        wider = replace(places, candidates=2 * places.candidates, survivors=2 * places.survivors)
        return Proposal(close, wider)


def click_search(
    centre_world: Array, axes: Array | None, range_deg: float, options: RegistrationOptions
) -> ClickSearch | EveryTurnSearch:
    """Return the search about a centre (3,) that axes (3, 3), or None for any, call for."""
    if axes is None:
        return EveryTurnSearch(centre_world, options)
    return ClickSearch(centre_world, axes, range_deg, options)


def _near_a_click(options: RegistrationOptions) -> SearchOptions:
    ranges = replace(options.search, translation_range_mm=options.click_range_mm)
    return ranges.for_places(options.click_places)


@dataclass(frozen=True)
class StartSearch:
    """Searches around an approximate pose (4, 4), off by tens of millimetres."""

    start_ct_to_world: Array
    options: RegistrationOptions
    name: str = "search"
    views_needed: int = 2

    def propose(self, scene: Scene, tried: Tried, progress: Progress) -> Proposal:
        """Propose several positions for each rotation, the likeliest first."""
        ranges = replace(
            self.options.search,
            rotation_range_deg=self.options.start_rotation_range_deg,
            translation_range_mm=self.options.start_range_mm,
        )
        start, centre_ct = Rigid(self.start_ct_to_world), scene.bodies.centre_ct
        places = self.options.start_places
        ranges, centre_world = ranges.for_places(places), start.apply(centre_ct)
        candidates = search_around(scene, start.rotation, centre_world, ranges, progress)
        return Proposal(candidates, places)


@dataclass(frozen=True)
class StartItself:
    """Proposes an approximate pose (4, 4) as it is: most starts are nearer than they might be."""

    start_ct_to_world: Array
    options: RegistrationOptions
    name: str = "start"
    views_needed: int = 1

    def propose(self, scene: Scene, tried: Tried, progress: Progress) -> Proposal:
        """Propose it with each polarity that the views may have."""
        choices = sign_choices(scene.views)
        candidates = [Candidate(self.start_ct_to_world, 0.0, signs) for signs in choices]
        return Proposal(candidates, self.options.given_start_places)


@dataclass(frozen=True)
class AroundTried:
    """Searches around each place that was proposed before, as around a click."""

    options: RegistrationOptions
    name: str = "search"
    views_needed: int = 2

    def propose(self, scene: Scene, tried: Tried, progress: Progress) -> Proposal:
        """Propose the likeliest of all places first."""
        options = self.options
        apart: list[Candidate] = []
        centres_world: list[Array] = []
        for candidate in tried.candidates:
            centre_world = scene.centre_world(candidate.ct_to_world)
            apart_mm = [np.linalg.norm(centre_world - other) for other in centres_world]
            if min(apart_mm, default=np.inf) > options.click_range_mm:
                apart.append(candidate)
                centres_world.append(centre_world)
        places = options.click_places if len(apart) == 1 else options.learned_search_places
        ranges = replace(
            options.search,
            rotation_range_deg=options.rotation_range_deg,
            translation_range_mm=options.click_range_mm,
        ).for_places(places)

        def around(candidate: Candidate, part: Progress) -> list[Candidate]:
            return search(scene, candidate.ct_to_world, ranges, part)

        message = "looking around the poses proposed before"
        groups = side_by_side_reporting(around, apart, progress, message)
        return Proposal(sorted(itertools.chain(*groups), key=lambda c: -c.score), places)
