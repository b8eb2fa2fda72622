"""How well a pose explains the X-rays, by the registration's own measure, again and again."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from ..cases import Case
from ..geometry import Array, Volume
from ..registration import (
    Arrangement,
    LocallyNormalized,
    Problem,
    Refiner,
    RegistrationOptions,
    Scene,
    Stage,
    StretchedGaussNewton,
    case_bodies,
    evaluate,
    fitted,
    polarities_at,
    scaled,
    settled_around,
)
from ..system import Progress, one_torch_thread
from ..views import prepare_views

# Windows are cut around a pose; farther away than this they are cut anew.
_WINDOW_REACH_MM = 6.0


@dataclass(frozen=True)
class PoseScore:
    """Local normalised correlation over all views and in each, at most 1."""

    score: float
    views: dict[str, float]


@dataclass(frozen=True)
class Registered:
    """Where a registration left everything, and per view +1 where it took bone as bright, else
    -1."""

    arrangement: Arrangement
    signs: tuple[int, ...]

    def fits(self, other: Arrangement, views: int) -> bool:
        """Whether it is of as many bodies and views."""
        shifts = self.arrangement.shifts_ct
        return len(shifts) == len(other.shifts_ct) and len(self.signs) == views


class PoseScorer:
    """Scores poses of a case's vertebra against its X-rays.

    Neighbours and soft tissue stay where they are in the world: only the vertebra is moved by hand.
    They are where a registration left them (``registered``), or else are placed once, as they
    explain the X-rays best with the vertebra at ``ct_to_world`` (4, 4). The score is the one that a
    registration reports at its finest level.
    """

    @one_torch_thread()
    def __init__(
        self,
        case: Case,
        ct_to_world: ArrayLike,
        options: RegistrationOptions | None = None,
        progress: Progress | None = None,
        registered: Registered | None = None,
    ) -> None:
        """Raises InputError for a label without bone. A ``registered`` of other bodies or views is
        not used."""
        self.case = case
        self._options = scaled(fitted(options or RegistrationOptions(), case))
        self._stage = replace(self._options.fine, rounds=1)
        self._still = replace(self._stage.refine, move_neighbours=False)
        report = progress or Progress()
        report(0.0, "taking the bone out of the CT")
        bodies = case_bodies(case, self._options)
        assert bodies.target_excess is not None
        self.vertebra: Volume = bodies.target_excess
        self._scene = Scene(bodies, tuple(prepare_views(case.views)))
        self._refiner = Refiner(self._scene, LocallyNormalized(), StretchedGaussNewton)
        pose = np.asarray(ct_to_world, dtype=float)
        arrangement = bodies.as_in_ct(pose)
        if registered is not None and registered.fits(arrangement, len(case.views)):
            self.signs = registered.signs
            self._settle(registered.arrangement)
            report(1.0, "ready")
            return
        self.signs = polarities_at(self._refiner, arrangement, self._options)
        """Per view +1 where bone is bright, -1 where it is dark."""
        part = report.part(0.2, 1.0)
        self._settle(settled_around(self._refiner, pose, self.signs, self._options, part))
        report(1.0, "ready")

    def _settle(self, arrangement: Arrangement) -> None:
        """Begin here: what was measured here is measured alike after every excursion."""
        self._home = self._around = arrangement
        self._home_problem = self._problem = self._still_problem(arrangement)

    @one_torch_thread()
    def score(self, ct_to_world: ArrayLike) -> PoseScore:
        """Return the scores with the vertebra at a pose (4, 4)."""
        pose = np.asarray(ct_to_world, dtype=float)
        arrangement = self._home.with_target_at(pose)
        if np.allclose(pose, self._home.ct_to_world, rtol=0.0, atol=1e-9):
            arrangement = self._home  # without the rounding of going there and back
        evaluation = evaluate(self._problem_near(arrangement), arrangement)
        names = [view.name for view in self.case.views]
        views = dict(zip(names, evaluation.view_scores, strict=True))
        return PoseScore(evaluation.score, views)

    @one_torch_thread()
    def refine(self, ct_to_world: ArrayLike, progress: Progress | None = None) -> Array:
        """Return the best pose near one (4, 4): the last stage of a registration, from here."""
        report = progress or Progress()
        arrangement = self._home.with_target_at(np.asarray(ct_to_world, dtype=float))
        stage = replace(self._options.middle, rounds=1)
        middle = self._refined(stage, arrangement, report.part(0.0, 0.3))
        stage = replace(self._stage, rounds=3)
        return self._refined(stage, middle, report.part(0.3, 1.0)).ct_to_world

    def _refined(self, stage: Stage, arrangement: Arrangement, progress: Progress) -> Arrangement:
        (refined,) = self._refiner.refine_arrangements(stage, [arrangement], [self.signs], progress)
        return refined.arrangement

    def _still_problem(self, arrangement: Arrangement) -> Problem:
        problem = self._refiner.problem(self._stage, arrangement, self.signs)
        return replace(problem, options=self._still)

    def _problem_near(self, arrangement: Arrangement) -> Problem:
        pose = arrangement.ct_to_world
        if self._scene.distance_mm(pose, self._home.ct_to_world) <= _WINDOW_REACH_MM:
            return self._home_problem
        moved_mm = self._scene.distance_mm(pose, self._around.ct_to_world)
        if moved_mm > _WINDOW_REACH_MM:
            self._around = arrangement
            self._problem = self._still_problem(arrangement)
        return self._problem
