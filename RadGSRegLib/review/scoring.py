"""How well a pose explains the X-rays, by the registration's own measure, again and again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cases import Case
from ..geometry import invert_rigid
from ..registration.anatomy import Anatomy, build_anatomy
from ..registration.clouds import build_model
from ..registration.model import Arrangement
from ..registration.refine import LevelView, evaluate
from ..registration.register import Job, RegistrationOptions
from ..system.progress import Progress
from ..system.torch_threads import one_torch_thread
from ..views.prepare import prepare_view

Array = NDArray[np.float64]

# Windows are cut around a pose; farther away than this they are cut anew.
_WINDOW_REACH_MM = 6.0


@dataclass(frozen=True)
class PoseScore:
    """Local normalised correlation over all views and in each, at most 1."""

    score: float
    views: dict[str, float]


class PoseScorer:
    """Scores poses of a case's vertebra against its X-rays.

    Neighbours and soft tissue are placed once, as they explain the X-rays best with the vertebra
    at ``ct_to_world`` (4, 4), and then stay where they are in the world: only the vertebra is
    moved by hand. The score is the one that a registration reports at its finest level.
    """

    @one_torch_thread()
    def __init__(
        self,
        case: Case,
        ct_to_world: ArrayLike,
        options: RegistrationOptions | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Raises InputError for a label without bone."""
        self.case = case
        self._options = options or RegistrationOptions()
        self._level = replace(self._options.fine, rounds=1)
        self._still = replace(self._level.refine, move_neighbours=False)
        report = progress or Progress()
        report(0.0, "taking the vertebra out of the CT")
        self.anatomy: Anatomy = build_anatomy(case, reach_mm=self._options.reach_mm)
        self._job = Job(
            build_model(
                self.anatomy,
                case.ct,
                coarse_mm=self._options.coarse_cloud_mm,
                fine_mm=self._options.fine_cloud_mm,
            ),
            [prepare_view(view) for view in case.views],
        )
        pose = np.asarray(ct_to_world, dtype=float)
        report(0.2, "placing the neighbours")
        arrangement = Arrangement.as_in_ct(pose, self._job.model)
        self._signs = self._polarities(arrangement)
        middle = self._job.refine(
            replace(self._options.middle, rounds=1), arrangement, self._signs, Progress()
        )
        report(0.5, "placing the neighbours")
        # The neighbours' places are taken over, the vertebra's own pose is not.
        settled = self._at(pose, middle.refined.arrangement)
        fine = self._job.refine(self._level, settled, self._signs, Progress())
        self._around = self._at(pose, fine.refined.arrangement)
        self._views = self._job.level_views(self._level, self._around, self._signs)
        report(1.0, "ready")

    @property
    def signs(self) -> tuple[int, ...]:
        """Per view +1 where bone is bright, -1 where it is dark."""
        return self._signs

    @one_torch_thread()
    def score(self, ct_to_world: ArrayLike) -> PoseScore:
        """The scores with the vertebra at a pose (4, 4)."""
        arrangement = self._at(np.asarray(ct_to_world, dtype=float), self._around)
        evaluation = evaluate(
            self._job.model, self._views_near(arrangement), arrangement, self._still
        )
        names = [view.name for view in self.case.views]
        views = dict(zip(names, evaluation.view_scores, strict=True))
        return PoseScore(evaluation.score, views)

    @one_torch_thread()
    def refine(self, ct_to_world: ArrayLike, progress: Progress | None = None) -> Array:
        """The best pose near one (4, 4): the last stage of a registration, from here."""
        report = progress or Progress()
        arrangement = self._at(np.asarray(ct_to_world, dtype=float), self._around)
        middle = replace(self._options.middle, rounds=1)
        found = self._job.refine(middle, arrangement, self._signs, report.part(0.0, 0.3))
        level = replace(self._level, rounds=3)
        fine = self._job.refine(
            level, found.refined.arrangement, self._signs, report.part(0.3, 1.0)
        )
        return fine.ct_to_world

    def _polarities(self, arrangement: Arrangement) -> tuple[int, ...]:
        """Known, or else what lets the views correlate positively at the pose."""
        bright = tuple(1 for _ in self._job.views)
        views = self._job.level_views(self._options.middle, arrangement, bright)
        scores = evaluate(
            self._job.model,
            views,
            arrangement,
            replace(self._options.middle.refine, move_neighbours=False),
        ).view_scores
        return tuple(
            view.sign or (1 if score >= 0.0 else -1)
            for view, score in zip(self._job.views, scores, strict=True)
        )

    def _views_near(self, arrangement: Arrangement) -> tuple[LevelView, ...]:
        moved = self._job.distance_mm(arrangement.ct_to_world, self._around.ct_to_world)
        if moved > _WINDOW_REACH_MM:
            self._around = arrangement
            self._views = self._job.level_views(self._level, arrangement, self._signs)
        return self._views

    @staticmethod
    def _at(ct_to_world: Array, other: Arrangement) -> Arrangement:
        """The vertebra at a pose, everything else where it is in the world in ``other``."""
        back = invert_rigid(ct_to_world) @ other.ct_to_world
        return Arrangement(ct_to_world, tuple(back @ shift for shift in other.shifts_ct))
