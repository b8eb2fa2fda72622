"""Segmentations in DICOM: SEG that highdicom writes here from a CT series; RTSTRUCT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from pydicom.sr.coding import Code
from pydicom.uid import RLELossless, generate_uid
from test_dicom_ct import OBLIQUE, hounsfield, write_series

from RadGSRegLib.cases import Ledger, labels_on_ct, read_ct, read_segmentation
from RadGSRegLib.errors import InputError
from RadGSRegLib.vertebrae import SNOMED_CODES

NAMES = {1: "L2", 2: "vertebra L3"}


def two_vertebrae() -> np.ndarray:
    """Masks (K, J, I, 2) on the grid of `hounsfield`, without symmetry; two slices are empty."""
    masks = np.zeros((*hounsfield().shape, 2), np.uint8)
    masks[1:3, 2:8, 1:6, 0] = 1
    masks[2:5, 3:8, 2:7, 1] = 1
    masks[2, 3:8, 2:6, 0] = 0
    masks[4, 3, 2, 1] = 0
    return masks


def write_seg(
    folder: Path,
    masks: np.ndarray,
    axes: np.ndarray = OBLIQUE,
    kind: str = "BINARY",
    reverse: bool = False,
    **options: Any,
) -> Path:
    """A CT series in ``folder`` / ct and its SEG beside, whose frames may run downwards."""
    write_series(
        folder / "ct",
        hounsfield(),
        axes,
        StudyInstanceUID=generate_uid(),
        FrameOfReferenceUID=generate_uid(),
        SliceThickness=2.5,
        **dict.fromkeys(("PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber"), ""),
        **dict.fromkeys(("StudyDate", "StudyTime", "ReferringPhysicianName"), ""),
    )
    images = [pydicom.dcmread(path) for path in (folder / "ct").iterdir()]
    images.sort(
        key=lambda d: axes[:, 2] @ np.array(d.ImagePositionPatient, dtype=float), reverse=reverse
    )
    descriptions = [
        SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=Code("123037004", "SCT", "Anatomical structure"),
            segmented_property_type=Code(SNOMED_CODES[name[-2:]], "SCT", name),
            algorithm_type=SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in NAMES.items()
    ]
    seg = highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=(masks[::-1] if reverse else masks).copy(),  # it is written to
        segmentation_type=SegmentationTypeValues[kind],
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
        **options,
    )
    path = folder / "seg.dcm"
    seg.save_as(path)
    return path


@pytest.mark.parametrize(
    "axes", [np.eye(3), OBLIQUE, np.array([[0, 0, 1.0], [1, 0, 0], [0, 1, 0]])]
)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"omit_empty_frames": False},
        {"kind": "FRACTIONAL", "max_fractional_value": 200},
        {"kind": "FRACTIONAL", "transfer_syntax_uid": RLELossless},
        {"kind": "LABELMAP"},
    ],
)
def test_a_seg_lies_on_its_ct(
    tmp_path: Path, axes: np.ndarray, reverse: bool, options: dict[str, Any]
) -> None:
    masks = two_vertebrae()
    path = write_seg(tmp_path, masks, axes, reverse=reverse, **options)
    ct = read_ct(tmp_path / "ct")
    ledger = Ledger()
    segmentation = read_segmentation(path, ledger)
    labels, value, names = labels_on_ct(segmentation, "L3", ct, path)
    assert names == NAMES
    assert value == 2
    np.testing.assert_array_equal(labels.array, masks[..., 0] + 2 * masks[..., 1])
    assert [s.code for s in segmentation.segments] == [SNOMED_CODES["L2"], SNOMED_CODES["L3"]]
    assert list(ledger.inputs) == ["seg.dcm"]


def test_segments_that_overlap(tmp_path: Path) -> None:
    masks = two_vertebrae()
    masks[2:4, 2:8, 2:6, 0] = 1
    assert (masks.sum(axis=-1) == 2).any()
    path = write_seg(tmp_path, masks)
    ct = read_ct(tmp_path / "ct")
    for number, name in NAMES.items():
        labels, value, _ = labels_on_ct(read_segmentation(path), name, ct, path)
        assert value == number
        np.testing.assert_array_equal(labels.array == value, masks[..., number - 1] == 1)


def test_fractions_count_from_half_on(tmp_path: Path) -> None:
    masks = two_vertebrae()
    path = write_seg(
        tmp_path,
        masks * np.random.default_rng(0).choice([0.3, 0.7], masks.shape),
        kind="FRACTIONAL",
        fractional_type="OCCUPANCY",
    )
    ledger = Ledger()
    array = read_segmentation(path, ledger).array
    expected = np.random.default_rng(0).choice([0.3, 0.7], masks.shape) * masks > 0.5
    assert (array[0] == 2).sum() == expected[..., 1].sum()
    assert "half" in ledger.notes[0]


def test_contours_and_other_kinds_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", hounsfield(), Modality="RTSTRUCT")
    path = next((tmp_path / "ct").iterdir())
    with pytest.raises(InputError, match=r"\.dcm: holds contours.*; export it as a label map"):
        read_segmentation(path)
    write_series(tmp_path / "ct", hounsfield())
    with pytest.raises(InputError, match="of kind CT, no segmentation"):
        read_segmentation(path)


def test_a_damaged_seg_is_refused(tmp_path: Path) -> None:
    path = write_seg(tmp_path, two_vertebrae())
    content = path.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.995):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match=r"seg\.dcm") as caught:
            read_segmentation(path)
        assert "\n" not in str(caught.value)
        assert "Doe" not in str(caught.value)


def test_frames_on_no_regular_grid_are_refused(tmp_path: Path) -> None:
    path = write_seg(tmp_path, two_vertebrae(), omit_empty_frames=False)
    data = pydicom.dcmread(path)
    for group in data.PerFrameFunctionalGroupsSequence:
        place = group.PlanePositionSequence[0]
        z = float(place.ImagePositionPatient[2])
        place.ImagePositionPatient = [*place.ImagePositionPatient[:2], z + 0.02 * z**2 / 50]
    data.save_as(path)
    with pytest.raises(InputError, match=r"seg\.dcm: is a DICOM SEG whose frames cannot"):
        read_segmentation(path)
