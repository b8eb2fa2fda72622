"""CT volumes from folders of DICOM slices that pydicom writes here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.spatial.transform import Rotation

from RadGSRegLib.cases import Ledger, read_ct
from RadGSRegLib.errors import InputError

OBLIQUE = Rotation.from_euler("xyz", [20, -30, 15], degrees=True).as_matrix()
SPACING = (0.7, 0.9, 2.5)


def hounsfield() -> np.ndarray:
    """Values (K, J, I) of a small CT."""
    return np.random.default_rng(1).integers(-1000, 1500, (6, 9, 8)).astype(np.int16)


def write_series(
    folder: Path,
    array: np.ndarray,
    axes: np.ndarray = OBLIQUE,
    number: int = 1,
    skip: tuple[int, ...] = (),
    shift: float = 0.0,
    prefix: str = "a",
    **tags: Any,
) -> None:
    """One file per slice, named so that their order is not the order of the body."""
    folder.mkdir(exist_ok=True)
    uid = generate_uid()
    names = np.random.default_rng(0).permutation(len(array))
    for k, plane in enumerate(array):
        if k in skip:
            continue
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{prefix}{names[k]}.dcm"
        data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        data.PatientName, data.PatientID = "Doe^Jane", "SECRET-4711"
        data.Modality, data.SeriesInstanceUID, data.SeriesNumber = "CT", uid, number
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.ImageOrientationPatient = [f"{v:.10f}" for v in [*axes[:, 0], *axes[:, 1]]]
        place = np.array([10.0, -200.0, 50.0]) + axes[:, 2] * SPACING[2] * k
        place = place + shift * k * axes[:, 1]
        data.ImagePositionPatient = [f"{v:.10f}" for v in place]
        data.PixelSpacing = [SPACING[1], SPACING[0]]
        data.Rows, data.Columns = plane.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.PixelRepresentation = 0
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        data.PixelData = (plane.astype(np.int32) + 1024).astype(np.uint16).tobytes()
        for key, value in tags.items():
            setattr(data, key, value)
        data.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize(
    "axes",
    [np.eye(3), OBLIQUE, np.diag([-1.0, 1.0, -1.0]), np.array([[0, 0, 1.0], [1, 0, 0], [0, 1, 0]])],
)
def test_any_orientation(tmp_path: Path, axes: np.ndarray) -> None:
    array = hounsfield()
    write_series(tmp_path / "ct", array, axes)
    ledger = Ledger()
    ct = read_ct(tmp_path / "ct", ledger)
    assert ct.array.dtype == np.float32
    np.testing.assert_array_equal(ct.array, array)
    np.testing.assert_allclose(ct.spacing, SPACING, atol=1e-6)
    np.testing.assert_allclose(ct.direction, axes, atol=1e-6)
    np.testing.assert_allclose(ct.origin, [10, -200, 50], atol=1e-6)
    assert list(ledger.inputs) == ["CT (DICOM series)"]
    one_file = next((tmp_path / "ct").iterdir())
    np.testing.assert_array_equal(read_ct(one_file).array, array)


def test_hash_does_not_hang_on_file_names(tmp_path: Path) -> None:
    array = hounsfield()
    write_series(tmp_path / "a", array)
    first, second, third = Ledger(), Ledger(), Ledger()
    read_ct(tmp_path / "a", first)
    for number, path in enumerate(sorted((tmp_path / "a").iterdir())):
        path.rename(path.with_name(f"z{9 - number}"))
    read_ct(tmp_path / "a", second)
    assert first.inputs == second.inputs
    array[0, 0, 0] += 1
    write_series(tmp_path / "b", array)
    read_ct(tmp_path / "b", third)
    assert third.inputs != first.inputs


def test_a_scout_and_other_files_do_not_disturb(tmp_path: Path) -> None:
    array = hounsfield()
    write_series(tmp_path / "ct", array)
    scout = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    write_series(tmp_path / "ct", array, np.eye(3), 2, prefix="b", ImageType=scout)
    write_series(tmp_path / "ct", array[:1], number=3, prefix="c", Modality="SR")
    (tmp_path / "ct" / "notes.txt").write_text("hello")
    np.testing.assert_array_equal(read_ct(tmp_path / "ct").array, array)


def test_several_volumes(tmp_path: Path) -> None:
    array = hounsfield()
    write_series(tmp_path / "ct", array, number=4)
    write_series(tmp_path / "ct", array[:4] + 7, np.eye(3), number=5, prefix="b")
    with pytest.raises(InputError, match="series 4 with 6 slices, series 5 with 4 slices"):
        read_ct(tmp_path / "ct")
    np.testing.assert_array_equal(read_ct(tmp_path / "ct", series=5).array, array[:4] + 7)
    with pytest.raises(InputError, match="no CT series 6"):
        read_ct(tmp_path / "ct", series=6)
    np.testing.assert_array_equal(read_ct(tmp_path / "ct" / "a0.dcm").array, array)
    np.testing.assert_array_equal(read_ct(tmp_path / "ct" / "b0.dcm").array, array[:4] + 7)


def test_folders_in_folders(tmp_path: Path) -> None:
    array = hounsfield()
    (tmp_path / "ct" / "deep").mkdir(parents=True)
    write_series(tmp_path / "ct" / "deep" / "S1", array)
    np.testing.assert_array_equal(read_ct(tmp_path / "ct").array, array)


def test_an_xray_is_no_ct(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", hounsfield())
    write_series(tmp_path / "ct", hounsfield()[:1], prefix="x", Modality="XA")
    with pytest.raises(InputError, match=r"x0\.dcm: is no slice of a CT"):
        read_ct(tmp_path / "ct" / "x0.dcm")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"skip": (3,)}, "is a slice missing"),
        ({"shift": 1.0}, "sheared"),  # a tilted gantry
        ({"Modality": "MR"}, "no CT series"),
        ({"NumberOfFrames": 3}, "multi-frame"),
        ({"PixelSpacing": None}, "6 CT slices without a usable position"),
    ],
)
def test_refusals(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    write_series(tmp_path / "ct", hounsfield(), **changes)
    with pytest.raises(InputError, match=problem) as caught:
        read_ct(tmp_path / "ct")
    message = str(caught.value)
    assert "\n" not in message
    assert "Doe" not in message
    assert "SECRET" not in message


def change(folder: Path, number: int, name: str = "", **tags: Any) -> Path:
    """Change tags of the slice ``number`` (along the body) in place, or in a copy ``name``."""
    paths = sorted(folder.iterdir(), key=lambda p: height_of(p))
    data = pydicom.dcmread(paths[number])
    for key, value in tags.items():
        if value is None:
            delattr(data, key)
        else:
            setattr(data, key, value)
    path = folder / name if name else paths[number]
    data.save_as(path)
    return path


def height_of(path: Path) -> float:
    """The place of a slice along OBLIQUE's third axis."""
    position = pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient
    return float(OBLIQUE[:, 2] @ np.array(position, dtype=float))


def read_noting(folder: Path) -> tuple[np.ndarray, str]:
    """The values that are read, and the remarks."""
    ledger = Ledger()
    return read_ct(folder, ledger).array, " | ".join(ledger.notes)


def test_two_images_of_one_slice(tmp_path: Path) -> None:
    folder = tmp_path / "ct"
    write_series(folder, hounsfield())
    change(folder, 2, "again.dcm", SOPInstanceUID=generate_uid())
    array, notes = read_noting(folder)  # a copy
    np.testing.assert_array_equal(array, hounsfield())
    assert "1 files twice" in notes
    data = pydicom.dcmread(folder / "again.dcm")
    data.PixelData = bytes(len(data.PixelData))
    data.save_as(folder / "again.dcm")
    with pytest.raises(InputError, match=r"same place.*again\.dcm"):
        read_ct(folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ImagePositionPatient": None}, "without a usable position"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, "of another size, spacing, direction"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 2, 0]}, "without a usable position"),
        ({"PixelSpacing": [1.1, 1.1]}, "of another size, spacing, direction"),
        ({"Rows": 8, "Columns": 9}, "of another size, spacing, direction"),
        ({"FrameOfReferenceUID": generate_uid()}, "of another size, spacing, direction"),
    ],
)
def test_a_slice_that_differs_is_left_out_and_said(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    folder = tmp_path / "ct"
    write_series(folder, hounsfield())
    name = change(folder, 5, **changes).name
    array, notes = read_noting(folder)
    np.testing.assert_array_equal(array, hounsfield()[:5])
    assert f"read without 1 file {reason}" in notes
    assert name in notes
    write_series(folder, hounsfield())
    name = change(folder, 3, **changes).name  # in the middle it leaves a hole
    with pytest.raises(InputError, match=f"left out: 1 file {reason}.*{name}.*is a slice missing"):
        read_ct(folder)


def test_a_broken_file_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "ct"
    write_series(folder, hounsfield())
    last = max(folder.iterdir(), key=height_of)
    last.write_bytes(last.read_bytes()[:300])
    array, notes = read_noting(folder)
    np.testing.assert_array_equal(array, hounsfield()[:5])
    assert f"1 file that cannot be read as DICOM ({last.name})" in notes


def test_rounded_directions_do_not_split_a_series(tmp_path: Path) -> None:
    folder = tmp_path / "ct"
    write_series(folder, hounsfield(), np.eye(3))
    for number in range(6):
        tilt = 4e-4 if number % 2 else 6e-4  # these round to 0 and 0.001
        change(folder, number, ImageOrientationPatient=[1, tilt, 0, 0, 1, 0])
    array, notes = read_noting(folder)
    np.testing.assert_array_equal(array, hounsfield())
    assert not notes


@pytest.mark.parametrize("along", [1, 2])
@pytest.mark.parametrize(("off", "verdict"), [(0.02, ""), (0.15, "off their even"), (1.0, None)])
def test_a_slice_off_the_grid(tmp_path: Path, along: int, off: float, verdict: str | None) -> None:
    folder = tmp_path / "ct"
    write_series(folder, hounsfield())
    place = np.array(
        pydicom.dcmread(sorted(folder.iterdir(), key=height_of)[3]).ImagePositionPatient
    )
    moved = place.astype(float) + off * OBLIQUE[:, along]
    name = change(folder, 3, ImagePositionPatient=[f"{v:.8f}" for v in moved]).name
    if verdict is None:
        with pytest.raises(InputError, match=rf"uneven slices: {name} lies 0\.\d+ mm off"):
            read_ct(folder)
        return
    array, notes = read_noting(folder)
    np.testing.assert_array_equal(array, hounsfield())
    assert (verdict in notes) if verdict else not notes


def test_positions_with_one_decimal(tmp_path: Path) -> None:
    """Slices of 0.625 mm whose places are rounded to 0.1 mm are even."""
    folder = tmp_path / "ct"
    write_series(folder, hounsfield(), np.eye(3))
    for number in range(6):
        z = round(0.625 * number, 1)
        change(folder, 0, ImagePositionPatient=[0, 0, 900 + z])
    ct = read_ct(folder)
    np.testing.assert_allclose(ct.spacing[2], 0.625, atol=0.02)
    np.testing.assert_array_equal(ct.array, hounsfield())


def test_half_of_a_series_in_another_size_is_a_volume_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "ct"
    write_series(folder, hounsfield())
    for number in (3, 4, 5):
        change(folder, number, Rows=8, Columns=9)
    with pytest.raises(
        InputError, match=r"2 CT volumes.*put one into a folder of its own"
    ) as caught:
        read_ct(folder)
    assert '"series"' not in str(caught.value)  # they have the same number


def test_files_without_a_preamble(tmp_path: Path) -> None:
    folder = tmp_path / "ct"
    write_series(folder, hounsfield())
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[132:])
    np.testing.assert_array_equal(read_ct(folder).array, hounsfield())
    np.testing.assert_array_equal(read_ct(next(folder.iterdir())).array, hounsfield())


def test_every_slice_has_its_own_rescale(tmp_path: Path) -> None:
    folder = tmp_path / "ct"
    write_series(folder, hounsfield())
    expected = hounsfield().astype(float)
    for number in range(6):
        change(folder, number, RescaleSlope=1 + number / 4, RescaleIntercept=-1000)
        expected[number] = (expected[number] + 1024) * (1 + number / 4) - 1000
    np.testing.assert_allclose(read_ct(folder).array, expected)


@pytest.mark.parametrize("absent", [("RescaleIntercept",), ("RescaleIntercept", "RescaleSlope")])
def test_without_a_rescale_it_is_not_in_hounsfield_units(
    tmp_path: Path, absent: tuple[str, ...]
) -> None:
    folder = tmp_path / "ct"
    write_series(folder, hounsfield())
    change(folder, 2, **dict.fromkeys(absent))
    with pytest.raises(InputError, match="not known to be in Hounsfield units: 1 of 6 slices"):
        read_ct(folder)
    for number in (0, 1, 3, 4, 5):
        change(folder, number, **dict.fromkeys(absent))
    with pytest.raises(InputError, match="6 of 6 slices"):
        read_ct(folder)


def test_signed_values_without_a_rescale(tmp_path: Path) -> None:
    folder = tmp_path / "ct"
    write_series(folder, hounsfield())
    for number in range(6):
        change(
            folder,
            number,
            RescaleIntercept=None,
            RescaleSlope=None,
            PixelRepresentation=1,
            PixelData=hounsfield()[number].tobytes(),
        )
    array, notes = read_noting(folder)
    np.testing.assert_array_equal(array, hounsfield())
    assert "no RescaleIntercept; its values are taken as Hounsfield units" in notes


def test_another_rescale_type_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", hounsfield(), RescaleType="MGML")
    with pytest.raises(InputError, match="its RescaleType is MGML"):
        read_ct(tmp_path / "ct")


def test_photometric_interpretation_does_not_change_a_ct(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", hounsfield(), PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_ct(tmp_path / "ct").array, hounsfield())


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no DICOM file"):
        read_ct(tmp_path)
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(InputError, match="no DICOM file"):
        read_ct(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(st.tuples(st.integers(128, 1100), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_slices_are_refused_or_read(tmp_path: Path, damage: list[tuple[int, int]]) -> None:
    folder = tmp_path / "ct"
    if not folder.exists():
        write_series(folder, hounsfield())
    path = sorted(folder.iterdir())[2]
    original = path.read_bytes()
    content = bytearray(original)
    for place, value in damage:
        content[place % len(content)] = value
    path.write_bytes(content)
    said = ""
    try:
        assert read_ct(folder).array.ndim == 3
    except InputError as error:
        said = str(error)
    finally:
        path.write_bytes(original)
    assert "\n" not in said
