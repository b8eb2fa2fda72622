"""An honest verdict: whether one would bet on a registration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..cases import ROOM_NOMINAL, room_words
from ..geometry import Array
from . import bounds
from .consistency import Consistency
from .evidence import Evidence, surface_error
from .types import Registration, Status


@dataclass(frozen=True)
class Verdict:
    """The status and one sentence that says why."""

    status: Status
    reason: str


def judge(evidence: Evidence) -> Verdict:
    """Return the status: ``ok`` only where one would bet on an error below 2 mm.

    The bounds were set on simulated cases, the shared fifteen among them: wrong poses scored low in
    at least one view, and left the pose loosely held. Cameras are taken as exact here
    (`mistrust_calibration`).
    """
    evidence = evidence.by_pictures
    numbers = (
        evidence.weakest_score,
        evidence.weakest_edge_score,
        evidence.expected_error_mm,
        evidence.disagreement_mm,
    )
    if not np.isfinite(numbers).all():
        # A NaN passes every comparison below.
        return Verdict(
            "failed",
            "the fit at this pose gives no finite numbers; check the X-rays and the geometry",
        )
    if (
        evidence.weakest_score < bounds.FAILED_SCORE
        or evidence.expected_error_mm > bounds.FAILED_ERROR_MM
    ):
        return Verdict(
            "failed",
            evidence.objection
            or f"the X-rays do not show the bone at this pose (weakest view's correlation "
            f"{evidence.weakest_score:.2f}, expected error {evidence.expected_error_mm:.1f} mm); "
            "check the label, the clicks and the geometry",
        )
    if not evidence.own_share >= bounds.LEAST_OWN_SHARE:
        return Verdict(
            "uncertain",
            "some X-ray is explained as well without the bone as with it (its share of the "
            f"correlation is {evidence.own_share:.2f}); it may not be in the picture, or not here",
        )
    if min(evidence.leads.values(), default=1.0) < bounds.SURE_ALTERNATIVE_LEAD:
        return Verdict("uncertain", evidence.objection or "another explanation fits as well")
    if evidence.confidence < bounds.SURE_CONFIDENCE:
        return Verdict(
            "uncertain",
            f"the bone is explained too weakly to be sure (weakest view's correlation "
            f"{evidence.weakest_score:.2f}, expected error {evidence.expected_error_mm:.2f} mm)",
        )
    if evidence.disagreement_mm > bounds.SURE_DISAGREEMENT_MM:
        return Verdict(
            "uncertain",
            f"fitting at another scale moves the bone by {evidence.disagreement_mm:.1f} mm",
        )
    if evidence.fine_lead < bounds.SURE_LEAD:
        return Verdict(
            "uncertain",
            f"another pose explains the X-rays nearly as well (correlation lower by only "
            f"{evidence.fine_lead:.2f})",
        )
    if evidence.lead < 0.0:
        return Verdict(
            "uncertain",
            "another pose explained the X-rays better before the last stage (correlation higher "
            f"by {-evidence.lead:.2f})",
        )
    if evidence.edge_lead < 0.0 or evidence.weakest_edge_score < bounds.SURE_EDGES:
        return Verdict(
            "uncertain",
            f"the edges of the X-rays do not agree with the pose (correlation "
            f"{evidence.weakest_edge_score:.2f} in the weakest view)",
        )
    return Verdict(
        "ok",
        f"all views agree with the CT at this pose (weakest view's correlation "
        f"{evidence.weakest_score:.2f}, expected error {evidence.expected_error_mm:.2f} mm)",
    )


def verdict_of(
    evidence: Evidence, loose: Sequence[str], nominal: Sequence[str], drawn: Sequence[str]
) -> Verdict:
    """Return the status with all that keeps a pose from being `ok` beside what the pictures say;
    the views' names as of the functions below."""
    verdict = mistrust_calibration(judge(evidence), evidence, loose)
    verdict = mistrust_contradiction(verdict, evidence.consistency)
    return mistrust_drawn(mistrust_nominal(verdict, nominal), drawn)


def mistrust_calibration(verdict: Verdict, evidence: Evidence, loose: Sequence[str]) -> Verdict:
    """Return no `ok` where the expected error passes its bounds because of how unsure the cameras
    are; ``loose``: the views whose cameras are the least sure."""
    error_mm = evidence.calibration_error_mm
    if verdict.status != "ok" or error_mm is None:
        return verdict
    expected = f"expected error {evidence.expected_error_mm:.2f} mm"
    if (
        evidence.expected_error_mm <= bounds.FAILED_ERROR_MM
        and evidence.confidence >= bounds.SURE_CONFIDENCE
    ):
        return Verdict(
            "ok",
            f"all views agree with the CT at this pose (weakest view's correlation "
            f"{evidence.weakest_score:.2f}, {expected}, of the calibration alone "
            f"{error_mm:.2f} mm)",
        )
    return Verdict(
        "uncertain",
        f"all views agree with the CT at this pose, but the calibration of {', '.join(loose)} "
        f"leaves {error_mm:.2f} mm there ({expected}); calibrate with more beads to be sure",
    )


def mistrust_contradiction(verdict: Verdict, consistency: Consistency | None) -> Verdict:
    """Return no `ok` where the views contradict one another by more than a right pose and right
    cameras ever did, or one of them alone gives no numbers."""
    if verdict.status != "ok" or consistency is None:
        return verdict
    if not consistency.finite:
        return Verdict(
            "uncertain",
            "a view alone gives no finite numbers, so nothing says whether the views contradict "
            "one another; check the X-rays and the geometry",
        )
    if consistency.epipolar_mm is None or consistency.epipolar_mm <= bounds.SURE_EPIPOLAR_MM:
        return verdict
    return Verdict(
        "uncertain",
        f"the views contradict one another by {consistency.epipolar_mm:.1f} mm across the "
        f"epipolar lines ({consistency.worst}); check the calibration",
    )


def mistrust_drawn(verdict: Verdict, drawn: Sequence[str]) -> Verdict:
    """Return no `ok` where views show only what a network drew of X-rays: it may have drawn what is
    not there, and nothing else confirms it."""
    if verdict.status != "ok" or not drawn:
        return verdict
    return Verdict(
        "uncertain",
        f"all views agree with the CT at this pose, but {', '.join(drawn)} show bones as a network "
        "drew them; register to the X-rays themselves to be sure",
    )


def mistrust_nominal(verdict: Verdict, nominal: Sequence[str]) -> Verdict:
    """Return no `ok` where the geometry of some views is nominal: it may itself be off by more than
    2 mm, however well all fits."""
    if verdict.status != "ok" or not nominal:
        return verdict
    return Verdict(
        "uncertain",
        f"all views agree with the CT at this pose, but the geometry of {', '.join(nominal)} is "
        "only nominal and may be off by millimetres; calibrate it to be sure",
    )


def with_room(reason: str, quality: Mapping[str, Any]) -> str:
    """Return a reason that also says what cameras that were refined with vertebrae alone leave
    open: those of the views that ``quality["room_nominal"]`` names, if any."""
    names = quality.get("room_nominal")
    return f"{reason}; {room_words(names)}" if names and ROOM_NOMINAL not in reason else reason


def doubted(
    registration: Registration,
    by_cameras: Array,
    points_from_centre: Array,
    said: tuple[str, str],
    problem: str = "",
) -> Registration:
    """Return a registration that counts how unsure its cameras are, where they were found with it.

    ``by_cameras`` (6, 6) is the part of the covariance that comes of them, ``points_from_centre``
    (N, 3) mm the surface; ``said``: where the error is expected and what was done, for the reason;
    ``problem``: why it is no `ok`.
    """
    quality = registration.quality
    error_mm = surface_error(by_cameras, points_from_centre)
    # Beside what cameras that are held leave open.
    all_cameras_mm = float(np.hypot(quality.get("calibration_error_mm", 0.0), error_mm))
    expected_mm = float(np.hypot(quality["expected_error_mm"], error_mm))
    confidence = quality["weakest_score"] - bounds.ERROR_WEIGHT * expected_mm
    status, reason = registration.status, registration.reason
    if status == "ok":
        reason = (
            f"all views agree with the CT at this pose (weakest view's correlation "
            f"{quality['weakest_score']:.2f}, expected error {expected_mm:.2f} mm {said[0]}, "
            f"of the cameras alone {error_mm:.2f} mm): {said[1]}"
        )
        # A NaN is no agreement.
        sure = confidence >= bounds.SURE_CONFIDENCE and expected_mm <= bounds.FAILED_ERROR_MM
        if not problem and not sure:
            problem = (
                f"the refined cameras leave {error_mm:.2f} mm at the vertebra (expected error "
                f"{expected_mm:.2f} mm); calibrate by beads to be sure"
            )
        if problem:
            status, reason = "uncertain", f"all views agree with the CT at this pose, but {problem}"
    return replace(
        registration,
        status=status,
        reason=reason,
        covariance=registration.covariance + by_cameras,
        quality={
            **quality,
            "expected_error_mm": expected_mm,
            "calibration_error_mm": all_cameras_mm,
            "confidence": confidence,
        },
    )
