"""Nominal cameras refined with several vertebrae: slopes, what X-rays cannot tell, the verdict."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from registration_scenes import QUICK, error_mm, one_thread, simulated, truth, with_views
from scipy.spatial.transform import Rotation

from RadGSRegLib import selfcalibration
from RadGSRegLib.cases import (
    ROOM_NOMINAL,
    Case,
    Ledger,
    clicked_centre,
    middle_of_views,
    read_spine_json,
    read_views,
    refuse_strangers,
    write_case,
)
from RadGSRegLib.cli import main
from RadGSRegLib.commands.refined_views import write_refined_views
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import (
    Array,
    affine,
    compose_about,
    invert_rigid,
    projection_by_camera,
    rotation_angle_deg,
    transform_points,
    translation,
    twist_about,
)
from RadGSRegLib.multilevel import Equations, Setup, Shown, Target, Unknowns
from RadGSRegLib.registration import (
    Registration,
    case_bodies,
    register_case,
    scaled,
    unjudged_pose,
)
from RadGSRegLib.registration.proposers import NeighbouringLevel
from RadGSRegLib.selfcalibration import CameraRefinement, judged, refine_cameras, with_spread
from RadGSRegLib.selfcalibration import bounds as limits
from RadGSRegLib.selfcalibration.first import (
    cut_off,
    in_every_view,
    meeting_clicks,
    whole,
    with_cameras,
)
from RadGSRegLib.selfcalibration.gauge import as_meant, in_common_frame
from RadGSRegLib.selfcalibration.refined import nominal_views, room_known, with_refined
from RadGSRegLib.selfcalibration.spread import by_nominal_intrinsics, spread_of
from RadGSRegLib.selfcalibration.stretch import stretched
from RadGSRegLib.system import Progress
from RadGSRegLib.views import prepare_views

REGION = ("L2", "L3", "L4")
LABELS = (22, 21, 23)
WIDE: dict[str, Any] = {"pixel_mm": 1.6, "vertebra_deg": 3.0, "vertebra_mm": 2.0}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    one_thread()


def _true() -> Any:
    return simulated("clean", 5, REGION, **WIDE)


def _wrong(turn_deg: float = 3.0, shift_mm: float = 8.0) -> Case:
    """The case with nominal cameras that are turned about the isocentre and shifted."""
    rng = np.random.default_rng(3)
    case = _true().case
    centre = middle_of_views(case.views)

    def off(view: Any) -> Any:
        axis, along = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
        turn = Rotation.from_rotvec(np.radians(turn_deg) * axis).as_matrix()
        motion = affine(turn, centre - turn @ centre + shift_mm * along)
        camera = view.camera
        moved = replace(camera, world_to_camera=camera.world_to_camera @ motion)
        return replace(view, camera=moved, nominal=True)

    return with_views(case, off)


def _poses() -> dict[int, Array]:
    """The true poses of the vertebrae."""
    known = {int(n): np.array(pose) for n, pose in _true().truth["neighbours"].items()}
    return {**known, _true().case.label: truth(_true())}


@lru_cache(maxsize=1)
def _targets() -> tuple[Target, ...]:
    case = _true().case
    return tuple(
        Target(
            label,
            case.label_names[label],
            case_bodies(replace(case, label=label), scaled(replace(QUICK, bone_scale=1.0))),
        )
        for label in LABELS
    )


def _setup(unknowns: Unknowns, seed: int = 0, size: float = 1.0) -> Setup:
    """The true poses and cameras, each moved a little."""
    rng = np.random.default_rng(seed)
    twists = size * rng.normal(size=(40, 6)) * np.repeat([0.02, 2.0], 3)
    true = _poses()
    poses = []
    for number, piece in enumerate(unknowns.pieces):
        label = next((t.label for t in unknowns.targets if t.name == piece.name), LABELS[0])
        poses.append(compose_about(true[label], twists[10 + number], piece.centre_ct))
    cameras = [compose_about(np.eye(4), twist, unknowns.pivot_world) for twist in twists[:2]]
    return Setup(np.array(cameras), np.array(poses))


def _unknowns(alone: bool = False) -> Unknowns:
    pivot = transform_points(truth(_true()), _true().case.centre_ct[None])[0]
    return Unknowns(_targets(), 2, pivot, alone)


# Unknowns


@pytest.mark.parametrize("alone", [False, True])
@given(seed=st.integers(0, 1000))
def test_bodies_move_with_the_unknowns_as_the_chain_rule_says(alone: bool, seed: int) -> None:
    unknowns = _unknowns(alone)
    setup, small = _setup(unknowns, seed), 1e-6
    step = np.random.default_rng(seed).normal(size=unknowns.count)
    view, number = seed % 2, seed % 3
    bodies = unknowns.targets[number].bodies

    def places(at: Setup) -> Array:
        """Points of each body of a target, as the view's nominal camera has them."""
        there = unknowns.arrangement(number, at)
        world = [there.ct_to_world, *(there.ct_to_world @ shift for shift in there.shifts_ct)]
        centres = [bodies.centre_ct, *bodies.movable_centres_ct]
        points = [c + 30.0 * np.eye(3)[k % 3] for k, c in enumerate(centres)]
        pairs = zip(world, points, strict=True)
        shown = [transform_points(at.world_to_nominal[view] @ m, p[None])[0] for m, p in pairs]
        # Where nothing but the targets moves, the rest is not asked for.
        return np.array(shown[: 1 if alone else None])

    def by_bodies(twists: Array) -> Array:
        """The same where the bodies take steps themselves, in front of a camera that stays."""
        there = unknowns.arrangement(number, setup)
        pose = compose_about(there.ct_to_world, twists[:6], bodies.centre_ct)
        shifts = []
        for n, shift in enumerate(there.shifts_ct):
            own = twists[6 * n + 6 : 6 * n + 12] if len(twists) > 6 else np.zeros(6)
            now = transform_points(shift, bodies.movable_centres_ct[n][None])[0]
            shifts.append(compose_about(np.eye(4), own, now) @ shift)
        world = [pose, *(pose @ shift for shift in shifts)]
        centres = [bodies.centre_ct, *bodies.movable_centres_ct]
        points = [c + 30.0 * np.eye(3)[k % 3] for k, c in enumerate(centres)]
        camera = setup.world_to_nominal[view]
        pairs = zip(world, points, strict=True)
        shown = [transform_points(camera @ m, p[None])[0] for m, p in pairs]
        return np.array(shown[: 1 if alone else None])

    moved = (places(unknowns.moved(setup, small * step)) - places(setup)) / small
    lever = unknowns.to_bodies(number, view, setup)
    predicted = (by_bodies(small * lever @ step) - by_bodies(np.zeros(len(lever)))) / small
    assert np.abs(moved - predicted).max() < 1e-4 * np.abs(moved).max() + 1e-3


def test_all_bodies_are_pieces_and_others_follow_the_nearest_target() -> None:
    unknowns = _unknowns()
    names = [piece.name for piece in unknowns.pieces]
    assert names[:3] == ["L3", "L2", "L4"]
    assert names[-1] == "background"
    assert set(names) >= {"T12", "L1", "L5"}
    alone = _unknowns(alone=True)
    step = np.zeros(alone.count)
    step[alone.of_piece(names.index("L2"))] = 0.1
    before = alone.as_in_ct(np.tile(np.eye(4), (2, 1, 1)), truth(_true()))
    after = alone.moved(before, step)
    moved = [
        not np.allclose(a, b) for a, b in zip(before.ct_to_world, after.ct_to_world, strict=True)
    ]
    assert {n for n, m in zip(names, moved, strict=True) if m} == {"L2", "L1", "T12"}


# What X-rays cannot tell


def test_moved_as_one_piece_all_looks_the_same() -> None:
    unknowns = _unknowns()
    setup = _setup(unknowns, 1, 0.2)
    views = tuple(prepare_views(_true().case.views))
    loose = Shown(views, (1, 1), np.full((2, 6), 1e6))
    stage = QUICK.middle
    state = Equations(unknowns, loose, stage, setup).at(setup)
    motion = compose_about(np.eye(4), [0.01, -0.02, 0.03, 4.0, -5.0, 6.0], unknowns.pivot_world)
    together = Setup(
        setup.world_to_nominal @ invert_rigid(motion), np.asarray(motion @ setup.ct_to_world)
    )
    again = Equations(unknowns, loose, stage, together).at(together)
    assert np.allclose(again.scores, state.scores, atol=1e-3)
    # And no step goes that way: the gradient by a motion of everything is none.
    along = np.zeros(unknowns.count)
    twist = np.array([0.01, 0.02, -0.01, 1.0, 2.0, -1.0])
    for number in range(2):
        along[unknowns.of_camera(number)] = -twist
    for number, pose in enumerate(setup.ct_to_world):
        along[unknowns.of_piece(number)] = unknowns.by_camera(number, pose) @ twist
    size = np.linalg.norm(state.gradient * along)
    assert abs(state.gradient @ along) < 1e-6 * size
    assert along @ state.hessian @ along < 1e-8 * np.diag(state.hessian) @ along**2


def test_all_together_stays_where_cameras_were_meant_to_be() -> None:
    unknowns = _unknowns()
    setup = _setup(unknowns, 2)
    deviations = np.tile(np.repeat([np.radians(3.0), 10.0], 3), (2, 1))
    meant = as_meant(unknowns, setup, deviations)
    off = [twist_about(np.eye(4), s, unknowns.pivot_world) for s in meant.world_to_nominal]
    # Nearly none in the mean: what turns and what shifts do not commute.
    assert np.abs(np.mean(off, axis=0)).max() < 0.05
    assert np.abs(off).max() > 1.0
    for number in range(2):
        for piece in range(len(unknowns.pieces)):
            before = setup.world_to_nominal[number] @ setup.ct_to_world[piece]
            after = meant.world_to_nominal[number] @ meant.ct_to_world[piece]
            assert np.allclose(before, after, atol=1e-8)
    # One that is calibrated holds the others.
    deviations[0] /= 1000.0
    held = as_meant(unknowns, setup, deviations)
    assert np.abs(held.world_to_nominal[0] - np.eye(4)).max() < 1e-3


@given(seed=st.integers(0, 1000))
def test_the_common_frame_takes_a_rigid_motion_away(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = 40.0 * rng.normal(size=(30, 3))
    turn = Rotation.from_rotvec(rng.normal(size=3)).as_matrix()
    others = transform_points(affine(turn, 20.0 * rng.normal(size=3)), points)
    assert np.allclose(in_common_frame(points, others), others, atol=1e-9)


def test_spread_is_of_what_is_left_beside_the_common_motion() -> None:
    """Drawn setups, aligned by their surfaces, spread as it says."""
    unknowns = _unknowns()
    setup = unknowns.as_in_ct(np.tile(np.eye(4), (2, 1, 1)), truth(_true()))
    cameras = [view.camera for view in _true().case.views]
    points = [t.bodies.surface_points_ct[::80].astype(float) for t in unknowns.targets]
    rng = np.random.default_rng(4)
    root = rng.normal(size=(unknowns.count, unknowns.count))
    scale = np.tile(np.repeat([1e-3, 0.1], 3), unknowns.count // 6)
    covariance = scale[:, None] * (root @ root.T / len(root) + np.eye(len(root))) * scale
    said = spread_of(unknowns, setup, cameras, np.linalg.inv(covariance), points)
    draws = rng.multivariate_normal(np.zeros(len(root)), covariance, 400)
    twists, sources = [], []
    home = [transform_points(p, q) for p, q in zip(setup.ct_to_world, points, strict=False)]
    for draw in draws:
        moved = unknowns.moved(setup, draw)
        shown = [transform_points(p, q) for p, q in zip(moved.ct_to_world, points, strict=False)]
        all_shown, all_home = np.concatenate(shown), np.concatenate(home)
        turn, _ = Rotation.align_vectors(
            all_home - all_home.mean(axis=0), all_shown - all_shown.mean(axis=0)
        )
        r = turn.as_matrix()
        back = affine(r, all_home.mean(axis=0) - r @ all_shown.mean(axis=0))
        centre = unknowns.pieces[1].centre_ct
        twists.append(twist_about(setup.ct_to_world[1], back @ moved.ct_to_world[1], centre))
        camera = with_cameras(_true().case, moved.world_to_nominal).views[0].camera
        source = transform_points(back, camera.source_world[None])[0]
        sources.append(source - cameras[0].source_world)
    found = np.cov(np.array(twists).T)
    assert np.allclose(np.sqrt(np.diag(found)), np.sqrt(np.diag(said.targets[1])), rtol=0.15)
    seen_mm = np.sqrt(np.trace(np.cov(np.array(sources).T)))
    assert seen_mm == pytest.approx(np.sqrt(np.trace(said.cameras[0, 0][3:, 3:])), rel=0.15)
    assert (np.linalg.eigvalsh(said.by_cameras) > -1e-12).all()


# Where to begin


def test_cameras_are_moved_to_meet_the_clicks() -> None:
    case = _wrong()
    met = with_cameras(case, meeting_clicks(case.views, [v.name for v in case.views]))
    centre = clicked_centre(met.views)
    assert centre is not None
    for view in met.views:
        assert np.allclose(view.camera.project(centre[None])[0], view.center_px, atol=0.02)
    # A view that is not nominal stays, and without clicks all do.
    still = meeting_clicks(case.views, [case.views[0].name])
    assert np.array_equal(still[1], np.eye(4))
    assert not np.array_equal(still[0], np.eye(4))
    unclicked = with_views(case, lambda view: replace(view, center_px=None))
    assert np.array_equal(meeting_clicks(unclicked.views, ["AP", "LA"])[0], np.eye(4))


def test_vertebrae_are_used_that_ct_and_views_hold() -> None:
    case = _true().case
    points_ct = whole(case)
    assert next(iter(points_ct)) == 22
    assert set(points_ct) == set(LABELS)
    assert set(in_every_view(case, points_ct, truth(_true()))) == set(LABELS)

    def narrow(view: Any) -> Any:
        # So few rows that L2 and L4 are not in the picture.
        camera = replace(view.camera, rows=60)
        intrinsic = camera.intrinsic.copy()
        intrinsic[1, 2] -= 92.0
        return replace(view, camera=replace(camera, intrinsic=intrinsic))

    left = in_every_view(with_views(case, narrow), points_ct, truth(_true()))
    assert left[0] == 22
    assert len(left) < 3
    sacrum = replace(case, label_names={**case.label_names, 21: "sacrum"})
    assert 21 not in whole(sacrum)


def test_a_tip_at_the_border_cuts_nothing_off() -> None:
    grid = np.zeros((20, 20, 20), dtype=bool)
    grid[2:12, 5:15, 5:15] = True
    assert not cut_off(np.argwhere(grid), grid.shape)
    grid[0:2, 9:11, 9:11] = True
    assert not cut_off(np.argwhere(grid), grid.shape)
    grid[0:2, 5:15, 5:15] = True
    assert cut_off(np.argwhere(grid), grid.shape)


def test_fewer_than_three_vertebrae_are_refused() -> None:
    with pytest.raises(InputError, match="3 labelled vertebrae"):
        refine_cameras(replace(simulated().case), options=QUICK)


def test_where_x_rays_show_too_few_the_cameras_stay() -> None:
    case = _wrong()

    def beside(view: Any) -> Any:
        intrinsic = view.camera.intrinsic.copy()
        intrinsic[1, 2] -= 90.0
        camera = replace(view.camera, intrinsic=intrinsic, rows=view.camera.rows - 180)
        cut = view.pixels[90:-90].copy()
        column, row = view.center_px
        return replace(view, camera=camera, pixels=cut, center_px=(column, row - 90.0))

    few = with_views(case, beside)
    left = refine_cameras(few, options=QUICK)
    assert "too few" in left.problem
    assert left.case is few
    done = judged(register_case(few, options=QUICK), left)
    assert done.status != "ok"
    assert "not refined" in done.reason


# From wrong cameras to right ones


@pytest.fixture(scope="module")
def refined() -> CameraRefinement:
    """What comes of cameras that are 3 degrees and 8 mm off."""
    one_thread()
    return refine_cameras(_wrong(), options=QUICK)


def _apart_mm(refinement: CameraRefinement) -> dict[int, float]:
    """Each vertebra's error where one rigid motion is taken out of all."""
    case, true = _true().case, _poses()
    shown, real = [], []
    for label, pose in refinement.ct_to_world.items():
        points = replace(case, label=label).surface_ct[::10]
        shown.append(transform_points(pose, points))
        real.append(transform_points(true[label], points))
    fitted = in_common_frame(np.concatenate(shown), np.concatenate(real))
    parts = np.split(fitted, np.cumsum([len(p) for p in shown])[:-1])
    return {
        label: float(np.linalg.norm(a - b, axis=1).mean())
        for label, a, b in zip(refinement.ct_to_world, parts, real, strict=True)
    }


def test_vertebrae_come_to_lie_as_they_are_to_each_other(refined: CameraRefinement) -> None:
    assert set(refined.ct_to_world) == set(LABELS)
    before = register_case(_wrong(), options=QUICK)
    assert error_mm(_true(), before.ct_to_world) > 2.0
    assert max(_apart_mm(refined).values()) < 0.5


def _between(case: Case) -> Array:
    """Where the second camera has what the first one sees (4, 4)."""
    first, second = (view.camera.world_to_camera for view in case.views)
    return np.asarray(second @ invert_rigid(first))


def test_cameras_stand_to_each_other_as_they_did(refined: CameraRefinement) -> None:
    true, wrong, now = (_between(c) for c in (_true().case, _wrong(), refined.case))
    # Three vertebrae in coarse pictures; five in a user's: docs/experiments/selfcalibration.md.
    before_deg = rotation_angle_deg(true[:3, :3].T @ wrong[:3, :3])
    assert rotation_angle_deg(true[:3, :3].T @ now[:3, :3]) < 0.3 * before_deg
    assert before_deg > 2.0
    assert not any(view.nominal for view in refined.case.views)
    assert all(view.room_nominal for view in refined.case.views)
    assert refined.refined == ("AP", "LA")
    assert not refined.room_known
    assert max(refined.sigmas) < 3.0


def test_a_registration_with_refined_cameras_says_what_they_leave(
    refined: CameraRefinement,
) -> None:
    answer = register_case(refined.case, refined.ct_to_world[22], QUICK)
    assert answer.status != "failed"
    plain = replace(answer, status="ok")
    done = judged(plain, refined)
    assert done.quality["expected_error_mm"] > plain.quality["expected_error_mm"]
    assert done.quality["calibration_error_mm"] > 0.0
    assert done.parameters["nominal_geometry"] == ["AP", "LA"]
    assert set(done.quality["cameras"]["vertebrae"]) == {"L2", "L3", "L4"}
    assert done.timing_s["refine_cameras"] == refined.seconds
    assert done.status == "ok"
    assert "refined with 3 vertebrae" in done.reason
    assert done.reason.count(ROOM_NOMINAL) == 1
    assert done.quality["room_nominal"] == ["AP", "LA"]
    assert "mm beside the other vertebrae, of the cameras" in done.reason
    for doubtful, word in (
        (replace(refined, sigmas=(0.5, 3.5)), "too far"),
        (replace(refined, settled_mm=1.0), "still moved"),
        (replace(refined, settled_mm=float("nan")), "finite"),
        (replace(refined, spread=_looser(refined)), "leave"),
    ):
        doubted = judged(plain, doubtful)
        assert doubted.status == "uncertain"
        assert word in doubted.reason
        assert doubted.reason.count(ROOM_NOMINAL) == 1


def _looser(refinement: CameraRefinement) -> Any:
    spread = refinement.spread
    return replace(spread, by_cameras=spread.by_cameras + np.eye(6) * (2.0 / limits.WIDER) ** 2)


def test_another_vertebra_gains_what_cameras_leave_of_its_own(refined: CameraRefinement) -> None:
    case = replace(refined.case, label=21)
    centre = case.surface_ct.mean(axis=0)
    plain = Registration(
        status="ok",
        reason="all agree",
        ct_to_world=refined.ct_to_world[21],
        covariance=np.eye(6) * 1e-8,
        centre_ct=centre,
        quality={"expected_error_mm": 0.1, "weakest_score": 0.9},
        timing_s={},
        parameters={},
        seed=0,
    )
    place = list(refined.ct_to_world).index(21)
    assert place > 0
    done = judged(plain, refined, case)
    gained = done.covariance - plain.covariance
    assert np.allclose(gained, limits.WIDER**2 * refined.spread.by_cameras[place], atol=1e-12)
    assert not np.allclose(gained, limits.WIDER**2 * refined.spread.by_cameras[0], atol=1e-12)
    assert done.status == "ok"
    assert ROOM_NOMINAL in done.reason
    kept = {label: pose for label, pose in refined.ct_to_world.items() if label != 21}
    without = judged(plain, replace(refined, ct_to_world=kept), case)
    assert without.status == "uncertain"
    assert "refined without this vertebra" in without.reason


@pytest.mark.slow
def test_the_command_registers_several_with_refined_cameras(
    refined: CameraRefinement,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    brief_fit: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _written(_wrong(), tmp_path / "case")
    asked: list[Case] = []

    def found(case: Case, *args: Any, **kinds: Any) -> CameraRefinement:
        asked.append(case)
        return replace(refined, case=replace(refined.case, inputs=case.inputs))

    monkeypatch.setattr(selfcalibration, "refine_cameras", found)
    out = tmp_path / "out"
    words = ["register", str(tmp_path / "case" / "case.json"), "--labels", "L2"]
    words += ["--refine-cameras", "--effort", "fast", "--out", str(out)]
    assert main(words) in (0, 3), capsys.readouterr()
    assert [view.nominal for view in asked[0].views] == [True, True]
    record = read_spine_json(out / "spine.json")
    assert list(record.levels) == ["L2", "L3"]
    assert "refine_cameras" in record.timing_s
    assert "spread of relative motions" in (out / "spine.json").read_text()
    for level in record.levels.values():
        own = json.loads((out / level.folder / "registration.json").read_text())
        assert own["quality"]["cameras"]["views"]["AP"]["refined"] is True
        assert own["parameters"]["refine_cameras"] is True
        assert ROOM_NOMINAL in level.reason
    said = own["quality"]["cameras"]["views"]["AP"]["extrinsic"]
    views = read_views(out / "refined_views.json")
    assert np.allclose(views[0].camera.world_to_camera, said, atol=1e-6)
    refuse_strangers(out)  # a later result may take its place


def test_what_is_not_ok_stays_so(refined: CameraRefinement) -> None:
    plain = register_case(refined.case, refined.ct_to_world[22], QUICK)
    failed: Registration = replace(plain, status="failed", reason="nothing fits")
    done = judged(failed, refined)
    assert done.status == "failed"
    assert done.reason.startswith("nothing fits; ")
    assert ROOM_NOMINAL in done.reason


def test_a_calibrated_camera_holds_the_others_in_the_room() -> None:
    case, true = _wrong(), _true().case
    known = replace(true.views[0], camera_covariance=1e-6 * np.eye(9))
    mixed = replace(case, views=(known, case.views[1]))
    done = refine_cameras(mixed, options=QUICK)
    assert done.refined == ("LA",)
    assert done.room_known
    held, other = done.case.views
    assert not held.room_nominal
    assert not other.room_nominal
    assert np.linalg.norm(held.camera.source_world - known.camera.source_world) < 0.5
    assert held.camera_covariance is not None
    assert other.camera_covariance is None
    off_mm = np.linalg.norm(other.camera.source_world - true.views[1].camera.source_world)
    before_mm = np.linalg.norm(
        case.views[1].camera.source_world - true.views[1].camera.source_world
    )
    assert off_mm < 0.7 * before_mm
    # One camera alone does not say how far along its beam all is.
    answer = register_case(done.case, done.ct_to_world[22], QUICK)
    doubted = judged(replace(answer, status="ok"), done)
    assert doubted.status == "uncertain"
    assert "one calibrated camera" in doubted.reason
    first, second = with_spread(done)
    assert np.array_equal(first.camera_covariance, known.camera_covariance)
    assert second.camera_covariance is not None
    assert second.camera_covariance[6, 6] > 0.0
    record = doubted.quality["cameras"]["views"]
    sigma = record["LA"]["source_sigma_mm"]
    assert sigma == pytest.approx(np.sqrt(np.diag(second.camera_covariance)[3:6]))
    assert max(sigma) > limits.NOMINAL_FOCAL_SHARE * 300.0
    assert max(record["AP"]["source_sigma_mm"]) < 0.5 * max(sigma)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_wrong_focal_length_and_principal_point_move_the_source(mirrored: bool) -> None:
    """Drawn from what is assumed of them, the vertebra's middle stays where it is shown."""
    camera, centre_world = _true().case.views[1].camera, np.array([4.0, -12.0, 9.0])
    intrinsic = camera.intrinsic * np.array([[-1.0 if mirrored else 1.0, 1.0, 1.0]])
    camera = replace(camera, intrinsic=intrinsic)
    covariance = by_nominal_intrinsics(camera, centre_world)
    focal = limits.NOMINAL_FOCAL_SHARE * camera.focal_px
    assert np.sqrt(covariance[6, 6]) == pytest.approx(focal)
    assert np.sqrt(covariance[8, 8]) == pytest.approx(0.02 * max(camera.size))
    by_camera = projection_by_camera(camera, centre_world[None])[0]
    assert np.abs(by_camera @ covariance @ by_camera.T).max() < 1e-9
    # Along the beam by the share of its distance that the focal length is off.
    forth, depth = camera.view_direction_world, camera.world_to_camera[2] @ [*centre_world, 1.0]
    along_mm = np.sqrt(forth @ covariance[3:6, 3:6] @ forth)
    assert along_mm == pytest.approx(limits.NOMINAL_FOCAL_SHARE * depth)
    step = along_mm / np.sqrt(covariance[6, 6])
    longer = intrinsic * np.array([[1.0 + focal / camera.focal_px] * 2 + [1.0]])
    pose = translation([0.0, 0.0, step * focal]) @ camera.world_to_camera
    moved = replace(camera, intrinsic=longer, world_to_camera=pose)
    shown = (c.project(centre_world[None])[0] for c in (camera, moved))
    assert np.hypot(*(np.subtract(*shown))) < 1e-6


@given(share=st.floats(-0.03, 0.03), held=st.sampled_from([None, 0, 1]))
def test_a_longer_spine_further_off_is_shown_in_the_same_places(
    share: float, held: int | None
) -> None:
    unknowns = _unknowns()
    setup = _setup(unknowns, 3)
    views = tuple(prepare_views(_true().case.views))
    shown_by = Shown(views, (1, 1), np.ones((2, 6)))
    longer = stretched(unknowns, shown_by, setup, share, held)
    for before, after in zip(setup.views(views), longer.views(views), strict=True):
        for piece, pose, moved in zip(
            unknowns.pieces, setup.ct_to_world, longer.ct_to_world, strict=True
        ):
            centres = (transform_points(p, piece.centre_ct[None]) for p in (pose, moved))
            first, second = (
                view.camera.project(c) for view, c in zip((before, after), centres, strict=True)
            )
            assert np.allclose(first, second, atol=1e-6)
    if held is not None:
        assert np.allclose(longer.world_to_nominal[held], setup.world_to_nominal[held])


def test_the_first_pose_is_that_of_a_registration_without_what_judges_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case, asked = _wrong(), list[int]()
    propose = NeighbouringLevel.propose

    def heard(self: NeighbouringLevel, *args: Any) -> Any:
        asked.append(self.side)
        return propose(self, *args)

    monkeypatch.setattr(NeighbouringLevel, "propose", heard)
    whole_one = register_case(case, options=QUICK)
    assert set(asked) == {-1, 1}
    asked.clear()
    pose = unjudged_pose(case, None, QUICK, Progress(), (), "cpu")
    np.testing.assert_array_equal(pose, whole_one.ct_to_world)
    assert not asked


def test_it_can_be_cancelled() -> None:
    asked: list[float] = []

    def stop(fraction: float, message: str) -> bool:
        asked.append(fraction)
        return fraction < 0.5

    with pytest.raises(Cancelled):
        refine_cameras(_wrong(), options=QUICK, progress=Progress(stop))
    assert asked == sorted(asked)


# The command


def _written(case: Case, folder: Path) -> None:
    folder.mkdir()
    write_case(folder, case.ct, case.labels, case.label, case.views, case.label_names)


def test_the_command_refines_and_writes_the_cameras(
    tmp_path: Path, brief_fit: None, capsys: pytest.CaptureFixture[str]
) -> None:
    case = _wrong()
    _written(case, tmp_path / "case")
    out = tmp_path / "result"
    arguments = ["register", str(tmp_path / "case" / "case.json"), "--out", str(out)]
    code = main([*arguments, "--refine-cameras", "--effort", "fast"])
    assert code in (0, 3), capsys.readouterr()
    record = json.loads((out / "registration.json").read_text())
    assert record["parameters"]["refine_cameras"] is True
    assert record["parameters"]["nominal_geometry"] == ["AP", "LA"]
    views = read_views(out / "refined_views.json")
    for view in views:
        said = record["quality"]["cameras"]["views"][view.name]["extrinsic"]
        assert np.allclose(view.camera.world_to_camera, said, atol=1e-6)
        assert view.camera_covariance is not None
        assert not view.nominal
    # Whoever uses them later is told again that the room is nominal.
    again, ledger = tmp_path / "again", Ledger()
    assert all(view.room_nominal for view in read_views(out / "refined_views.json", ledger))
    assert any(ROOM_NOMINAL in note for note in ledger.notes)
    content = json.loads((tmp_path / "case" / "case.json").read_text())
    content["views"] = "../result/refined_views.json"
    (tmp_path / "case" / "later.json").write_text(json.dumps(content))
    arguments = ["register", str(tmp_path / "case" / "later.json"), "--out", str(again)]
    assert main([*arguments, "--effort", "fast"]) in (0, 3), capsys.readouterr()
    later = json.loads((again / "registration.json").read_text())
    assert later["quality"]["room_nominal"] == ["AP", "LA"]
    assert ROOM_NOMINAL in later["quality"]["reason"]
    assert ROOM_NOMINAL in (again / "report.html").read_text()
    first, second = (view.camera.world_to_camera for view in views)
    true, wrong = (_between(c) for c in (_true().case, case))
    now = second @ invert_rigid(first)
    before_deg = rotation_angle_deg(true[:3, :3].T @ wrong[:3, :3])
    assert rotation_angle_deg(true[:3, :3].T @ now[:3, :3]) < 0.5 * before_deg


def test_the_room_of_cameras_that_were_refined_twice_stays_nominal() -> None:
    case = _true().case
    first, second = case.views
    before = replace(first, room_nominal=True)
    for held, known in ((first, True), (before, False)):
        mixed = replace(case, views=(held, replace(second, nominal=True)))
        assert room_known(mixed, nominal_views(mixed)) is known
        done = with_refined(mixed, mixed.views, nominal_views(mixed))
        assert [view.room_nominal for view in done] == [not known] * 2
        assert not done[1].nominal


def test_cameras_that_are_not_trusted_are_written_as_nominal(
    refined: CameraRefinement, tmp_path: Path
) -> None:
    _written(_wrong(), tmp_path / "case")
    (tmp_path / "out").mkdir()
    case, out = tmp_path / "case" / "case.json", tmp_path / "out"
    for refinement, nominal in ((refined, False), (replace(refined, sigmas=(4.0, 0.5)), True)):
        write_refined_views(case, out, out, refinement)
        assert [view.nominal for view in read_views(out / "refined_views.json")] == [nominal] * 2


def test_the_published_order_refines_no_cameras(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _written(_wrong(), tmp_path / "case")
    arguments = ["register", str(tmp_path / "case" / "case.json"), "--out", str(tmp_path / "no")]
    assert main([*arguments, "--refine-cameras", "--method", "published"]) == 2
    assert "--refine-cameras" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
