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


@dataclass(frozen=True)
class ClickSearch:
    """Searches where clicks say the target's centre is (`cases.clicked_centre`).

    ``axes`` (3, 3) turn the CT's axes to the world's, within ``range_deg`` about each; None: every
    rotation is tried.
    """

    centre_world: Array
    axes: Array | None
    range_deg: float
    options: RegistrationOptions
    name: str = "search"
    views_needed: int = 2

    def propose(self, scene: Scene, tried: Tried, progress: Progress) -> Proposal:
        """Propose one pose for each rotation, the likeliest first."""
        places = self.options.click_places
        near = replace(
            self.options.search,
            rotation_range_deg=self.range_deg,
            translation_range_mm=self.options.click_range_mm,
        ).for_places(places)

        def around(axes: Array, ranges: SearchOptions, part: Progress) -> list[Candidate]:
            pose = Rigid.carrying(axes, scene.bodies.centre_ct, self.centre_world).matrix
            return search(scene, pose, ranges, part)

        if self.axes is not None:
            return Proposal(around(self.axes, near, progress), places)
        # The turns of a cube, and between them; then the likeliest of these more closely.
        few = replace(near, rotation_range_deg=EVERY_TURN_DEG, rotation_step_deg=EVERY_TURN_DEG)
        cube = list(Rotation.create_group("O").as_matrix())
        rough = itertools.chain.from_iterable(
            around(axes, few, progress.part(0.7 * n / len(cube), 0.7 * (n + 1) / len(cube)))
            for n, axes in enumerate(cube)
        )
        likely = sorted(rough, key=lambda c: -c.score)[:EVERY_TURN_KEPT]
        half = EVERY_TURN_DEG / 2.0
        close = replace(near, rotation_range_deg=half, rotation_step_deg=half)
        fine = itertools.chain.from_iterable(
            around(c.ct_to_world[:3, :3], close, progress.part(0.7 + 0.3 * n / len(likely), 1.0))
            for n, c in enumerate(likely)
        )
        wider = replace(places, candidates=2 * places.candidates, survivors=places.survivors + 2)
        return Proposal(sorted(fine, key=lambda c: -c.score), wider)


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
        reference = Rigid.carrying(start.rotation, centre_ct, start.apply(centre_ct)).matrix
        places = self.options.start_places
        return Proposal(search(scene, reference, ranges.for_places(places), progress), places)


@dataclass(frozen=True)
class StartItself:
    """Proposes an approximate pose (4, 4) as it is: most starts are nearer than they might be."""

    start_ct_to_world: Array
    options: RegistrationOptions
    name: str = "start"
    views_needed: int = 2

    def propose(self, scene: Scene, tried: Tried, progress: Progress) -> Proposal:
        """Propose it with each polarity that the views may have."""
        start = Rigid(self.start_ct_to_world)
        centre_ct = scene.bodies.centre_ct
        pose = Rigid.carrying(start.rotation, centre_ct, start.apply(centre_ct)).matrix
        choices = sign_choices(scene.views)
        candidates = [Candidate(pose, 0.0, signs) for signs in choices]
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
