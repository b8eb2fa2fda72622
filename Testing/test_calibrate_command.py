"""`radgsreg calibrate`: from pictures of beads to a views.json that the reader takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from RadGSRegLib import cli
from RadGSRegLib.calibration import (
    Beads,
    Calibrating,
    Exposure,
    calibrate,
    corrected,
    layout,
    read_beads,
    verdict,
    write_beads,
)
from RadGSRegLib.cases import read_views, write_tiff
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Camera, Distortion, carm_camera, distort

BEADS = layout("two-plates")
PIXEL, DISTANCE, SIZE = 0.6, 1000.0, (420, 420)


def camera(primary: float, secondary: float) -> Camera:
    return carm_camera(DISTANCE, 650.0, primary, secondary, SIZE, (PIXEL, PIXEL), (212.0, 205.0))


def picture(
    view: Camera, bent: Distortion | None = None, beads: Beads = BEADS, seed: int = 0
) -> np.ndarray:
    """Dark soft-edged balls by their chords on a slope, a little noise."""
    row, column = np.mgrid[: SIZE[1], : SIZE[0]]
    attenuation = 0.5 + 0.002 * column + 0.001 * row
    middles = view.project(beads.centres_mm)
    middles = middles if bent is None else distort(middles, bent)
    depth = beads.centres_mm @ view.world_to_camera[2, :3] + view.world_to_camera[2, 3]
    for (u, v), wide, z in zip(middles, beads.diameters_mm, depth, strict=True):
        radius = 0.5 * wide * view.focal_px / z
        for du in (-0.25, 0.25):
            for dv in (-0.25, 0.25):
                away = np.hypot(column + du - u, row + dv - v) / radius
                attenuation += 0.25 * 0.4 * wide * np.sqrt(np.clip(1.0 - away**2, 0.0, None))
    signal = np.exp(-attenuation) * 4000.0
    noisy = signal + np.random.default_rng(seed).normal(0.0, 8.0, signal.shape)
    return np.sqrt(noisy.clip(1.0)).astype(np.float32)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beads")
    for name, angles in {"ap": (8.0, 5.0), "oblique": (50.0, -10.0)}.items():
        write_tiff(picture(camera(*angles)), (PIXEL, PIXEL), folder / f"{name}.tif")
    return folder


def command(folder: Path, *more: str) -> int:
    given = [str(folder / "ap.tif"), str(folder / "oblique.tif"), "--beads", "two-plates"]
    nominal = ["--pixel-mm", str(PIXEL), "--source-detector-mm", str(DISTANCE + 12)]
    return cli.main(["calibrate", *given, *nominal, *more])


def test_the_command_writes_cameras_that_the_reader_takes(shown: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "views.json"
    formats = [
        word for name in ("matrix", "opencv", "rtk", "mayacam") for word in ("--export", name)
    ]
    assert command(shown, "--out", str(out), *formats) == 0
    views = read_views(out)
    for view, true in zip(views, (camera(8.0, 5.0), camera(50.0, -10.0)), strict=True):
        off = np.linalg.norm(view.camera.source_world - true.source_world)
        assert off < 6.0  # along the beam; the pixels are what counts
        miss = view.camera.project(BEADS.centres_mm) - true.project(BEADS.centres_mm)
        assert np.sqrt((miss**2).sum(1).mean()) < 0.1
        assert view.pixels.shape == SIZE[::-1]
        assert len(view.metal_px) == len(BEADS)
        assert view.camera_covariance is not None
    record = json.loads((tmp_path / "new/views_calibration/calibration.json").read_text())
    assert record["status"] == "ok"
    assert record["views"][0]["rms_px"] < 0.3
    assert len(record["views"][0]["beads"]) >= 14
    written = {path.name for path in (tmp_path / "new/views_calibration").iterdir()}
    assert {"report.html", "beads_ap.png", "rtk.xml", "matrix_ap.txt", "opencv_ap.yml"} <= written
    matrix = np.loadtxt(tmp_path / "new/views_calibration/matrix_ap.txt")
    np.testing.assert_allclose(matrix, views[0].camera.projection, rtol=1e-9)
    page = (tmp_path / "new/views_calibration/report.html").read_text()
    assert "oblique" in page
    assert str(tmp_path) not in page
    # A second run replaces its own results.
    assert command(shown, "--out", str(out)) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--out", "OUT/views.txt"], "no .json file"),
        (["--beads", "no-such.json"], "no-such.json"),
        (["--out", "OUT/there.json"], "is there already"),
    ],
)
def test_what_cannot_be_done_is_refused(
    change: list[str],
    said: str,
    shown: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "there.json").write_text("{}")
    out = [] if "--out" in change else ["--out", str(tmp_path / "views.json")]
    assert command(shown, *out, *(word.replace("OUT", str(tmp_path)) for word in change)) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["there.json"]


def test_a_picture_without_beads_is_refused_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(1).normal(100.0, 5.0, SIZE[::-1]).astype(np.float32)
    write_tiff(noise, (PIXEL, PIXEL), tmp_path / "empty.tif")
    given = ["calibrate", str(tmp_path / "empty.tif"), "--beads", "two-plates"]
    assert cli.main([*given, "--pixel-mm", "0.6", "--out", str(tmp_path / "views.json")]) == 2
    assert "empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["empty.tif"]


def test_distortion_is_estimated_and_taken_out() -> None:
    true = [camera(8.0, 5.0), camera(50.0, -10.0), camera(-30.0, 12.0)]
    bent = Distortion((209.5, 209.5), 210.0, radial=(0.015, 0.0), spiral=(0.01, 0.0))
    exposures = [
        Exposure(f"view {n}", picture(c, bent), (PIXEL, PIXEL), DISTANCE)
        for n, c in enumerate(true)
    ]
    done = calibrate(exposures, BEADS, Calibrating(shared_intrinsics=True, distortion="fit"))
    for now, view, exposure in zip(done, true, exposures, strict=True):
        miss = now.view.camera.project(BEADS.centres_mm) - view.project(BEADS.centres_mm)
        assert np.sqrt((miss**2).sum(1).mean()) < 0.8  # what a shift of the middle takes up
        assert now.view.rms_px < 0.3
        assert now.view.distortion is not None
        # The corrected picture shows the beads where the camera has them.
        straight = Exposure("straight", corrected(exposure.pixels, now.view.distortion), None, None)
        again = calibrate([Exposure("s", straight.pixels, (PIXEL, PIXEL), DISTANCE)], BEADS)[0]
        apart = again.view.camera.project(BEADS.centres_mm) - now.view.camera.project(
            BEADS.centres_mm
        )
        assert np.abs(apart).max() < 0.5


def test_radii_without_any_idea_of_the_c_arm() -> None:
    (done,) = calibrate([Exposure("ap", picture(camera(8.0, 5.0)))], BEADS)
    miss = done.view.camera.project(BEADS.centres_mm) - camera(8.0, 5.0).project(BEADS.centres_mm)
    assert np.sqrt((miss**2).sum(1).mean()) < 0.2


def test_the_same_beads_elsewhere_are_not_mistaken() -> None:
    other = Beads("other", BEADS.centres_mm * np.array([1.0, 1.0, 0.4]), BEADS.diameters_mm)
    with pytest.raises(InputError, match=r"^ap\b"):
        calibrate([Exposure("ap", picture(camera(8.0, 5.0)), (PIXEL, PIXEL), DISTANCE)], other)


def test_a_layout_becomes_a_file_and_a_holder(tmp_path: Path) -> None:
    assert cli.main(["beads", "helix", "--out", str(tmp_path / "helix")]) == 0
    np.testing.assert_allclose(
        read_beads(tmp_path / "helix/beads.json").centres_mm, layout("helix").centres_mm
    )
    assert (tmp_path / "helix/holder.stl").stat().st_size > 1e6


def test_the_beads_of_a_ct_become_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    middles = np.array([[x, y, z] for x in (15, 40, 65) for y in (15, 45) for z in (12, 44)])
    k, j, i = np.indices((60, 70, 80)).astype(float)
    hu = np.full(k.shape, 40.0)
    for x, y, z in middles:
        hu[np.sqrt((k - z) ** 2 + (j - y) ** 2 + (i - x) ** 2) < 2.6] = 8000.0
    image = sitk.GetImageFromArray(hu.astype(np.int16))
    sitk.WriteImage(image, str(tmp_path / "ct.nii.gz"))
    given = ["beads", str(tmp_path / "ct.nii.gz"), "--out", str(tmp_path / "found")]
    assert cli.main([*given, "--clearance-mm", "0.3"]) == 2
    assert "holder" in capsys.readouterr().err
    assert cli.main(given) == 0
    read = read_beads(tmp_path / "found/beads.json").centres_mm
    apart = np.linalg.norm(read[:, None] - middles[None], axis=2)
    assert len(read) == len(middles)
    assert apart.min(axis=1).max() < 0.2
    assert not (tmp_path / "found/holder.stl").exists()


def test_a_folder_with_distortion_is_corrected(tmp_path: Path) -> None:
    bent = Distortion((209.5, 209.5), 210.0, radial=(0.015, 0.0), spiral=(0.01, 0.0))
    true = [camera(8.0, 5.0), camera(50.0, -10.0), camera(-30.0, 12.0)]
    (tmp_path / "shown").mkdir()
    for number, view in enumerate(true):
        write_tiff(picture(view, bent), (PIXEL, PIXEL), tmp_path / f"shown/{number}.tif")
    (tmp_path / "shown/notes.txt").write_text("not a picture")
    out = tmp_path / "views.json"
    given = ["calibrate", str(tmp_path / "shown"), "--beads", "two-plates", "--out", str(out)]
    nominal = ["--pixel-mm", str(PIXEL), "--source-detector-mm", str(DISTANCE)]
    options = ["--shared-intrinsics", "--fit-distortion", "--metal", "dark", "--export", "opencv"]
    assert cli.main([*given, *nominal, *options]) == 0
    entries = json.loads(out.read_text())["views"]
    assert [entry["name"] for entry in entries] == ["0", "1", "2"]
    assert entries[1]["image"] == "views_calibration/corrected_1.tif"
    for view, entry in zip(read_views(out), entries, strict=True):
        # Where the corrected picture shows metal it is dark.
        shadows = np.array(entry["metal_px"])
        inside = ((shadows[:, :2] > 8) & (shadows[:, :2] < 411)).all(axis=1)
        for u, v, radius in shadows[inside]:
            column, row = round(u), round(v)
            near = view.pixels[row - 8 : row + 9, column - 8 : column + 9]
            assert view.pixels[row, column] < np.median(near) - 1.0, (view.name, u, v, radius)
    record = json.loads((tmp_path / "views_calibration/calibration.json").read_text())
    assert record["views"][0]["distortion"]["radial"][0] == pytest.approx(0.015, abs=0.006)
    # A run without exports leaves none of before.
    assert (tmp_path / "views_calibration/opencv_0.yml").exists()
    assert cli.main([*given, *nominal, "--shared-intrinsics", "--fit-distortion"]) == 0
    assert not (tmp_path / "views_calibration/opencv_0.yml").exists()


def test_two_pictures_of_one_name_are_kept_apart(shown: Path, tmp_path: Path) -> None:
    for name, folder in (("ap", "a"), ("oblique", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.tif").write_bytes((shown / f"{name}.tif").read_bytes())
    given = [str(tmp_path / "a/1.tif"), str(tmp_path / "b/1.tif"), "--beads", "two-plates"]
    out = tmp_path / "views.json"
    nominal = ["--pixel-mm", str(PIXEL), "--source-detector-mm", str(DISTANCE)]
    assert cli.main(["calibrate", *given, *nominal, "--out", str(out)]) == 0
    assert [view.name for view in read_views(out)] == ["1", "1-2"]
    written = {path.name for path in (tmp_path / "views_calibration").glob("beads_*.png")}
    assert written == {"beads_1.png", "beads_1-2.png"}


def test_what_is_poor_is_named() -> None:
    (good,) = calibrate(
        [Exposure("ap", picture(camera(8.0, 5.0)), (PIXEL, PIXEL), DISTANCE)], BEADS
    )
    assert verdict([good], {"ap": 0.2})[0] == "ok"
    status, reason = verdict([good], {"ap": 1.2})
    assert (status, reason) == ("uncertain", "ap is not known to 1 mm at the beads")
    rough = replace(good.view, residuals_px=good.view.residuals_px + 2.0)
    assert "more than 1 px" in verdict([replace(good, view=rough)], {"ap": 0.2})[1]
    few = replace(good.view, pairs=good.view.pairs[:7])
    assert "fewer than 8" in verdict([replace(good, view=few)], {"ap": 0.2})[1]
    lost = replace(good, missing=np.arange(len(good.missing)) > 5)
    assert "less than 60%" in verdict([lost], {"ap": 0.2})[1]


def test_an_uncertain_calibration_says_so_by_its_exit_status(shown: Path, tmp_path: Path) -> None:
    # The file has fourteen beads more than there are: what is there fits, and is too little.
    beads = layout("two-plates")
    more = np.array([[x, y, 3.0] for x in range(-60, 61, 20) for y in (-17.0, 17.0)])
    every = np.concatenate([beads.centres_mm, more])
    write_beads(
        tmp_path / "beads.json", Beads("more", every, np.r_[beads.diameters_mm, np.full(14, 3.0)])
    )
    given = [str(shown / "ap.tif"), "--beads", str(tmp_path / "beads.json")]
    nominal = ["--pixel-mm", str(PIXEL), "--source-detector-mm", str(DISTANCE)]
    out = tmp_path / "views.json"
    assert cli.main(["calibrate", *given, *nominal, "--out", str(out)]) == 3
    record = json.loads((tmp_path / "views_calibration/calibration.json").read_text())
    assert record["reason"] == "ap shows less than 60% of the beads that lie within it"


def test_pairs_that_a_person_corrected(
    shown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "views.json"
    assert command(shown, "--out", str(out)) == 0
    file = tmp_path / "views_calibration" / "calibration.json"
    record = json.loads(file.read_text())
    assert record["parameters"]["pairs"] == "searched"
    # The file as it is: the same cameras, nearly.
    again = tmp_path / "again.json"
    assert command(shown, "--pairs", str(file), "--out", str(again)) == 0
    for first, second in zip(read_views(out), read_views(again), strict=True):
        away = first.camera.project(BEADS.centres_mm) - second.camera.project(BEADS.centres_mm)
        assert np.hypot(*away.T).max() < 0.05
    written = json.loads((tmp_path / "again_calibration" / "calibration.json").read_text())
    assert written["parameters"]["pairs"] == "given"
    assert any("calibration.json" in str(entry) for entry in written["inputs"])
    # A bead less: it is not looked for again.
    view = record["views"][0]
    bead = view["beads"].pop(4)
    view["spots_px"].pop(4)
    corrected_file = tmp_path / "corrected.json"
    corrected_file.write_text(json.dumps(record))
    assert command(shown, "--pairs", str(corrected_file), "--out", str(again)) == 0
    written = json.loads((tmp_path / "again_calibration" / "calibration.json").read_text())
    assert bead not in written["views"][0]["beads"]
    capsys.readouterr()
    view["name"] = "other"
    corrected_file.write_text(json.dumps(record))
    before = again.read_bytes()
    assert command(shown, "--pairs", str(corrected_file), "--out", str(again)) == 2
    assert "has no view 'ap'; its views: other, oblique" in capsys.readouterr().err
    view["name"], view["spots_px"][0] = "ap", [4000.0, 10.0]
    corrected_file.write_text(json.dumps(record))
    assert command(shown, "--pairs", str(corrected_file), "--out", str(again)) == 2
    assert "has a spot outside the picture ap" in capsys.readouterr().err
    assert command(shown, "--pairs", str(tmp_path / "no.json"), "--out", str(again)) == 2
    assert again.read_bytes() == before
