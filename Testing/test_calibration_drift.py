"""Drift between two runs: cameras drawn from their covariances, and ones that have moved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.stats import norm
from test_calibrate_command import picture
from test_calibration_downstream import moved

from RadGSRegLib.calibration import (
    KnownCamera,
    drift,
    read_cameras,
)
from RadGSRegLib.calibration.comparing import normal_sigmas, of_many
from RadGSRegLib.cases import write_tiff
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array, Camera, affine, carm_camera

PLACE = np.array([5.0, -8.0, 12.0])


def cameras() -> list[Camera]:
    return [
        carm_camera(1000.0, 650.0, primary, 5.0, (420, 420), (0.6, 0.6), (212.0, 205.0))
        for primary in (5.0, 60.0, 95.0)
    ]


def spread(seed: int) -> Array:
    """How sure a camera is: distance and focal length go together, as of one view."""
    deviations = np.array([2e-4] * 3 + [0.1, 0.1, 0.1] + [0.3, 0.15, 0.15])
    factor = np.random.default_rng(seed).normal(size=(9, 9)) / 3.0 * deviations[:, None]
    return np.asarray(factor @ factor.T)


def elsewhere(camera: Camera) -> Camera:
    """The same camera in a world that was put down elsewhere."""
    turn = Rotation.from_rotvec([0.3, -1.0, 0.6]).as_matrix()
    world = affine(turn, np.array([30.0, -20.0, 55.0]))
    return replace(camera, world_to_camera=camera.world_to_camera @ world)


def turned(covariance: Array) -> Array:
    """What `elsewhere` makes of a covariance: the source is told in the other world."""
    turn = np.eye(9)
    turn[3:6, 3:6] = Rotation.from_rotvec([0.3, -1.0, 0.6]).as_matrix().T
    return np.asarray(turn @ covariance @ turn.T)


def runs(
    rng: np.random.Generator, changed: Array | None = None
) -> tuple[list[KnownCamera], list[KnownCamera]]:
    """Two runs, the phantom elsewhere in the second; ``changed`` (9,): the last view drifts."""
    before, after = [], []
    for number, camera in enumerate(cameras()):
        own = spread(number)
        name = f"v{number}"
        first, second = (moved(camera, rng.multivariate_normal(np.zeros(9), own)) for _ in range(2))
        if changed is not None and number == 2:
            second = moved(second, changed)
        before.append(KnownCamera(name, first, own))
        after.append(KnownCamera(name, elsewhere(second), turned(own)))
    return before, after


def tilted(camera: Camera) -> Camera:
    """A camera in the world of a phantom that was put down a little turned and shifted."""
    turn = Rotation.from_rotvec([0.02, -0.05, 0.03]).as_matrix()
    world = affine(turn, np.array([3.0, -2.0, 5.0]))
    return replace(camera, world_to_camera=camera.world_to_camera @ world)


def in_second_world(point: Array) -> Array:
    """A point of the first world in that of `elsewhere`."""
    turn = Rotation.from_rotvec([0.3, -1.0, 0.6]).as_matrix()
    return np.asarray(turn.T @ (point - np.array([30.0, -20.0, 55.0])))


def test_the_same_cameras_in_another_world_have_not_drifted() -> None:
    known = [KnownCamera(f"v{n}", c, spread(n)) for n, c in enumerate(cameras())]
    again = [replace(k, camera=elsewhere(k.camera), covariance=turned(k.covariance)) for k in known]
    told = drift(known, again, in_second_world(PLACE))
    assert told.at_patient_mm < 1e-6
    assert told.sigmas == 0.0
    assert not told.significant
    assert max(pair.source_mm for pair in told.pairs) < 1e-6
    assert max(pair.turn_deg for pair in told.pairs) < 1e-4


def test_what_the_covariances_explain_is_seldom_called_drift() -> None:
    """150 pairs of runs that differ by chance alone: the tail beyond 3 sigma is 0.13 %."""
    rng = np.random.default_rng(5)
    told = [drift(*runs(rng), in_second_world(PLACE)) for _ in range(150)]
    for sigmas in (
        [t.sigmas for t in told],
        [t.views[1].sigmas for t in told],
        [t.pairs[0].sigmas for t in told],
    ):
        usual = np.array(sigmas)
        assert 0.35 < (usual > 0.0).mean() < 0.62
        assert 0.10 < (usual > 1.0).mean() < 0.23
        assert (usual > 3.0).mean() < 0.015
    # All three pairs are judged, and one of three is unlikely more often than one alone.
    assert [pair.names for pair in told[0].pairs] == [("v0", "v1"), ("v0", "v2"), ("v1", "v2")]
    one_of_three = np.array([max(pair.sigmas for pair in t.pairs) for t in told])
    counted = np.array([of_many(sigmas, 3) for sigmas in one_of_three])
    assert (one_of_three > 1.0).mean() > 0.23
    assert (counted > 1.0).mean() < 0.23
    assert (counted > 3.0).mean() < 0.015


@pytest.mark.parametrize("count", [1, 3, 190])
def test_of_many_the_chance_of_one_is_counted(count: int) -> None:
    for sigmas in (0.0, 1.0, 3.0, 5.0):
        chance = min(count * norm.sf(sigmas), 0.5)
        assert of_many(sigmas, count) == pytest.approx(float(norm.isf(chance)), abs=1e-9)
    # Where the chance is no floating number any more.
    assert 174.0 < of_many(175.0, count) < 175.0 + 1e-6


def test_views_that_turned_against_each_other_are_told_beside_an_unsure_first_one() -> None:
    before, after = runs(np.random.default_rng(9))
    loose = 1e4
    before[0], after[0] = (
        replace(k, covariance=loose * k.covariance) for k in (before[0], after[0])
    )
    turn = affine(Rotation.from_rotvec(np.radians([0.0, 0.0, 1.5])).as_matrix(), np.zeros(3))
    last = after[2].camera
    rolled = replace(last, world_to_camera=turn @ last.world_to_camera)
    after[2] = replace(after[2], camera=rolled)
    told = drift(before, after, in_second_world(PLACE))
    with_first = [pair.sigmas for pair in told.pairs if pair.names[0] == "v0"]
    assert max(of_many(sigmas, 3) for sigmas in with_first) < 3.0
    assert told.pairs[2].names == ("v1", "v2")
    assert of_many(told.pairs[2].sigmas, 3) > 5.0
    assert told.significant


def together_runs(rng: np.random.Generator) -> tuple[list[KnownCamera], list[KnownCamera]]:
    """Two runs, the phantom elsewhere in the second, whose cameras go wrong mostly together."""
    turn = np.eye(9)
    turn[3:6, 3:6] = Rotation.from_rotvec([0.3, -1.0, 0.6]).as_matrix().T
    common, before, after = spread(9), list[KnownCamera](), list[KnownCamera]()
    shared = [rng.multivariate_normal(np.zeros(9), common) for _ in range(2)]
    for number, camera in enumerate(cameras()):
        own = 0.05 * spread(number)
        first, second = (
            moved(camera, error + rng.multivariate_normal(np.zeros(9), own)) for error in shared
        )
        # It is enough that one of two views says it.
        others = [f"v{n}" for n in range(number + 1, 3)]
        name, all_in_all = f"v{number}", common + own
        before.append(KnownCamera(name, first, all_in_all, dict.fromkeys(others, common)))
        crossed = dict.fromkeys(others, turn @ common @ turn.T)
        after.append(KnownCamera(name, elsewhere(second), turned(all_in_all), crossed))
    return before, after


def test_views_that_go_wrong_together_are_expected_to() -> None:
    rng = np.random.default_rng(12)
    told = [drift(*together_runs(rng), in_second_world(PLACE)) for _ in range(100)]
    for sigmas in ([t.sigmas for t in told], [t.pairs[0].sigmas for t in told]):
        usual = np.array(sigmas)
        assert 0.33 < (usual > 0.0).mean() < 0.64
        assert 0.07 < (usual > 1.0).mean() < 0.26


def test_cameras_that_are_said_to_be_exact_are_refused() -> None:
    exact = [KnownCamera(f"v{n}", c, np.zeros((9, 9))) for n, c in enumerate(cameras())]
    with pytest.raises(InputError, match="v0: is said to be exact"):
        drift(exact, exact, PLACE)


def test_a_detector_that_was_moved_is_told_in_pixels_and_at_the_patient() -> None:
    rng = np.random.default_rng(6)
    shifted = np.array([0.0] * 7 + [6.0, 0.0])
    told = drift(*runs(rng, shifted), in_second_world(PLACE))
    assert told.views[2].principal_px == pytest.approx([6.0, 0.0], abs=0.6)
    assert told.views[2].sigmas > 10.0
    assert max(view.sigmas for view in told.views[:2]) < 3.0
    assert told.significant
    # 6 px of 0.6 mm at the detector are 2.3 mm at the patient; the worlds share some of it.
    assert 0.5 < told.at_patient_mm < 2.5


def test_a_view_that_has_turned_is_told_by_its_pairs_alone() -> None:
    rng = np.random.default_rng(7)
    before, after = runs(rng)
    turn = Rotation.from_rotvec(np.radians([0.0, 0.0, 1.5])).as_matrix()
    rolled = after[2].camera
    pose = affine(turn, np.zeros(3)) @ rolled.world_to_camera
    after[2] = replace(after[2], camera=replace(rolled, world_to_camera=pose))
    told = drift(before, after, in_second_world(PLACE))
    assert told.pairs[1].turn_deg == pytest.approx(1.5, abs=0.1)
    assert told.pairs[1].names == ("v0", "v2")
    assert told.pairs[1].sigmas > 5.0
    assert told.pairs[0].sigmas < 3.0
    assert max(view.sigmas for view in told.views) < 3.0
    # A roll of 1.5 degrees about the axis moves a point that lies 50 mm from it by 1.3 mm.
    assert 0.5 < told.at_patient_mm < 2.0


def test_views_are_matched_by_name_and_must_be_alike() -> None:
    before, after = runs(np.random.default_rng(8))
    told = drift(before[1:], [after[2], after[1], after[0]], in_second_world(PLACE))
    assert [view.name for view in told.views] == ["v2", "v1"]
    with pytest.raises(InputError, match="none has the name"):
        drift([replace(before[0], name="AP")], after, PLACE)
    other = replace(before[0], camera=replace(before[0].camera, columns=100))
    with pytest.raises(InputError, match="another size"):
        drift([other], after, PLACE)


def test_the_command_compares_with_an_earlier_run(tmp_path: Path) -> None:
    """The panel of the second run lies 8 px lower in one view; the phantom was put elsewhere."""
    from RadGSRegLib import cli

    before, same, later = tmp_path / "before", tmp_path / "same", tmp_path / "later"
    for folder, low in ((before, 0.0), (same, 0.0), (later, 8.0)):
        folder.mkdir()
        for name, angles in {"ap": (8.0, 5.0), "oblique": (50.0, -10.0)}.items():
            centre = (212.0, 205.0 + (low if name == "oblique" else 0.0))
            view = carm_camera(1000.0, 650.0, *angles, (420, 420), (0.6, 0.6), centre)
            view = view if folder is before else tilted(view)
            noise = 0 if folder is before else 1
            write_tiff(picture(view, seed=noise), (0.6, 0.6), folder / f"{name}.tif")

    def command(folder: Path, *more: str) -> int:
        images = [str(folder / "ap.tif"), str(folder / "oblique.tif")]
        nominal = ["--pixel-mm", "0.6", "--source-detector-mm", "1012"]
        out = ["--out", str(folder / "views.json")]
        return cli.main(["calibrate", *images, "--beads", "two-plates", *nominal, *out, *more])

    def record(folder: Path) -> dict[str, Any]:
        return json.loads((folder / "views_calibration/calibration.json").read_text("utf-8"))

    earlier = before / "views.json"
    assert command(before) == 0
    assert "drift" not in record(before)
    assert command(same, "--compare", str(earlier)) == 0
    assert record(same)["drift"]["at_patient_mm"] < 0.3
    assert not record(same)["drift"]["significant"]
    assert command(later, "--compare", str(earlier)) == 3
    told = record(later)
    # Of one view the principal point is known to some 2 px.
    assert told["drift"]["views"][1]["principal_px"] == pytest.approx([0.0, 8.0], abs=5.0)
    assert told["drift"]["significant"]
    assert told["drift"]["at_patient_mm"] > 1.0
    assert "has drifted by" in told["reason"]
    assert any("standard deviations" in note for note in told["parameters"]["notes"])
    page = (later / "views_calibration/report.html").read_text("utf-8")
    assert "Since views.json" in page
    # What is compared with stays as it was, and has to be a calibration.
    assert command(before, "--compare", str(earlier)) == 2
    (tmp_path / "other.json").write_text("{}")
    assert command(later, "--compare", str(tmp_path / "other.json")) == 2
    known = read_cameras(earlier)
    assert [k.name for k in known] == ["ap", "oblique"]
    assert known[0].covariance.shape == (9, 9)
    crossed = np.diag(np.arange(9.0)) + np.eye(9, k=1)
    content = json.loads(earlier.read_text("utf-8"))
    content["views"][0]["camera_covariance_with"] = {"oblique": (1e-9 * crossed).tolist()}
    (tmp_path / "together.json").write_text(json.dumps(content))
    first, second = read_cameras(tmp_path / "together.json")
    np.testing.assert_array_equal(first.crossed(second), 1e-9 * crossed)
    np.testing.assert_array_equal(second.crossed(first), 1e-9 * crossed.T)
    content["views"][1]["name"] = "ap"
    (tmp_path / "twice.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match='view 2: has the name "ap" of another view'):
        read_cameras(tmp_path / "twice.json")


def test_a_chi_square_is_told_in_sigmas() -> None:
    # 16.27 is the 99.9 % quantile of three degrees of freedom, 3.09 that of a normal number.
    assert normal_sigmas(16.27, 3.0) == pytest.approx(3.09, abs=0.06)
    assert normal_sigmas(0.5, 3.0) == 0.0
