"""NRRD and MetaImage that are cut short, damaged, or do not say where they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from RadGSRegLib.cases import Ledger, read_ct, read_segmentation
from RadGSRegLib.errors import InputError

VOXELS = np.random.default_rng(0).integers(-1000, 1500, (7, 8, 9)).astype(np.int16)
SUFFIXES = (".nrrd", ".mha", ".nhdr", ".mhd")


def written(path: Path, compressed: bool) -> Path:
    """A volume; returns the file that holds its pixels."""
    image = sitk.GetImageFromArray(VOXELS)
    image.SetSpacing([0.7, 0.8, 2.5])
    sitk.WriteImage(image, str(path), useCompression=compressed)
    beside = [p for p in path.parent.iterdir() if p.stem.startswith(path.stem) and p != path]
    return beside[0] if beside else path


def refused(path: Path, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        read_ct(path)
    assert str(path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compressed", [False, True])
def test_cut_short(tmp_path: Path, suffix: str, compressed: bool, capfd: object) -> None:
    path = tmp_path / f"x{suffix}"
    pixels = written(path, compressed)
    np.testing.assert_array_equal(read_ct(path).array, VOXELS)
    whole = pixels.read_bytes()
    for share in (0.7, 0.999):
        pixels.write_bytes(whole[: int(len(whole) * share)])
        refused(path, "is cut short or damaged")
    pixels.write_bytes(whole)
    assert capfd.readouterr() == ("", "")  # type: ignore[attr-defined]  # MetaIO writes there


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_flipped_bit_in_compressed_data(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    pixels = written(path, True)
    data = bytearray(pixels.read_bytes())
    data[-300] ^= 0x10
    pixels.write_bytes(data)
    refused(path, "is cut short or damaged")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_more_pixels_than_the_header_says(tmp_path: Path, suffix: str) -> None:
    pixels = written(tmp_path / f"x{suffix}", False)
    pixels.write_bytes(pixels.read_bytes() + bytes(4096))
    refused(tmp_path / f"x{suffix}", "but its header says")


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_the_file_beside_is_an_input_too(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    pixels = written(path, True)
    ledger = Ledger()
    read_ct(path, ledger)
    assert set(ledger.inputs) == {path.name, pixels.name}
    pixels.unlink()
    refused(path, "cannot be read")


def edited(path: Path, old: str, new: str) -> Path:
    written(path, False)
    data = path.read_bytes()
    assert old.encode() in data
    path.write_bytes(data.replace(old.encode(), new.encode(), 1))
    return path


def test_nrrd_spaces(tmp_path: Path) -> None:
    space = "space: left-posterior-superior\n"
    path = tmp_path / "x.nrrd"
    refused(edited(path, space, space + 'space units: "m" "m" "m"\n'), "has m as space units")
    millimetres = edited(path, space, space + 'space units: "mm" "mm" "mm"\n')
    np.testing.assert_array_equal(read_ct(millimetres).array, VOXELS)
    refused(edited(path, space, "space: scanner-xyz\n"), "does not say how it lies")
    ras = read_ct(edited(path, space, "space: right-anterior-superior\n"))
    np.testing.assert_allclose(ras.direction, np.diag([-1, -1, 1]), atol=1e-9)
    unplaced = edited(path, space, "space dimension: 3\n")
    refused(unplaced, "does not say how it lies")
    with pytest.raises(InputError, match="does not say how it lies"):
        read_segmentation(unplaced)


def test_sheared_axes(tmp_path: Path) -> None:
    nrrd = edited(tmp_path / "x.nrrd", "(0,0,2.5)", "(0,0.6,2.4)")
    refused(nrrd, "has sheared axes")
    meta = edited(tmp_path / "x.mha", "= 1 0 0 0 1 0 0 0 1", "= 1 0 0 0 1 0 0 0.25 0.97")
    refused(meta, "has sheared axes")


@pytest.mark.parametrize("spacing", [0.0007, 700.0])
def test_voxels_in_another_unit(tmp_path: Path, spacing: float) -> None:
    image = sitk.GetImageFromArray(VOXELS)
    image.SetSpacing([spacing] * 3)
    for suffix in (".nrrd", ".mha"):
        sitk.WriteImage(image, str(tmp_path / f"x{suffix}"))
        refused(tmp_path / f"x{suffix}", "which no CT of the body has")
