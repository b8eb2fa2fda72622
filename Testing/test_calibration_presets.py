"""Presets of C-arms: what they hold, what they bring, and that they are doubted where they err."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bead_scenes import SIZE, SPACING, random_camera, two_plates
from test_calibrate_command import BEADS, DISTANCE, PIXEL, camera, picture
from test_calibrate_command import SIZE as SMALL
from test_calibration_resection import sighting

from RadGSRegLib import cli
from RadGSRegLib.calibration import (
    Calibrating,
    Calibration,
    Intrinsics,
    Preset,
    PresetEntry,
    Prior,
    Resection,
    check_preset,
    read_preset,
    resect,
    save_preset,
)
from RadGSRegLib.cases import read_views, write_tiff
from RadGSRegLib.commands.calibrate_grids import _by_name, distortion_used
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Camera, Distortion

NEAR = PresetEntry(1000.0, 2500.0, (500.0, 490.0), np.diag([4.0, 1.0, 1.0]))
FAR = PresetEntry(1200.0, 3010.0, (504.0, 490.0), np.diag([1.0, 1.0, 2.0]))
CARM = Preset("carm", SIZE, SPACING, False, (NEAR, FAR))


def device(seed: int) -> Camera:
    """A view of one device from a random side."""
    k = random_camera(1).intrinsic
    return Camera(k, random_camera(seed).world_to_camera, *SIZE)


def test_a_file_keeps_what_is_written_and_its_other_distances(tmp_path: Path) -> None:
    path = tmp_path / "carm.json"
    bent = Distortion((499.5, 499.5), 500.0, (0.01, 0.0), (0.02, 0.001))
    save_preset(path, replace(CARM, entries=(replace(FAR, distortion=bent),)))
    save_preset(path, replace(CARM, entries=(replace(NEAR, distortion="each"),)))
    read = read_preset(path)
    assert [e.distortion for e in read.entries] == ["each", bent]
    assert read.entries[0].focal_px == NEAR.focal_px
    np.testing.assert_array_equal(read.entries[1].covariance, FAR.covariance)
    # Within a millimetre it is the same distance.
    again = replace(NEAR, source_detector_mm=1000.8, focal_px=2501.0)
    save_preset(path, replace(CARM, entries=(again,)))
    assert [e.focal_px for e in read_preset(path).entries] == [2501.0, 3010.0]
    assert json.loads(path.read_text("utf-8"))["schema"] == "radgsreg/carm"
    assert [p.name for p in tmp_path.iterdir()] == ["carm.json"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": (488, 488)}, "1000 x 1000 pixels, not of 488 x 488"),
        ({"pixel_spacing_mm": (0.3, 0.3)}, "0.4 x 0.4 mm, not of 0.3 x 0.3"),
        ({"mirrored": True}, "mirrored otherwise"),
    ],
)
def test_another_device_is_not_written_into_a_file(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "carm.json"
    save_preset(path, CARM)
    before = path.read_bytes()
    with pytest.raises(InputError, match=said):
        save_preset(path, replace(CARM, **change))
    assert path.read_bytes() == before


def _without(key: str) -> Any:
    def change(content: dict[str, Any]) -> None:
        del content["distances"][0][key]

    return change


def _with(key: str, value: Any) -> Any:
    def change(content: dict[str, Any]) -> None:
        content["distances"][0][key] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(version=2), "version 2"),
        (lambda c: c.update(distances=[]), "one object or more"),
        (lambda c: c.update(size=[1000.5, 1000]), "whole pixels"),
        (lambda c: c.update(mirrored=1), "true or false"),
        (lambda c: c["distances"].append(c["distances"][0]), "two entries for 1000 mm"),
        (_without("focal_px"), 'has no "focal_px"'),
        (_with("focal_px", -1.0), "must be positive"),
        (_with("covariance", [[1, 2, 0], [2, 1, 0], [0, 0, 1]]), "positive eigenvalues"),
        (_with("distortion", "some"), '"distortion" must be an object'),
        (_with("distortion", {"centre_px": [0, 0]}), 'has no "radial"'),
    ],
)
def test_what_is_no_preset_is_refused(change: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "carm.json"
    save_preset(path, CARM)
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(InputError, match=said):
        read_preset(path)


def test_between_two_distances_it_is_less_sure_and_beyond_them_it_says_nothing() -> None:
    middle = CARM.at(1100.0)
    assert middle.focal_px == pytest.approx(2755.0)
    assert middle.principal_px == pytest.approx((502.0, 490.0))
    # Half of what the principal point moves; 2500 px at 1 m are 3000 at 1.2 m, and 3010 are said.
    assert middle.covariance[1, 1] == pytest.approx(1.0 + 2.0**2)
    in_proportion = 3010.0 * 1000.0 / 1200.0
    unsure = 2.55**2 + (0.5 * (2500.0 - in_proportion)) ** 2
    assert middle.covariance[0, 0] == pytest.approx(2.5 + unsure)
    at_hand = CARM.at(1000.5)
    assert at_hand.focal_px == 2500.0
    assert at_hand.covariance[0, 0] == pytest.approx(4.0 + 1.25**2)
    for distance in (990.0, 1250.0):
        with pytest.raises(InputError, match=f"at 1000 to 1200 mm .* not at {distance:g} mm"):
            CARM.at(distance)
    bent = Distortion((499.5, 499.5), 500.0, (0.01, 0.0), (0.02, 0.0))
    some = replace(CARM, entries=(replace(NEAR, distortion=bent), FAR))
    with pytest.raises(InputError, match="unlike things of distortion"):
        some.at(1100.0)
    more = replace(FAR, distortion=replace(bent, radial=(0.03, 0.0)))
    both = replace(some, entries=(some.entries[0], more)).at(1050.0).distortion
    assert isinstance(both, Distortion)
    assert both.radial == pytest.approx((0.015, 0.0))


def test_a_preset_of_one_device_makes_single_views_better_and_says_so() -> None:
    beads = two_plates()
    told = [sighting(device(seed), beads, seed, 0.1) for seed in range(20, 28)]
    shared = resect(told, Resection(shared_intrinsics=True))[0]
    known = Intrinsics.of(shared.camera, shared.covariance[6:, 6:])
    off: dict[str, list[float]] = {"alone": [], "preset": []}
    ratios = []
    for seed in range(40, 70):
        true, own = device(seed), sighting(device(seed), beads, seed, 0.1)
        for name, prior in (("alone", Prior()), ("preset", Prior(intrinsics=known))):
            (view,) = resect([own], Resection(prior=prior))
            error = view.camera.source_world - true.source_world
            off[name].append(float(np.linalg.norm(error)))
            if name == "preset":
                ratios.append(float(error @ np.linalg.solve(view.covariance[3:6, 3:6], error)))
    assert np.median(off["preset"]) < 0.6 * np.median(off["alone"])
    # They share the preset's own error, so they are not thirty independent draws.
    assert np.median(ratios) < 7.8


def test_of_two_distances_the_nearer_is_meant() -> None:
    close = replace(CARM, entries=(NEAR, replace(FAR, source_detector_mm=1001.5)))
    assert close.at(1000.9).focal_px == FAR.focal_px
    assert close.at(1000.6).focal_px == NEAR.focal_px
    kept = close.with_entry(replace(FAR, source_detector_mm=1000.9, focal_px=2600.0))
    assert [e.focal_px for e in kept.entries] == [2500.0, 2600.0]


def test_two_distances_less_than_a_millimetre_apart_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "carm.json"
    near = replace(FAR, source_detector_mm=1000.9)
    save_preset(path, replace(CARM, entries=(NEAR, near)))
    assert [e.source_detector_mm for e in read_preset(path).entries] == [1000.0, 1000.9]


def test_grids_are_pictures_told_apart_by_their_names(tmp_path: Path) -> None:
    for name in ("AP.nii.gz", "LA.tif", "notes.txt", "._LA.tif"):
        (tmp_path / name).touch()
    (tmp_path / "older.tif").mkdir()
    assert _by_name(tmp_path) == {"AP": tmp_path / "AP.nii.gz", "LA": tmp_path / "LA.tif"}
    (tmp_path / "LA.png").touch()
    with pytest.raises(InputError, match=r"holds both LA\.png and LA\.tif"):
        _by_name(tmp_path)


def test_where_the_distortion_comes_from_is_told() -> None:
    bent = Distortion((499.5, 499.5), 500.0, (0.01, 0.0), (0.02, 0.0))
    args = Namespace(fit_distortion=False, grid=None)
    assert distortion_used(args, Calibrating()) == "none"
    assert distortion_used(args, Calibrating(distortion=bent)) == "preset"
    assert distortion_used(Namespace(fit_distortion=True, grid=None), Calibrating()) == "fit"
    assert distortion_used(Namespace(fit_distortion=False, grid=Path()), Calibrating()) == "grid"


def as_mirrored(known: Intrinsics) -> Intrinsics:
    return known.as_of(Camera(np.diag([-1.0, 1.0, 1.0]), np.eye(4), *SIZE))


def test_a_mirrored_picture_has_its_principal_point_mirrored() -> None:
    covariance = np.array([[4.0, 1.0, 0.5], [1.0, 1.0, 0.2], [0.5, 0.2, 1.0]])
    known = Intrinsics(np.array([2500.0, 510.0, 490.0]), covariance, SIZE, False)
    turned = as_mirrored(known)
    assert turned.mean_px == pytest.approx([2500.0, 489.0, 490.0])
    assert turned.covariance[0, 1] == -1.0
    assert turned.covariance[1, 2] == -0.2
    assert turned.covariance[0, 2] == 0.5


def calibration(view: Any, shown: Any) -> Calibration:
    return Calibration(view, shown.spots, np.zeros((0, 3)), np.zeros(0, bool))


@pytest.mark.parametrize(("moved_px", "doubted"), [(0.0, False), (10.0, True)])
def test_a_detector_that_was_moved_since_is_noticed(moved_px: float, doubted: bool) -> None:
    beads = two_plates()
    shown = [sighting(device(seed), beads, seed, 0.1) for seed in (71, 72)]
    k = device(1)
    mean = np.array([k.focal_px, *k.intrinsic[:2, 2]]) + [0.0, moved_px, 0.0]
    known = Intrinsics(mean, np.diag([1.0, 0.5, 0.5]) ** 2, SIZE, False)
    options = Calibrating(True, prior=Prior(intrinsics=known))
    views = resect(shown, Resection(True, options.prior))
    done = [calibration(v, s) for v, s in zip(views, shown, strict=True)]
    check = check_preset(done, beads, known, options)
    assert check.doubted == doubted
    assert check.apart_px[1] == pytest.approx(-moved_px, abs=4.0)
    assert "principal point" in check.words


def written(folder: Path, angles: list[tuple[float, float]]) -> list[str]:
    folder.mkdir()
    for number, pair in enumerate(angles):
        write_tiff(picture(camera(*pair)), (PIXEL, PIXEL), folder / f"{number}.tif")
    return [str(folder), "--beads", "two-plates", "--pixel-mm", str(PIXEL)]


def test_the_command_saves_a_preset_uses_it_and_doubts_a_wrong_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    several = written(tmp_path / "several", [(8.0, 5.0), (50.0, -10.0), (-30.0, 12.0), (90.0, 4.0)])
    at = ["--source-detector-mm", str(DISTANCE)]
    preset, out = tmp_path / "carm.json", str(tmp_path / "first.json")
    saved = ["--save-preset", str(preset), "--out", out]
    assert cli.main(["calibrate", *several, *at, *saved]) == 2
    assert "--shared-intrinsics" in capsys.readouterr().err
    assert not preset.exists()
    assert cli.main(["calibrate", *several, *at, *saved, "--shared-intrinsics"]) == 0
    (entry,) = read_preset(preset).entries
    true = camera(0.0, 0.0)
    assert entry.focal_px == pytest.approx(true.focal_px, abs=4.0)
    assert entry.principal_px == pytest.approx((212.0, 205.0), abs=3.0)
    before = preset.read_bytes()

    single = written(tmp_path / "single", [(20.0, -5.0)])
    used = ["calibrate", *single, "--preset", str(preset), "--out", str(tmp_path / "views.json")]
    assert cli.main(used) == 2
    assert "--source-detector-mm" in capsys.readouterr().err
    assert cli.main([*used, "--source-detector-mm", "1100"]) == 2
    assert "not at 1100 mm" in capsys.readouterr().err
    assert cli.main([*used, *at]) == 0
    record = json.loads((tmp_path / "views_calibration/calibration.json").read_text())
    assert record["preset"]["taken"]["focal_px"] == entry.focal_px
    assert record["preset"]["beads_alone"]["chance"] > 0.01
    found_mm = np.array(record["views"][0]["source_world_mm"])
    assert np.linalg.norm(found_mm - camera(20.0, -5.0).source_world) < 2.0

    content = json.loads(before)
    content["distances"][0]["principal_px"][0] += 25.0
    preset.write_text(json.dumps(content), "utf-8")
    assert cli.main([*used, *at]) == 3
    record = json.loads((tmp_path / "views_calibration/calibration.json").read_text())
    assert record["reason"].startswith("the preset does not hold: beads alone put")
    assert any(note.startswith("carm.json: beads alone") for note in record["parameters"]["notes"])
    assert preset.read_text("utf-8") == json.dumps(content)

    content["size"] = [SMALL[0] + 1, SMALL[1]]
    preset.write_text(json.dumps(content), "utf-8")
    assert cli.main([*used, *at]) == 2
    assert "421 x 420 pixels" in capsys.readouterr().err


def test_a_file_that_is_no_preset_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = written(tmp_path / "shown", [(8.0, 5.0)])
    (tmp_path / "mine.json").write_text('{"schema": "radgsreg/beads", "version": 1}')
    out = tmp_path / "views.json"
    saved = ["--save-preset", str(tmp_path / "mine.json"), "--out", str(out)]
    assert cli.main(["calibrate", *given, "--source-detector-mm", "1000", *saved]) == 2
    assert "radgsreg/carm" in capsys.readouterr().err
    same = ["--save-preset", str(out), "--out", str(out)]
    assert cli.main(["calibrate", *given, "--source-detector-mm", "1000", *same]) == 2
    assert "named by --out too" in capsys.readouterr().err
    assert not out.exists()


def test_distortion_of_grids_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made"
    simulated = ["simulate", "--beads", "two-plates", "--no-patient", "--views", "4", "--path"]
    drawn = [
        "arc",
        "--distortion-px",
        "5",
        "--principal-px",
        "0",
        "--grid",
        "--seed",
        "310",
        "--out",
        str(made),
    ]
    assert cli.main([*simulated, *drawn]) == 0
    truth = json.loads((made / "truth.json").read_text())
    given = ["calibrate", str(made), "--beads", "two-plates", "--shared-intrinsics"]
    nominal = ["--pixel-mm", "0.61", "--source-detector-mm", "1124"]
    preset = ["--save-preset", str(tmp_path / "carm.json"), "--out", str(tmp_path / "views.json")]
    assert cli.main([*given, *nominal, *preset, "--grid", str(made / "grid")]) == 0
    beads_to_world = np.array(truth["beads_to_world"])
    for view, true in zip(
        read_views(tmp_path / "views.json"), read_views(made / "views.json"), strict=True
    ):
        to_camera = true.camera.world_to_camera @ beads_to_world
        straight = replace(true.camera, world_to_camera=to_camera)
        miss = view.camera.project(BEADS.centres_mm) - straight.project(BEADS.centres_mm)
        assert np.sqrt((miss**2).sum(1).mean()) < 0.3
        assert np.linalg.norm(view.camera.source_world - straight.source_world) < 1.5
    record = json.loads((tmp_path / "views_calibration/calibration.json").read_text())
    for said in record["views"]:
        assert said["rms_px"] < 0.5
        told = truth["distortion"][said["name"].upper()]
        # The same in other units.
        scale = (said["distortion"]["unit_px"] / told["unit_px"]) ** 2
        assert said["distortion"]["radial"][0] == pytest.approx(scale * told["radial"][0], abs=4e-4)
        assert said["distortion"]["spiral"][0] == pytest.approx(scale * told["spiral"][0], abs=4e-4)
    assert record["parameters"]["distortion"] == "grid"
    # Each picture has its own: the preset does not say that of one is that of all.
    (entry,) = read_preset(tmp_path / "carm.json").entries
    assert entry.distortion == "each"
    # So it is of a single picture with a grid of its own.
    single = ["calibrate", str(made / "v01.tif"), "--beads", "two-plates", *nominal]
    alone = ["--save-preset", str(tmp_path / "alone.json"), "--out", str(tmp_path / "alone-v.json")]
    assert cli.main([*single, *alone, "--grid", str(made / "grid")]) == 0
    (of_one,) = read_preset(tmp_path / "alone.json").entries
    assert of_one.distortion == "each"
    used = [*given, *nominal, "--preset", str(tmp_path / "carm.json")]
    assert cli.main([*used, "--out", str(tmp_path / "again.json")]) == 2
    assert "--grid" in capsys.readouterr().err
    (made / "grid" / "v01.tif").unlink()
    assert cli.main([*used, "--grid", str(made / "grid"), "--out", str(tmp_path / "b.json")]) == 2
    assert "no picture of the grid for v01.tif" in capsys.readouterr().err
