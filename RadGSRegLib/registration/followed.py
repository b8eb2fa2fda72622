"""A pose that follows from one that was judged: refined in brief, and judged by what is cheap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..cases import Case
from ..geometry import Array
from ..system import Progress
from .consistency import consistency
from .evidence import Evidence, pose_covariance, surface_error
from .exploring import beyond_doubt
from .geometry_error import calibration_covariance
from .of_case import case_alternatives
from .options import RegistrationOptions
from .proposers import Candidate, GivenPoses, Proposer, StartSearch
from .register import Outcome, register, registration_of
from .scene import Scene
from .stages import Hypothesis, Refiner
from .types import Registration


@dataclass(frozen=True)
class Followed:
    """What is known of a pose beside its own fit: ``leads`` over other explanations, as they were
    where these were tried last; ``lead`` over another pose that was tried here (1: there was none);
    ``disagreement_mm``: how far the last stage moved the bone."""

    leads: Mapping[str, float]
    lead: float = 1.0
    disagreement_mm: float = 0.0


def judge_followed(
    refiner: Refiner,
    held: Hypothesis,
    known: Followed,
    options: RegistrationOptions,
    progress: Progress,
) -> Registration:
    """Judge a finely refined pose as `register` judges its own, but for what takes long.

    Not tried anew: other levels, pictures and polarities (``known.leads``), and a fit with wider
    neighbourhoods. ``options`` are scaled. The quality says "beyond_doubt" where the pose explains
    the X-rays so well that `register` would try none of these either.
    """
    scene, bodies = refiner.scene, refiner.scene.bodies
    edges = refiner.edge_scores(options.fine, held)
    agreeing = consistency(refiner, options.fine, held, progress)
    state = refiner.measured_anew(options.fine, held).evaluation
    covariance = pose_covariance(
        state.hessian, state.cost, state.effective_pixels, options.fine.pixel_mm
    )
    points_from_centre = bodies.surface_points_ct - bodies.centre_ct
    by_cameras = calibration_covariance(scene, held.ct_to_world)
    if by_cameras is not None:
        covariance = covariance + by_cameras
    evidence = Evidence(
        score=state.score,
        weakest_score=min(state.view_scores),
        edge_score=float(np.mean(edges)),
        weakest_edge_score=min(edges),
        expected_error_mm=surface_error(covariance, points_from_centre),
        disagreement_mm=known.disagreement_mm,
        lead=known.lead,
        fine_lead=known.lead,
        edge_lead=1.0,
        leads=known.leads,
        neighbour_shift_mm=bodies.largest_shift_mm(held.arrangement),
        covariance=covariance,
        calibration_error_mm=(
            None if by_cameras is None else surface_error(by_cameras, points_from_centre)
        ),
        consistency=agreeing,
        own_share=min(refiner.own_shares(options.fine, held)),
    )
    done = registration_of(scene, Outcome([held], evidence), {}, options)
    done.quality["beyond_doubt"] = beyond_doubt(held, min(edges))
    return done


def expected_error_mm(covariance: Array, points_ct: Array, centre_ct: Array) -> float:
    """Return the root mean square displacement (mm) of points (N, 3) of the target under a
    covariance (6, 6) of its twist about its centre (3,)."""
    return surface_error(covariance, np.asarray(points_ct) - centre_ct)


def register_near(
    case: Case,
    scene: Scene,
    candidates: Sequence[Candidate],
    options: RegistrationOptions,
    progress: Progress,
) -> Registration:
    """Register a scene from poses near which the bone should be, the likeliest first, and else by a
    search around that one; judged in full, as `register_case` judges.

    ``options`` are scaled; their ``start_range_mm`` and ``start_rotation_range_deg`` bound the
    search. Raises InputError where nothing is proposed.
    """
    start = candidates[0].ct_to_world
    proposers: list[Proposer] = [GivenPoses(candidates, options.learned_places)]
    if len(scene.views) > 1:
        proposers.append(StartSearch(start, options))
    others = case_alternatives(case, start, scene, options, proposers)
    return register(scene, proposers, alternatives=others, options=options, progress=progress)
