"""NIfTI as other programs write it: read with the right place, or refused in one sentence."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from RadGSRegLib.cases import Ledger, read_ct, read_segmentation, read_xray
from RadGSRegLib.errors import InputError

SIZE = (9, 8, 7)  # i, j, k
VOXELS = np.random.default_rng(0).integers(-1000, 1500, SIZE).astype(np.int16)
STRAIGHT = np.array([[-1.5, 0, 0, 30], [0, -1.5, 0, -135], [0, 0, 2, -103], [0, 0, 0, 1.0]])
RAS_TO_LPS = np.diag([-1.0, -1, 1, 1])


def turned(deg: float) -> np.ndarray:
    c, s = np.cos(np.radians(deg)), np.sin(np.radians(deg))
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]) @ STRAIGHT


def sheared() -> np.ndarray:
    out = STRAIGHT.copy()
    out[:3, 2] = [0, 2 * np.sin(np.radians(15)), 2 * np.cos(np.radians(15))]  # columns keep 2 mm
    return out


def nifti(path: Path, *, kind: Any = nib.Nifti1Header, voxels: Any = VOXELS, **given: Any) -> Path:
    """A file with the codes, matrices and fields that are given, agreeing or not.

    nibabel itself would make them agree, so that header and voxels are put together here.
    """
    header = kind()
    header.set_data_shape(voxels.shape)
    header.set_data_dtype(voxels.dtype)
    header["pixdim"][:4] = [1, 1.5, 1.5, 2.0]
    header.set_qform(*given.pop("qform", (STRAIGHT, 1)))
    header.set_sform(STRAIGHT)
    matrix, header["sform_code"] = given.pop("sform", (STRAIGHT, 1))
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        header[name] = matrix[row]
    for name, value in given.items():
        if name.startswith("pixdim"):
            header["pixdim"][int(name[6:])] = value
        else:
            header[name] = value
    start = len(header.binaryblock) + 4
    header["vox_offset"] = start
    data = header.binaryblock + bytes(4) + voxels.tobytes(order="F")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def refused(path: Path, problem: str) -> None:
    """Refused as a CT and as a label map, by a sentence that names the file."""
    for read in (read_ct, read_segmentation):
        with pytest.raises(InputError, match=problem) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("sform", "qform"),
    [
        ((turned(20), 1), (turned(20), 1)),
        ((turned(20), 2), (STRAIGHT, 0)),
        ((STRAIGHT, 0), (turned(20), 1)),
    ],
)
def test_place_and_voxels(tmp_path: Path, kind: Any, suffix: str, sform: Any, qform: Any) -> None:
    path = nifti(tmp_path / f"ct{suffix}", kind=kind, sform=sform, qform=qform)
    ct = read_ct(path)
    np.testing.assert_array_equal(ct.array, VOXELS.T)
    np.testing.assert_allclose(ct.index_to_physical, RAS_TO_LPS @ turned(20), atol=1e-4)


def test_left_handed_scaled_and_big_endian(tmp_path: Path) -> None:
    matrix = STRAIGHT @ np.diag([-1.0, 1, 1, 1])
    header = nib.Nifti1Header(endianness=">")
    header.set_data_shape(SIZE)
    header.set_data_dtype(">i2")
    header["pixdim"][1:4] = [1.5, 1.5, 2]
    header.set_sform(matrix, 1)
    header["scl_slope"], header["scl_inter"], header["vox_offset"] = 2.0, -10.0, 352
    voxels = VOXELS.astype(">i2").tobytes(order="F")
    (tmp_path / "ct.nii").write_bytes(header.binaryblock + bytes(4) + voxels)
    ct = read_ct(tmp_path / "ct.nii")
    np.testing.assert_array_equal(ct.array, np.maximum(2.0 * VOXELS.T - 10, -1024))
    np.testing.assert_allclose(ct.index_to_physical, RAS_TO_LPS @ matrix, atol=1e-4)


def test_as_itk_reads_what_itk_writes(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(VOXELS.T)
    image.SetSpacing([0.7, 0.8, 2.5])
    image.SetDirection(turned(33)[:3, :3].ravel() / np.tile([1.5, 1.5, 2], 3))
    image.SetOrigin([5, -150, 20])
    sitk.WriteImage(image, str(tmp_path / "ct.nii.gz"))
    back = sitk.ReadImage(str(tmp_path / "ct.nii.gz"))
    ct = read_ct(tmp_path / "ct.nii.gz")
    np.testing.assert_allclose(ct.origin, back.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(ct.spacing, back.GetSpacing(), atol=1e-5)
    np.testing.assert_allclose(ct.direction.ravel(), back.GetDirection(), atol=1e-5)


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ({"sform": (sheared(), 1)}, "sheared axes"),
        ({"sform": (sheared(), 2), "qform": (STRAIGHT, 0)}, "sheared axes"),
        ({"sform": (sheared(), 1), "qform": (STRAIGHT, 2)}, "sheared axes"),
        ({"qform": (STRAIGHT, 0), "pixdim3": 2.1}, r"2 mm by its sform.*2\.1 mm by its pixdim"),
        ({"sform": (turned(20), 2)}, r"sform \(code 2\) and its qform \(code 1\).*mm apart"),
        ({"qform": (STRAIGHT + np.eye(4, k=3) * 3, 1)}, "3 mm apart"),
        ({"sform": (STRAIGHT, 0), "qform": (STRAIGHT, 0)}, "does not say how it lies"),
        ({"sform": (STRAIGHT, 9)}, "unknown sform or qform code"),
        ({"xyzt_units": 1}, "1500 x 1500 x 2000 mm .its unit is metres"),
        ({"xyzt_units": 3}, "its unit is microns"),
        ({"xyzt_units": 5}, "unknown unit"),
        ({"pixdim2": 0}, "no usable voxel size"),
        ({"pixdim2": np.nan}, "no usable voxel size"),
        ({"qform": (STRAIGHT, 1), "quatern_b": 3.0}, "unusable sform or qform"),
        ({"sform": (STRAIGHT * np.nan, 1)}, "not finite"),
        ({"sform": (np.diag([0.0, 0, 0, 1]), 1)}, "without a voxel size"),
    ],
)
def test_headers_that_are_refused(tmp_path: Path, header: dict[str, Any], problem: str) -> None:
    refused(nifti(tmp_path / "x.nii.gz", **header), problem)


@pytest.mark.parametrize(("unit", "factor"), [(1, 1e-3), (3, 1e3)])
def test_other_units_are_converted_and_said(tmp_path: Path, unit: int, factor: float) -> None:
    matrix = np.diag([factor, factor, factor, 1]) @ STRAIGHT
    steps = {f"pixdim{n + 1}": v * factor for n, v in enumerate((1.5, 1.5, 2.0))}
    path = tmp_path / "ct.nii"
    nifti(path, sform=(matrix, 1), qform=(matrix, 1), xyzt_units=unit, **steps)
    ledger = Ledger()
    ct = read_ct(path, ledger)
    np.testing.assert_allclose(ct.index_to_physical, RAS_TO_LPS @ STRAIGHT, rtol=1e-5)
    assert [f"{1 / factor:g}" in note for note in ledger.notes] == [True]


def test_small_roundings_are_no_disagreement(tmp_path: Path) -> None:
    path = nifti(tmp_path / "ct.nii", sform=(STRAIGHT + 1e-3 * np.eye(4, k=3), 1), xyzt_units=0)
    np.testing.assert_allclose(read_ct(path).spacing, [1.5, 1.5, 2], atol=1e-6)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.97, 0.999])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_cut_short(tmp_path: Path, suffix: str, share: float) -> None:
    path = nifti(tmp_path / f"x{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused(path, "is cut short or damaged")
    with pytest.raises(InputError, match="is cut short or damaged"):
        read_xray(path)


def test_a_flipped_bit_in_compressed_data(tmp_path: Path) -> None:
    path = nifti(tmp_path / "x.nii.gz")
    data = bytearray(path.read_bytes())
    for place in (len(data) // 2, len(data) - 6):  # in the pixels, and in the checksum alone
        bad = data.copy()
        bad[place] ^= 0x10
        path.write_bytes(bad)
        refused(path, "is cut short or damaged")


def test_more_pixels_than_the_header_says(tmp_path: Path) -> None:
    path = nifti(tmp_path / "x.nii")
    path.write_bytes(path.read_bytes() + bytes(4096))
    refused(path, "but its header says")


def test_pairs_colours_and_strangers(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(VOXELS, STRAIGHT), tmp_path / "x.img")
    refused(tmp_path / "x.hdr", "pair of Analyze or NIfTI files")
    colours = np.zeros(SIZE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    refused(nifti(tmp_path / "c.nii", voxels=colours), "holds colours")
    (tmp_path / "s.nii").write_bytes(bytes(1000))
    refused(tmp_path / "s.nii", "is no NIfTI file")


def test_a_picture_needs_no_place(tmp_path: Path) -> None:
    path = nifti(
        tmp_path / "x.nii.gz", voxels=VOXELS[:, :, :1], sform=(STRAIGHT, 0), qform=(STRAIGHT, 0)
    )
    np.testing.assert_array_equal(read_xray(path).pixels, VOXELS[:, :, 0].T)
