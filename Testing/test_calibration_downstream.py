"""What a calibrated view carries: shadows of metal that count nowhere, and unsure cameras."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from registration_scenes import TARGET, camera, error_mm, one_thread, phantom, truth
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from test_registration_evidence import GOOD

from RadGSRegLib.calibration import layout
from RadGSRegLib.cases import (
    Case,
    Ledger,
    View,
    camera_covariances_with,
    read_views,
    write_views,
)
from RadGSRegLib.cases.calibrated import camera_sigma_mm
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import (
    Array,
    Camera,
    Rigid,
    affine,
    compose_about,
    exp_se3,
    projection_by_camera,
    projection_by_point,
    transform_points,
)
from RadGSRegLib.registration import judge_case, register_case
from RadGSRegLib.registration.geometry_error import propagated
from RadGSRegLib.registration.verdict import judge, mistrust_calibration
from RadGSRegLib.simulation import (
    BeadPhantom,
    Prepared,
    SimulatedCase,
    SimulationParameters,
    simulate_case,
)
from RadGSRegLib.tomography.beams import whole_beams
from RadGSRegLib.views import PreparedView, prepare_view

one_thread()
CIRCLE = (60.0, 70.0, 4.0)


def covariance(scale: float = 1.0) -> Array:
    """Of a camera that is off by about a millimetre, its numbers going together."""
    rng = np.random.default_rng(7)
    deviations = np.array([1e-3] * 3 + [0.7] * 3 + [1.5, 0.8, 0.8]) * scale
    factor = rng.normal(size=(9, 9)) / 3.0 * deviations[:, None]
    return np.asarray(factor @ factor.T)


def moved(shown_by: Camera, step: Array) -> Camera:
    """A camera whose nine parameters are off, in the order of `Calibrated`."""
    turn = Rotation.from_rotvec(step[:3]).as_matrix() @ shown_by.world_to_camera[:3, :3]
    intrinsic = shown_by.intrinsic.copy()
    intrinsic[:2, :2] *= (shown_by.focal_px + step[6]) / shown_by.focal_px
    intrinsic[:2, 2] += step[7:]
    matrix = affine(turn, -turn @ (shown_by.source_world + step[3:6]))
    return Camera(intrinsic, matrix, *shown_by.size)


def view(name: str = "AP", primary: float = 0.0, **changes: Any) -> View:
    pixels = np.random.default_rng(len(name)).uniform(0.2, 0.8, (180, 200)).astype(np.float32)
    return View(name, pixels, camera(primary=primary), (1.2, 1.2), **changes)


def pair(**changes: Any) -> tuple[View, View]:
    return view(**changes), view("LAT", 90.0)


def test_both_keys_are_written_and_read_as_they_were(tmp_path: Path) -> None:
    circles = (CIRCLE, (10.5, 3.25, 2.0))
    written = pair(metal_px=circles, camera_covariance=covariance())
    path = write_views(tmp_path, written)
    frontal, lateral = read_views(path)
    assert frontal.metal_px == circles
    assert frontal.camera_covariance is not None
    np.testing.assert_allclose(frontal.camera_covariance, covariance(), rtol=1e-12)
    assert lateral.metal_px == ()
    assert lateral.camera_covariance is None
    entries = json.loads(path.read_text("utf-8"))["views"]
    assert {"metal_px", "camera_covariance"} <= set(entries[0])
    assert not {"metal_px", "camera_covariance"} & set(entries[1])


def _with_entry(matrix: Array, row: int, column: int, value: float) -> list[list[float]]:
    out = matrix.copy()
    out[row, column] = value
    return out.tolist()


def _negative() -> list[list[float]]:
    out = np.eye(9)
    out[0, 1] = out[1, 0] = 2.0
    return out.tolist()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("metal_px", 3, r'"metal_px" must be a list of \[column, row, radius\]'),
        ("metal_px", [[1.0, 2.0]], '"metal_px" must hold 1 x 3 numbers'),
        ("metal_px", [[1.0, 2.0, 0.0]], "a radius that is not positive"),
        ("metal_px", [[1.0, 2.0, np.inf]], "not finite"),
        ("camera_covariance", np.eye(8).tolist(), '"camera_covariance" must hold 9 x 9 numbers'),
        ("camera_covariance", _with_entry(np.eye(9), 2, 2, np.inf), "not finite"),
        ("camera_covariance", _with_entry(np.eye(9), 2, 3, 0.1), "is not symmetric"),
        ("camera_covariance", _with_entry(np.eye(9), 4, 4, -1.0), "a negative variance"),
        ("camera_covariance", _negative(), "a negative eigenvalue"),
        ("room", "known", '"room" can only be "nominal"'),
    ],
)
def test_what_is_neither_is_refused_in_one_sentence(
    key: str, value: Any, said: str, tmp_path: Path
) -> None:
    path = write_views(tmp_path, pair())
    content = json.loads(path.read_text("utf-8"))
    content["views"][0][key] = value
    path.write_text(json.dumps(content).replace("Infinity", "1e999"), "utf-8")
    with pytest.raises(InputError, match=said) as refused:
        read_views(path)
    assert 'view "AP"' in str(refused.value)


@pytest.mark.parametrize("mirrored", [False, True])
def test_derivatives_of_projections_are_differences_of_projections(mirrored: bool) -> None:
    shown_by = camera(mirrored=mirrored)
    points = np.random.default_rng(1).uniform(-60, 60, (6, 3))
    step = 1e-5
    by_camera = [
        (moved(shown_by, step * e).project(points) - moved(shown_by, -step * e).project(points))
        for e in np.eye(9)
    ]
    expected = np.stack(by_camera, axis=2) / (2 * step)
    assert projection_by_camera(shown_by, points) == pytest.approx(expected, abs=1e-5)
    by_point = [shown_by.project(points + step * e) - shown_by.project(points) for e in np.eye(3)]
    expected = np.stack(by_point, axis=2) / step
    assert projection_by_point(shown_by, points) == pytest.approx(expected, abs=1e-5)


def test_a_loose_calibration_is_named_and_a_good_one_is_not(tmp_path: Path) -> None:
    for scale, is_named in ((3.0, True), (0.1, False)):
        folder = tmp_path / str(scale)
        folder.mkdir()
        ledger = Ledger()
        read_views(write_views(folder, pair(camera_covariance=covariance(scale))), ledger)
        notes = [note for note in ledger.notes if "calibration is only good to" in note]
        assert [note.startswith("AP: ") for note in notes] == [True] * is_named
        assert not any("LAT" in note for note in ledger.notes)


def test_the_millimetres_at_the_patient_are_those_of_drawn_cameras() -> None:
    shown_by, place = camera(), np.array([[5.0, -10.0, 20.0]])
    drawn = np.random.default_rng(3).multivariate_normal(np.zeros(9), covariance(0.5), 1000)
    at = np.concatenate([moved(shown_by, step).project(place) for step in drawn])
    depth = transform_points(shown_by.world_to_camera, place)[0, 2]
    spread_mm = np.linalg.eigvalsh(np.cov(at.T))[-1] ** 0.5 * depth / shown_by.focal_px
    known = camera_sigma_mm(shown_by, covariance(0.5), place[0])
    assert known == pytest.approx(spread_mm, rel=0.08)


@pytest.mark.parametrize("intensity", ["attenuation", "transmission", "display"])
def test_shadows_of_metal_are_not_valid_and_all_else_is_as_it_was(intensity: Any) -> None:
    plain = prepare_view(view(intensity=intensity))
    shown = prepare_view(view(intensity=intensity, metal_px=(CIRCLE, (0.0, 179.0, 5.0))))
    v, u = np.mgrid[:180, :200]
    # 1.5 mm of blur are 1.25 pixels here.
    near = np.hypot(u - 60.0, v - 70.0) <= 5.25
    corner = np.hypot(u - 0.0, v - 179.0) <= 6.25
    assert plain.metal is None
    assert shown.metal is not None
    assert (shown.metal == (near | corner)).all()
    assert (shown.valid == (plain.valid & ~shown.metal)).all()
    assert (shown.values == plain.values).all()
    turned = shown.mirrored()
    assert turned.metal is not None
    assert (turned.metal == np.fliplr(shown.metal)).all()


@pytest.mark.parametrize("intensity", ["attenuation", "transmission", "display"])
def test_shadows_of_metal_weigh_nothing_in_a_reconstruction(intensity: Any) -> None:
    def beams_of(metal: tuple[tuple[float, float, float], ...]) -> Array:
        prepared: list[PreparedView] = [
            prepare_view(view(intensity=intensity, metal_px=metal)),
            prepare_view(view("LAT", 90.0, intensity=intensity)),
        ]
        return whole_beams(prepared, np.zeros(3), 400).weight.numpy()

    without, weight = beams_of(()), beams_of((CIRCLE,))
    v, u = np.mgrid[:180, :200]
    near = np.hypot(u - 60.0, v - 70.0) <= 5.25
    assert (without[0, :180, :200][near] > 0).all()
    assert (weight[0, :180, :200][near] == 0).all()
    weight[0, :180, :200][near] = without[0, :180, :200][near]
    assert (weight == without).all()


@lru_cache(maxsize=1)
def beads_over_a_vertebra() -> SimulatedCase:
    beads = layout("two-plates")
    small = BeadPhantom(beads.name, 0.45 * beads.centres_mm, beads.diameters_mm)
    parameters = replace(
        SimulationParameters.preset("clean"),
        size_px=244,
        pixel_mm=1.22,
        center_px=5.0,
        spine_deg=8.0,
        start_deg=8.0,
        start_mm=12.0,
    )
    built = phantom("L3")
    names = built.label_names
    prepared = Prepared(beads=small)
    return simulate_case(
        built.ct, built.labels, TARGET, parameters, 2, label_names=names, prepared=prepared
    )


def with_metal(done: SimulatedCase) -> Case:
    centres = np.array(done.truth["beads"]["centres_mm"])
    centres_world = transform_points(np.array(done.truth["beads_to_world"]), centres)
    radii_mm = 0.5 * np.array(done.truth["beads"]["diameters_mm"])

    def told(shown: View) -> View:
        depth = transform_points(shown.camera.world_to_camera, centres_world)[:, 2]
        radii = radii_mm * shown.camera.focal_px / depth
        places = np.array(done.truth["beads_px"][shown.name])
        circles = np.column_stack([places, radii]).tolist()
        return replace(shown, metal_px=tuple((u, v, r) for u, v, r in circles))

    return replace(done.case, views=tuple(told(shown) for shown in done.case.views))


def test_beads_over_a_vertebra_disturb_less_where_they_are_named() -> None:
    done = beads_over_a_vertebra()
    plain, told = register_case(done.case), register_case(with_metal(done))
    assert error_mm(done, told.ct_to_world) <= error_mm(done, plain.ct_to_world)
    assert error_mm(done, told.ct_to_world) < 0.1
    assert told.quality["weakest_score"] > plain.quality["weakest_score"] + 0.1


def with_covariance(case: Case, of: Callable[[View], Array | None]) -> Case:
    views = tuple(replace(shown, camera_covariance=of(shown)) for shown in case.views)
    return replace(case, views=views)


def test_unsure_cameras_enter_the_expected_error_and_the_verdict() -> None:
    done = beads_over_a_vertebra()
    case, pose = with_metal(done), truth(done)
    plain = judge_case(case, pose)
    assert plain.status == "ok"
    assert "calibration_error_mm" not in plain.quality
    good = judge_case(with_covariance(case, lambda shown: covariance(0.1)), pose)
    assert good.status == "ok"
    part = good.quality["calibration_error_mm"]
    assert 0.01 < part < 0.2
    assert good.quality["expected_error_mm"] ** 2 == pytest.approx(
        plain.quality["expected_error_mm"] ** 2 + part**2
    )
    assert np.linalg.eigvalsh(good.covariance - plain.covariance).min() > -1e-12
    assert np.trace(good.covariance) > np.trace(plain.covariance)
    first = case.views[0].name
    loose = with_covariance(case, lambda s: covariance(3.0) if s.name == first else None)
    doubted = judge_case(loose, pose)
    assert doubted.status == "uncertain"
    assert f"the calibration of {first} leaves" in doubted.reason
    assert case.views[1].name not in doubted.reason


@pytest.mark.parametrize(("error_mm", "status"), [(0.1, "ok"), (0.6, "uncertain"), (5.0, "failed")])
def test_only_what_the_calibration_adds_is_held_against_it(error_mm: float, status: str) -> None:
    total = float(np.hypot(GOOD.expected_error_mm, error_mm))
    evidence = replace(GOOD, expected_error_mm=total, calibration_error_mm=error_mm)
    own = judge(evidence)
    assert own.status == "ok"
    verdict = mistrust_calibration(own, evidence, ["AP"])
    assert verdict.status == ("ok" if status == "ok" else "uncertain")
    assert f"{error_mm:.2f} mm" in verdict.reason
    # The same error of the pictures themselves is one that more beads would not help.
    assert judge(replace(GOOD, expected_error_mm=total)).status == status
    bad = replace(evidence, weakest_score=0.05)
    assert mistrust_calibration(judge(bad), bad, ["AP"]) == judge(bad)


def test_the_propagated_covariance_is_that_of_poses_fitted_with_drawn_cameras() -> None:
    """Cameras are drawn, pictures are the true ones, and the pose of points is fitted anew."""
    rng = np.random.default_rng(11)
    centre = np.array([10.0, -40.0, 25.0])
    points = centre + rng.normal(size=(40, 3)) * [20.0, 15.0, 12.0]
    pose = exp_se3([0.1, -0.2, 0.15, -5.0, 45.0, -20.0])
    cameras = [camera(primary=0.0), camera(primary=80.0, mirrored=True)]
    apart = np.diag([1e-3, 2e-3, 1e-3, 0.5, 0.2, 0.4, 1.0, 0.6, 0.9]) ** 2
    covariances = {0: covariance(0.3), 1: apart}
    middle = np.append(transform_points(pose, centre[None])[0], 1.0)
    scales = [float(c.world_to_camera[2] @ middle) / c.focal_px for c in cameras]
    shown = [c.project(transform_points(pose, points)) for c in cameras]

    twists = []
    for _ in range(300):
        drawn = [
            moved(c, rng.multivariate_normal(np.zeros(9), covariances[n]))
            for n, c in enumerate(cameras)
        ]

        def misfit(twist: Array, drawn: list[Camera] = drawn) -> Array:
            world = transform_points(compose_about(pose, twist, centre), points)
            parts = zip(drawn, shown, scales, strict=True)
            return np.concatenate([(mm * (c.project(world) - at)).ravel() for c, at, mm in parts])

        twists.append(least_squares(misfit, np.zeros(6), x_scale=[0.02] * 3 + [1.0] * 3).x)
    fitted = np.cov(np.array(twists).T)
    known = propagated(cameras, covariances, Rigid(pose), points, centre)
    deviations = np.sqrt(np.diag(known))
    assert np.sqrt(np.diag(fitted)) == pytest.approx(deviations, rel=0.1)
    scale = np.outer(deviations, deviations)
    assert np.linalg.norm((fitted - known) / scale) < 0.2 * np.linalg.norm(known / scale)


def _crossed(covariances: dict[int, Array], share: float) -> Array:
    """A covariance of two cameras that go wrong together: ``share`` of what is possible."""
    roots = [np.linalg.cholesky(covariances[n] + 1e-12 * np.eye(9)) for n in (0, 1)]
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(9, 9)))[0]
    return np.asarray(share * roots[0] @ turn @ roots[1].T)


def test_cameras_that_go_wrong_together_are_propagated_together() -> None:
    rng = np.random.default_rng(12)
    centre = np.array([10.0, -40.0, 25.0])
    points = centre + rng.normal(size=(40, 3)) * [20.0, 15.0, 12.0]
    pose = exp_se3([0.1, -0.2, 0.15, -5.0, 45.0, -20.0])
    cameras = [camera(primary=0.0), camera(primary=80.0)]
    covariances = {0: covariance(0.3), 1: covariance(0.25)}
    crossed = _crossed(covariances, 0.9)
    joint = np.block([[covariances[0], crossed], [crossed.T, covariances[1]]])
    middle = np.append(transform_points(pose, centre[None])[0], 1.0)
    scales = [float(c.world_to_camera[2] @ middle) / c.focal_px for c in cameras]
    shown = [c.project(transform_points(pose, points)) for c in cameras]
    known = propagated(cameras, covariances, Rigid(pose), points, centre, {(0, 1): crossed})
    apart = propagated(cameras, covariances, Rigid(pose), points, centre)
    squares = []
    for _ in range(300):
        step = rng.multivariate_normal(np.zeros(18), joint)
        drawn = [moved(c, step[9 * n : 9 * n + 9]) for n, c in enumerate(cameras)]

        def misfit(twist: Array, drawn: list[Camera] = drawn) -> Array:
            world = transform_points(compose_about(pose, twist, centre), points)
            parts = zip(drawn, shown, scales, strict=True)
            return np.concatenate([(mm * (c.project(world) - at)).ravel() for c, at, mm in parts])

        twist = least_squares(misfit, np.zeros(6), x_scale=[0.02] * 3 + [1.0] * 3).x
        squares.append(
            [twist**2 / np.diag(known), twist @ np.linalg.solve(known, twist) * np.ones(6)]
        )
    each, whole = np.array(squares).transpose(1, 0, 2)
    assert (np.mean(each < 4.0, axis=0) > 0.92).all()
    assert np.mean(each, axis=0) == pytest.approx(np.ones(6), abs=0.25)
    assert whole.mean() == pytest.approx(6.0, rel=0.15)
    # As if independent it would be another.
    assert np.abs(np.diag(apart) / np.diag(known) - 1.0).max() > 0.3


def _together(crossed: Array) -> tuple[View, View]:
    first = view(camera_covariance=covariance(), camera_covariance_with={"LAT": crossed})
    return first, view("LAT", 90.0, camera_covariance=covariance(0.5))


def test_what_two_cameras_have_in_common_is_written_and_read(tmp_path: Path) -> None:
    crossed = _crossed({0: covariance(), 1: covariance(0.5)}, 0.7)
    path = write_views(tmp_path, _together(crossed))
    frontal, lateral = read_views(path)
    np.testing.assert_allclose(frontal.camera_covariance_with["LAT"], crossed, rtol=1e-12)
    assert dict(lateral.camera_covariance_with) == {}
    for order, expected in (((frontal, lateral), crossed), ((lateral, frontal), crossed.T)):
        ((pair_of, both),) = camera_covariances_with(order).items()
        assert pair_of == (0, 1)
        np.testing.assert_allclose(both, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (3, "must be an object of other views' names"),
        ({"LAT": np.eye(8).tolist()}, '"LAT" must hold 9 x 9 numbers'),
        ({"LAT": (2.0 * covariance()).tolist()}, "a negative eigenvalue together"),
    ],
)
def test_what_two_cameras_cannot_have_in_common_is_refused(
    said: Any, complaint: str, tmp_path: Path
) -> None:
    path = write_views(tmp_path, _together(0.1 * covariance()))
    content = json.loads(path.read_text("utf-8"))
    content["views"][0]["camera_covariance_with"] = said
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(InputError, match=complaint):
        read_views(path)


def test_views_that_were_left_out_are_noted_and_two_that_differ_refused(tmp_path: Path) -> None:
    first, second = _together(0.1 * covariance())
    path = write_views(
        tmp_path, (replace(first, camera_covariance_with={"gone": np.eye(9)}), second)
    )
    ledger = Ledger()
    read_views(path, ledger)
    assert any('"camera_covariance_with" names gone' in note for note in ledger.notes)
    unlike = replace(second, camera_covariance_with={"AP": 0.2 * covariance()})
    with pytest.raises(InputError, match='"AP" and "LAT" differ'):
        read_views(write_views(tmp_path, (first, unlike)))


def test_a_registration_hears_of_cameras_that_go_wrong_together() -> None:
    done = beads_over_a_vertebra()
    case, pose = with_metal(done), truth(done)
    apart = judge_case(with_covariance(case, lambda shown: covariance(0.1)), pose)
    known = with_covariance(case, lambda shown: covariance(0.1))
    first, second = known.views
    joint = replace(first, camera_covariance_with={second.name: 0.95 * covariance(0.1)})
    together = judge_case(replace(known, views=(joint, second)), pose)
    told = [r.quality["calibration_error_mm"] for r in (apart, together)]
    assert abs(told[1] / told[0] - 1.0) > 0.03
    assert together.quality["expected_error_mm"] ** 2 - told[1] ** 2 == pytest.approx(
        apart.quality["expected_error_mm"] ** 2 - told[0] ** 2
    )
