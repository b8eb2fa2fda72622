"""All vertebrae refined together: one least-squares problem with the cameras as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..geometry import Array, transform_points
from ..registration import RegistrationOptions, Stage
from ..system import Progress
from ..views import PreparedView
from . import bounds
from .descent import descend
from .equations import Equations, Normal, Shown
from .unknowns import Setup, Target, Unknowns

_POINTS = 100


@dataclass(frozen=True)
class Together:
    """Vertebrae as they explain the X-rays together.

    ``unknowns`` and ``setup``: what was fitted and where it ended; ``covariance`` (6 K, 6 K) of the
    targets' twists, all else marginalised; ``settled_mm``: how far the last round moved them.
    """

    unknowns: Unknowns
    setup: Setup
    covariance: Array
    settled_mm: float


def fit_together(
    targets: Sequence[Target],
    poses: Mapping[int, Array],
    views: Sequence[PreparedView],
    signs: tuple[int, ...],
    options: RegistrationOptions,
    progress: Progress,
) -> Together:
    """Refine vertebrae from poses (label: ct_to_world) near by.

    Beside each the others are held near where they lie in the CT by the prior of a registration
    (`RigidBodies.prior`), so that what one hides of another is told by the whole row. Raises
    LinAlgError where the pictures do not fix them.
    """
    pivot = np.mean([poses[t.label][:3, 3] for t in targets], axis=0)
    unknowns = Unknowns(tuple(targets), len(views), pivot, held=True)
    given = [poses[target.label] for target in targets]
    beside = [given[unknowns.nearest(piece)] for piece in unknowns.pieces[len(targets) :]]
    setup = Setup(np.tile(np.eye(4), (len(views), 1, 1)), np.array(given + beside))
    shown = Shown(tuple(views), signs, np.ones((len(views), 6)))
    stages = [(options.middle, bounds.MIDDLE_ROUNDS), (options.fine, bounds.FINE_ROUNDS)]
    rounds = [stage for stage, count in stages for _ in range(count)]
    settled_mm, normal = np.inf, None
    for number, stage in enumerate(rounds):
        part = progress.part(number / len(rounds), (number + 1) / len(rounds))
        if settled_mm < bounds.SETTLED_MM and stage is rounds[number - 1]:
            continue
        before = setup
        setup, normal = _round(unknowns, shown, _patiently(stage), before, part)
        settled_mm = _moved_mm(targets, before, setup)
    assert normal is not None
    size = 6 * len(targets)
    covariance = np.linalg.inv(normal.hessian)[:size, :size]
    return Together(unknowns, setup, (covariance + covariance.T) / 2.0, settled_mm)


def _round(
    unknowns: Unknowns, shown: Shown, stage: Stage, setup: Setup, progress: Progress
) -> tuple[Setup, Normal]:
    refine = stage.refine
    equations = Equations(unknowns, shown, stage, setup)
    message = "refining all vertebrae together"
    return descend(equations, setup, refine.iterations, refine.steps_per_matrix, progress, message)


def _patiently(stage: Stage) -> Stage:
    steps, per_matrix = bounds.STEPS, bounds.STEPS_PER_MATRIX
    refine = replace(stage.refine, iterations=steps, steps_per_matrix=per_matrix)
    return replace(stage, refine=refine)


def _moved_mm(targets: Sequence[Target], before: Setup, after: Setup) -> float:
    """The furthest that a point of some target's surface has moved."""
    furthest = 0.0
    for number, target in enumerate(targets):
        points = target.bodies.surface_points_ct
        some = points[:: max(len(points) // _POINTS, 1)]
        ends = [transform_points(s.ct_to_world[number], some) for s in (before, after)]
        furthest = max(furthest, float(np.linalg.norm(ends[1] - ends[0], axis=1).max()))
    return furthest
