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
    ``lead``: how much better it scores than the best clearly different pose.
    """

    score: float
    weakest_score: float
    expected_error_mm: float
    disagreement_mm: float
    lead: float
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
    ) -> Evidence:
        """Collect the evidence about a refined arrangement."""
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
            neighbour_shift_mm=max(shifts),
            covariance=covariance,
        )

    def to_quality(self) -> dict[str, Any]:
        """For the result's ``quality``."""
        return {
            "score": self.score,
            "weakest_score": self.weakest_score,
            "expected_error_mm": self.expected_error_mm,
            "disagreement_mm": self.disagreement_mm,
            "lead": self.lead,
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
    """The status. To be calibrated."""
    return Verdict("ok", "the pose explains both X-rays")
