"""The vertebrae above and below: on its own picture a spine fits fairly well one level off."""

from dataclasses import dataclass, replace

import numpy as np

from ...geometry import Array
from ...system import Progress
from ..bodies import BodySource
from ..bounds import CLEAR_SCORE, LEVEL_DISTANCE_MM, LEVEL_RANGE_MM, LEVEL_STEEPNESS
from ..options import Places, RegistrationOptions
from ..scene import Scene
from .correlation import search
from .types import Candidate, Proposal, Tried


@dataclass(frozen=True)
class NeighbouringLevel:
    """Searches one level below (``side`` -1) or above (+1) the best pose so far.

    With small turns, as the levels of a spine are nearly parallel, and with that pose's polarity.
    Proposes nothing where that level is not in sight of all views, or where there is no pose yet.
    """

    side: int
    options: RegistrationOptions
    name: str = "level"
    views_needed: int = 1
    reason: str = (
        "the bone fits a neighbouring level as well or better; check the label and the clicks"
    )
    clear_score: float = CLEAR_SCORE

    def scene(self, scene: Scene) -> Scene:
        """Return the scene as it is."""
        return scene

    def propose(self, scene: Scene, tried: Tried, progress: Progress) -> Proposal:
        """Propose the four likeliest poses."""
        options, best = self.options, tried.best
        places = Places(1, 4, 1, keep=1, survivors=2)
        if best is None:
            return Proposal((), places)
        ct_to_world = np.array(best.ct_to_world)
        ct_to_world[:3, 3] += ct_to_world[:3, :3] @ level_step(scene.bodies, self.side)
        if not scene.shows(scene.centre_world(ct_to_world)):
            return Proposal((), places)
        near = replace(
            options.search,
            rotation_range_deg=options.search.rotation_step_deg,
            translation_range_mm=options.click_range_mm,
            neighbour_weight=options.click_places.neighbour_weight,
        )
        likely = search(scene, ct_to_world, near, progress)[: places.candidates]
        return Proposal([Candidate(c.ct_to_world, c.score, best.signs) for c in likely], places)


def neighbouring_levels(options: RegistrationOptions) -> list[NeighbouringLevel]:
    """Return the proposers of both neighbouring levels."""
    return [NeighbouringLevel(side, options) for side in (-1, 1)]


def level_step(bodies: BodySource, side: int) -> Array:
    """Return the step (3,) mm from the target to the level below (``side`` -1) or above (+1), in
    the CT frame (LPS).

    To the labelled neighbour there; where the CT or its labels hold none, straight down or up by
    the usual distance of lumbar vertebrae.
    """
    steps = [centre - bodies.centre_ct for centre in bodies.neighbour_centres_ct]
    steps.sort(key=lambda step: float(np.linalg.norm(step)))
    nearest, farthest = LEVEL_RANGE_MM
    for step in steps:
        along = side * float(step[2])
        if along > LEVEL_STEEPNESS * np.linalg.norm(step) and nearest < along < farthest:
            return step
    return np.array([0.0, 0.0, side * LEVEL_DISTANCE_MM])
