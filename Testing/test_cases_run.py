"""Runs of X-rays are read from files of several frames, folders and lists, frame by frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import registration_scenes
import tifffile
from dicom_files import IDENTITY, NAME, write_dicom

from RadGSRegLib.cases import read_case, read_run, run_of
from RadGSRegLib.errors import InputError
from RadGSRegLib.simulation import write_simulated_case

FRAMES = 12


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "case"
    write_simulated_case(registration_scenes.simulated(), folder)
    return folder


def pictures(base: Path, view: int) -> list[np.ndarray]:
    """Frames that differ: the first is blank, the others are the still, ever darker."""
    still = read_case(base / "case.json").views[view].pixels
    top = float(still.max())
    shades = [
        np.asarray(60000.0 * still / top * (1.0 - 0.01 * n), np.uint16) for n in range(FRAMES)
    ]
    return [np.zeros_like(shades[0]), *shades[1:]]


def with_images(base: Path, folder: Path, *images: dict[str, Any]) -> Path:
    """The case with other pictures: entries that replace "image" in its views."""
    views = json.loads((base / "views.json").read_text())
    for entry, image in zip(views["views"], images, strict=True):
        del entry["image"]
        entry.update({"intensity": "display", **image})
    (folder / "views.json").write_text(json.dumps(views))
    case = json.loads((base / "case.json").read_text())
    case = {**case, "ct": str(base / case["ct"]), "segmentation": str(base / case["segmentation"])}
    (folder / "case.json").write_text(json.dumps(case))
    return folder / "case.json"


def in_folder(folder: Path, frames: list[np.ndarray]) -> str:
    folder.mkdir()
    for number, frame in enumerate(frames):
        # Not in the order of letters.
        tifffile.imwrite(folder / f"f{number}.tif", frame)
    (folder / ".hidden").write_text("not a frame")
    return folder.name


def test_folder_list_dicom_and_pages(base: Path, tmp_path: Path) -> None:
    first, second = pictures(base, 0), pictures(base, 1)
    name = in_folder(tmp_path / "ap", first)
    write_dicom(tmp_path / "la.dcm", np.stack(second), bits=16, FrameTime="40.0")
    case = with_images(base, tmp_path, {"image": name}, {"image": "la.dcm"})
    run = read_run(case)
    assert (run.frames, run.shown) == (FRAMES, 1)
    assert run.times_s == pytest.approx([0.04 * n for n in range(FRAMES)])
    for number in (1, 10, 11):
        ap, la = run.views(number)
        np.testing.assert_array_equal(ap.pixels, first[number])
        np.testing.assert_array_equal(la.pixels, second[number])
    np.testing.assert_array_equal(run.case.views[0].pixels, first[1])
    said = json.dumps([run.case.inputs, run.case.notes])
    assert NAME not in said
    assert IDENTITY not in said

    files = [f"ap/f{n}.tif" for n in range(FRAMES)]
    tifffile.imwrite(tmp_path / "la.tif", np.stack(second))
    times = [0.1 * n**1.1 for n in range(FRAMES)]
    case = with_images(base, tmp_path, {"frames": files, "times_s": times}, {"image": "la.tif"})
    run = read_run(case)
    assert run.times_s == pytest.approx(times)
    np.testing.assert_array_equal(run.views(7)[0].pixels, first[7])
    np.testing.assert_array_equal(run.views(7)[1].pixels, second[7])


def test_one_plane_is_read(base: Path, tmp_path: Path) -> None:
    name = in_folder(tmp_path / "ap", pictures(base, 0))
    case = with_images(base, tmp_path, {"image": name}, {"image": name})
    views = json.loads((tmp_path / "views.json").read_text())
    views["views"] = views["views"][:1]
    (tmp_path / "views.json").write_text(json.dumps(views))
    assert len(read_run(case).case.views) == 1


def refused(case: Path) -> str:
    with pytest.raises(InputError) as error:
        read_run(case)
    return str(error.value)


def test_refusals(base: Path, tmp_path: Path) -> None:
    first, second = pictures(base, 0), pictures(base, 1)
    ap, la = in_folder(tmp_path / "ap", first), in_folder(tmp_path / "la", second[:-2])
    said = refused(with_images(base, tmp_path, {"image": ap}, {"image": la}))
    assert 'ap (view "AP") has 12 frames, la (view "LA") has 10 frames' in said

    (tmp_path / "la" / "notes.txt").write_text("x")
    assert "notes.txt" in refused(with_images(base, tmp_path, {"image": ap}, {"image": la}))
    chosen = {"image": ap, "frame": 3}
    assert '"frame"' in refused(with_images(base, tmp_path, chosen, {"image": ap}))
    both = {"image": ap, "frames": ["ap/f1.tif"]}
    assert "leave one of them out" in refused(with_images(base, tmp_path, both, {"image": ap}))
    back = {"image": ap, "times_s": list(range(FRAMES))[::-1]}
    assert "must rise" in refused(with_images(base, tmp_path, back, {"image": ap}))
    single = {"frames": ["ap/f1.tif"]}
    assert "radgsreg register" in refused(with_images(base, tmp_path, single, single))
    (tmp_path / "empty").mkdir()
    nothing = {"image": "empty"}
    assert "holds no frames" in refused(with_images(base, tmp_path, nothing, nothing))
    # Frames are read when they are asked for, so a strange one is told then.
    tifffile.imwrite(tmp_path / "ap" / "f5.tif", first[5][:-4])
    case = with_images(
        base, tmp_path, {"image": ap}, {"frames": [f"ap/f{n}.tif" for n in range(1, 13)]}
    )
    with pytest.raises(InputError, match=r"f12\.tif"):
        read_run(case)
    pages = np.stack(second)
    tifffile.imwrite(tmp_path / "la.tif", pages)
    run = read_run(with_images(base, tmp_path, {"image": ap}, {"image": "la.tif"}))
    with pytest.raises(InputError, match="frame 5 is"):
        run.views(5)


def test_a_still_command_says_how_to_follow_a_run(base: Path, tmp_path: Path) -> None:
    ap = in_folder(tmp_path / "ap", pictures(base, 0))
    tifffile.imwrite(tmp_path / "la.tif", np.stack(pictures(base, 1)))
    for entry in ({"image": ap}, {"image": "la.tif"}, {"frames": ["ap/f1.tif", "ap/f2.tif"]}):
        with pytest.raises(InputError, match="radgsreg track"):
            read_case(with_images(base, tmp_path, entry, {"image": "la.tif"}))


def test_a_run_in_memory(base: Path) -> None:
    case = read_case(base / "case.json")
    frames = list(zip(pictures(base, 0), pictures(base, 1), strict=True))
    run = run_of(case, frames)
    assert run.shown == 1
    np.testing.assert_array_equal(run.case.views[1].pixels, frames[1][1])
    with pytest.raises(ValueError, match="each frame"):
        run_of(case, [frames[0][:1]])
    with pytest.raises(IndexError):
        run.views(FRAMES)
