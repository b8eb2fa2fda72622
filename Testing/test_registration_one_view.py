"""One X-ray alone: the depth is told apart, sought by itself, and never believed without reason."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from registration_scenes import QUICK, one_thread, scene, simulated, truth

from RadGSRegLib import cli
from RadGSRegLib.cases import Case, write_case
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import Rigid, transform_points, twist_about
from RadGSRegLib.registration import (
    Hypothesis,
    Registration,
    SearchOptions,
    bounds,
    error_parts_mm,
    judge_case,
    register_case,
    sight_ct,
    with_depth_variance,
)
from RadGSRegLib.registration.normal_equations import Evaluation
from RadGSRegLib.registration.one_view.conduct import with_one_mix
from RadGSRegLib.registration.one_view.held_depth import HeldDepth
from RadGSRegLib.registration.one_view.judging import mistrust_depth
from RadGSRegLib.registration.one_view.profile import Place, Profile
from RadGSRegLib.registration.proposers import SightSearch, Tried, depths_about_start, on_click
from RadGSRegLib.registration.proposers.correlation import search
from RadGSRegLib.registration.refine import Refined
from RadGSRegLib.registration.verdict import Verdict
from RadGSRegLib.system import Progress


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    one_thread()


def one_view(realism: str = "clean", number: int = 0, *, clicked: bool = False) -> Case:
    case = simulated(realism).case
    view = case.views[number]
    return replace(case, views=(view if clicked else replace(view, center_px=None),))


def start(realism: str = "clean") -> np.ndarray:
    return np.array(simulated(realism).truth["start_ct_to_world"])


@lru_cache(maxsize=4)
def registered(realism: str, number: int) -> Registration:
    return register_case(one_view(realism, number), start(realism), QUICK)


def parts_mm(done: Registration, realism: str, number: int) -> tuple[float, float]:
    """How far off across the line of sight (mean), and along it (with its sign)."""
    case = simulated(realism)
    points = np.asarray(case.truth["points_ct"])
    there = transform_points(truth(case), points)
    sight = there.mean(0) - case.case.views[number].camera.source_world
    sight /= np.linalg.norm(sight)
    off = transform_points(done.ct_to_world, points) - there
    along = off @ sight
    across = np.linalg.norm(off - along[:, None] * sight, axis=1)
    return float(across.mean()), float(along.mean())


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("realism", ["clean", "realistic"])
def test_a_pose_from_one_view(realism: str, number: int) -> None:
    done = registered(realism, number)
    across, along = parts_mm(done, realism, number)
    assert across < 0.7
    assert abs(along) < 3.0 * done.quality["depth_error_mm"]
    # A start is 12 mm off along each axis: the depth was sought, and not kept.
    assert abs(along) < 12.0


@pytest.mark.parametrize("realism", ["clean", "realistic"])
def test_one_view_says_what_it_does_not_hold(realism: str) -> None:
    done = registered(realism, 0)
    quality = done.quality
    parts = quality["in_plane_error_mm"], quality["depth_error_mm"]
    assert quality["expected_error_mm"] == pytest.approx(np.hypot(*parts))
    assert parts[1] > 3.0 * parts[0]
    assert (done.status == "ok") == (2.0 * np.hypot(*parts) <= bounds.BET_MM)
    assert f"depth {parts[1]:.1f} mm" in done.reason
    assert f"in-plane error {parts[0]:.1f} mm" in done.reason
    assert {"depth", "check", "total"} <= set(done.timing_s)
    # The covariance is what the parts were told of.
    view = one_view(realism).views[0]
    along = sight_ct(view.camera, done.ct_to_world, done.centre_ct)
    points = scene(realism).bodies.surface_points_ct - done.centre_ct
    told = error_parts_mm(done.covariance, points, along)
    assert told["depth_error_mm"] == pytest.approx(parts[1])
    assert along @ done.covariance[3:, 3:] @ along > 0.8 * parts[1] ** 2


def test_a_click_stands_in_for_a_start() -> None:
    case = simulated("clean")
    done = register_case(one_view(clicked=True), None, QUICK)
    across, along = parts_mm(done, "clean", 0)
    assert across < 0.7
    assert abs(along) < 3.0 * done.quality["depth_error_mm"]
    assert done.status != "failed"
    assert case.case.views[0].center_px is not None


def test_nothing_to_start_from() -> None:
    with pytest.raises(InputError, match="in the only X-ray"):
        register_case(one_view(), None, QUICK)
    anyhow = replace(one_view(clicked=True), patient_axes=None)
    with pytest.raises(InputError, match="in the only X-ray"):
        register_case(anyhow, None, QUICK)


def test_a_pose_is_not_judged_by_one_view() -> None:
    with pytest.raises(InputError, match="does not judge a pose"):
        judge_case(one_view(), truth(simulated()))


def test_a_wrong_picture_is_no_pose() -> None:
    case = one_view()
    view = case.views[0]
    shade = np.linspace(0.2, 2.0, view.pixels.size).reshape(view.pixels.shape)
    shade += 0.01 * np.random.default_rng(1).random(shade.shape)
    case = replace(case, views=(replace(view, pixels=shade.astype(np.float32)),))
    done = register_case(case, start(), QUICK)
    assert done.status == "failed"


def test_it_can_be_cancelled_while_the_depth_is_sought() -> None:
    said: list[str] = []

    def tell(fraction: float, message: str) -> bool:
        said.append(message)
        return message != "looking for the depth"

    with pytest.raises(Cancelled):
        register_case(one_view(), truth(simulated()), QUICK, Progress(tell))
    assert said[-1] == "looking for the depth"


# The stepper that holds the depth


def equations(seed: int, count: int, unknowns: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(seed)
    roots = generator.normal(size=(count, unknowns, unknowns))
    matrices = roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(unknowns)
    gradients = generator.normal(size=(count, unknowns))
    return torch.from_numpy(gradients), torch.from_numpy(matrices)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), further=st.sampled_from([0, 6, 12]))
def test_held_depth_ends_where_the_cost_is_lowest_with_the_depth_held(
    seed: int, further: int
) -> None:
    """A parabola: costs fall by 2 g.s - s.M s, whose lowest point across the axis is known."""
    gradient, matrix = equations(seed, 2, 6 + further)
    axis = np.random.default_rng(seed + 1).normal(size=3)
    axis /= np.linalg.norm(axis)
    along = np.zeros(6 + further)
    along[3:6] = axis
    stepper = HeldDepth(axis, damping=1e-9)
    at, now = torch.zeros_like(gradient), gradient
    among = torch.ones(2, dtype=torch.bool)
    for _ in range(60):
        step = stepper.step(now, matrix)
        assert float((step @ torch.from_numpy(along)).abs().max()) < 1e-12
        fall = 2.0 * (now * step).sum(1) - (step * (matrix @ step[..., None])[..., 0]).sum(1)
        after = now - (matrix @ step[..., None])[..., 0]
        taken = stepper.learn(step, fall, now, after, among)
        at = torch.where(taken[:, None], at + step, at)
        now = torch.where(taken[:, None], after, now)
    for trial in range(2):
        # Lagrange's multiplier for along.x = 0.
        system = np.block(
            [[matrix[trial].numpy(), along[:, None]], [along[None], np.zeros((1, 1))]]
        )
        expected = np.linalg.solve(system, np.append(gradient[trial].numpy(), 0.0))[:-1]
        assert at[trial].numpy() == pytest.approx(expected, abs=1e-5)


# The profile


def place(depth_mm: float, cost: float) -> Place:
    pose = np.eye(4)
    pose[:3, 3] = depth_mm * np.array([0.0, 0.6, 0.8])
    state = Evaluation(cost, 0.9, (0.9,), np.zeros(6), np.eye(6), 900.0)
    at = scene().bodies.as_in_ct(pose)
    return Place(depth_mm, Hypothesis(Refined(at, state, 1), (1,)), state)


@given(lowest=st.floats(-9.0, 9.0), curvature=st.floats(1e-5, 1e-2), floor=st.floats(0.01, 0.5))
def test_a_parabola_says_where_it_is_lowest(lowest: float, curvature: float, floor: float) -> None:
    depths = np.arange(-16.0, 17.0, 4.0)
    costs = floor + curvature * (depths - lowest) ** 2
    profile = Profile(tuple(map(place, depths, costs)), 4.0, 1.0)
    found_at = profile.lowest()
    assert found_at.depth_mm == pytest.approx(lowest, abs=1e-5)
    assert found_at.rough_mm == pytest.approx(0.0, abs=1e-5)
    # 900 pixels of 1 mm are 100 independent residuals of 9 mm each (`CORRELATION_AREA_MM2`).
    expected = np.sqrt(min(costs) / (100.0 * curvature))
    assert found_at.curved_mm == pytest.approx(expected, rel=1e-6)
    assert len(profile.around) == bounds.DEPTH_PARABOLA
    motion = profile.motion_per_mm(np.zeros(3))
    assert motion == pytest.approx([0.0, 0.0, 0.0, 0.0, 0.6, 0.8])


def test_a_profile_without_a_lowest_place_knows_nothing() -> None:
    falling = Profile(tuple(place(4.0 * n, 0.3 - 0.01 * n) for n in range(5)), 4.0, 1.0)
    assert falling.lowest().curved_mm == np.inf
    bent = Profile(tuple(place(4.0 * n, 0.3 - 0.01 * n * n) for n in range(5)), 4.0, 1.0)
    assert bent.lowest().curved_mm == np.inf


def test_a_rough_profile_is_less_sure() -> None:
    depths = np.arange(-8.0, 9.0, 4.0)
    smooth = 0.1 + 1e-4 * depths**2
    rough = smooth + 1e-3 * np.array([1.0, -1.0, 1.0, -1.0, 1.0])
    of_smooth, of_rough = (
        Profile(tuple(map(place, depths, costs)), 4.0, 1.0).lowest() for costs in (smooth, rough)
    )
    assert of_rough.rough_mm > 0.5 > 1e-6 > of_smooth.rough_mm


def test_the_background_enters_alike_at_all_places() -> None:
    known = scene("realistic")
    known = replace(known, views=known.views[:1])
    at = known.bodies.as_in_ct(truth(simulated("realistic")))
    held = with_one_mix(known, QUICK.fine, at, (1,))
    assert len(known.bodies.background.mixes) == 9
    assert len(held.bodies.background.mixes) == 1
    # A stage that renders no background has no mix to hold.
    assert with_one_mix(known, replace(QUICK.fine, background=False), at, (1,)) is known


# The search


def test_one_view_is_searched_across_its_line_of_sight() -> None:
    known = scene()
    known = replace(known, views=known.views[:1])
    pose = truth(simulated())
    options = SearchOptions(rotation_range_deg=0.0, translation_range_mm=10.0, apart_mm=5.0)
    options = replace(options, positions_per_rotation=4)
    away = known.centre_world(pose) - known.views[0].camera.source_world
    away /= np.linalg.norm(away)
    candidates = search(known, pose, options)
    moved = [known.centre_world(c.ct_to_world) - known.centre_world(pose) for c in candidates]
    assert len(moved) == 4
    assert np.abs(np.array(moved) @ away).max() < 1e-9
    assert np.linalg.norm(moved[0]) < 2.0 * options.translation_step_mm
    apart = [np.linalg.norm(a - b) for n, a in enumerate(moved) for b in moved[:n]]
    assert min(apart) >= 5.0 - 1e-6


def test_a_search_along_the_sight_tries_depths() -> None:
    known = scene()
    known = replace(known, views=known.views[:1])
    camera = known.views[0].camera
    begun = start()
    proposer = SightSearch(begun, (0.0, -30.0, 30.0), 0.0, 0.0, QUICK)
    proposal = proposer.propose(known, Tried(), Progress())
    away = known.centre_world(begun) - camera.source_world
    distances = [
        np.linalg.norm(known.centre_world(c.ct_to_world) - camera.source_world)
        for c in proposal.candidates
    ]
    expected = np.linalg.norm(away) + np.array([-30.0, 0.0, 30.0])
    assert sorted(distances) == pytest.approx(expected)
    scores = [candidate.score for candidate in proposal.candidates]
    assert scores == sorted(scores, reverse=True)


@given(range_mm=st.floats(1.0, 400.0), step_mm=st.floats(5.0, 60.0))
def test_depths_fill_their_range(range_mm: float, step_mm: float) -> None:
    depths = depths_about_start(range_mm, step_mm)
    assert depths[0] == pytest.approx(0.0, abs=1e-9)
    ordered = np.sort(depths)
    assert (ordered[0], ordered[-1]) == (-range_mm, range_mm)
    assert np.diff(ordered).max() <= step_mm + 1e-9


def test_a_click_moves_a_start_across_the_line_of_sight() -> None:
    case = simulated().case
    camera = case.views[0].camera
    pixel = (101.0, 77.0)
    moved = on_click(start(), case.centre_ct, camera, pixel)
    centre = Rigid(moved).apply(case.centre_ct)
    assert camera.project(centre[None])[0] == pytest.approx(pixel)
    before = Rigid(start()).apply(case.centre_ct)
    source = camera.source_world
    assert np.linalg.norm(centre - source) == pytest.approx(np.linalg.norm(before - source))
    assert twist_about(start(), moved, case.centre_ct)[:3] == pytest.approx(np.zeros(3))


# The verdict


def test_only_a_known_depth_is_ok() -> None:
    fine = Verdict("ok", "all views agree")
    assert mistrust_depth(fine, 0.3, 0.9).status == "ok"
    doubted = mistrust_depth(fine, 0.3, 1.0)
    assert doubted.status == "uncertain"
    assert "in-plane error 0.3 mm, depth 1.0 mm" in doubted.reason
    assert mistrust_depth(fine, np.nan, 0.1).status == "uncertain"
    assert mistrust_depth(fine, 0.1, np.nan).status == "failed"
    assert mistrust_depth(fine, 0.3, 96.0).status == "failed"
    failed = mistrust_depth(Verdict("failed", "no bone"), 0.3, 0.4)
    assert (failed.status, failed.reason.startswith("no bone; ")) == ("failed", True)


def test_an_open_depth_is_along_the_line_of_sight_alone() -> None:
    sight = np.array([0.6, 0.0, 0.8])
    spread = with_depth_variance(0.01 * np.eye(6), sight, 25.0)
    parts = error_parts_mm(spread, np.zeros((3, 3)), sight)
    assert parts["depth_error_mm"] == pytest.approx(np.hypot(0.1, 5.0))
    assert parts["in_plane_error_mm"] == pytest.approx(np.sqrt(0.02))


# The command


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    case = one_view()
    write_case(folder, case.ct, case.labels, case.label, case.views, start_ct_to_world=start())
    return folder


def test_the_command_takes_one_view(written: Path, tmp_path: Path) -> None:
    options = tmp_path / "quick.json"
    options.write_text(
        json.dumps({"registration": {"fine": {"pixel_mm": 1.2, "rounds": 2}}}), encoding="utf-8"
    )
    given_start = ["--start", str(written / "start.json"), "--config", str(options)]
    out = tmp_path / "out"
    code = cli.main(["register", str(written / "case.json"), *given_start, "--out", str(out)])
    told = json.loads((out / "registration.json").read_text())
    assert code == {"ok": 0, "uncertain": 3, "failed": 4}[told["status"]]
    assert told["status"] != "failed"
    assert told["quality"]["depth_error_mm"] > told["quality"]["in_plane_error_mm"] > 0.0
    assert (out / "gaussians.ply").is_file()
    assert "in-plane error" in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "option",
    [
        ["--method", "published"],
        ["--model", "M"],
        ["--standardize"],
        ["--refine-cameras"],
        ["--by-level"],
        ["--labels", "all"],
    ],
)
def test_what_one_view_does_not_do_is_refused(
    written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    model = tmp_path / "M"
    model.write_bytes(b"")
    asked = [str(model) if part == "M" else part for part in option]
    out = tmp_path / "out"
    assert cli.main(["register", str(written / "case.json"), *asked, "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "two X-rays" in said
    assert not out.exists()
