"""Covariance and expected error against what they mean; verdicts that only get worse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from RadGSRegLib.geometry import exp_se3, transform_points
from RadGSRegLib.registration.evidence import Evidence, pose_covariance, surface_error
from RadGSRegLib.registration.verdict import judge

GOOD = Evidence(
    score=0.97,
    weakest_score=0.96,
    edge_score=0.95,
    weakest_edge_score=0.94,
    edge_lead=0.3,
    expected_error_mm=0.06,
    disagreement_mm=0.1,
    lead=0.3,
    fine_lead=0.3,
    leads={"level": 0.3, "picture": 1.0},
    neighbour_shift_mm=1.0,
    covariance=np.eye(6),
)


def _hessian(seed: int, count: int) -> np.ndarray:
    """Normal equations of a mean residual, columns in radians and mm."""
    rng = np.random.default_rng(seed)
    scale = np.tile([20.0, 20.0, 20.0, 1.0, 1.0, 1.0], count // 6)
    slopes = rng.standard_normal((5 * count, count)) * 0.1 * scale
    return slopes.T @ slopes / len(slopes)


@given(seed=st.integers(0, 1000), bodies=st.integers(1, 5), cost=st.floats(1e-4, 1.0))
def test_covariance_is_symmetric_and_positive(seed: int, bodies: int, cost: float) -> None:
    covariance = pose_covariance(_hessian(seed, 6 * bodies), cost, 5000.0, 0.8)
    assert covariance.shape == (6, 6)
    assert (covariance == covariance.T).all()
    assert np.linalg.eigvalsh(covariance).min() > 0


@given(seed=st.integers(0, 1000), cost=st.floats(1e-4, 1.0), pixel_mm=st.floats(0.5, 2.0))
def test_covariance_is_the_inverse_hessian_scaled(seed: int, cost: float, pixel_mm: float) -> None:
    hessian = _hessian(seed, 12)
    one = pose_covariance(hessian, cost, 5000.0, pixel_mm)
    assert one / one.max() == pytest.approx(
        np.linalg.inv(hessian)[:6, :6] / np.linalg.inv(hessian)[:6, :6].max(), abs=1e-3
    )
    assert pose_covariance(hessian, 4 * cost, 5000.0, pixel_mm) == pytest.approx(4 * one)
    assert pose_covariance(hessian, cost, 20000.0, pixel_mm) == pytest.approx(one / 4)
    assert pose_covariance(hessian, cost, 5000.0, 2 * pixel_mm) == pytest.approx(one / 4)


@given(seed=st.integers(0, 1000))
def test_fitting_more_makes_the_target_less_sure(seed: int) -> None:
    hessian = _hessian(seed, 18)
    alone = pose_covariance(hessian[:6, :6], 0.1, 5000.0, 0.8)
    together = pose_covariance(hessian, 0.1, 5000.0, 0.8)
    assert np.linalg.eigvalsh(together - alone).min() > -1e-9


def test_surface_error_is_what_random_twists_do() -> None:
    rng = np.random.default_rng(5)
    factor = rng.standard_normal((6, 6)) * np.array([[2e-3] * 3 + [0.1] * 3]).T
    covariance = factor @ factor.T
    points = rng.standard_normal((250, 3)) * [30.0, 20.0, 15.0]
    squares = []
    for twist in rng.multivariate_normal(np.zeros(6), covariance, 2000):
        moved = transform_points(exp_se3(twist), points) - points
        squares.append((moved**2).sum(1).mean())
    assert surface_error(covariance, points) == pytest.approx(np.sqrt(np.mean(squares)), rel=0.05)


def test_a_good_registration_is_ok_and_says_so_in_one_sentence() -> None:
    verdict = judge(GOOD)
    assert verdict.status == "ok"
    assert "\n" not in verdict.reason


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        ({"weakest_score": 0.05}, "failed"),
        ({"weakest_score": -0.5}, "failed"),
        ({"expected_error_mm": 5.0}, "failed"),
        ({"disagreement_mm": 10.0}, "uncertain"),
        ({"fine_lead": -0.01}, "uncertain"),
        ({"leads": {"level": -0.01}}, "uncertain"),
        ({"leads": {"level": 1.0, "picture": 0.0}}, "uncertain"),
        ({"edge_lead": -0.01}, "uncertain"),
        ({"lead": -0.01}, "uncertain"),
        ({"weakest_edge_score": 0.1}, "uncertain"),
        ({"fine_lead": 0.0}, "uncertain"),
    ],
)
def test_one_bad_sign_is_enough(bad: dict[str, Any], status: str) -> None:
    verdict = judge(replace(GOOD, **bad))
    assert verdict.status == status
    assert verdict.reason != judge(GOOD).reason


def test_what_explains_more_is_the_reason_whatever_else_is_wrong() -> None:
    close: dict[str, Any] = {"leads": {"polarity": -0.1}, "objection": "one is inverted"}
    for bad, status in (
        ({}, "uncertain"),
        ({"expected_error_mm": 0.9}, "uncertain"),
        ({"fine_lead": 0.0}, "uncertain"),
        ({"weakest_score": 0.05}, "failed"),
    ):
        verdict = judge(replace(GOOD, **close, **bad))
        assert (verdict.status, verdict.reason) == (status, "one is inverted")


RANK = {"ok": 0, "uncertain": 1, "failed": 2}


@given(
    weakest=st.floats(-1.0, 1.0),
    error=st.floats(0.0, 3.0),
    apart=st.floats(0.0, 5.0),
    lead=st.floats(-0.2, 1.0),
    worse=st.floats(0.0, 1.0),
)
def test_less_evidence_never_makes_a_better_verdict(
    weakest: float, error: float, apart: float, lead: float, worse: float
) -> None:
    evidence = replace(
        GOOD, weakest_score=weakest, expected_error_mm=error, disagreement_mm=apart, fine_lead=lead
    )
    before = RANK[judge(evidence).status]
    for change in (
        {"weakest_score": weakest - worse},
        {"expected_error_mm": error + worse},
        {"disagreement_mm": apart + worse},
        {"fine_lead": lead - worse},
    ):
        assert RANK[judge(replace(evidence, **change)).status] >= before


@pytest.mark.parametrize(
    "name", ["weakest_score", "weakest_edge_score", "expected_error_mm", "disagreement_mm"]
)
def test_what_cannot_be_computed_is_never_ok(name: str) -> None:
    assert judge(replace(GOOD, **{name: float("nan")})).status != "ok"


def test_quality_holds_plain_numbers() -> None:
    quality = GOOD.to_quality()
    assert {"score", "expected_error_mm"} <= set(quality)
    assert all(isinstance(value, float) for value in quality.values())
