"""Where along the line of sight a bone is: the cost at places held there, all else fitted.

The cost against the depth is a profile likelihood: close to a parabola once everything else has
settled at each place, and misleading before. So each place begins where the one beside it has
ended, is settled until its cost no longer falls, and the places about the lowest are settled once
more from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...geometry import Array, Rigid, twist_about
from ...system import Progress, side_by_side_reporting
from .. import bounds
from ..bodies import Arrangement
from ..evidence import independent_residuals
from ..normal_equations import Evaluation
from ..options import Stage
from ..stages import Hypothesis, Refiner


@dataclass(frozen=True)
class Place:
    """What was fitted with the target held at a depth (mm, away from the source)."""

    depth_mm: float
    hypothesis: Hypothesis
    state: Evaluation

    @property
    def cost(self) -> float:
        """The mean robust residual, with the prior."""
        return self.state.cost


@dataclass(frozen=True)
class Lowest:
    """Where a profile is lowest: the place, its standard deviation by the curvature as if residuals
    were noise (infinite where it has no minimum), and by leaving out each place in turn (mm)."""

    depth_mm: float
    curved_mm: float
    rough_mm: float


@dataclass(frozen=True)
class Profile:
    """Places by their depth, ``spacing_mm`` apart; pixels of ``pixel_mm``."""

    places: tuple[Place, ...]
    spacing_mm: float
    pixel_mm: float

    @property
    def best(self) -> Place:
        """The place of the lowest cost."""
        return min(self.places, key=lambda place: place.cost)

    @property
    def around(self) -> tuple[Place, ...]:
        """The places about the lowest that a parabola is laid through."""
        most = bounds.DEPTH_PARABOLA
        first = self.places.index(self.best) - most // 2
        first = int(np.clip(first, 0, max(len(self.places) - most, 0)))
        return self.places[first : first + most]

    def lowest(self) -> Lowest:
        """Return where it is lowest, and how far that is sure by the costs alone."""
        around, best = self.around, self.best
        depths = np.array([place.depth_mm for place in around])
        costs = np.array([place.cost for place in around])
        vertex, curvature = _vertex(depths, costs)
        if not curvature > 0.0 or not depths[0] <= vertex <= depths[-1]:
            return Lowest(best.depth_mm, np.inf, np.inf)
        independent = independent_residuals(best.state.effective_pixels, self.pixel_mm)
        curved = float(np.sqrt(best.cost / (independent * curvature)))
        keep = ~np.eye(len(depths), dtype=bool)
        left_out = np.array([_vertex(depths[own], costs[own])[0] for own in keep])
        share = (len(depths) - 1) / len(depths)
        rough = float(np.sqrt(share * np.sum((left_out - left_out.mean()) ** 2)))
        return Lowest(vertex, curved, rough if np.isfinite(rough) else np.inf)

    def motion_per_mm(self, centre_ct: Array) -> Array:
        """Return how the target's twist (6,) about its centre changes with the depth (1/mm)."""
        first, last = self.around[0], self.around[-1]
        poses = first.hypothesis.ct_to_world, last.hypothesis.ct_to_world
        motion = twist_about(*poses, centre_ct) / (last.depth_mm - first.depth_mm)
        return np.asarray(motion)


def _vertex(depths: Array, costs: Array) -> tuple[float, float]:
    """The lowest point of the parabola through costs, and half its second derivative."""
    a, b, _ = np.polyfit(depths, costs, 2)
    return (float(-b / (2.0 * a)), float(a)) if a > 0.0 else (np.nan, float(a))


class Profiler:
    """Makes profiles of one scene's depth."""

    def __init__(
        self,
        make_refiner: Callable[[], Refiner],
        sight_world: Array,
        stage: Stage,
        signs: tuple[int, ...],
        rounds: int = bounds.DEPTH_ROUNDS,
    ) -> None:
        """``make_refiner``: of refiners that hold the depth, one for each thread; ``sight_world``
        (3,): the line of sight, away from the source; ``stage``: at which to fit, in so many
        ``rounds`` at each place at the most."""
        self._make_refiner, self._sight = make_refiner, sight_world
        self._stage, self._signs = replace(stage, rounds=1), signs
        self._rounds = rounds

    def settled(
        self,
        refiner: Refiner,
        arrangement: Arrangement,
        depth_mm: float,
        rounds: int | None = None,
    ) -> Place:
        """Return what becomes of an arrangement that is held at its depth."""
        centre_ct = refiner.scene.bodies.centre_ct
        held_at = float(Rigid(arrangement.ct_to_world).apply(centre_ct) @ self._sight)
        kept: Hypothesis | None = None
        lowest = np.inf
        for _ in range(rounds or self._rounds):
            at = [arrangement], [self._signs], Progress()
            (refined,) = refiner.refine_arrangements(self._stage, *at)
            # Turned a little, the target's axes are others, and it has left the depth by as little.
            there = float(Rigid(refined.arrangement.ct_to_world).apply(centre_ct) @ self._sight)
            arrangement = self._shifted(refined.arrangement, held_at - there)
            fell, cost = lowest - refined.evaluation.cost, refined.evaluation.cost
            if kept is None or fell > 0.0:
                kept = Hypothesis(replace(refined, arrangement=arrangement), self._signs)
                lowest = cost
            if fell < bounds.DEPTH_SETTLED * cost:
                break
        assert kept is not None
        measured = refiner.measured_anew(self._stage, kept)
        return Place(depth_mm, replace(kept, refined=measured), measured.evaluation)

    def _shifted(self, arrangement: Arrangement, mm: float) -> Arrangement:
        """All of an arrangement moved along the line of sight."""
        pose = np.array(arrangement.ct_to_world)
        pose[:3, 3] += mm * self._sight
        return replace(arrangement, ct_to_world=pose)

    def moved(self, place: Place, depth_mm: float) -> Hypothesis:
        """Return what was fitted at a place as it is, at another depth."""
        shifted = self._shifted(place.hypothesis.arrangement, depth_mm - place.depth_mm)
        refined = replace(place.hypothesis.refined, arrangement=shifted)
        return replace(place.hypothesis, refined=refined)

    def profile(
        self, arrangement: Arrangement, spacing_mm: float, progress: Progress, *, again: bool
    ) -> Profile:
        """Return the profile about an arrangement on both sides, and on to where the cost is
        lowest. With ``again`` the places about the lowest are settled once more from there.

        Raises Cancelled when ``progress`` says so.
        """
        message = "looking for the depth"
        progress(0.0, message)
        refiners = [self._make_refiner(), self._make_refiner()]
        places = {0: self.settled(refiners[0], arrangement, 0.0, bounds.DEPTH_FIRST_ROUNDS)}

        def chain(
            refiner: Refiner, numbers: Sequence[int], step: int, part: Progress
        ) -> list[Place]:
            made: list[Place] = []
            for n, number in enumerate(numbers):
                part(n / len(numbers), message)
                before = made[-1] if made else places[number - step]
                depth_mm = number * spacing_mm
                begun = self.moved(before, depth_mm).arrangement
                made.append(self.settled(refiner, begun, depth_mm))
            return made

        def both(up: Sequence[int], down: Sequence[int], part: Progress) -> None:
            jobs = [(refiners[0], up, 1), (refiners[1], down, -1)]
            told = side_by_side_reporting(lambda job, own: chain(*job, own), jobs, part, message)
            for (_, numbers, _), made in zip(jobs, told, strict=True):
                for number, place in zip(numbers, made, strict=True):
                    if number not in places or place.cost < places[number].cost:
                        places[number] = place

        half = bounds.DEPTH_PARABOLA // 2
        both(range(1, half + 1), range(-1, -half - 1, -1), progress.part(0.0, 0.4))
        most = int(bounds.DEPTH_REACH_MM // spacing_mm)
        while True:
            best = min(places, key=lambda number: places[number].cost)
            above = range(max(places) + 1, min(best + half, most) + 1)
            below = range(min(places) - 1, max(best - half, -most) - 1, -1)
            if not above and not below:
                break
            both(above, below, progress.part(0.4, 0.7))
        if again:
            # The others may have come there by another way.
            best = min(places, key=lambda number: places[number].cost)
            above = range(best + 1, min(best + half, max(places)) + 1)
            below = range(best - 1, max(best - half, min(places)) - 1, -1)
            both(above, below, progress.part(0.7, 1.0))
        ordered = tuple(places[number] for number in sorted(places))
        return Profile(ordered, spacing_mm, self._stage.pixel_mm)
