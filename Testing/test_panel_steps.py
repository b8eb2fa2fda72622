# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""Steps 1 to 3 of the panel, clicked through on the stand-in for Qt with a real scene."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import ball
import panel_scene
import slicer_startup

from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import lps_to_ras, transform_points

slicer_startup.start()

from RadGSRegSlicer.exchange import casefolder, xraysources
from RadGSRegSlicer.scene import carm, frames, levels, starts, xray


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return panel_scene.write_files(tmp_path / "case")


@pytest.fixture
def loaded(widget: Any, files: Path) -> tuple[Any, Any]:
    """CT and segmentation in the scene and chosen."""
    ct, segmentation = panel_scene.load_nodes(files)
    widget.ui.ctSelector.setCurrentNode(ct)
    widget.ui.segmentSelector.setCurrentNode(segmentation)
    return ct, segmentation


def _status(widget: Any, step: str) -> str:
    return str(getattr(widget.ui, f"{step}StatusLabel").text)


def _title(widget: Any, step: str) -> str:
    return str(getattr(widget.ui, f"{step}CollapsibleButton").text)


def _load_xrays(widget: Any, files: Path) -> list[Any]:
    widget.ui.viewsPathLineEdit.currentPath = str(files / "views.json")
    widget.ui.importButton.click()
    return list(widget._parameterNode.xrays)


def _choose(comboBox: Any, key: str) -> None:
    comboBox.setCurrentIndex(comboBox.findData(key))


# Step 1


def test_an_empty_scene_says_what_to_do(widget: Any) -> None:
    assert "Select the CT" in _status(widget, "ct")
    assert "Add X-rays, best two or more" in _status(widget, "xray")
    assert "Register first" in _status(widget, "review")
    assert not widget.ui.applyButton.enabled
    assert widget.ui.applyButton.toolTip == "Step 1: Select the CT"
    assert all("\N{WHITE CIRCLE}" in _title(widget, s) for s in ("ct", "xray", "start"))


def test_ct_and_the_only_vertebra(widget: Any, loaded: tuple[Any, Any]) -> None:
    ct, segmentation = loaded
    parameters = widget._parameterNode
    assert parameters.ctVolume is ct
    assert parameters.segmentation is segmentation
    assert parameters.segmentId == segmentation.GetSegmentation().GetNthSegmentID(0)
    assert "L3, by the segment's name" in _status(widget, "ct")
    assert "\N{CHECK MARK}" in _title(widget, "ct")
    assert widget.ui.levelComboBox.currentText == "L3"
    assert widget.ui.neighboursLabel.text == "no neighbours segmented"


def test_a_segment_that_nobody_chose_is_not_taken(widget: Any, loaded: tuple[Any, Any]) -> None:
    """The selector itself takes the first segment of what it is given."""
    selector, parameters = widget.ui.segmentSelector, widget._parameterNode
    chosen = parameters.segmentId
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Spine")
    segments = other.GetSegmentation()
    for name in ("vertebrae_L1", "vertebrae_L2", "vertebrae_L3"):
        segments.AddEmptySegment(name, name)
    selector.setCurrentNode(other)
    assert (parameters.segmentation, parameters.segmentId) == (other, "")
    assert selector.currentSegmentID() == ""
    assert "Select the segment" in _status(widget, "ct")
    selector.setCurrentSegmentID("vertebrae_L2")
    assert parameters.segmentId == "vertebrae_L2"
    segments.RemoveSegment("vertebrae_L2")
    assert parameters.segmentId == ""
    assert "Select the segment" in _status(widget, "ct")
    selector.setCurrentSegmentID("vertebrae_L1")
    assert parameters.segmentId == "vertebrae_L1"
    selector.setCurrentNode(None)
    assert (parameters.segmentation, parameters.segmentId) == (None, "")
    selector.setCurrentNode(loaded[1])
    assert (parameters.segmentation, parameters.segmentId) == (loaded[1], chosen)
    loaded[1].GetSegmentation().RemoveAllSegments()
    assert "The segment is gone" in _status(widget, "ct")


def test_the_level_is_corrected_by_hand(widget: Any, loaded: tuple[Any, Any]) -> None:
    _, segmentation = loaded
    segments = segmentation.GetSegmentation()
    segments.AddEmptySegment("vertebrae_L5", "x")
    _choose(widget.ui.levelComboBox, "L4")
    segment = segments.GetNthSegment(0)
    assert segment.GetName() == "L4"
    assert "L4, as you said" in _status(widget, "ct")
    assert widget.ui.neighboursLabel.text == "neighbours: L5"
    from RadGSRegSlicer.scene.segments import findSegment, snomedCode

    assert snomedCode(segments, segments.GetNthSegmentID(0)) == "11994002"
    assert findSegment(segmentation, "L4") == segments.GetNthSegmentID(0)


def test_levels_by_tag_then_id_then_name(widget: Any) -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Spine")
    segments = node.GetSegmentation()
    for id_, name in (("vertebrae_L3", "x"), ("b", "L4 vertebra"), ("c", "liver"), ("d", "S1")):
        segments.AddEmptySegment(id_, name)
    assert levels.vertebrae(node) == {"vertebrae_L3": "L3", "b": "L4", "d": "S1"}
    assert levels.segmentLevel(node, "vertebrae_L3").source == "id"
    assert levels.segmentLevel(node, "c") is None
    assert levels.neighbours(node, "vertebrae_L3") == ["L4"]
    assert levels.neighbours(node, "d") == []
    # A transitional vertebra has no code of its own; what was said by hand counts.
    levels.setSegmentLevel(node, "b", "L6")
    assert levels.segmentLevel(node, "b") == ("L6", "hand")
    assert levels.neighbours(node, "d") == ["L6"]


def test_what_is_no_ct_is_said(widget: Any, files: Path) -> None:
    flat = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "flat")
    slicer.util.updateVolumeFromArray(flat, np.zeros((1, 8, 8)))
    widget.ui.ctSelector.setCurrentNode(flat)
    assert "flat: does not hold a 3-D image" in _status(widget, "ct")


def test_a_segment_that_is_removed_is_missed(widget: Any, loaded: tuple[Any, Any]) -> None:
    _, segmentation = loaded
    segmentation.GetSegmentation().RemoveSegment(widget._parameterNode.segmentId)
    widget.update()
    assert "select" in _status(widget, "ct").lower()
    assert not widget.ui.applyButton.enabled


def test_place_mode_follows_the_button(widget: Any, loaded: tuple[Any, Any]) -> None:
    interaction = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLInteractionNode")
    widget.ui.segmentGroupBox.collapsed = False
    button = widget.ui.placeSegmentPointButton
    assert not widget.ui.segmentFromClickButton.enabled
    assert "Place a point" in widget.ui.segmentFromClickButton.toolTip
    button.click()
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    points = widget._parameterNode.segmentPoint
    assert slicer.modules.markups.logic().GetActiveListID() == points.GetID()
    points.AddControlPointWorld(*(ball.CENTRE_CT * [-1, -1, 1]))
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    assert not button.checked
    assert "Choose which vertebra" in widget.ui.segmentFromClickButton.toolTip
    _choose(widget.ui.newLevelComboBox, "L3")
    assert widget.ui.segmentFromClickButton.enabled
    button.click()
    button.click()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform


@pytest.mark.parametrize("behaviour", ["ok", "uncertain", "hang"])
def test_segment_from_a_point(
    widget: Any, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str
) -> None:
    library = panel_scene.quick_library(tmp_path, monkeypatch)
    library.behave(behaviour)
    ct = slicer_startup.load_volume(files / "ct.nii.gz")
    ui, parameters = widget.ui, widget._parameterNode
    ui.ctSelector.setCurrentNode(ct)
    # A CT that is moved already: the point is taken where the CT is seen.
    above = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    above.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(lps_to_ras(ball.POSE)))
    ct.SetAndObserveTransformNodeID(above.GetID())
    assert not ui.segmentGroupBox.collapsed
    _choose(ui.newLevelComboBox, "L2")
    ui.placeSegmentPointButton.click()
    place = transform_points(ball.POSE, ball.CENTRE_CT[None])[0] * [-1, -1, 1]
    parameters.segmentPoint.AddControlPointWorld(*(float(x) for x in place))
    ui.segmentFromClickButton.click()
    assert ui.segmentFromClickButton.text == "Cancel"
    assert not ui.placeSegmentPointButton.checked
    assert "Wait until" in ui.applyButton.toolTip or not ui.applyButton.enabled
    if behaviour == "hang":
        panel_scene.wait_until(lambda: ui.segmentProgressBar.value == 50)
        ui.segmentFromClickButton.click()
    panel_scene.wait_until(lambda: ui.segmentFromClickButton.text != "Cancel")
    if behaviour == "hang":
        assert parameters.segmentation is None
        return
    said = json.loads(library.read("arguments"))
    point = [float(x) for x in said[said.index("--point") + 1].split(",")]
    np.testing.assert_allclose(point, ball.CENTRE_CT, atol=1e-3)
    assert levels.segmentLevel(parameters.segmentation, parameters.segmentId).level == "L2"
    assert "L2" in _status(widget, "ct")
    assert ("uncertain, look at it: looks odd" in _status(widget, "ct")) is (behaviour != "ok")


def test_total_segmentator_with_one_button(
    widget: Any, loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    button = widget.ui.totalSegmentatorButton
    assert not button.enabled
    assert "not installed" in button.toolTip
    asked: list[Any] = []

    class Logic:
        def setupPythonRequirements(self) -> None:  # noqa: N802
            asked.append("requirements")

        def process(
            self,
            inputVolume: Any,
            outputSegmentation: Any,
            quality: Any = None,
            cpu: bool = False,
            task: str | None = None,
            subset: list[str] | None = None,
        ) -> None:
            asked.append((inputVolume, quality, task, "vertebrae_L3" in (subset or [])))
            node = outputSegmentation
            node.GetSegmentation().AddEmptySegment("vertebrae_L3", "vertebrae_L3")

    module = types.ModuleType("TotalSegmentator")
    module.TotalSegmentatorLogic = Logic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "TotalSegmentator", module)
    slicer.modules.totalsegmentator = object()
    widget.update()
    assert button.enabled
    button.click()
    assert asked == ["requirements", (loaded[0], False, "total", True)]
    assert widget._parameterNode.segmentation is not loaded[1]
    assert "Select the segment" in _status(widget, "ct")


# Step 2


def test_xrays_from_a_views_file(widget: Any, files: Path) -> None:
    assert not widget.ui.importButton.enabled
    nodes = _load_xrays(widget, files)
    assert [node.GetName() for node in nodes] == ["AP", "LA"]
    assert "2 X-rays with geometry" in _status(widget, "xray")
    table = widget.ui.xrayTable
    assert [table.item(0, column).text() for column in range(4)][1:] == [
        "320 \N{MULTIPLICATION SIGN} 300",
        "-180.0\N{DEGREE SIGN}, 0.0\N{DEGREE SIGN}",
        "calibrated",
    ] or table.item(0, 3).text() == "calibrated"


def test_a_path_that_is_cleared_is_gone(widget: Any, files: Path) -> None:
    _load_xrays(widget, files)
    ui, parameters = widget.ui, widget._parameterNode
    for line, button in (
        (ui.exportPathLineEdit, ui.exportButton),
        (ui.viewsPathLineEdit, ui.importButton),
    ):
        line.currentPath = str(files)
        assert button.enabled
        line.currentPath = ""
        assert not button.enabled
    ui.modelPathLineEdit.currentPath = "weights"
    assert parameters.modelPath == "weights"
    ui.modelPathLineEdit.currentPath = ""
    assert parameters.modelPath == ui.modelPathLineEdit.currentPath == ""


def test_xrays_that_come_and_go_in_the_console(widget: Any, files: Path) -> None:
    nodes = widget.logic.importXray(files / "views.json")
    panel_scene.wait_until(lambda: widget.ui.xrayTable.rowCount == 2)
    assert list(widget._parameterNode.xrays) == nodes
    slicer.mrmlScene.RemoveNode(nodes[0])
    panel_scene.wait_until(lambda: widget.ui.xrayTable.rowCount == 1)
    assert "its depth stays uncertain" in _status(widget, "xray")
    assert not widget.ui.applyButton.enabled


def test_an_xray_that_is_not_ticked_is_not_used(widget: Any, files: Path) -> None:
    import qt

    _load_xrays(widget, files)
    item = widget.ui.xrayTable.item(0, 0)
    item.setCheckState(qt.Qt.Unchecked)
    assert [node.GetName() for node in widget._parameterNode.xrays] == ["LA"]
    assert "its depth stays uncertain" in _status(widget, "xray")
    item.setCheckState(qt.Qt.Checked)
    assert len(widget._parameterNode.xrays) == 2
    widget.ui.removeXrayButton.click()
    assert len(xray.xrayNodes(slicer.mrmlScene)) == 1
    assert widget.ui.xrayTable.rowCount == 1


def test_a_file_that_is_not_there_is_said_in_the_step(widget: Any) -> None:
    widget.ui.viewsPathLineEdit.currentPath = "no/such/views.json"
    widget.ui.importButton.click()
    assert "views.json: is not there" in _status(widget, "xray")
    assert widget._parameterNode.xrays == []


def test_a_package_that_cannot_be_loaded_leads_to_the_button(
    widget: Any, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> None:
        raise ModuleNotFoundError("No module named 'pydicom'", name="pydicom")

    monkeypatch.setattr(xraysources, "fromFile", broken)
    widget.ui.viewsPathLineEdit.currentPath = str(files / "views.json")
    widget.ui.importButton.click()
    said = widget.ui.xrayStatusLabel.text
    assert "pydicom cannot be loaded; press 'Install what is missing'" in said
    assert "No module named" not in said


def test_an_image_without_geometry_gets_a_nominal_one(widget: Any, files: Path) -> None:
    image = next(files.glob("*.tif"))
    widget.ui.viewsPathLineEdit.currentPath = str(image)
    widget.ui.importButton.click()
    (node,) = widget._parameterNode.xrays
    assert xray.getGeometry(node).nominal
    assert "lacks any geometry; set the geometry below" in _status(widget, "xray")
    assert not widget.ui.geometryGroupBox.collapsed
    assert widget.ui.nominalCheckBox.checked
    assert widget.ui.sourceDetectorSpinBox.value == pytest.approx(1000)


def test_editing_the_c_arm_moves_the_xray(widget: Any, files: Path) -> None:
    _, lateral = _load_xrays(widget, files)
    ui = widget.ui
    assert ui.geometryLabel.text.startswith("LA: whatever is edited")
    before = xray.getGeometry(lateral)
    assert ui.sourceDetectorSpinBox.value == pytest.approx(ball.FOCAL * 0.61, abs=0.01)
    assert ui.sourcePatientSpinBox.value == pytest.approx(ball.DISTANCE, abs=0.01)
    # Both views look at the ball: that is where the C-arm turns.
    centre = transform_points(ball.POSE, ball.CENTRE_CT[None])[0] * [-1, -1, 1]
    boxes = (ui.isocentreRSpinBox, ui.isocentreASpinBox, ui.isocentreSSpinBox)
    np.testing.assert_allclose([box.value for box in boxes], centre, atol=0.06)
    ui.primarySpinBox.value += 10.0
    turned = xray.getGeometry(lateral)
    directions = [g.camera.view_direction_world for g in (before, turned)]
    assert np.degrees(np.arccos(directions[0] @ directions[1])) == pytest.approx(10.0, abs=1e-3)
    point = (centre * [-1, -1, 1])[None]
    np.testing.assert_allclose(turned.camera.project(point), [[160, 150]], atol=1e-3)
    ui.columnSpacingSpinBox.value = 0.5
    ui.principalRowSpinBox.value = 140.0
    ui.nominalCheckBox.checked = True
    _choose(ui.intensityComboBox, "attenuation")
    changed = xray.getGeometry(lateral)
    assert changed.pixelSpacing[0] == 0.5
    assert changed.camera.intrinsic[1, 2] == 140.0
    assert (changed.nominal, changed.intensity) == (True, "attenuation")
    assert "the geometry of LA is only nominal" in _status(widget, "xray")
    ui.sourcePatientSpinBox.value = 2500.0
    assert "must be between the source and the detector" in _status(widget, "xray")
    assert xray.getGeometry(lateral).camera.world_to_camera[2, 3] < 2000


def test_a_geometry_from_files(widget: Any, files: Path, tmp_path: Path) -> None:
    _, lateral = _load_xrays(widget, files)
    wanted = xray.getGeometry(lateral)
    ui = widget.ui

    def load(path: Path) -> None:
        ui.primarySpinBox.value += 15.0
        ui.geometryPathLineEdit.currentPath = str(path)
        ui.loadGeometryButton.click()

    load(files / "views.json")
    np.testing.assert_allclose(
        xray.getGeometry(lateral).camera.projection, wanted.camera.projection
    )
    matrix = tmp_path / "matrix.txt"
    np.savetxt(matrix, wanted.camera.projection)
    load(matrix)
    loaded = xray.getGeometry(lateral)
    points = np.random.default_rng(0).normal(size=(5, 3)) * 40 + [20, -10, 20]
    np.testing.assert_allclose(
        loaded.camera.project(points), wanted.camera.project(points), atol=1e-6
    )
    rtk = tmp_path / "geometry.xml"
    to_mm = np.array([[0.61, 0, -0.61 * 159.5], [0, 0.61, -0.61 * 149.5], [0, 0, 1]])
    rows = "\n".join(" ".join(str(x) for x in row) for row in to_mm @ wanted.camera.projection)
    rtk.write_text(
        "<RTKThreeDCircularGeometry version='3'><Projection><Matrix>"
        f"{rows}</Matrix></Projection></RTKThreeDCircularGeometry>"
    )
    load(rtk)
    np.testing.assert_allclose(
        xray.getGeometry(lateral).camera.project(points), wanted.camera.project(points), atol=1e-6
    )
    matrix.write_text("1 2 3")
    load(matrix)
    assert "matrix.txt" in _status(widget, "xray")


def _write_rtk(path: Path, projection: np.ndarray, pixel_to_mm: np.ndarray) -> Path:
    rows = "\n".join(" ".join(repr(float(x)) for x in row) for row in pixel_to_mm @ projection)
    path.write_text(
        "<RTKThreeDCircularGeometry version='3'><Projection><Matrix>"
        f"{rows}</Matrix></Projection></RTKThreeDCircularGeometry>"
    )
    return path


@pytest.mark.parametrize("suffix", ["mha", "nrrd", "nii.gz"])
def test_an_rtk_geometry_takes_the_files_own_place(
    widget: Any, files: Path, tmp_path: Path, suffix: str
) -> None:
    _, lateral = _load_xrays(widget, files)
    wanted = xray.getGeometry(lateral).camera
    image = sitk.GetImageFromArray(xray.getPixels(lateral).astype(np.float32))
    image.SetSpacing((0.4, 0.5))
    image.SetOrigin((-30.0, -90.0))
    sitk.WriteImage(image, str(tmp_path / f"one.{suffix}"))
    (node,) = xraysources.fromFile(tmp_path / f"one.{suffix}").nodes
    nominal = xray.getGeometry(node)
    assert nominal.pixelSpacing == pytest.approx((0.4, 0.5))
    assert nominal.camera.intrinsic[0, 0] == pytest.approx(1000.0 / 0.4)
    # As Slicer's C-arm boxes leave it, and as a saved scene has it.
    xray.setGeometry(node, carm.CArm.of(nominal).applied(nominal))
    to_mm = np.array([[0.4, 0, -30.0], [0, 0.5, -90.0], [0, 0, 1]])
    if suffix == "nii.gz":  # ITK turns NIfTI's axes; the file says where it is all the same
        read = sitk.ReadImage(str(tmp_path / f"one.{suffix}"))
        to_mm[:2, 2] = read.GetOrigin()
        to_mm[:2, :2] = np.reshape(read.GetDirection(), (2, 2)) * read.GetSpacing()
    rtk = _write_rtk(tmp_path / "geometry.xml", wanted.projection, to_mm)
    loaded = xraysources.geometryFromFile(rtk, node)
    points = np.random.default_rng(0).normal(size=(5, 3)) * 40 + [20, -10, 20]
    np.testing.assert_allclose(loaded.camera.project(points), wanted.project(points), atol=1e-3)
    assert not loaded.nominal


@pytest.mark.parametrize("suffix", ["tif", "mha"])
def test_an_rtk_geometry_is_refused_while_the_spacing_is_a_guess(
    widget: Any, files: Path, tmp_path: Path, suffix: str
) -> None:
    _, lateral = _load_xrays(widget, files)
    wanted = xray.getGeometry(lateral).camera
    path = next(files.glob("*.tif"))
    if suffix == "mha":  # without a spacing of its own: ITK says 1 mm, and (0, 0)
        image = sitk.GetImageFromArray(xray.getPixels(lateral).astype(np.float32))
        path = tmp_path / "one.mha"
        sitk.WriteImage(image, str(path))
    ui = widget.ui
    ui.viewsPathLineEdit.currentPath = str(path)
    ui.importButton.click()
    node = widget._parameterNode.xrays[-1]
    to_mm = np.array([[0.61, 0, -0.61 * 159.5], [0, 0.61, -0.61 * 149.5], [0, 0, 1]])
    rtk = _write_rtk(tmp_path / "geometry.xml", wanted.projection, to_mm)
    ui.geometryPathLineEdit.currentPath = str(rtk)
    ui.loadGeometryButton.click()
    assert "set the pixel spacing first" in _status(widget, "xray")
    assert xray.getGeometry(node).nominal
    # Taken out and in again it is a guess still.
    (other,) = xraysources.fromFile(path).nodes
    xray.clearGeometry(other)
    xraysources.fromVolume(other)
    with pytest.raises(InputError, match="set the pixel spacing first"):
        xraysources.geometryFromFile(rtk, other)
    ui.columnSpacingSpinBox.value = 0.61
    ui.rowSpacingSpinBox.value = 0.61
    loaded = xraysources.geometryFromFile(rtk, node).camera
    points = np.random.default_rng(0).normal(size=(5, 3)) * 40 + [20, -10, 20]
    np.testing.assert_allclose(loaded.project(points), wanted.project(points), atol=1e-4)


def test_the_geometry_is_written_again(widget: Any, files: Path, tmp_path: Path) -> None:
    _load_xrays(widget, files)
    widget.ui.exportPathLineEdit.currentPath = str(tmp_path / "saved")
    widget.ui.exportButton.click()
    was = json.loads((files / "views.json").read_text())["views"]
    now = json.loads((tmp_path / "saved" / "views.json").read_text())["views"]
    for one, other in zip(was, now, strict=True):
        assert one["name"] == other["name"]
        np.testing.assert_allclose(one["extrinsic"], other["extrinsic"], atol=1e-9)
        np.testing.assert_allclose(one["intrinsic"], other["intrinsic"], atol=1e-9)


def test_a_volume_becomes_an_xray(widget: Any) -> None:
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "picture")
    slicer.util.updateVolumeFromArray(volume, np.ones((1, 20, 30)))
    volume.SetSpacing(0.4, 0.4, 1.0)
    widget.ui.volumeSelector.setCurrentNode(volume)
    widget.ui.addVolumeButton.click()
    geometry = xray.getGeometry(volume)
    assert geometry.pixelSpacing == (0.4, 0.4)
    assert geometry.nominal
    thick = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "thick")
    slicer.util.updateVolumeFromArray(thick, np.ones((5, 20, 30)))
    widget.ui.volumeSelector.setCurrentNode(thick)
    widget.ui.addVolumeButton.click()
    assert "thick: is 30 x 20 x 5, but an X-ray has one slice" in _status(widget, "xray")


class _Database:
    """For ``slicer.dicomDatabase``, with the calls of ctkDICOMDatabase that are used."""

    isOpen = True  # noqa: N815

    def __init__(self, file: Path) -> None:
        self.file = file

    def patients(self) -> list[str]:
        return ["1"]

    def studiesForPatient(self, patient: str) -> list[str]:  # noqa: N802
        return ["study"]

    def seriesForStudy(self, study: str) -> list[str]:  # noqa: N802
        return ["ct", "xa"]

    def fieldForSeries(self, field: str, uid: str) -> str:  # noqa: N802
        return {"ct": "CT", "xa": "XA"}[uid]

    def fieldForStudy(self, field: str, uid: str) -> str:  # noqa: N802
        return "20260101"

    def displayedNameForPatient(self, patient: str) -> str:  # noqa: N802
        return "Doe^Jane"

    def descriptionForSeries(self, uid: str) -> str:  # noqa: N802
        return "spine"

    def filesForSeries(self, uid: str) -> list[str]:  # noqa: N802
        return [str(self.file)]

    def fileForInstance(self, uid: str) -> str:  # noqa: N802
        return str(self.file) if uid == "1.2.3" else ""


@pytest.fixture
def dicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An XA of three frames with geometry, in the database that Slicer is told to have."""
    from test_dicom_xray import GEOMETRY, picture, write_dicom

    stack = np.stack([picture(seed=n) for n in range(3)])
    path = write_dicom(tmp_path / "xa.dcm", stack, **GEOMETRY)
    monkeypatch.setattr(slicer, "dicomDatabase", _Database(path), raising=False)
    return path


def test_xrays_from_the_dicom_database(widget: Any, dicom: Path) -> None:
    ui = widget.ui
    ui.refreshDicomButton.click()
    assert ui.dicomComboBox.count == 1
    assert "XA spine" in ui.dicomComboBox.currentText
    ui.addDicomButton.click()
    (node,) = widget._parameterNode.xrays
    assert "Doe" not in node.GetName()
    assert xray.getGeometry(node).nominal
    assert "has 3 frames; number 2 is taken" in _status(widget, "xray")


def test_a_volume_of_slicers_dicom_plugin(widget: Any, dicom: Path) -> None:
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "101: XA")
    volume.SetAttribute("DICOM.instanceUIDs", "1.2.3")
    widget.ui.volumeSelector.setCurrentNode(volume)
    widget.ui.frameSpinBox.value = 3
    widget.ui.addVolumeButton.click()
    (node,) = widget._parameterNode.xrays
    assert node is not volume
    assert node.GetName() == "101: XA X-ray"
    assert xray.getGeometry(node).nominal


def test_a_dicom_files_name_does_not_get_out(widget: Any, tmp_path: Path) -> None:
    from test_dicom_xray import GEOMETRY, picture, write_dicom

    path = write_dicom(tmp_path / "SMITH_JOHN.dcm", picture(), **GEOMETRY)
    nodes = [*xraysources.fromFile(path).nodes, *xraysources.fromFile(path).nodes]
    nodes += widget.logic.importXray(path)
    assert [node.GetName() for node in nodes] == ["X-ray 1", "X-ray 2", "X-ray 3"]
    assert [casefolder.viewName(node) for node in nodes] == ["X-ray 1", "X-ray 2", "X-ray 3"]


def test_a_broken_dicom_file_is_refused_in_one_sentence(
    widget: Any, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "xa.dcm"
    start = b"\0" * 128 + b"DICM"
    path.write_bytes(start + b"\x02\0\x10\0UI\x10\0abc")  # pydicom warns, and quotes it
    assert xraysources.frameCount(path) == 1
    path.write_bytes(start + b"\x08\0\x05\0SQ\0\0\xff\xff\xff\xff\1\2\3\4\5\6\7\x08")
    with pytest.raises(InputError, match=r"xa\.dcm: cannot be read as DICOM"):
        xraysources.frameCount(path)
    assert not recwarn.list


def test_without_a_dicom_database(widget: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slicer, "dicomDatabase", None, raising=False)
    widget.ui.refreshDicomButton.click()
    assert "DICOM database: is not open" in _status(widget, "xray")


def test_source_beam_and_detector_are_drawn_on_request(widget: Any, files: Path) -> None:
    _load_xrays(widget, files)
    names = lambda: [n.GetName() for n in slicer.util.getNodesByClass("vtkMRMLModelNode")]  # noqa: E731
    assert not any("beam" in name for name in names())
    widget.ui.drawingCheckBox.checked = True
    assert {"AP beam", "LA beam"} <= set(names())
    beam = slicer.util.getNode("LA beam")
    before = np.array(slicer.util.arrayFromModelPoints(beam))
    widget.ui.primarySpinBox.value += 20.0
    assert np.abs(slicer.util.arrayFromModelPoints(beam) - before).max() > 10.0
    widget.ui.drawingCheckBox.checked = False
    assert not any("beam" in name for name in names())


@pytest.mark.parametrize("seed", range(6))
def test_c_arm_numbers_there_and_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    arm = carm.CArm(
        rng.uniform(900, 1300),
        rng.uniform(500, 800),
        rng.uniform(-170, 170),
        rng.uniform(-60, 60),
        rng.uniform(-90, 90),
        (0.4, 0.5),
        (100.5, 90.25),
        (10.0, -20.0, 30.0),
        (5.0, -3.0),
        bool(seed % 2),
    )
    geometry = xray.XrayGeometry(arm.camera(200, 180), arm.spacing)
    again = carm.CArm.of(geometry, arm.isocentre)
    np.testing.assert_allclose(
        again.applied(geometry).camera.projection, geometry.camera.projection, atol=1e-6
    )
    assert again.mirrored == arm.mirrored
    for name in ("sourceDetector", "sourcePatient", "primary", "secondary", "roll"):
        assert getattr(again, name) == pytest.approx(getattr(arm, name), abs=1e-6)
    np.testing.assert_allclose([*again.lateral, *again.spacing], [5.0, -3.0, 0.4, 0.5])


# Step 3


def test_clicks_in_both_xrays(widget: Any, loaded: Any, files: Path) -> None:
    nodes = _load_xrays(widget, files)
    for node in nodes:
        xray.setCenterPx(node, None)
    assert "Click the vertebra's centre in AP, LA" in _status(widget, "start")
    ui = widget.ui
    for row, (column, line) in enumerate([(150.0, 140.0), (170.0, 141.0)]):
        ui.clickTable.setCurrentCell(row, 0)
        ui.placeClickButton.click()
        markups = starts.markupsOf(nodes[row], starts.CLICK_ROLE)
        panel_scene.click_in_slice(nodes[row], markups, column, line)
        assert xray.getGeometry(nodes[row]).centerPx == pytest.approx((column, line), abs=1e-4)
        assert not ui.placeClickButton.checked
    assert "rays pass each other at" in _status(widget, "start")
    assert ui.clickTable.item(0, 1).text() == "column 150, row 140"
    # Dragging the point is a new click; a second point takes the place of the first.
    markups.AddControlPointWorld(*markups_place(nodes[1], 175.0, 139.0))
    assert markups.GetNumberOfControlPoints() == 1
    assert xray.getGeometry(nodes[1]).centerPx == pytest.approx((175.0, 139.0), abs=1e-4)
    markups.AddControlPointWorld(0.0, 0.0, 900.0)
    assert "the point is not in this X-ray" in _status(widget, "start")
    assert "Click the vertebra's centre in LA" in _status(widget, "start")


def markups_place(node: Any, column: float, row: float) -> list[float]:
    from RadGSRegSlicer.scene.drawing import pixelsToRas

    return [float(x) for x in pixelsToRas(node, [[column, row]])[0]]


def test_the_points_of_a_views_file_are_shown_and_cleared(widget: Any, files: Path) -> None:
    nodes = _load_xrays(widget, files)
    markups = starts.markupsOf(nodes[0], starts.CLICK_ROLE)
    np.testing.assert_allclose(
        starts.definedPoints(markups)[0], markups_place(nodes[0], 164.0, 147.0), atol=1e-4
    )
    widget.ui.clickTable.setCurrentCell(0, 0)
    widget.ui.clearClickButton.click()
    assert xray.getGeometry(nodes[0]).centerPx is None
    assert starts.definedPoints(markups) == []


def test_the_line_of_the_other_click_runs_through_the_true_place(files: Path) -> None:
    slicer_startup.start()
    from RadGSRegSlicer.exchange.casefolder import importViews

    first, second = importViews(files / "views.json")
    point = transform_points(ball.POSE, (ball.CENTRE_CT + [5, 8, -4])[None])
    cameras = [xray.getGeometry(node).camera for node in (first, second)]
    xray.setCenterPx(first, tuple(cameras[0].project(point)[0]))
    ends = starts.epipolarLine(first, second)
    assert ends is not None
    place = np.array(markups_place(second, *cameras[1].project(point)[0]))
    along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    off = (place - ends[0]) - ((place - ends[0]) @ along) * along
    assert np.linalg.norm(off) < 0.05
    assert 0 < (place - ends[0]) @ along < np.linalg.norm(ends[1] - ends[0])


def test_lines_are_shown_on_request_and_not_saved(widget: Any, files: Path) -> None:
    _load_xrays(widget, files)
    lines = lambda: [  # noqa: E731
        node
        for node in slicer.util.getNodesByClass("vtkMRMLModelNode")
        if node.GetName() in ("AP in LA", "LA in AP")
    ]
    assert len(lines()) == 2
    assert not any(node.GetSaveWithScene() for node in lines())
    widget.ui.epipolarCheckBox.checked = False
    assert lines() == []


def test_a_transform_as_a_start(widget: Any, loaded: Any, files: Path) -> None:
    _load_xrays(widget, files)
    _choose(widget.ui.startModeComboBox, "transform")
    assert not widget.ui.clicksWidget.visible
    assert "Select a transform" in _status(widget, "start")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "about there")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(lps_to_ras(ball.START)))
    widget.ui.startSelector.setCurrentNode(node)
    assert "Starts from 'about there'" in _status(widget, "start")
    np.testing.assert_allclose(widget.steps["start"].startMatrix(), lps_to_ras(ball.START))
    assert not widget.steps["start"].usesClicks
    assert widget.ui.applyButton.enabled


def _landmarks() -> np.ndarray:
    return ball.CENTRE_CT + np.array([[20.0, 0, 0], [0, 25, 0], [0, 0, 15], [-12, 5, 9]])


def _fiducials(name: str, points_lps: np.ndarray) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for point in points_lps * [-1, -1, 1]:
        node.AddControlPointWorld(*(float(x) for x in point))
    return node


def test_landmarks_in_the_ct_and_in_the_world(widget: Any, loaded: Any, files: Path) -> None:
    _load_xrays(widget, files)
    ui = widget.ui
    _choose(ui.startModeComboBox, "landmarks")
    assert "the CT has none yet" in _status(widget, "start")
    ui.ctLandmarksSelector.setCurrentNode(_fiducials("in CT", _landmarks()))
    world = _fiducials("in world", transform_points(ball.POSE, _landmarks())[:2])
    ui.worldLandmarksSelector.setCurrentNode(world)
    assert "4 in the CT and 2 outside" in _status(widget, "start")
    assert not ui.computeStartButton.enabled
    for point in transform_points(ball.POSE, _landmarks())[2:] * [-1, -1, 1]:
        world.AddControlPointWorld(*(float(x) for x in point))
    assert "fit within 0.0 mm" in _status(widget, "start")
    np.testing.assert_allclose(
        widget.steps["start"].startMatrix(), lps_to_ras(ball.POSE), atol=1e-4
    )
    ui.computeStartButton.click()
    node = widget._parameterNode.startTransform
    np.testing.assert_allclose(frames.transformMatrix(node), lps_to_ras(ball.POSE), atol=1e-4)


def test_landmarks_clicked_in_the_xrays(widget: Any, loaded: Any, files: Path) -> None:
    nodes = _load_xrays(widget, files)
    ui = widget.ui
    _choose(ui.startModeComboBox, "landmarks")
    ui.ctLandmarksSelector.setCurrentNode(_fiducials("in CT", _landmarks()))
    _choose(ui.landmarkSourceComboBox, "xrays")
    assert ui.worldLandmarksSelector.visible is False
    assert "landmark 1: is placed in fewer than two X-rays" in _status(widget, "start")
    world = transform_points(ball.POSE, _landmarks())
    for node in nodes:
        _choose(ui.landmarkViewComboBox, node.GetID())
        ui.placeLandmarksButton.click()
        markups = starts.markupsOf(node, starts.LANDMARKS_ROLE)
        for column, row in xray.getGeometry(node).camera.project(world):
            markups.AddControlPointWorld(*markups_place(node, column, row))
        ui.placeLandmarksButton.click()
    np.testing.assert_allclose(
        widget.steps["start"].startMatrix(), lps_to_ras(ball.POSE), atol=1e-3
    )


def test_landmarks_on_one_line_are_refused() -> None:
    line = np.array([[0.0, 0, 0], [10, 0, 0], [30, 0, 0]])
    with pytest.raises(InputError, match="on one line"):
        starts.landmarkPose(line, line)
    with pytest.raises(InputError, match="three are needed"):
        starts.landmarkPose(line[:2], line[:2])
