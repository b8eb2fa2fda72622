"""What else may be the case: other poses, other pictures, any rotation, two polarities."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from registration_scenes import (
    QUICK,
    Array,
    bodies,
    error_mm,
    one_thread,
    scene,
    simulated,
    truth,
    with_views,
)
from scipy.spatial.transform import Rotation

from RadGSRegLib.cases import View
from RadGSRegLib.geometry import Rigid, compose_about, rotation_angle_deg, translation, triangulate
from RadGSRegLib.registration import (
    Candidate,
    LocallyNormalized,
    Refiner,
    RegistrationOptions,
    Scene,
    StretchedGaussNewton,
    Tried,
    evaluate,
    exploring,
    register,
    register_case,
    scene_of,
)
from RadGSRegLib.registration.exploring import beyond_doubt, explore, other_poses
from RadGSRegLib.registration.of_case import case_proposers
from RadGSRegLib.registration.proposers import (
    ClickSearch,
    EveryTurnSearch,
    MixedPolarity,
    StartItself,
    StartSearch,
)
from RadGSRegLib.registration.proposers.pictures import OtherPictures, other_pictures
from RadGSRegLib.registration.refine import Refined
from RadGSRegLib.registration.stages import Hypothesis
from RadGSRegLib.system import Progress


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    one_thread()


def _refiner(there: Scene | None = None) -> Refiner:
    return Refiner(there or scene(), LocallyNormalized(), StretchedGaussNewton)


def _at(refiner: Refiner, ct_to_world: Array) -> Hypothesis:
    """A pose as it is, evaluated at the fine stage."""
    arrangement = refiner.scene.bodies.as_in_ct(ct_to_world)
    problem = refiner.problem(QUICK.fine, arrangement, (1, 1))
    return Hypothesis(Refined(arrangement, evaluate(problem, arrangement), 0), (1, 1))


def _weakest_edge_score(refiner: Refiner, hypothesis: Hypothesis) -> float:
    return min(refiner.edge_scores(QUICK.fine, hypothesis))


def _inverted(view: View) -> View:
    return replace(view, pixels=-view.pixels, intensity="display")


# Other poses


def test_other_poses_turn_about_the_centre_and_step_by_the_least_extent() -> None:
    centre = np.array([10.0, -20.0, 5.0])
    turn = Rotation.from_rotvec([0.3, -0.5, 0.9]).as_matrix()
    corners = np.array(list(itertools.product((-40.0, 40.0), (-20.0, 20.0), (-10.0, 10.0))))
    points = centre + corners @ turn.T
    motions = [Rigid(motion) for motion in other_poses(points, centre)]
    moved_mm = np.array([np.linalg.norm(m.apply(centre) - centre) for m in motions])
    turned_deg = np.array([rotation_angle_deg(m.matrix) for m in motions])
    assert len(motions) == 12
    assert sorted(turned_deg.round(6)) == [0.0] * 6 + [22.0] * 6
    assert moved_mm[turned_deg > 1.0] == pytest.approx(0.0, abs=1e-9)
    assert moved_mm[turned_deg < 1.0] == pytest.approx(20.0)
    # Along the axes of the box, to both sides.
    steps = np.array([m.apply(centre) - centre for m in motions])[turned_deg < 1.0]
    assert np.abs(steps @ turn).max(axis=0) == pytest.approx(20.0)
    assert steps.sum(axis=0) == pytest.approx(0.0, abs=1e-9)


def test_a_rolled_pose_is_left_for_the_right_one() -> None:
    right = truth(simulated())
    body = bodies()
    motion = other_poses(body.surface_points_ct, body.centre_ct)[0]
    refiner = _refiner()
    rolled = _at(refiner, right @ np.linalg.inv(motion))
    assert error_mm(simulated(), rolled.ct_to_world) > 5.0
    assert not beyond_doubt(rolled, _weakest_edge_score(refiner, rolled))
    best, *others = explore(refiner, [rolled], QUICK, Progress())
    assert error_mm(simulated(), best.ct_to_world) < 0.5
    assert rolled in others


@pytest.mark.parametrize(
    ("worse", "wanted"), [(0.0, "near"), (0.004, "near"), (0.006, "far"), (-0.2, "near")]
)
def test_of_poses_with_equal_evidence_the_nearest_to_a_start_comes_first(
    worse: float, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refiner = _refiner()
    start = truth(simulated())
    poses = {"near": translation([3.0, 0.0, 0.0]) @ start, "far": translation([9.0, 0, 0]) @ start}
    scores = {"near": 0.9 - worse, "far": 0.9}
    names, both = {}, []
    for name, pose in poses.items():
        hypothesis = _at(refiner, pose)
        evaluation = replace(hypothesis.refined.evaluation, score=scores[name])
        hypothesis = replace(hypothesis, refined=replace(hypothesis.refined, evaluation=evaluation))
        both.append(hypothesis)
        names[hypothesis] = name
    monkeypatch.setattr(refiner, "edge_scores", lambda *_: [0.9, 0.9])
    monkeypatch.setattr(exploring, "beyond_doubt", lambda *_: True)

    def first_from(start_ct_to_world: Array | None) -> Hypothesis:
        refiner.scene = replace(scene(), start_ct_to_world=start_ct_to_world)
        return explore(refiner, both, QUICK, Progress())[0]

    assert names[first_from(start)] == wanted
    # Without a start evidence alone decides, however little.
    first = first_from(None)
    assert first.score == max(scores.values())
    # A start that is as far from both says nothing.
    aside = translation([6.0, 0.0, 40.0]) @ start
    assert first_from(aside) is first


def test_nothing_is_tried_where_a_pose_is_beyond_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    refiner = _refiner()
    sure = refiner.refine(QUICK.fine, _at(refiner, truth(simulated())), Progress())
    edge_score = _weakest_edge_score(refiner, sure)
    assert beyond_doubt(sure, edge_score)
    assert not beyond_doubt(sure, edge_score, least=1.0)
    assert not beyond_doubt(sure, 0.5)
    monkeypatch.setattr(refiner, "refine", None)
    assert explore(refiner, [sure], QUICK, Progress()) == [sure]


def test_edges_agree_best_at_the_right_pose_and_in_the_right_polarity() -> None:
    refiner, right = _refiner(), truth(simulated())
    stage = replace(QUICK.fine, pixel_mm=RegistrationOptions().fine.pixel_mm)
    off = compose_about(right, np.array([0.05, 0.0, 0.05, 1.0, 2.0, 1.0]), bodies().centre_ct)

    def scores(pose: Array, signs: tuple[int, int]) -> list[float]:
        return refiner.edge_scores(stage, replace(_at(refiner, pose), signs=signs))

    at_truth = scores(right, (1, 1))
    assert min(at_truth) > 0.75
    assert max(scores(off, (1, 1))) < 0.68
    inverted, plain = scores(right, (-1, 1))
    assert inverted < -0.4
    assert plain == pytest.approx(at_truth[1], abs=1e-5)


# Other pictures


def test_mirrored_twice_is_as_it_was_and_exchanged_views_keep_their_cameras() -> None:
    there = scene()
    views = tuple(replace(v, sign=s) for v, s in zip(there.views, (1, -1), strict=True))
    there = replace(there, views=views)
    first, second, exchanged = other_pictures(there.views, np.eye(3), 12.5, QUICK)
    assert (first.mirrored, second.mirrored) == ((True, False), (False, True))
    once = first.scene(there)
    assert (once.views[0].values == np.fliplr(there.views[0].values)).all()
    assert (once.views[1].values == there.views[1].values).all()
    assert (first.scene(once).views[0].values == there.views[0].values).all()
    crossed = exchanged.scene(there).views
    for n in (0, 1):
        assert crossed[n].camera is there.views[n].camera
        assert crossed[n].name == there.views[n].name
        assert crossed[n].sign == there.views[1 - n].sign
        assert (crossed[n].values == there.views[1 - n].values).all()


def test_the_right_pose_is_proposed_in_the_picture_that_was_mirrored() -> None:
    there = scene()
    first = other_pictures(there.views, np.eye(3), 12.5, QUICK)[0]
    given = first.scene(there)
    # What a registration takes for the pose: where the mirrored picture and the other one show it.
    right = truth(simulated())
    centre_world = scene().centre_world(right)
    u, v = there.views[0].camera.project(centre_world[None])[0]
    rays = [(there.views[0].camera.columns - 1 - u, v)]
    rays.append(tuple(there.views[1].camera.project(centre_world[None])[0]))
    taken_world, _ = triangulate([view.camera for view in there.views], rays)
    wrong = right.copy()
    wrong[:3, 3] += taken_world - centre_world
    best = Tried(best=Candidate(wrong, 0.5, (1, 1)))
    proposal = first.propose(first.scene(given), best, Progress())
    centre = scene().centre_world(proposal.candidates[0].ct_to_world)
    assert np.linalg.norm(centre - centre_world) < 4.0
    assert first.propose(first.scene(given), Tried(), Progress()).candidates == ()


def test_a_mirrored_picture_is_not_ok_and_the_reason_names_it() -> None:
    case = simulated("clean").case

    def mirrored(view: View) -> View:
        assert view.center_px is not None
        column, row = view.center_px
        pixels = np.fliplr(view.pixels).copy()
        return replace(view, pixels=pixels, center_px=(pixels.shape[1] - 1 - column, row))

    views = (mirrored(case.views[0]), case.views[1])
    done = register_case(replace(case, views=views), None, QUICK)
    assert done.status != "ok"
    assert done.quality["picture_lead"] < -0.1 or done.quality["level_lead"] < 0.02
    plain = register_case(case, None, QUICK)
    assert (plain.status, plain.quality["picture_lead"]) == ("ok", 1.0)
    assert plain.quality["polarity_lead"] == 1.0


def test_other_pictures_are_each_view_mirrored_and_two_alike_exchanged() -> None:
    views = scene().views
    assert [p.order for p in other_pictures(views, None, 25.0, QUICK)] == [(0, 1), (0, 1), (1, 0)]
    small = replace(views[1], values=views[1].values[1:], valid=views[1].valid[1:])
    assert len(other_pictures((views[0], small), None, 25.0, QUICK)) == 2
    three: list[OtherPictures] = other_pictures((*views, views[0]), None, 25.0, QUICK)
    assert [p.mirrored.index(True) for p in three[:3]] == [0, 1, 2]
    assert [p.order for p in three[3:]] == [(1, 0, 2), (2, 1, 0), (0, 2, 1)]
    assert not any(any(p.mirrored) for p in three[3:])
    assert len(other_pictures((*views, *views), None, 25.0, QUICK)) == 4


def test_two_of_three_xrays_exchanged_are_not_ok() -> None:
    case = simulated("clean").case
    first, second = case.views
    third = replace(simulated("clean", primary_deg=300.0).case.views[0], name="oblique")
    done = register_case(replace(case, views=(first, *_exchanged(second, third))), None, QUICK)
    assert done.status != "ok"


def _exchanged(a: View, b: View) -> tuple[View, View]:
    return (
        replace(a, pixels=b.pixels, center_px=b.center_px),
        replace(b, pixels=a.pixels, center_px=a.center_px),
    )


# Starts and rotations


def test_a_start_that_is_right_stands_without_a_search() -> None:
    case = with_views(simulated().case, lambda view: replace(view, center_px=None))
    near = compose_about(
        truth(simulated()), np.array([0.05, 0.0, 0.0, 2.0, 0.0, 0.0]), bodies().centre_ct
    )
    done = register_case(case, near, QUICK)
    assert done.status == "ok"
    assert "search" not in done.timing_s
    moved_mm = scene().distance_mm(near, done.ct_to_world)
    assert done.quality["from_start_mm"] == pytest.approx(moved_mm)
    assert done.reason.endswith(f"{moved_mm:.0f} mm from the start")


def test_a_start_is_proposed_as_it_is_with_each_polarity() -> None:
    there = scene()
    unknown = replace(there, views=tuple(replace(view, sign=0) for view in there.views))
    start = truth(simulated())
    proposal = StartItself(start, QUICK).propose(unknown, Tried(), Progress())
    assert [c.signs for c in proposal.candidates] == [(1, 1), (-1, -1)]
    assert all((c.ct_to_world == start).all() for c in proposal.candidates)


def test_what_a_case_says_decides_the_search() -> None:
    case = simulated().case
    turn = Rotation.from_rotvec([0.0, 0.0, np.pi]).as_matrix()
    (clicked,) = case_proposers(replace(case, patient_axes=turn), None, QUICK)
    assert isinstance(clicked, ClickSearch)
    assert (clicked.axes == turn).all()
    (anyhow,) = case_proposers(replace(case, patient_axes=None), None, QUICK)
    assert isinstance(anyhow, EveryTurnSearch)
    blind = with_views(case, lambda view: replace(view, center_px=None))
    first, second = case_proposers(blind, truth(simulated()), QUICK)
    assert isinstance(first, StartItself)
    assert isinstance(second, StartSearch)


def test_every_rotation_is_tried_where_nothing_is_known_of_it() -> None:
    there = scene()
    right = truth(simulated())
    to_other_world = np.eye(4)
    to_other_world[:3, :3] = Rotation.from_euler("xyz", [70, -40, 130], degrees=True).as_matrix()
    from_other_world = np.linalg.inv(to_other_world)
    views = tuple(
        replace(
            view,
            camera=replace(
                view.camera, world_to_camera=view.camera.world_to_camera @ from_other_world
            ),
        )
        for view in there.views
    )
    there, right = replace(there, views=views), to_other_world @ right
    fractions: list[float] = []
    heard = Progress(lambda fraction, _: fractions.append(fraction))
    proposal = EveryTurnSearch(there.centre_world(right), QUICK).propose(there, Tried(), heard)
    likely = proposal.candidates[: proposal.places.candidates]
    off_deg = [rotation_angle_deg(np.linalg.inv(right) @ c.ct_to_world) for c in likely]
    assert min(off_deg) < 15.0
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)


# Polarity


def test_one_inverted_xray_of_a_device_is_not_ok_and_the_reason_says_why() -> None:
    case = simulated().case
    display = with_views(case, lambda view: replace(view, intensity="display"))
    there = scene_of(replace(display, views=(_inverted(case.views[0]), display.views[1])), QUICK)
    there = replace(there, views=tuple(replace(view, sign=0) for view in there.views))
    search = ClickSearch(there.centre_world(truth(simulated())), np.eye(3), 12.5, QUICK)
    guest = MixedPolarity(search, (True, True))
    done = register(there, [search], alternatives=[guest], options=QUICK)
    assert done.status != "ok"
    assert "bright in one and dark in another" in done.reason
    alone = register(there, [search], options=QUICK)
    assert alone.status == done.status
    assert "bright" not in alone.reason


def test_polarities_are_not_mixed_where_they_are_known() -> None:
    there = scene()
    best = Tried(best=Candidate(truth(simulated()), 0.5, (1, 1)))
    search = ClickSearch(there.centre_world(truth(simulated())), np.eye(3), 12.5, QUICK)
    guest = MixedPolarity(search, (False, True))
    assert guest.propose(guest.scene(there), best, Progress()).candidates == ()
