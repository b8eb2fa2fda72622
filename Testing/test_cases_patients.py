"""X-rays of another patient than the CT's are noted, and nobody's name is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_files import GEOMETRY, IDENTITY, NAME, picture, two_views, write_dicom
from test_dicom_ct import write_series

from RadGSRegLib.cases import (
    Ledger,
    other_patients,
    patient_in,
    read_case,
    read_ct,
    read_views,
    volume_to_itk,
)

JANE = {"PatientName": NAME, "PatientID": IDENTITY, "PatientBirthDate": "19600102"}
BLANK = {"PatientName": "", "PatientID": "", "PatientBirthDate": ""}


def _patients(folder: Path, one: dict[str, str], other: dict[str, str]) -> list[str]:
    said = {}
    for what, tags in (("the CT", one), ('the X-ray "AP"', other)):
        path = write_dicom(folder / f"{len(said)}.dcm", picture(), **{**JANE, **tags})
        patient = patient_in(path)
        if patient is not None:
            assert "Doe" not in repr(patient)
            assert IDENTITY not in repr(patient)
            said[what] = patient
    return other_patients(said)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        BLANK,
        {"PatientName": "DOE^JANE^^Dr"},
        {"PatientName": "Doe Jane"},
        {"PatientID": f" {IDENTITY.lower()} "},
        {"PatientID": "77", "IssuerOfPatientID": "another hospital"},
        {**BLANK, "PatientID": IDENTITY},
    ],
)
def test_one_patient_written_in_another_way_is_one(tmp_path: Path, tags: dict[str, str]) -> None:
    own = {"IssuerOfPatientID": "this hospital"}
    assert _patients(tmp_path, own, tags) == []
    assert _patients(tmp_path, tags, own) == []


@pytest.mark.parametrize(
    "tags",
    [
        {"PatientName": "Doe^John"},
        {"PatientID": "SECRET-4712"},
        {"PatientBirthDate": "19600103"},
        {**BLANK, "PatientBirthDate": "19610102"},
    ],
)
def test_another_patient_is_named_by_the_picture_alone(
    tmp_path: Path, tags: dict[str, str]
) -> None:
    said = ['the X-ray "AP" belongs to another patient than the CT']
    assert _patients(tmp_path, {}, tags) == said
    assert _patients(tmp_path, tags, {}) == said


def test_no_dicom_and_broken_files_say_nothing(tmp_path: Path) -> None:
    plain = tmp_path / "plain.tif"
    plain.write_bytes(b"II*\0" + bytes(400))
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(bytes(128) + b"DICM" + b"\x10\x00\x10\x00PN\xff")
    assert patient_in(plain) is None
    assert patient_in(broken) is None


def test_xrays_of_two_patients_are_noted_without_a_ct(tmp_path: Path) -> None:
    ledger = Ledger()
    read_views(two_views(tmp_path, PatientID="other"), ledger)
    assert ledger.notes[-1] == 'the X-ray "LA" belongs to another patient than the X-ray "AP"'


def _case(folder: Path, **tags: Any) -> Path:
    """A CT of DICOM slices, a label map and two X-rays, the first with other tags."""
    array = np.full((12, 30, 30), -1000, np.int16)
    array[2:10, 4:26, 4:26] = 40
    array[4:8, 8:22, 8:22] = 700
    write_series(folder / "ct", array, axes=np.eye(3))
    two_views(folder, **{**GEOMETRY, **tags})
    ct = read_ct(folder / "ct")
    bone = ct.with_array((ct.array > 600).astype(np.uint8))
    sitk.WriteImage(volume_to_itk(bone), str(folder / "seg.nii.gz"))
    content = {"ct": "ct", "segmentation": "seg.nii.gz", "label": 1, "views": "views.json"}
    (folder / "case.json").write_text(json.dumps(content))
    return folder / "case.json"


def test_a_case_notes_the_xray_of_another_patient(tmp_path: Path) -> None:
    noted = read_case(_case(tmp_path, PatientName="Roe^Rita", PatientID="ROE-1")).notes
    other = [note for note in noted if "another patient" in note]
    assert other == ['the X-ray "AP" belongs to another patient than the CT']
    assert not any(word in str(noted) for word in ("Roe", "ROE", "Doe", "SECRET"))


def test_a_case_of_one_patient_notes_nothing(tmp_path: Path) -> None:
    assert not any("patient than" in note for note in read_case(_case(tmp_path)).notes)
    assert pydicom.dcmread(tmp_path / "0.dcm").PatientID == IDENTITY
