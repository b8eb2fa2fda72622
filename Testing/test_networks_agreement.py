"""The agreement of networks and registration as evidence, and a pose that is judged as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import registration_scenes as scenes

from RadGSRegLib.cases import ROOM_NOMINAL
from RadGSRegLib.geometry import exp_se3, translation
from RadGSRegLib.networks import (
    Agreement,
    bounds,
    compare,
    held_out_mm,
    load_model,
    shipped_weights,
)
from RadGSRegLib.registration import Registration, judge_case

pytestmark = pytest.mark.usefixtures("brief_fit")

CARD = {
    "figures on held-out simulated pairs": {
        "RecM, median distance of surface points (mm)": 2.0,
        "RegM, the same (mm)": 1.5,
        "RecM, SSIM on the vertebra's box": 0.6,
    }
}


def registration(status: Any = "ok") -> Registration:
    return Registration(
        status=status,
        reason="because",
        ct_to_world=scenes.truth(scenes.simulated()),
        covariance=np.eye(6),
        centre_ct=np.zeros(3),
        quality={"score": 0.9},
        timing_s={},
        parameters={},
        seed=0,
    )


def test_the_error_is_read_off_the_card_that_a_training_writes() -> None:
    assert held_out_mm(CARD) == 1.5
    weights = shipped_weights()
    assert weights is not None
    assert held_out_mm(load_model(weights).card) == 1.72


@pytest.mark.parametrize(
    "card",
    [
        {},
        {"figures on others": {"RecM, median distance of surface points (mm)": 2.0}},
        {"figures on others": {"RegM, the same (mm)": float("nan")}},
        {
            "figures on held-out simulated pairs": {
                "RecM, median distance of surface points (mm)": -1.0,
                "RegM, the same (mm)": -1.0,
            }
        },
        {"figures": "none"},
    ],
)
def test_a_card_without_it_says_nothing(card: dict[str, Any]) -> None:
    assert held_out_mm(card) is None
    far = Agreement(100.0, 90.0, 100.0, None)
    assert far.weighed(registration()).status == "ok"
    assert "networks_held_out_mm" not in far.to_quality()


def test_poses_are_compared_on_the_surface_and_by_their_angle() -> None:
    case = scenes.simulated().case
    pose = scenes.truth(scenes.simulated())
    near, far = pose @ translation([0.0, 3.0, 4.0]), pose @ translation([30.0, 0.0, 0.0])
    turned = pose @ exp_se3([0.0, np.radians(10.0), 0.0, 0.0, 0.0, 0.0])
    assert compare(case, pose, [near], CARD).distance_mm == pytest.approx(5.0)
    assert compare(case, pose, [turned], CARD).distance_deg == pytest.approx(10.0)
    several = compare(case, pose, [far, near], CARD)
    assert several.distance_mm == pytest.approx(30.0)
    assert several.nearest_mm == pytest.approx(5.0)


@pytest.mark.parametrize("status", ["ok", "uncertain", "failed"])
@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_only_a_contradiction_changes_a_verdict_and_only_downwards(
    status: str, factor: float
) -> None:
    away = factor * bounds.DISAGREEMENT * 3.5
    weighed = Agreement(50.0, 4.0, away, 3.5).weighed(registration(status))
    lowered = status == "ok" and factor > 1.0
    assert weighed.status == ("uncertain" if lowered else status)
    assert (weighed.reason == "because") is not lowered
    if lowered:
        assert f"{away:.1f} mm away" in weighed.reason
        assert "3.5 mm" in weighed.reason
    assert weighed.quality["networks_distance_mm"] == 50.0
    known = registration(status)
    refined = replace(known, quality={**known.quality, "room_nominal": ["AP"]})
    again = Agreement(50.0, 4.0, away, 3.5).weighed(refined)
    assert (ROOM_NOMINAL in again.reason) is lowered
    assert weighed.quality["score"] == 0.9


def test_the_true_pose_is_ok_as_it_is_and_others_are_not() -> None:
    simulated = scenes.simulated()
    pose = scenes.truth(simulated)
    right = judge_case(simulated.case, pose, scenes.QUICK)
    assert right.status == "ok"
    assert (right.ct_to_world == pose).all()
    assert np.isfinite(right.covariance).all()
    assert right.quality["disagreement_mm"] < 1.0
    for step in ([0.0, 0.0, 0.0, 3.0, 0.0, 0.0], [0.0, 0.15, 0.0, 0.0, 0.0, 0.0]):
        off = pose @ translation(simulated.case.centre_ct) @ exp_se3(step)
        off = off @ translation(-simulated.case.centre_ct)
        wrong = judge_case(simulated.case, off, scenes.QUICK)
        assert wrong.status != "ok"
        assert (wrong.ct_to_world == off).all()
        assert wrong.status == "failed" or "would move the bone by" in wrong.reason


def test_a_pose_is_judged_in_dark_bone_too() -> None:
    simulated = scenes.simulated("realistic")
    pose = scenes.truth(simulated)
    views = tuple(
        replace(view, pixels=view.pixels.max() - view.pixels) for view in simulated.case.views
    )
    right, inverted = (
        judge_case(case, pose, scenes.QUICK)
        for case in (simulated.case, replace(simulated.case, views=views))
    )
    bones = [
        {view["bone"] for view in judged.quality["views"].values()} for judged in (right, inverted)
    ]
    assert bones[0] != bones[1]
    assert all(len(bone) == 1 for bone in bones)
    assert inverted.quality["score"] == pytest.approx(right.quality["score"], abs=0.1)
