"""How sure a registration is: covariance, expected error, and an honest verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry.pose import skew
from .model import RenderModel
from .refine import Refined
from .types import Status

Array = NDArray[np.float64]

# Residuals next to each other are not independent: about one independent residual per this area.
CORRELATION_AREA_MM2 = 9.0

# In 104 trials with a label one level off (31 cases, with and without a model) the weakest view's
# score reached 0.71 and the confidence 0.245; of fourteen right poses in hard X-rays eleven had
# 0.28 or more, one 0.25, two 0.03.
SURE_CONFIDENCE = 0.25
# Right poses had up to 1.5 mm, wrong levels 0.2 to 3.5 mm: it tells of a loosely held pose, not of
# a wrong level, and is bounded near the 2 mm that `ok` bets on.
SURE_DISAGREEMENT_MM = 1.6
SURE_LEAD = 0.03
SURE_LEVEL_LEAD = 0.02
FAILED_SCORE = 0.25
FAILED_ERROR_MM = 1.0


@dataclass(frozen=True)
class Verdict:
    """The status and one sentence that says why."""

    status: Status
    reason: str


@dataclass(frozen=True)
class Evidence:
    """What is known about a registration without knowing the truth.

    ``score`` and ``weakest_score``: correlation over all views and in the worst one;
    ``expected_error_mm``: root mean square error of surface points by the covariance;
    ``disagreement_mm``: how far the pose moves when fitted again with other neighbourhoods;
    ``lead`` and ``fine_lead``: how much better it scores than the best clearly different pose, at
    the middle level and among those refined finely (1 where there is no such pose);
    ``level_lead`` the same against the target placed one level up or down, which is refined no
    further once it is far behind.
    """

    score: float
    weakest_score: float
    expected_error_mm: float
    disagreement_mm: float
    lead: float
    fine_lead: float
    level_lead: float
    neighbour_shift_mm: float
    covariance: Array

    @classmethod
    def of(
        cls,
        refined: Refined,
        model: RenderModel,
        *,
        pixel_mm: float,
        disagreement_mm: float,
        lead: float,
        fine_lead: float,
        level_lead: float,
    ) -> Evidence:
        """Collect the evidence about a refined arrangement.

        Its Hessian has to be that of its own place (`register.Job.measured_anew`).
        """
        state = refined.evaluation
        covariance = pose_covariance(state.hessian, state.cost, state.effective_pixels, pixel_mm)
        points = model.anatomy.surface_points_ct - model.centre_ct
        shifts = [
            float(np.linalg.norm(shift[:3, :3] @ c + shift[:3, 3] - c))
            for c, shift in zip(
                model.movable_centres_ct, refined.arrangement.shifts_ct, strict=True
            )
        ]
        return cls(
            score=state.score,
            weakest_score=min(state.view_scores),
            expected_error_mm=surface_error(covariance, points),
            disagreement_mm=disagreement_mm,
            lead=lead,
            fine_lead=fine_lead,
            level_lead=level_lead,
            neighbour_shift_mm=max(shifts),
            covariance=covariance,
        )

    @property
    def confidence(self) -> float:
        """One number from the weakest view's score and the expected error; higher is surer."""
        return self.weakest_score - 1.5 * self.expected_error_mm

    def to_quality(self) -> dict[str, Any]:
        """For the result's ``quality``."""
        return {
            "score": self.score,
            "weakest_score": self.weakest_score,
            "expected_error_mm": self.expected_error_mm,
            "disagreement_mm": self.disagreement_mm,
            "lead": self.lead,
            "fine_lead": self.fine_lead,
            "level_lead": self.level_lead,
            "confidence": self.confidence,
            "neighbour_shift_mm": self.neighbour_shift_mm,
        }


def pose_covariance(hessian: Array, cost: float, pixels: float, pixel_mm: float) -> Array:
    """Covariance (6, 6) of the target's twist, everything else that was fitted marginalised.

    ``hessian`` (P, P) of the mean residual with the target's six first, ``cost`` the mean squared
    residual, over ``pixels`` weighted pixels of ``pixel_mm``.
    """
    independent = max(pixels * pixel_mm**2 / CORRELATION_AREA_MM2, 1.0)
    damped = hessian + 1e-9 * np.diag(np.maximum(np.diag(hessian), 1e-12))
    inverse = np.linalg.pinv(damped, hermitian=True)[:6, :6]
    covariance = inverse * cost / independent
    return np.asarray((covariance + covariance.T) / 2.0)


def surface_error(covariance: Array, points_from_centre: Array) -> float:
    """Root mean square displacement (mm) of points (N, 3), from the pivot, under a covariance."""
    step = max(len(points_from_centre) // 300, 1)
    total = []
    for point in points_from_centre[::step]:
        jacobian = np.hstack([-skew(point), np.eye(3)])
        total.append(float(np.trace(jacobian @ covariance @ jacobian.T)))
    return float(np.sqrt(np.mean(total)))


def judge(evidence: Evidence) -> Verdict:
    """The status: ``ok`` only where one would bet on an error below 2 mm.

    The bounds were set on simulated cases, the shared fifteen among them: wrong poses scored low in
    at least one view, and left the pose loosely held.
    """
    numbers = (evidence.weakest_score, evidence.expected_error_mm, evidence.disagreement_mm)
    if not np.isfinite(numbers).all():
        # A NaN passes every comparison below.
        return Verdict(
            "failed",
            "the fit at this pose gives no finite numbers; check the X-rays and the geometry",
        )
    if evidence.weakest_score < FAILED_SCORE or evidence.expected_error_mm > FAILED_ERROR_MM:
        return Verdict(
            "failed",
            f"the X-rays do not show the vertebra at this pose (weakest view's correlation "
            f"{evidence.weakest_score:.2f}, expected error {evidence.expected_error_mm:.1f} mm); "
            "check the label, the clicks and the geometry",
        )
    if evidence.confidence < SURE_CONFIDENCE:
        return Verdict(
            "uncertain",
            f"the vertebra is explained too weakly to be sure (weakest view's correlation "
            f"{evidence.weakest_score:.2f}, expected error {evidence.expected_error_mm:.2f} mm)",
        )
    if evidence.disagreement_mm > SURE_DISAGREEMENT_MM:
        return Verdict(
            "uncertain",
            f"fitting at another scale moves the vertebra by {evidence.disagreement_mm:.1f} mm",
        )
    if evidence.level_lead < SURE_LEVEL_LEAD:
        return Verdict(
            "uncertain",
            "the vertebra fits a neighbouring level as well or better; check the label and the "
            "clicks",
        )
    if evidence.fine_lead < SURE_LEAD:
        return Verdict(
            "uncertain",
            f"another pose explains the X-rays nearly as well (correlation lower by only "
            f"{evidence.fine_lead:.2f})",
        )
    return Verdict(
        "ok",
        f"all views agree with the CT at this pose (weakest view's correlation "
        f"{evidence.weakest_score:.2f}, expected error {evidence.expected_error_mm:.2f} mm)",
    )
