"""What speaks for a pose of one X-ray, judged as if its depth were known, and then with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...geometry import Array
from ...system import Progress
from .. import bounds
from ..bounds import ERROR_WEIGHT
from ..evidence import Evidence, doubtful, gather_evidence, pose_covariance, surface_error
from ..geometry_error import calibration_covariance
from ..options import RegistrationOptions
from ..proposers import Alternative
from ..scene import Scene
from ..stages import Hypothesis, Refiner
from ..types import Registration
from ..verdict import Verdict, judge
from .sight import error_parts_mm, sight_ct


def evidence_at_depth(
    refiner: Refiner,
    fine: Sequence[Hypothesis],
    alternatives: Sequence[Alternative],
    options: RegistrationOptions,
    progress: Progress,
) -> Evidence:
    """Gather what speaks for and against the first of finely refined poses, its depth as if it were
    known.

    ``refiner`` holds the depth. What else may be the case is tried only where the pose would be
    `ok` without that.
    """
    part, held = progress.part(0.0, 0.4), fine[0]
    plain = gather_evidence(refiner, fine, [held], (), options, part)
    evidence = _as_if_known(refiner, held, plain, options)
    if judge(evidence).status != "ok":
        return replace(evidence, leads={})
    if not doubtful(refiner, held, alternatives, options):
        return replace(evidence, leads={other.name: 1.0 for other in alternatives})
    part = progress.part(0.4, 1.0)
    whole = gather_evidence(refiner, fine, [held], alternatives, options, part)
    return _as_if_known(refiner, held, whole, options)


def _as_if_known(
    refiner: Refiner, held: Hypothesis, evidence: Evidence, options: RegistrationOptions
) -> Evidence:
    """Evidence with the covariance of all but the depth."""
    scene, state = refiner.scene, held.refined.evaluation
    bodies = scene.bodies
    along = np.zeros(len(state.hessian))
    along[3:6] = sight_ct(scene.views[0].camera, held.ct_to_world, bodies.centre_ct)
    across = np.eye(len(along)) - np.outer(along, along)
    known = bounds.KNOWN_DEPTH * float(np.diag(state.hessian).max())
    hessian = across @ state.hessian @ across + known * np.outer(along, along)
    covariance = bounds.ACROSS_TIMES**2 * pose_covariance(
        hessian, state.cost, state.effective_pixels, options.fine.pixel_mm
    )
    by_cameras = calibration_covariance(scene, held.ct_to_world)
    if by_cameras is not None:
        covariance = covariance + by_cameras
    points_from_centre = bodies.surface_points_ct - bodies.centre_ct
    error_mm = surface_error(covariance, points_from_centre)
    return replace(evidence, covariance=covariance, expected_error_mm=error_mm)


def with_depth(
    registration: Registration, scene: Scene, along_ct: Array, motion: Array
) -> Registration:
    """Return a registration that counts how unsure its depth is.

    ``motion`` (6,): the twist about the centre that goes with one standard deviation of the depth;
    ``along_ct`` (3,): the line of sight.
    """
    covariance = registration.covariance + np.outer(motion, motion)
    points_from_centre = scene.bodies.surface_points_ct - scene.bodies.centre_ct
    parts = error_parts_mm(covariance, points_from_centre, along_ct)
    expected_mm = float(np.hypot(parts["in_plane_error_mm"], parts["depth_error_mm"]))
    verdict = mistrust_depth(Verdict(registration.status, registration.reason), **parts)
    quality = registration.quality
    more = {
        "expected_error_mm": expected_mm,
        "confidence": quality["weakest_score"] - ERROR_WEIGHT * expected_mm,
        **parts,
    }
    return replace(
        registration,
        status=verdict.status,
        reason=verdict.reason,
        covariance=covariance,
        quality={**quality, **more},
    )


def mistrust_depth(verdict: Verdict, in_plane_error_mm: float, depth_error_mm: float) -> Verdict:
    """Return no `ok` where twice the whole expected error passes what `ok` bets on, and "failed"
    where nothing is known of the depth; a reason that tells its two parts apart."""
    if not depth_error_mm < bounds.LOST_DEPTH_MM:
        reason = (
            "the X-ray does not say at all how far away the bone is; check the start and the label"
        )
        return Verdict("failed", reason)
    parts = f"in-plane error {in_plane_error_mm:.1f} mm, depth {depth_error_mm:.1f} mm"
    if verdict.status != "ok":
        return replace(verdict, reason=f"{verdict.reason}; were it right: {parts}")
    # A NaN is no agreement.
    if 2.0 * np.hypot(in_plane_error_mm, depth_error_mm) <= bounds.BET_MM:
        return Verdict("ok", f"the X-ray agrees with the CT at this pose ({parts})")
    return Verdict(
        "uncertain",
        f"the X-ray agrees with the CT at this pose, but one X-ray leaves open how far away the "
        f"bone is ({parts}); take another one from the side to be sure",
    )
