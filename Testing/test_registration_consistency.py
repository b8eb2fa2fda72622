"""Whether views contradict one another: by geometry, and in registrations with wrong cameras."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from registration_scenes import QUICK, one_thread, scene, simulated, truth
from scipy.spatial.transform import Rotation
from test_registration_evidence import GOOD

from RadGSRegLib.cases import Case
from RadGSRegLib.geometry import Array, Camera, Rigid, affine, carm_camera, exp_se3
from RadGSRegLib.registration import (
    LocallyNormalized,
    Refiner,
    Registration,
    StretchedGaussNewton,
    evaluate,
    evaluate_each,
    judge_case,
)
from RadGSRegLib.registration.bodies import Arrangements
from RadGSRegLib.registration.bounds import SURE_EPIPOLAR_MM
from RadGSRegLib.registration.consistency import (
    Consistency,
    across,
    shift_world,
    turned_apart,
)
from RadGSRegLib.registration.verdict import Verdict, judge, mistrust_contradiction, verdict_of
from RadGSRegLib.report import draw_views, report_html

one_thread()
POINT = np.array([8.0, -12.0, 20.0])


def seen_by(*primary: float) -> list[Camera]:
    return [
        carm_camera(1000.0, 650.0, angle, 7.0, (420, 420), (0.6, 0.6), (210.0, 205.0))
        for angle in primary
    ]


def normal_of(a: Camera, b: Camera) -> Array:
    normal = np.cross(POINT - a.source_world, POINT - b.source_world)
    return np.asarray(normal / np.linalg.norm(normal))


def test_a_motion_of_the_bone_is_no_contradiction() -> None:
    cameras = seen_by(0.0, 50.0, 95.0)
    points = POINT + np.random.default_rng(1).normal(0.0, 15.0, (40, 3))
    moved = points + [1.5, -2.0, 0.7]
    shifts = [shift_world(c, points, moved) for c in cameras]
    # Perspective leaves a little: what is shown of a motion along the ray depends on the place.
    assert np.nanmax(across(cameras, POINT, shifts)) < 0.1
    for shown_by, shift in zip(cameras, shifts, strict=True):
        assert abs(float(shift @ shown_by.view_direction_world)) < 1e-9


def test_what_lies_across_the_epipolar_plane_is_one_and_what_lies_in_it_is_none() -> None:
    a, b = seen_by(0.0, 90.0)
    normal = normal_of(a, b)
    still = np.zeros(3)
    assert across([a, b], POINT, [still, 2.0 * normal])[0, 1] == pytest.approx(2.0)
    assert across([a, b], POINT, [1.0 * normal, -1.0 * normal])[1, 0] == pytest.approx(2.0)
    within = np.cross(normal, POINT - b.source_world)
    within *= 5.0 / np.linalg.norm(within)
    assert across([a, b], POINT, [still, within])[0, 1] == pytest.approx(0.0, abs=1e-9)


def test_of_three_views_the_wrong_one_is_told() -> None:
    cameras = seen_by(0.0, 50.0, 95.0)
    wrong = 3.0 * normal_of(cameras[0], cameras[1])
    pairs = across(cameras, POINT, [np.zeros(3), wrong, np.zeros(3)])
    told = Consistency(("a", "b", "c"), np.zeros((3, 2)), pairs, np.zeros(3))
    apart = told.across_mm
    assert int(apart.argmax()) == 1
    assert apart[1] > 1.5 * max(apart[0], apart[2])
    assert told.of_view(1)["epipolar_mm"] == pytest.approx(apart[1])
    # The largest pair decides, and both of it are named.
    assert told.epipolar_mm == pytest.approx(pairs[0, 1])
    assert told.worst == "a and b"


def test_of_three_views_a_pair_alone_can_tell() -> None:
    cameras = seen_by(0.0, 90.0, 1.5)
    # Across the plane of the first two; the third lies beside the first.
    wrong = 1.26 * normal_of(cameras[0], cameras[1])
    pairs = across(cameras, POINT, [wrong, np.zeros(3), np.zeros(3)])
    told = Consistency(("a", "b", "c"), np.zeros((3, 2)), pairs, np.zeros(3))
    assert told.epipolar_mm == pytest.approx(1.26)
    assert told.worst == "a and b"
    doubted = mistrust_contradiction(judge(GOOD), told)
    assert doubted.status == "uncertain"
    assert "1.3 mm across the epipolar lines (a and b)" in doubted.reason


def test_of_four_views_the_median_decides() -> None:
    cameras = seen_by(0.0, 45.0, 90.0, 135.0)
    wrong = 3.0 * normal_of(cameras[0], cameras[1])
    pairs = across(cameras, POINT, [np.zeros(3), wrong, np.zeros(3), np.zeros(3)])
    told = Consistency(("a", "b", "c", "d"), np.zeros((4, 2)), pairs, np.zeros(4))
    assert told.epipolar_mm == pytest.approx(np.nanmedian(pairs[1]))
    assert told.worst == "b"


def test_what_is_no_number_takes_the_ok_and_is_not_written() -> None:
    cameras = seen_by(0.0, 90.0)
    shifts = [np.zeros(3), np.full(3, np.nan)]
    turns = turned_apart([np.eye(4), np.full((4, 4), np.nan)])
    pairs = across(cameras, POINT, shifts)
    told = Consistency(("a", "b"), np.array([[0.0, 0.0], [np.nan, np.nan]]), pairs, turns)
    assert not told.finite
    assert told.epipolar_mm is None
    doubted = mistrust_contradiction(judge(GOOD), told)
    assert doubted.status == "uncertain"
    assert "no finite numbers" in doubted.reason
    assert told.to_quality() == {}
    assert told.of_view(1) == {}


def test_views_along_one_line_say_nothing() -> None:
    cameras = seen_by(0.0, 1.0)
    apart = across(cameras, POINT, [np.zeros(3), np.ones(3)])
    assert np.isnan(apart).all()
    told = Consistency(("a", "b"), np.zeros((2, 2)), apart, np.zeros(2))
    assert told.finite
    assert told.epipolar_mm is None
    assert "epipolar_mm" not in told.to_quality()
    ok = judge(GOOD)
    assert mistrust_contradiction(ok, told) == ok


def test_turns_are_told_against_the_others() -> None:
    turn = Rotation.from_rotvec(np.radians([0.0, 3.0, 0.0])).as_matrix()
    poses = [np.eye(4), affine(turn, np.array([1.0, 2.0, 3.0])), np.eye(4)]
    assert turned_apart(poses) == pytest.approx([1.5, 3.0, 1.5])
    assert turned_apart(poses[:2]) == pytest.approx([3.0, 3.0])


@pytest.mark.parametrize("names", [("AP", "LA"), ("AP", "LA", "oblique")])
def test_only_a_contradiction_beyond_its_bound_takes_the_ok(names: tuple[str, ...]) -> None:
    def told(mm: float) -> Consistency:
        pairs_mm = np.full((len(names), len(names)), np.nan)
        pairs_mm[0, 1] = pairs_mm[1, 0] = mm
        return Consistency(names, np.zeros((len(names), 2)), pairs_mm, np.zeros(len(names)))

    ok = judge(GOOD)
    assert verdict_of(replace(GOOD, consistency=told(0.9 * SURE_EPIPOLAR_MM)), [], [], []) == ok
    doubted = verdict_of(replace(GOOD, consistency=told(1.5 * SURE_EPIPOLAR_MM)), [], [], [])
    assert doubted.status == "uncertain"
    assert "across the epipolar lines" in doubted.reason
    assert "check the calibration" in doubted.reason
    assert "(AP and LA)" in doubted.reason
    failed = Verdict("failed", "nothing there")
    assert mistrust_contradiction(failed, told(9.0)) == failed


def test_what_each_view_says_adds_up_to_what_all_say() -> None:
    shown, options = scene(), QUICK
    pose = truth(simulated()) @ exp_se3([0.02, 0.01, -0.02, 0.5, -0.4, 0.6])
    arrangement = shown.bodies.as_in_ct(pose)
    refiner = Refiner(shown, LocallyNormalized(), StretchedGaussNewton)
    problem = refiner.problem(options.fine, arrangement, (1, 1))
    whole = evaluate(problem, arrangement)
    twice = Arrangements.of([arrangement] * 2, torch.device("cpu"))
    (together,) = evaluate_each(problem.each_view(), twice).together().on_host()
    assert together.cost == pytest.approx(whole.cost, rel=1e-9)
    assert together.view_scores == pytest.approx(whole.view_scores, rel=1e-6)
    assert together.effective_pixels == pytest.approx(whole.effective_pixels)
    assert together.gradient == pytest.approx(whole.gradient, rel=1e-6, abs=1e-9)
    assert together.hessian == pytest.approx(whole.hessian, rel=1e-6, abs=1e-9)


def with_camera_off(case: Case, pose: Array, mm: float) -> Case:
    """The case with its second camera moved across the epipolar plane of the bone."""
    a, b = (view.camera for view in case.views)
    place = Rigid(pose).apply(case.ct.index_to_physical[:3, 3])
    normal = np.cross(place - a.source_world, place - b.source_world)
    moved = affine(np.eye(3), mm * normal / np.linalg.norm(normal))
    off = replace(b, world_to_camera=b.world_to_camera @ moved)
    return replace(case, views=(case.views[0], replace(case.views[1], camera=off)))


def judged_at(mm: float) -> tuple[Case, Registration]:
    """A case with a camera that is off, judged at the pose half-way between both views' own."""
    done = simulated("realistic")
    case = with_camera_off(done.case, truth(done), mm)
    return case, judge_case(case, truth(done))


def test_a_wrong_camera_is_told_in_mm_and_takes_the_ok() -> None:
    _, right = judged_at(0.0)
    assert right.status == "ok"
    assert right.quality["epipolar_mm"] < 0.3
    assert right.quality["apart_deg"] < 3.0
    case, wrong = judged_at(2.0)
    assert wrong.quality["epipolar_mm"] == pytest.approx(2.0, abs=0.5)
    assert wrong.status == "uncertain"
    shifts = {name: view["alone_px"] for name, view in wrong.quality["views"].items()}
    sizes = [np.linalg.norm(shift) for shift in shifts.values()]
    assert max(sizes) > 1.0
    page = report_html(case, wrong, draw_views(case, wrong), software={})
    assert "Whether the X-rays agree about where it is" in page
    assert "contradict one another, across epipolar lines" in page


def test_of_three_x_rays_the_wrong_one_is_named() -> None:
    done = simulated("realistic", path="arc", views=3)
    first, second = (view.camera for view in done.case.views[:2])
    place = Rigid(truth(done)).apply(done.case.ct.index_to_physical[:3, 3])
    normal = np.cross(place - first.source_world, place - second.source_world)
    moved = affine(np.eye(3), 3.0 * normal / np.linalg.norm(normal))
    camera = replace(second, world_to_camera=second.world_to_camera @ moved)
    off = replace(done.case.views[1], camera=camera)
    case = replace(done.case, views=(done.case.views[0], off, done.case.views[2]))
    right = judge_case(done.case, truth(done))
    assert right.quality["epipolar_mm"] < 0.4
    wrong = judge_case(case, truth(done))
    told = {name: view["epipolar_mm"] for name, view in wrong.quality["views"].items()}
    assert max(told, key=lambda name: told[name]) == off.name
    assert wrong.quality["epipolar_mm"] >= told[off.name]
    assert told[off.name] > 1.5
    assert draw_views(case, wrong).epipolar is not None


def test_a_result_that_knows_nothing_of_it_has_no_such_picture() -> None:
    case, right = judged_at(0.0)
    views = {name: {"score": told["score"]} for name, told in right.quality["views"].items()}
    older = replace(right, quality={**right.quality, "views": views})
    assert draw_views(case, older).epipolar is None


def test_two_views_of_one_source_are_drawn_without_a_line() -> None:
    case, right = judged_at(0.0)
    first, second = case.views
    told = right.quality["views"]
    views = {first.name: told[first.name], second.name: told[first.name]}
    same = replace(case, views=(first, replace(second, camera=first.camera)))
    quality = {**right.quality, "views": views}
    assert draw_views(same, replace(right, quality=quality)).epipolar is not None


def test_a_scene_of_a_single_view_has_no_consistency() -> None:
    from RadGSRegLib.registration.consistency import consistency
    from RadGSRegLib.registration.refine import Refined
    from RadGSRegLib.registration.stages import Hypothesis
    from RadGSRegLib.system import Progress

    shown = scene()
    alone = replace(shown, views=shown.views[:1])
    arrangement = alone.bodies.as_in_ct(truth(simulated()))
    refiner = Refiner(alone, LocallyNormalized(), StretchedGaussNewton)
    state = evaluate(refiner.problem(QUICK.fine, arrangement, (1,)), arrangement)
    best = Hypothesis(Refined(arrangement, state, 0), (1,))
    assert consistency(refiner, QUICK.fine, best, Progress()) is None
