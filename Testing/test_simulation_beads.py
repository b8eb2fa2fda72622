"""Beads in simulated X-rays are where the truth says, distorted or not, with a patient or alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from RadGSRegLib import cli
from RadGSRegLib.calibration import layout, posts_under, read_beads
from RadGSRegLib.cases import read_case, read_views
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import (
    Camera,
    Distortion,
    Volume,
    distort,
    is_rigid,
    rotation_angle_deg,
    transform_points,
    undistort,
)
from RadGSRegLib.simulation import (
    BeadPhantom,
    Prepared,
    SimulatedCase,
    SimulationParameters,
    simulate_beads,
    simulate_case,
)
from RadGSRegLib.simulation.materials import DENSITY, mass_attenuation
from RadGSRegLib.simulation.pixels import CLEAN_KEV

SMALL = {"size_px": 244, "pixel_mm": 1.22}
CLEAN = replace(SimulationParameters.preset("clean"), **SMALL)
STEEL = float(mass_attenuation("iron", CLEAN_KEV)) * DENSITY["iron"] / 10.0


def phantom(posts: bool = False) -> BeadPhantom:
    beads = layout("two-plates")
    axes, radii = (posts_under(beads) if posts else None) or (None, None)
    return BeadPhantom(beads.name, beads.centres_mm, beads.diameters_mm, axes, radii)


def _centroid(picture: np.ndarray, at: np.ndarray, reach: int) -> np.ndarray:
    column, row = np.rint(at).astype(int)
    part = picture[row - reach : row + reach + 1, column - reach : column + reach + 1]
    v, u = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.array([column + (u * part).sum() / part.sum(), row + (v * part).sum() / part.sum()])


def _alone(places: np.ndarray, size: int, reach: float) -> list[int]:
    """Numbers of the beads whose shadow overlaps no other's and lies in the picture."""
    apart = np.abs(places[:, None] - places[None]).max(axis=2) + 1e3 * np.eye(len(places))
    inside = (places > reach).all(axis=1) & (places < size - 1 - reach).all(axis=1)
    return [n for n in range(len(places)) if inside[n] and apart[n].min() > 2 * reach + 1]


@pytest.mark.parametrize("distortion_px", [0.0, 8.0])
def test_shadows_are_where_the_truth_says(distortion_px: float) -> None:
    done = simulate_beads(phantom(), CLEAN, 4, distortion_px=distortion_px)
    checked = 0
    for view in done.views:
        places = np.array(done.truth["beads_px"][view.name])
        picture = np.where(view.pixels > 1e-4, view.pixels, 0.0)
        for number in _alone(places, 244, 5):
            shown = _centroid(picture, places[number], 5)
            assert np.abs(shown - places[number]).max() < 0.05
            checked += 1
        pose = np.array(done.truth["beads_to_world"])
        pinhole = view.camera.project(transform_points(pose, phantom().centres_mm))
        if distortion_px:
            bend = Distortion(**done.truth["distortion"][view.name])
            assert distort(pinhole, bend) == pytest.approx(places)
            assert np.abs(pinhole - places).max() > 1.0
        else:
            assert pinhole == pytest.approx(places)
    assert checked > 12


def test_shadows_are_as_deep_and_as_wide_as_balls_of_steel() -> None:
    fine = replace(CLEAN, size_px=488, pixel_mm=0.61)
    done = simulate_beads(phantom(), fine, 4)
    view = done.views[0]
    places = np.array(done.truth["beads_px"]["AP"])
    centres = transform_points(np.array(done.truth["beads_to_world"]), phantom().centres_mm)
    depth = transform_points(view.camera.world_to_camera, centres)[:, 2]
    for number in _alone(places, 488, 9):
        column, row = np.rint(places[number]).astype(int)
        part = view.pixels[row - 9 : row + 10, column - 9 : column + 10] / STEEL
        diameter = phantom().diameters_mm[number]
        assert part.max() == pytest.approx(diameter, rel=0.06)
        # Path lengths times the width of a pixel at the ball add up to its volume.
        pixel = depth[number] / view.camera.focal_px
        assert part.sum() * pixel**2 == pytest.approx(np.pi / 6.0 * diameter**3, rel=0.06)


def test_the_phantom_stands_near_the_isocentre_as_the_seed_says() -> None:
    tiny = replace(CLEAN, size_px=61, pixel_mm=4.88)
    poses = [np.array(simulate_beads(phantom(), tiny, s).truth["beads_to_world"]) for s in (1, 2)]
    for pose in poses:
        assert is_rigid(pose)
        assert rotation_angle_deg(pose) <= 18.0
        assert np.abs(pose[:3, 3]).max() < 15.0
    assert np.abs(poses[0] - poses[1]).max() > 0.01
    again = simulate_beads(phantom(), tiny, 2)
    assert again.truth["beads_to_world"] == poses[1].tolist()


def test_noise_display_and_posts_of_realistic_ones() -> None:
    small = replace(SimulationParameters.preset("realistic"), **SMALL)
    done = simulate_beads(phantom(posts=True), small, 9, distortion_px=3.0)
    again = simulate_beads(phantom(posts=True), small, 9, distortion_px=3.0)
    bare = simulate_beads(phantom(), small, 9, distortion_px=3.0)
    for view, same, other in zip(done.views, again.views, bare.views, strict=True):
        assert (view.pixels == same.pixels).all()
        assert (view.pixels != other.pixels).any()
        assert (done.grey[view.name] == view.pixels).all()
        places = np.rint(done.truth["beads_px"][view.name]).astype(int)
        at = view.pixels[places[:, 1], places[:, 0]]
        # At one end of the grey values, whichever shows metal.
        assert np.unique(np.quantile(view.pixels, [0.0, 1.0])).size == 2
        assert max(np.mean(at == view.pixels.min()), np.mean(at == view.pixels.max())) > 0.5


@pytest.mark.parametrize("pixels", [1.0, 12.0])
def test_distortion_moves_the_corners_by_what_was_asked(pixels: float) -> None:
    parameters = replace(CLEAN, path="circular", views=4)
    done = simulate_beads(phantom(), parameters, 3, distortion_px=pixels)
    bends = [Distortion(**bend) for bend in done.truth["distortion"].values()]
    corners = np.array([[0.0, 0.0], [243.0, 0.0], [0.0, 243.0], [243.0, 243.0]])
    for bend in bends:
        moved = distort(corners, bend) - corners
        assert np.linalg.norm(moved, axis=1) == pytest.approx(np.full(4, pixels))
        assert bend.radial[0] > 0
    assert len({bend.spiral for bend in bends}) == 4
    with pytest.raises(InputError, match=r"40 pixels is not possible; 0 to 24\.4"):
        simulate_beads(phantom(), CLEAN, 3, distortion_px=40.0)


def _ball() -> tuple[Volume, Volume]:
    k, j, i = np.indices((36, 40, 44))
    inside = (k - 18) ** 2 + (j - 20) ** 2 + (i - 22) ** 2 < 81
    matrix = np.diag([1.5, 1.5, 1.5, 1.0])
    matrix[:3, 3] = [-33.0, -30.0, -27.0]
    ct = Volume(np.where(inside, 900, -1000).astype(np.int16), matrix)
    return ct, Volume(inside.astype(np.uint8), matrix)


def _with(prepared: Prepared | None, parameters: SimulationParameters = CLEAN) -> SimulatedCase:
    return simulate_case(*_ball(), 1, parameters, 6, prepared=prepared)


def test_beads_are_added_to_a_patient_and_change_nothing_else() -> None:
    plain, done = _with(None), _with(Prepared(beads=phantom()))
    alone = simulate_beads(phantom(), CLEAN, 6)
    assert done.truth["beads_to_world"] == alone.truth["beads_to_world"]
    shared = {n: v for n, v in done.truth.items() if not n.startswith("beads")}
    assert shared == plain.truth
    for with_beads, without in zip(done.case.views, plain.case.views, strict=True):
        assert (with_beads.camera.projection == without.camera.projection).all()
        assert with_beads.center_px == without.center_px
        more = with_beads.pixels - without.pixels
        assert more.min() > -1e-3
        places = np.array(done.truth["beads_px"][with_beads.name])
        for number in _alone(places, 244, 5)[:3]:
            shown = _centroid(np.where(more > 1e-3, more, 0.0), places[number], 5)
            assert np.abs(shown - places[number]).max() < 0.1


@pytest.mark.parametrize("tools", [0, 2])
def test_a_distorted_patient_is_the_plain_one_seen_elsewhere(tools: int) -> None:
    # A narrow field, so that what is in it lies near the edges too.
    close = replace(CLEAN.with_field(60.0, 244), wires=(tools, tools), gas=(tools, tools))
    plain, bent = _with(None, close), _with(Prepared(distortion_px=6.0), close)
    for shown, pinhole in zip(bent.case.views, plain.case.views, strict=True):
        bend = Distortion(**bent.truth["distortion"][shown.name])
        v, u = np.mgrid[:244, :244]
        places = undistort(np.stack([u.ravel(), v.ravel()], axis=1), bend)
        expected = map_coordinates(
            pinhole.pixels, places.T[::-1].reshape(2, 244, 244), order=1, mode="nearest"
        )
        off = np.abs(shown.pixels - expected)[8:-8, 8:-8].mean()
        assert off < 0.1 * np.abs(shown.pixels - pinhole.pixels)[8:-8, 8:-8].mean()
        moved = np.subtract(shown.center_px, pinhole.center_px)
        at = _true_centre(plain, pinhole.camera)
        assert moved == pytest.approx((distort(at, bend) - at)[0])


def _true_centre(done: SimulatedCase, camera: Camera) -> np.ndarray:
    pivot = np.array(done.truth["pivot_ct"])[None]
    return camera.project(transform_points(np.array(done.truth["ct_to_world"]), pivot))


def _run(*args: str) -> int:
    return cli.main(["simulate", *args])


def test_the_command_writes_beads_alone(tmp_path: Path) -> None:
    out = tmp_path / "beads"
    small = ["--pixels", "96", "--realism", "realistic", "--distortion-px", "2", "--seed", "3"]
    args = ["--beads", "two-plates", "--no-patient", "--views", "3", "--path", "arc", *small]
    assert _run(*args, "--out", str(out)) == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == ["beads.json", "truth.json", "v01.tif", "v02.tif", "v03.tif", "views.json"]
    truth: dict[str, Any] = json.loads((out / "truth.json").read_text())
    assert truth["beads"]["name"] == "two-plates"
    beads = read_beads(out / "beads.json")
    views = read_views(out / "views.json")
    pose = np.array(truth["beads_to_world"])
    for view in views:
        bend = Distortion(**truth["distortion"][view.name])
        shown = distort(view.camera.project(transform_points(pose, beads.centres_mm)), bend)
        assert shown == pytest.approx(np.array(truth["beads_px"][view.name]))
    assert _run(*args, "--out", str(tmp_path / "again")) == 0
    for name in names:
        assert (out / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    own = ["--beads", str(out / "beads.json"), "--no-patient", "--pixels", "96"]
    assert _run(*own, "--out", str(tmp_path / "own"), "--count", "2") == 0
    assert (tmp_path / "own" / "realistic-1" / "beads.json").exists()


def test_the_command_adds_beads_to_a_patient(tmp_path: Path) -> None:
    out = tmp_path / "case"
    args = ["--beads", "helix", "--pixels", "96", "--realism", "clean", "--seed", "3"]
    assert _run(*args, "--out", str(out)) == 0
    truth = json.loads((out / "truth.json").read_text())
    assert len(truth["beads_px"]["LA"]) == 20
    assert "distortion" not in truth
    assert len(read_case(out / "case.json").views) == 2
    assert len(read_beads(out / "beads.json")) == 20


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--no-patient"], "--no-patient: shows nothing without --beads"),
        (["--beads", "helix", "--no-patient", "--label", "L2"], "cannot go with"),
        (["--beads", "cube"], "no layout has this name"),
        (["--beads", "helix", "--distortion-px", "-1"], "must be 0 or more pixels"),
        (["--beads", "helix", "--distortion-px", "nan"], "must be 0 or more pixels"),
        (
            ["--beads", "helix", "--no-patient", "--pixels", "96", "--distortion-px", "50"],
            "50 pixels is not possible",
        ),
    ],
)
def test_the_command_refuses_what_is_impossible(
    args: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(*args, "--out", str(tmp_path / "out")) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
