"""Other poses near a refined one, sought on purpose: the bone rolled, and moved by its own width.

A long bone looks much the same rolled about its axis or slid along it, and refinement ends in the
nearest of such places. A search on a coarse grid need not have met the right one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from ..geometry import Array, Rigid
from ..system import Progress
from . import bounds
from .options import RegistrationOptions
from .proposers import Candidate
from .stages import Hypothesis, Refiner


def other_poses(surface_points: Array, centre: Array) -> list[Array]:
    """Return motions (4, 4) in the CT frame: turns about the principal axes of the points (N, 3),
    about ``centre`` (3,), and steps along them by the points' least extent."""
    from_centre = surface_points - centre
    axes = np.linalg.svd(from_centre - from_centre.mean(0), full_matrices=False)[2]
    width = float(np.ptp(from_centre @ axes.T, axis=0).min())
    motions = []
    for axis in axes:
        for turn_deg in bounds.ROLLS_DEG:
            turn = Rotation.from_rotvec(np.radians(turn_deg) * axis).as_matrix()
            motions.append(Rigid.carrying(turn, centre, centre).matrix)
        for step in (-width, width):
            motions.append(Rigid.carrying(np.eye(3), centre, centre + step * axis).matrix)
    return motions


def beyond_doubt(
    best: Hypothesis, weakest_edge_score: float, least: float = bounds.CLEAR_SCORE
) -> bool:
    """Return whether a finely refined pose explains each view, and its edges, better than a wrong
    one ever did: then nothing else needs to be tried. ``least``: the weakest view's score."""
    return best.weakest_score >= least and weakest_edge_score >= bounds.CLEAR_EDGES


def explore(
    refiner: Refiner,
    fine: Sequence[Hypothesis],
    options: RegistrationOptions,
    progress: Progress,
    *,
    always: bool = False,
) -> list[Hypothesis]:
    """Return finely refined hypotheses, the best first, with what `other_poses` of it lead to.

    The best is that which both measures together prefer, and where they are equal the nearest to
    the scene's start. Goes on from a better one. ``always``: also where it is beyond doubt.
    """
    rounds = 2
    for n in range(rounds):
        part = progress.part(n / rounds, (n + 1) / rounds)
        fine = _ordered(refiner, fine, options)
        best = fine[0]
        if not always and beyond_doubt(best, min(refiner.edge_scores(options.fine, best))):
            break
        others = _others(refiner, fine, options, part)
        if not others:
            break
        fine = _ordered(refiner, [*fine, *others], options)
        if fine[0] is best:
            break
        _, rest = options.fine.in_two()
        finished = refiner.refine(rest, fine[0], part.part(0.9, 1.0))
        fine = [finished, *fine[1:]]
    return list(fine)


def _ordered(
    refiner: Refiner, fine: Sequence[Hypothesis], options: RegistrationOptions
) -> list[Hypothesis]:
    if len(fine) < 2:
        return list(fine)

    def measured(hypothesis: Hypothesis) -> float:
        return hypothesis.score + refiner.edge_score(options.fine, hypothesis)

    ordered = sorted(fine, key=measured, reverse=True)
    start_ct_to_world = refiner.scene.start_ct_to_world
    if start_ct_to_world is None:
        return ordered

    def from_start_mm(hypothesis: Hypothesis) -> float:
        return refiner.scene.distance_mm(hypothesis.ct_to_world, start_ct_to_world)

    best = ordered[0]
    equal = [h for h in ordered if measured(h) >= measured(best) - bounds.EQUAL_EVIDENCE]
    nearest = min(equal, key=from_start_mm)
    # Two poses that are nearly the same are not told apart by a start that is far from both.
    if from_start_mm(nearest) > from_start_mm(best) - bounds.CLEARLY_APART_MM:
        return ordered
    return [nearest, *(h for h in ordered if h is not nearest)]


def _others(
    refiner: Refiner,
    fine: Sequence[Hypothesis],
    options: RegistrationOptions,
    progress: Progress,
) -> list[Hypothesis]:
    """What becomes of the best pose's other poses, after one fine round, where that is close."""
    best, scene = fine[0], refiner.scene
    bodies = scene.bodies
    motions = other_poses(bodies.surface_points_ct, bodies.centre_ct)
    tried = [Candidate(best.ct_to_world @ m, 0.0, best.signs) for m in motions]

    def new(hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
        return [
            h
            for h in hypotheses
            if all(
                scene.distance_mm(h.ct_to_world, f.ct_to_world) > bounds.CLEARLY_APART_MM
                for f in fine
            )
        ]

    message = "trying other poses"
    coarse = refiner.refine_each(options.coarse, tried, progress.part(0.0, 0.4), message)
    kept = refiner.distinct(new(coarse), bounds.CLEARLY_APART_MM, bounds.OTHERS_KEPT)
    part = progress.part(0.4, 0.65)
    own, *middle = refiner.refine_each(options.middle, [best, *kept], part, message, afresh=True)
    close = [h for h in refiner.distinct(new(middle)) if h.score > own.score - options.fine_lead]
    first, _ = options.fine.in_two()
    part = progress.part(0.65, 0.9)
    return new(refiner.refine_each(first, close[:2], part, message))
