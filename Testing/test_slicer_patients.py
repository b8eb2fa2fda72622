# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""X-rays of another patient than the CT's are named in step 2; nobody's name is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import panel_scene
import pydicom
import slicer_startup
from dicom_files import GEOMETRY, IDENTITY, picture, two_views, write_dicom

slicer_startup.start()

from RadGSRegSlicer.exchange import patients, xraysources


class _Database:
    """For ``slicer.dicomDatabase``: a CT and X-rays, by instance."""

    isOpen = True  # noqa: N815

    def __init__(self, files: dict[str, Path]) -> None:
        self.files = files

    def fileForInstance(self, uid: str) -> str:  # noqa: N802
        return str(self.files.get(uid, ""))


def _write(path: Path, modality: str, angle: float, **tags: str) -> Path:
    geometry = {**GEOMETRY, "PositionerPrimaryAngle": angle}
    return write_dicom(path, picture(), modality, **(geometry if modality == "XA" else {}), **tags)


@pytest.fixture
def ct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A CT in the scene, from the database."""
    path = _write(tmp_path / "ct.dcm", "CT", 0.0)
    uid = str(pydicom.dcmread(path).SOPInstanceUID)
    monkeypatch.setattr(slicer, "dicomDatabase", _Database({uid: path}), raising=False)
    patients._known.clear()
    node, _ = panel_scene.load_nodes(panel_scene.write_files(tmp_path / "case"))
    node.SetAttribute("DICOM.instanceUIDs", f"{uid} 1.2.3")
    return node


def _xrays(folder: Path, **tags: str) -> list[Any]:
    """Two X-rays as from the database, the second with other tags."""
    nodes = []
    for number, angle in enumerate((8.0, 95.0)):
        path = _write(folder / f"{number}.dcm", "XA", angle, **(tags if number else {}))
        series = xraysources.DicomSeries(
            str(number), f"Doe \N{MIDDLE DOT} run {number}", (str(path),)
        )
        nodes += xraysources.fromDicom(series).nodes
    return nodes


def test_the_xray_of_another_patient_is_named_and_he_is_not(
    widget: Any, ct: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = _xrays(tmp_path, PatientName="Roe^Rita", PatientID="ROE-1")
    widget.ui.ctSelector.setCurrentNode(ct)
    widget._parameterNode.xrays = nodes
    widget.update()
    said = widget.ui.xrayStatusLabel.text
    assert said.endswith('Look: the X-ray "run 1" belongs to another patient than the CT')
    slicer.mrmlScene.SetSaveToXMLString(1)
    slicer.mrmlScene.Commit()
    scene = slicer.mrmlScene.GetSceneXMLString()
    assert "run 1" in scene
    for word in ("Roe", "ROE", "Rita", "Doe", "SECRET", IDENTITY):
        assert word not in said + caplog.text + scene, word


def test_xrays_of_the_cts_patient_are_ready(widget: Any, ct: Any, tmp_path: Path) -> None:
    nodes = _xrays(tmp_path)
    assert patients.otherPatients(ct, nodes) == []
    widget.ui.ctSelector.setCurrentNode(ct)
    widget._parameterNode.xrays = nodes
    widget.update()
    assert "Look" not in widget.ui.xrayStatusLabel.text


def test_without_a_ct_from_dicom_xrays_are_compared_with_each_other(
    ct: Any, tmp_path: Path
) -> None:
    nodes = _xrays(tmp_path, PatientID="ROE-1")
    ct.RemoveAttribute("DICOM.instanceUIDs")
    first, second = (node.GetName() for node in nodes)
    said = [f'the X-ray "{second}" belongs to another patient than the X-ray "{first}"']
    assert patients.otherPatients(ct, nodes) == patients.otherPatients(None, nodes) == said


def test_an_xray_of_a_saved_scene_is_known_by_the_database(ct: Any, tmp_path: Path) -> None:
    nodes = _xrays(tmp_path, PatientID="ROE-1")
    patients._known.clear()  # another session
    assert patients.otherPatients(ct, nodes) == []
    uid = nodes[1].GetAttribute(patients.INSTANCE)
    slicer.dicomDatabase.files[uid] = tmp_path / "1.dcm"
    (said,) = patients.otherPatients(ct, nodes)
    assert said.endswith("belongs to another patient than the CT")


def test_xrays_of_a_views_json_are_known_too(ct: Any, tmp_path: Path) -> None:
    path = two_views(tmp_path, PatientID="ROE-1")
    imported = xraysources.fromFile(path)
    first, second = (node.GetName() for node in imported.nodes)
    said = [f'the X-ray "{first}" belongs to another patient than the CT']
    assert patients.otherPatients(ct, imported.nodes) == said
    assert any("nominal" in note for note in imported.notes)
    ct.RemoveAttribute("DICOM.instanceUIDs")
    said = [f'the X-ray "{second}" belongs to another patient than the X-ray "{first}"']
    assert patients.otherPatients(ct, imported.nodes) == said
