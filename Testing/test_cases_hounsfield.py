"""A CT that is not in Hounsfield units is noticed; one that is masked or cropped is taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from RadGSRegLib.cases import labels_on_ct, read_ct, read_segmentation
from RadGSRegLib.errors import InputError


def body() -> tuple[np.ndarray, np.ndarray]:
    """A CT (K, J, I) in HU of bone in muscle in fat in air, and the bone's mask."""
    random = np.random.default_rng(0)
    k, j, i = np.indices((30, 40, 44)) - np.array([15, 20, 22])[:, None, None, None]
    across = np.hypot(j, i)
    ct = np.where(across < 19, -100.0, -1000.0)
    ct[across < 15] = 50
    bone = (across < 8) & (abs(k) < 10)
    ct[bone] = 180
    ct[bone & ((across > 6) | (abs(k) > 8))] = 900
    return ct + random.normal(0, 60, ct.shape), bone


def written(folder: Path, ct: np.ndarray) -> Path:
    path = folder / "ct.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(ct), str(path))
    return path


def windowed(ct: np.ndarray) -> np.ndarray:
    return np.clip((ct + 200) / 800 * 255, 0, 255)


NOT_HU: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "+ 1024": (lambda ct: np.maximum(ct + 1024, 0).astype(np.int16), "near 1050"),
    "+ 1024 unclipped": (lambda ct: (ct + 1024).astype(np.float32), "near 1050"),
    "+ 1000": (lambda ct: np.maximum(ct + 1000, 0).astype(np.uint16), "near 1050"),
    "8 bits": (lambda ct: windowed(ct).astype(np.uint8), "no value is above 255"),
    "8 bits as float": (lambda ct: windowed(ct).astype(np.float32), "no value is above 255"),
    "8 bits with a sign": (lambda ct: (windowed(ct) - 128).astype(np.int16), "above 127"),
    "0 to 1": (lambda ct: (windowed(ct) / 255).astype(np.float32), "span only 1"),
    "alike": (lambda ct: np.full(ct.shape, 40, np.int16), "all voxels are alike"),
}


@pytest.mark.parametrize("kind", NOT_HU)
def test_not_in_hounsfield_units(tmp_path: Path, kind: str) -> None:
    change, problem = NOT_HU[kind]
    path = written(tmp_path, change(body()[0]))
    with pytest.raises(InputError, match=problem) as caught:
        read_ct(path)
    assert str(caught.value).startswith(str(path))


def test_an_offset_under_padding(tmp_path: Path) -> None:
    """Padding of -2000 becomes -976 by the same offset."""
    ct = body()[0] + 1024
    ct[:, :4] = -976
    with pytest.raises(InputError, match="near 1050"):
        read_ct(written(tmp_path, ct.astype(np.int16)))


@pytest.mark.parametrize("around", [None, 0.0, -1000.0, -1024.0, 40.0])
@pytest.mark.parametrize("cropped", [False, True])
def test_masked_and_cropped_ct_is_taken(
    tmp_path: Path, around: float | None, cropped: bool
) -> None:
    ct, bone = body()
    if around is not None:
        ct[~bone] = around
    if cropped:
        ct = ct[4:26, 11:29, 13:31]
    read = read_ct(written(tmp_path, ct.astype(np.int16)))
    np.testing.assert_array_equal(read.array, np.maximum(ct.astype(np.int16), -1024))


@pytest.mark.parametrize(("offset", "fits"), [(0, True), (1024, False), (-1024, False)])
def test_bone_has_the_values_of_bone(tmp_path: Path, offset: float, fits: bool) -> None:
    """Where the whole CT does not tell, the label does."""
    ct, bone = body()
    segmentation = tmp_path / "seg.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(bone.astype(np.uint8)), str(segmentation))
    ct[bone] += offset
    volume = read_ct(written(tmp_path, ct.astype(np.int16)))
    labels = read_segmentation(segmentation)
    if fits:
        assert labels_on_ct(labels, 1, volume, segmentation)[1] == 1
        return
    with pytest.raises(InputError, match=r"marks as label 1 what has a median of .*Hounsfield"):
        labels_on_ct(labels, 1, volume, segmentation)
