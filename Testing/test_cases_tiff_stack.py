"""A TIFF stack as a CT, with its spacing and axes given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from ball import ball_case

from RadGSRegLib import cli
from RadGSRegLib.cases import Ledger, StackPlace, read_case, read_ct, write_case
from RadGSRegLib.errors import InputError

SPACING = (0.4, 0.5, 1.2)
# Slices, rows, columns: all three differ, and so does every voxel.
HU = (np.arange(12 * 7 * 5).reshape(12, 7, 5) * 5 - 1000).astype(np.int16)


def folder_of(path: Path, array: np.ndarray = HU, first: int = 1, step: int = 1) -> Path:
    """One file per slice, numbered without leading zeros."""
    path.mkdir()
    for number, pixels in enumerate(array):
        tifffile.imwrite(path / f"hand2_{first + step * number}.tif", pixels)
    return path


def file_of(path: Path, array: np.ndarray = HU, **options: object) -> Path:
    tifffile.imwrite(path, array, **options)
    return path


@pytest.mark.parametrize(
    "write",
    [
        lambda to: file_of(to / "ct.tif"),
        lambda to: file_of(to / "ct.tif", photometric="minisblack", tile=(16, 16)),
        lambda to: file_of(to / "ct.tif", bigtiff=True, compression="zlib"),
        lambda to: file_of(to / "ct.tif", imagej=True, metadata={"axes": "ZYX"}),
        lambda to: folder_of(to / "slices"),
        lambda to: folder_of(to / "slices", first=90, step=5),
    ],
    ids=["pages", "tiled", "big", "imagej", "folder", "every fifth"],
)
def test_values_and_places(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    ledger = Ledger()
    ct = read_ct(write(tmp_path), ledger, stack=StackPlace(SPACING))
    np.testing.assert_array_equal(ct.array, HU.astype(np.float32))
    # Column 4, row 2, slice 11: to the left, to the back, to the head.
    np.testing.assert_allclose(ct.physical_points(np.array([[4, 2, 11]])), [[1.6, 1.0, 13.2]])
    assert any("towards L, P, S" in note for note in ledger.notes)
    assert len(ledger.inputs) == 1


@pytest.mark.parametrize(
    ("axes", "point"),
    [
        ("LPI", (1.6, 1.0, -13.2)),
        ("RAS", (-1.6, -1.0, 13.2)),
        ("pir", (-13.2, 1.6, -1.0)),  # columns to the back, rows to the feet, slices to the right
        ("SLA", (1.0, -13.2, 1.6)),
    ],
)
def test_axes_are_where_columns_rows_and_slices_lead(
    tmp_path: Path, axes: str, point: tuple[float, float, float]
) -> None:
    ct = read_ct(file_of(tmp_path / "ct.tif"), stack=StackPlace(SPACING, axes))
    np.testing.assert_allclose(ct.physical_points(np.array([[4, 2, 11]])), [point])


def test_stored_values_become_hounsfield_units(tmp_path: Path) -> None:
    stored = ((HU.astype(np.int32) + 1024) * 2).astype(np.uint16)
    path = file_of(tmp_path / "ct.tif", stored)
    ct = read_ct(path, stack=StackPlace(SPACING, slope=0.5, intercept=-1024.0))
    np.testing.assert_array_equal(ct.array, HU.astype(np.float32))


def _drop(folder: Path, number: int) -> Path:
    (folder / f"hand2_{number}.tif").unlink()
    return folder


def _another(folder: Path, name: str, pixels: np.ndarray = HU[0]) -> Path:
    tifffile.imwrite(folder / name, pixels)
    return folder


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (lambda to: _drop(folder_of(to / "s"), 5), "between hand2_4.tif and hand2_6.tif"),
        (lambda to: _another(folder_of(to / "s"), "hand2_004.tif"), "missing or double slices"),
        (lambda to: _another(folder_of(to / "s"), "foot2_4.tif"), "do not differ in one number"),
        (lambda to: _another(folder_of(to / "s"), "hand3_13.tif"), "do not differ in one number"),
        (lambda to: _another(folder_of(to / "s"), "hand2_13.tif", HU[0, :4]), "hand2_13.tif: has"),
        (lambda to: _another(folder_of(to / "s"), "hand2_13.tif", HU[:2]), "holds 2 pictures"),
        (lambda to: file_of(to / "a.tif", HU[0]), "5 x 7 x 1 voxels"),
        (
            lambda to: file_of(to / "a.tif", HU.reshape(3, 4, 7, 5).astype(np.float32), imagej=True,
                               metadata={"axes": "TZYX"}),
            "several stacks in one",
        ),
        (
            lambda to: file_of(to / "a.tif", np.zeros((3, 8, 8, 3), np.uint8), photometric="rgb"),
            "colour",
        ),
        (
            lambda to: file_of(to / "a.tif", HU.astype(np.uint16), photometric="miniswhite"),
            "lowest value is white",
        ),
        (
            lambda to: file_of(to / "a.tif", HU.astype(np.float32), imagej=True,
                               resolution=(1 / 0.4, 1 / 0.5),
                               metadata={"axes": "ZYX", "spacing": 0.6, "unit": "mm"}),
            "voxels of 0.4 x 0.5 x 0.6 mm by what ImageJ wrote .* 0.4 x 0.5 x 1.2 mm",
        ),
    ],
)  # fmt: skip
def test_refusals(tmp_path: Path, write: Callable[[Path], Path], sentence: str) -> None:
    path = write(tmp_path)
    with pytest.raises(InputError, match=sentence):
        read_ct(path, stack=StackPlace(SPACING))


def test_imagej_that_agrees_is_taken(tmp_path: Path) -> None:
    metadata = {"axes": "ZYX", "spacing": 1200.0, "unit": "micron"}
    array = HU.astype(np.float32)
    resolution = (1 / 400.0, 1 / 500.0)
    path = file_of(tmp_path / "a.tif", array, imagej=True, resolution=resolution, metadata=metadata)
    assert read_ct(path, stack=StackPlace(SPACING)).spacing == pytest.approx(SPACING)
    with pytest.raises(InputError, match=r"\(ImageJ wrote 0.4 x 0.5 x 1.2 mm into it\)"):
        read_ct(path)


@pytest.mark.parametrize(
    "write", [lambda to: file_of(to / "a.tif"), lambda to: folder_of(to / "s")]
)
def test_without_a_spacing_the_options_are_named(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    with pytest.raises(InputError, match=r'TIFF stack, .*"ct_spacing_mm" .* --spacing'):
        read_ct(write(tmp_path))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"spacing_mm": (0.4, 0.4, 0.0)}, "spacing"),
        ({"spacing_mm": (0.4, 0.4, float("nan"))}, "spacing"),
        ({"spacing_mm": SPACING, "axes": "LRS"}, "three letters"),
        ({"spacing_mm": SPACING, "axes": "LP"}, "three letters"),
        ({"spacing_mm": SPACING, "slope": 0.0}, "slope"),
    ],
)
def test_a_place_that_cannot_be(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        StackPlace(**values)  # type: ignore[arg-type]


def stacked_case(folder: Path, **more: object) -> Path:
    """The ball with CT and labels as stacks; the CT stored with 1024 added."""
    case = ball_case()
    path = write_case(folder, case.ct, case.labels, case.label, case.views)
    tifffile.imwrite(folder / "ct.tif", (case.ct.array + 1024).astype(np.uint16))
    tifffile.imwrite(folder / "seg.tif", case.labels.array.astype(np.uint8))
    content = json.loads(path.read_text(encoding="utf-8"))
    content |= {"ct": "ct.tif", "segmentation": "seg.tif", "ct_rescale": [1, -1024]}
    content |= {"ct_spacing_mm": [1.5, 1.5, 1.5], **more}
    kept = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(kept), encoding="utf-8")
    return path


def test_a_case_of_two_stacks(tmp_path: Path) -> None:
    plain, case = ball_case(), read_case(stacked_case(tmp_path))
    np.testing.assert_array_equal(case.ct.array, plain.ct.array)
    np.testing.assert_array_equal(case.mask, plain.mask)
    # The frame of a stack begins at its first voxel.
    np.testing.assert_allclose(case.centre_ct, plain.centre_ct - plain.ct.origin)
    assert {"ct.tif", "seg.tif"} <= set(case.inputs)
    assert any("TIFF stack" in note for note in case.notes)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ct_spacing_mm": None, "ct_rescale": None}, r'ct.tif: .*"ct_spacing_mm"'),
        ({"ct_spacing_mm": None}, r'"ct_rescale" but no "ct_spacing_mm"'),
        ({"ct_axes": "XYZ"}, "three letters"),
        ({"ct_rescale": None}, "is the CT in Hounsfield units"),
        ({"ct": "ct.nii.gz"}, "no TIFF stack, so it says its voxel size itself"),
        ({"segmentation": "ct_half.tif"}, "40 x 40 x 20 voxels, but the CT's is 40 x 40 x 40"),
    ],
)  # fmt: skip
def test_refusals_of_a_case(tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    path = stacked_case(tmp_path, **change)
    tifffile.imwrite(tmp_path / "ct_half.tif", np.ones((20, 40, 40), np.uint8))
    with pytest.raises(InputError, match=sentence):
        read_case(path)


def test_labels_as_a_stack_need_a_ct_that_is_one(tmp_path: Path) -> None:
    path = stacked_case(tmp_path, ct="ct.nii.gz", ct_spacing_mm=None, ct_rescale=None)
    with pytest.raises(InputError, match=r"seg.tif: is a picture or a stack"):
        read_case(path)


def test_simulate_takes_a_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    stacked_case(tmp_path / "in")
    call = ["simulate", "--ct", str(tmp_path / "in/ct.tif"), "--label", "22", "--realism", "clean"]
    call += ["--segmentation", str(tmp_path / "in/seg.tif"), "--out", str(tmp_path / "out")]
    assert cli.main(call) == 2
    assert "--spacing" in capsys.readouterr().err
    assert cli.main([*call, "--spacing", "1.5,1.5"]) == 2
    assert cli.main([*call, "--rescale", "1,-1024"]) == 2
    assert not (tmp_path / "out").exists()
    assert cli.main([*call, "--spacing", "1.5,1.5,1.5", "--rescale", "1,-1024"]) == 0
    case = read_case(tmp_path / "out")
    np.testing.assert_array_equal(case.mask, ball_case().mask)
    assert case.ct.spacing == pytest.approx([1.5, 1.5, 1.5])


def test_segment_takes_a_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file_of(tmp_path / "ct.tif")
    call = ["segment", str(path), "--point", "1,1,90", "--out", str(tmp_path / "mask.nii.gz")]
    assert cli.main(call) == 2
    assert "--spacing" in capsys.readouterr().err
    # The point lies outside once the place is known: it got that far.
    assert cli.main([*call, "--spacing", "0.4,0.5,1.2"]) == 2
    assert "--point" not in capsys.readouterr().err.split(":")[0]
