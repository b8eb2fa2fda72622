"""The whole registration on small phantom cases: right poses, honest verdicts, clear refusals."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from registration_scenes import (
    QUICK,
    bodies,
    error_mm,
    one_thread,
    scene,
    simulated,
    truth,
    with_views,
)

from RadGSRegLib.cases import Case, View
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import compose_about, is_rigid, transform_points
from RadGSRegLib.registration import (
    Candidate,
    GivenPoses,
    Hypothesis,
    LocallyNormalized,
    Refiner,
    Registration,
    RegistrationOptions,
    Stage,
    StretchedGaussNewton,
    case_bodies,
    evaluate,
)
from RadGSRegLib.registration import register as register_scene
from RadGSRegLib.registration import register_case as register
from RadGSRegLib.registration.evidence import leads_over, proposed
from RadGSRegLib.registration.normal_equations import Evaluation
from RadGSRegLib.registration.proposers import around, neighbouring_levels
from RadGSRegLib.registration.proposers.levels import level_step
from RadGSRegLib.registration.refine import Refined
from RadGSRegLib.registration.stages import by_place
from RadGSRegLib.simulation import SimulatedCase
from RadGSRegLib.system import Progress, parallel

SPINE = ("L1", "L2", "L3", "L4", "L5")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    one_thread()


@lru_cache(maxsize=1)
def _reported() -> tuple[Registration, list[tuple[float, str]]]:
    """The clean case's registration, and everything its progress said."""
    seen: list[tuple[float, str]] = []
    report = Progress(lambda fraction, message: seen.append((fraction, message)))
    return register(simulated("clean").case, None, QUICK, report), seen


@lru_cache(maxsize=1)
def _realistic() -> Registration:
    return register(simulated("realistic").case, None, QUICK)


def _apart_mm(case: SimulatedCase, one: Registration, other: Registration) -> float:
    points = np.asarray(case.truth["points_ct"])
    moved = [transform_points(done.ct_to_world, points) for done in (one, other)]
    return float(np.linalg.norm(moved[0] - moved[1], axis=1).mean())


def _pixels(change: Callable[[np.ndarray], np.ndarray], **other: Any) -> Callable[[View], View]:
    def changed(view: View) -> View:
        return replace(view, pixels=change(view.pixels).astype(np.float32), **other)

    return changed


def test_clean_case() -> None:
    case, (done, _) = simulated("clean"), _reported()
    assert error_mm(case, done.ct_to_world) < 0.5
    assert done.status == "ok"
    assert is_rigid(done.ct_to_world, 1e-9)


def test_realistic_case() -> None:
    case, done = simulated("realistic"), _realistic()
    assert {view.intensity for view in case.case.views} == {"display"}
    assert error_mm(case, done.ct_to_world) < 1.0
    assert done.status == "ok"


def test_nominal_geometry_is_never_ok() -> None:
    case = simulated("clean")
    first, second = case.case.views
    done = register(replace(case.case, views=(first, replace(second, nominal=True))), None, QUICK)
    assert (done.ct_to_world == _reported()[0].ct_to_world).all()
    assert done.status == "uncertain"
    assert "the geometry of LA is only nominal" in done.reason


def test_what_a_registration_says() -> None:
    for case, done in (
        (simulated("clean"), _reported()[0]),
        (simulated("realistic"), _realistic()),
    ):
        assert done.covariance == pytest.approx(done.covariance.T)
        assert np.linalg.eigvalsh(done.covariance).min() > 0
        assert done.centre_ct == pytest.approx(case.truth["pivot_ct"], abs=1e-6)
        assert set(done.quality["views"]) == {"AP", "LA"}
        assert done.timing_s["total"] == pytest.approx(
            sum(t for stage, t in done.timing_s.items() if stage != "total"), rel=0.05, abs=0.1
        )
        assert done.ran_on == dict.fromkeys(done.timing_s.keys() - {"total"}, "cpu")
        assert done.seed == QUICK.seed
        json.dumps([done.quality, done.parameters, done.timing_s], allow_nan=False)
        # The expected error is no fantasy: the true one is not ten times as large.
        assert error_mm(case, done.ct_to_world) < 10 * done.quality["expected_error_mm"]
    bone = {view["bone"] for view in _reported()[0].quality["views"].values()}
    assert bone == {"bright"}


def test_progress_only_goes_forward() -> None:
    fractions = [fraction for fraction, _ in _reported()[1]]
    assert len(fractions) > 20
    assert fractions == sorted(fractions)
    assert fractions[0] >= 0.0
    assert 0.9 < fractions[-1] <= 1.0
    assert all(message for _, message in _reported()[1])
    # No silence for a third of the way.
    assert np.diff(fractions).max() < 0.34


def test_same_input_and_seed_same_pose_to_the_last_bit() -> None:
    again = register(simulated("clean").case, None, QUICK)
    first = _reported()[0]
    assert (again.ct_to_world == first.ct_to_world).all()
    assert (again.covariance == first.covariance).all()
    assert again.quality == first.quality


def test_inverted_polarity_changes_nothing() -> None:
    case = simulated("realistic")
    inverted = with_views(case.case, _pixels(lambda p: p.max() + p.min() - p))
    done = register(inverted, None, QUICK)
    assert _apart_mm(case, done, _realistic()) < 0.3
    assert done.status == _realistic().status
    before, after = (
        [view["bone"] for view in one.quality["views"].values()] for one in (_realistic(), done)
    )
    assert after == [{"bright": "dark", "dark": "bright"}[bone] for bone in before]


def test_another_display_curve_changes_little() -> None:
    case = simulated("realistic")

    def curve(pixels: np.ndarray) -> np.ndarray:
        share = (pixels - pixels.min()) / np.ptp(pixels)
        return 4095.0 * share**1.6

    done = register(with_views(case.case, _pixels(curve)), None, QUICK)
    assert _apart_mm(case, done, _realistic()) < 0.3


def test_transmission_is_the_same_as_attenuation() -> None:
    case = simulated("clean")
    counts = _pixels(lambda p: 5e4 * np.exp(-p), intensity="transmission")
    done = register(with_views(case.case, counts), None, QUICK)
    assert _apart_mm(case, done, _reported()[0]) < 0.1


def test_a_start_instead_of_clicks() -> None:
    case = simulated("clean")
    silent = with_views(case.case, lambda view: replace(view, center_px=None))
    assert error_mm(case, case.start_ct_to_world) > 5.0
    done = register(silent, case.start_ct_to_world, QUICK)
    assert error_mm(case, done.ct_to_world) < 0.5
    assert done.status == "ok"


def test_a_start_and_clicks_together() -> None:
    """The rotation of the start, the position of the clicks."""
    case = simulated("clean")
    far = truth(case).copy()
    far[:3, 3] += 300.0
    done = register(case.case, far, QUICK)
    assert error_mm(case, done.ct_to_world) < 0.5


def test_three_views() -> None:
    case, aside = simulated("clean"), simulated("clean", primary_deg=300.0)
    assert aside.truth["ct_to_world"] == case.truth["ct_to_world"]
    first, second = case.case.views
    third = replace(aside.case.views[0], name="oblique")
    angles = [
        np.degrees(
            np.arccos(abs(third.camera.view_direction_world @ v.camera.view_direction_world))
        )
        for v in (first, second)
    ]
    assert min(angles) > 20.0
    done = register(replace(case.case, views=(first, second, third)), None, QUICK)
    assert error_mm(case, done.ct_to_world) < 0.5
    assert done.status == "ok"
    assert set(done.quality["views"]) == {"AP", "LA", "oblique"}


def test_clicks_in_two_of_three_views_are_enough() -> None:
    case, aside = simulated("clean"), simulated("clean", primary_deg=300.0)
    third = replace(aside.case.views[0], name="oblique", center_px=None)
    seen: list[float] = []

    def until_search(fraction: float, _: str) -> bool:
        seen.append(fraction)
        return fraction < 0.3

    views = replace(case.case, views=(third, *case.case.views))
    with pytest.raises(Cancelled):
        register(views, None, QUICK, Progress(until_search))
    assert max(seen) >= 0.3


def _clicks(case: Case, *pixels: tuple[float, float] | None) -> Case:
    views = zip(case.views, pixels, strict=True)
    return replace(case, views=tuple(replace(v, center_px=p) for v, p in views))


@pytest.mark.parametrize("clicked", [0, 1])
def test_nothing_to_start_from(clicked: int) -> None:
    case = simulated("clean").case
    pixels = [v.center_px if n < clicked else None for n, v in enumerate(case.views)]
    with pytest.raises(InputError, match="nothing says where the bone is"):
        register(_clicks(case, *pixels), None, QUICK)


def test_clicks_that_do_not_meet() -> None:
    case = simulated("clean").case
    first, second = (view.center_px for view in case.views)
    apart = _clicks(case, first, (second[0], second[1] + 100.0))
    with pytest.raises(InputError, match=r"clicks' rays pass each other \d+ mm apart"):
        register(apart, None, QUICK)


def test_views_from_one_place_fix_no_point() -> None:
    case = simulated("clean").case
    twice = (case.views[0], replace(case.views[0], name="again"))
    with pytest.raises(InputError, match="parallel"):
        register(replace(case, views=twice), None, QUICK)


@pytest.mark.parametrize("until", [0.0, 0.1, 0.4, 0.6])
def test_cancelled_wherever_it_is(until: float) -> None:
    calls: list[float] = []

    def stop(fraction: float, _: str) -> bool:
        calls.append(fraction)
        return fraction < until

    with pytest.raises(Cancelled):
        register(simulated("clean").case, None, QUICK, Progress(stop))
    # It ends with the first no.
    assert [f >= until for f in calls] == [False] * (len(calls) - 1) + [True]


def _clicked_at(case: SimulatedCase, world: np.ndarray) -> Case:
    return with_views(
        case.case,
        lambda view: replace(view, center_px=tuple(view.camera.project(world[None])[0])),
    )


@pytest.mark.parametrize(
    ("level", "wrong", "labels"),
    [
        ("clean", "L2", "all"),
        ("realistic", "L5", "all"),
        ("realistic", "L4", "the target's"),
    ],
)
def test_a_click_on_another_vertebra_is_never_ok(level: str, wrong: str, labels: str) -> None:
    case = simulated(level, region=SPINE)
    (label,) = (n for n, name in case.case.label_names.items() if name == wrong)
    at = case.case.labels.physical_points(
        np.argwhere(case.case.labels.array == label)[:, ::-1].astype(float)
    ).mean(0)
    world = transform_points(np.asarray(case.truth["neighbours"][str(label)]), at[None])[0]
    away = np.linalg.norm(world - transform_points(truth(case), np.array([case.truth["pivot_ct"]])))
    clicked = _clicked_at(case, world)
    if labels != "all":
        alone = np.where(clicked.labels.array == clicked.label, clicked.label, 0)
        clicked = replace(clicked, labels=clicked.labels.with_array(alone))
    done = register(clicked, None, QUICK)
    off = error_mm(case, done.ct_to_world)
    assert done.status != "ok" or off < 2.0, f"{off:.1f} mm off, clicked {away:.0f} mm away"


def test_the_steps_to_the_levels_below_and_above() -> None:
    case = simulated("realistic", region=SPINE).case
    options = RegistrationOptions()
    spine = case_bodies(case, options)
    below, above = level_step(spine, -1), level_step(spine, 1)
    names = {name: value for value, name in case.label_names.items()}
    for step, name in ((below, "L4"), (above, "L2")):
        voxels = np.argwhere(case.labels.array == names[name])[:, ::-1].astype(float)
        wanted = case.labels.physical_points(voxels).mean(0) - spine.centre_ct
        # The body within reach, not the whole of it.
        assert np.linalg.norm(step - wanted) < 12.0
    # Without labels, or at the CT's edge, the usual distance.
    alone = replace(spine, neighbours=())
    steps = [level_step(alone, side).tolist() for side in (-1, 1)]
    assert steps == [[0, 0, -36.0], [0, 0, 36.0]]


def test_a_click_beside_the_spine_is_never_ok() -> None:
    case = simulated("realistic")
    middle = transform_points(truth(case), np.array([case.truth["pivot_ct"]]))[0]
    done = register(_clicked_at(case, middle + [80.0, 0.0, 0.0]), None, QUICK)
    assert done.status != "ok"


def test_a_click_outside_the_picture_is_refused() -> None:
    outside = _clicked_at(simulated("clean"), np.array([0.0, 0.0, 400.0]))
    with pytest.raises(InputError, match="show nothing where the clicks"):
        register(outside, None, QUICK)


def test_the_wrong_vertebras_ct_is_never_ok() -> None:
    """Right clicks, but the label of the segmentation is the neighbour's."""
    case = simulated("realistic", region=SPINE)
    wrong = replace(case.case, label=case.case.label - 1)
    done = register(wrong, None, QUICK)
    points = case.case.labels.physical_points(
        np.argwhere(case.case.labels.array == wrong.label)[:, ::-1].astype(float)
    )
    right = np.asarray(case.truth["neighbours"][str(wrong.label)])
    moved = transform_points(done.ct_to_world, points) - transform_points(right, points)
    off = float(np.linalg.norm(moved, axis=1).mean())
    assert done.status != "ok" or off < 2.0


def test_a_start_far_away_is_never_a_silent_failure() -> None:
    case = simulated("realistic")
    twist = np.array([np.radians(40.0), 0.0, 0.0, 0.0, 0.0, 70.0])
    start = compose_about(truth(case), twist, np.asarray(case.truth["pivot_ct"]))
    silent = with_views(case.case, lambda view: replace(view, center_px=None))
    done = register(silent, start, QUICK)
    assert done.status != "ok" or error_mm(case, done.ct_to_world) < 2.0


def _learned(case: SimulatedCase, off_mm: float) -> list[GivenPoses]:
    pose = np.array(truth(case))
    pose[:3, 3] += off_mm * np.array([0.6, 0.0, -0.8])
    return [GivenPoses([Candidate(pose, 0.5, (1, 1))], QUICK.learned_places)]


def test_a_learned_pose_beyond_doubt_needs_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    case = simulated("clean")
    monkeypatch.setattr(around, "search", lambda *asked: pytest.fail("searched"))
    bare = with_views(case.case, lambda view: replace(view, center_px=None))
    found = register(bare, None, QUICK, proposers=_learned(case, 3.0))
    assert found.status == "ok"
    assert error_mm(case, found.ct_to_world) < 0.5
    assert "search" not in found.timing_s
    assert found.timing_s["learned"] > 0


def test_a_wrong_learned_pose_does_no_harm() -> None:
    # A level off, as a network may be: the search from the clicks follows and wins.
    case = simulated("clean")
    found = register(case.case, None, QUICK, proposers=_learned(case, 35.0))
    assert found.status == "ok"
    assert error_mm(case, found.ct_to_world) < 0.5
    assert "search" in found.timing_s


def test_a_wrong_learned_pose_alone_is_never_ok() -> None:
    case = simulated("realistic")
    bare = with_views(case.case, lambda view: replace(view, center_px=None))
    found = register(bare, None, QUICK, proposers=_learned(case, 60.0))
    assert found.status != "ok" or error_mm(case, found.ct_to_world) < 2.0


def _refiner() -> Refiner:
    return Refiner(scene(), LocallyNormalized(), StretchedGaussNewton)


def test_a_refiner_remembers_what_became_of_a_pose_and_only_that() -> None:
    refiner = _refiner()
    start = Candidate(truth(simulated()), 0.5, (1,) * len(scene().views))
    stage = replace(QUICK.coarse, refine=replace(QUICK.coarse.refine, iterations=1))
    first = refiner.refine(stage, start, Progress())
    assert refiner.refine(stage, start, Progress()) is first
    assert refiner.refine(replace(stage, blur_mm=2.5), start, Progress()) is not first
    same = Candidate(start.ct_to_world, start.score, start.signs)
    assert refiner.refine(stage, same, Progress()) is not first
    # Going on from where all has moved is not the same as beginning with all as in the CT.
    further = refiner.refine(QUICK.middle, first, Progress())
    afresh = refiner.refine(QUICK.middle, first, Progress(), afresh=True)
    assert refiner.refine(QUICK.middle, first, Progress()) is further
    assert refiner.refine(QUICK.middle, first, Progress(), afresh=True) is afresh
    assert afresh is not further
    # Another registration of the same candidate knows nothing of this one.
    assert _refiner().refine(stage, start, Progress()) is not first


def test_the_number_of_cores_changes_no_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    for cores in (1, 2):
        monkeypatch.setattr(parallel, "core_count", lambda cores=cores: cores)
        done.append(register(simulated("hard").case, None, QUICK))
    alone, together = done
    assert np.array_equal(together.ct_to_world, alone.ct_to_world)
    assert together.quality == alone.quality
    assert together.reason == alone.reason


@pytest.mark.parametrize("after", [0, 3])
def test_torch_has_its_threads_back_also_when_cancelled(after: int) -> None:
    calls = 0

    def stop(fraction: float, message: str) -> bool:
        nonlocal calls
        calls += 1
        return calls <= after

    torch.set_num_threads(2)
    try:
        with pytest.raises(Cancelled):
            register(simulated("clean").case, None, QUICK, Progress(stop))
        assert torch.get_num_threads() == 2
    finally:
        one_thread()


def test_evidence_has_the_hessian_of_the_final_pose() -> None:
    refiner = _refiner()
    stage = replace(RegistrationOptions().fine, rounds=2)
    twist = np.array([0.04, -0.03, 0.03, 1.5, -1.0, 2.0])
    pose = compose_about(truth(simulated()), twist, bodies().centre_ct)
    start = Candidate(pose, 0.5, (1,) * len(scene().views))
    done = refiner.refine(stage, start, Progress())
    anew = refiner.measured_anew(stage, done)
    wanted = evaluate(refiner.problem(stage, done.arrangement, done.signs), done.arrangement)
    assert anew.evaluation.hessian == pytest.approx(wanted.hessian, rel=1e-9)
    # Views are summed up in another order.
    assert anew.evaluation.cost == pytest.approx(wanted.cost, rel=1e-12)
    assert anew.evaluation.effective_pixels == wanted.effective_pixels
    assert anew.score == done.score
    assert anew.arrangement is done.arrangement
    # What the last round began with is something else.
    assert done.refined.evaluation.hessian != pytest.approx(wanted.hessian, rel=1e-3)


@pytest.mark.parametrize(
    ("first", "rounds"), [(0.75, [1]), (0.79, [1]), (0.81, [1, 3]), (1.1, [1, 3])]
)
def test_a_level_far_behind_is_not_refined_to_its_end_and_a_close_one_is(
    first: float, rounds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best pose scores 1.0, the other ``first`` after one fine round and 1.2 after all."""
    options = RegistrationOptions()
    refiner = _refiner()
    arrangement = bodies().as_in_ct(truth(simulated()))
    asked: list[int] = []

    def scored(score: float) -> Hypothesis:
        state = Evaluation(0.1, score, (0.5, 0.5), np.zeros(6), np.eye(6), 1.0)
        return Hypothesis(Refined(arrangement, state, 1), (1, 1))

    def refined(
        stage: Stage, starts: Sequence[object], *_: object, afresh: bool = False
    ) -> list[Hypothesis]:
        if stage.pixel_mm != options.fine.pixel_mm:
            return [scored(0.9) for _ in starts]
        asked.append(stage.rounds)
        return [scored(first if stage.rounds == 1 else 1.2) for _ in starts]

    monkeypatch.setattr(refiner, "refine_each", refined)
    best = scored(1.0)
    levels = [proposed(refiner, best, level, Progress()) for level in neighbouring_levels(options)]
    leads, reason = leads_over(refiner, best, levels, options, Progress())
    lead = leads["level"]
    assert ("neighbouring level" in reason) == (lead < 0.02)
    assert asked == rounds
    assert lead == pytest.approx(1.0 - first if rounds == [1] else -0.2)


@pytest.mark.parametrize("first", [True, False])
def test_the_likeliest_candidate_is_followed_alone_where_it_is_beyond_doubt(
    first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed: list[int] = []
    original = Refiner.refine_each

    def counted(self: Refiner, stage: Stage, starts: Sequence[Any], *rest: Any, **more: Any) -> Any:
        if isinstance(starts[0], Candidate):
            followed.append(len(starts))
        return original(self, stage, starts, *rest, **more)

    monkeypatch.setattr(Refiner, "refine_each", counted)
    near = compose_about(truth(simulated()), [0.02, 0.0, 0.01, 1.0, -1.0, 1.0], bodies().centre_ct)
    far = [near.copy() for _ in range(3)]
    for number, pose in enumerate(far, start=1):
        pose[:3, 3] += 12.0 * number
    poses = [near, *far] if first else [*far, near]
    candidates = [Candidate(pose, 0.9 - 0.1 * n, (1, 1)) for n, pose in enumerate(poses)]
    places = replace(QUICK.click_places, candidates=4)
    done = register_scene(scene(), [GivenPoses(candidates, places)], options=QUICK)
    assert followed == ([1] if first else [1, 4])
    assert done.status == "ok"
    assert error_mm(simulated(), done.ct_to_world) < 0.5


def test_a_models_poses_take_no_place_from_those_of_the_search() -> None:
    places = RegistrationOptions().start_places
    assert (places.count, places.candidates) == (8, 4)

    def at(shift_mm: float, score: float) -> Candidate:
        pose = truth(simulated()).copy()
        pose[0, 3] += shift_mm
        return Candidate(pose, score, (1, 1))

    learned = [at(7.0, 0.9), at(7.5, 0.9), at(40.0, 0.8)]
    found = [at(0.1 * n, 0.7 - 0.01 * n) for n in range(6)]
    groups = by_place(scene(), [*learned, *found], places, tried=len(learned))
    assert groups == [[*learned[:2], *found[:4]], [learned[2]]]
    assert by_place(scene(), found, places) == [found[:4]]
    # From a click there is one place, however far apart they are.
    one = RegistrationOptions().click_places
    (group,) = by_place(scene(), [*learned, *(found * 4)], one, tried=len(learned))
    assert len(group) == len(learned) + one.candidates
