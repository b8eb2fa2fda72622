# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""Step 4 of the panel on the stand-in for Qt: run, cancel, keep the best, save and go on.

Most tests put a quick program in the library's place (see `panel_scene`); the last one computes.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import ball
import panel_scene
import slicer_startup
from panel_scene import Library, wait_until

from RadGSRegLib.cases import patient_of, read_case
from RadGSRegLib.geometry import lps_to_ras

slicer_startup.start()

from RadGSRegSlicer.exchange import staging
from RadGSRegSlicer.panel.timing import TimeLeft
from RadGSRegSlicer.process import environment
from RadGSRegSlicer.process.jobs import JobState
from RadGSRegSlicer.scene import frames, xray
from RadGSRegSlicer.scene.record import STATUS


@pytest.fixture
def filled(widget: Any, tmp_path: Path, library: Library) -> Any:
    """The widget with a CT, a vertebra and two X-rays chosen."""
    _fill(widget, panel_scene.write_files(tmp_path / "case"))
    return widget


def _fill(widget: Any, files: Path) -> None:
    ct, segmentation = panel_scene.load_nodes(files)
    widget.ui.ctSelector.setCurrentNode(ct)
    widget.ui.segmentSelector.setCurrentNode(segmentation)
    widget.ui.viewsPathLineEdit.currentPath = str(files / "views.json")
    widget.ui.importButton.click()


def _run(widget: Any) -> None:
    assert widget.ui.applyButton.enabled, widget.ui.applyButton.toolTip
    widget.ui.applyButton.click()
    wait_until(lambda: widget.ui.applyButton.text == "Apply")


def _pose(x: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = [x, 20.0, 30.0]
    return lps_to_ras(matrix)


def _leftovers() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("radgsreg-*"))


def test_apply_registers(filled: Any, library: Library) -> None:
    ui, parameters = filled.ui, filled._parameterNode
    assert "Ready to register" in ui.registerStatusLabel.text
    ui.applyButton.click()
    assert ui.applyButton.text == "Cancel"
    assert "Computing" in ui.registerStatusLabel.text
    wait_until(lambda: ui.applyButton.text == "Apply")
    assert "Registered. Look at the result" in ui.progressLabel.text
    np.testing.assert_allclose(frames.transformMatrix(parameters.ctToWorld), _pose(10.0))
    assert parameters.ctVolume.GetParentTransformNode() is parameters.ctToWorld
    assert parameters.reconstruction is not None
    assert parameters.gaussians is not None
    assert "Register first" not in ui.reviewStatusLabel.text
    arguments = json.loads(library.read("arguments"))
    assert arguments[0] == "register"
    assert "--start" not in arguments
    assert "--effort" not in arguments
    views = json.loads(library.read("views"))["views"]
    assert [view["center_px"] for view in views] == [[164.0, 147.0]] * 2
    wait_until(lambda: _leftovers() == [])
    # A second run goes into the same nodes.
    count = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    _run(filled)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == count


def test_choices_reach_the_command(filled: Any, library: Library) -> None:
    ui = filled.ui
    ui.effortComboBox.setCurrentIndex(ui.effortComboBox.findData("fast"))
    ui.deviceComboBox.setCurrentIndex(1)
    ui.startModeComboBox.setCurrentIndex(ui.startModeComboBox.findData("transform"))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(lps_to_ras(ball.START)))
    ui.startSelector.setCurrentNode(node)
    _run(filled)
    arguments = json.loads(library.read("arguments"))
    assert arguments[arguments.index("--effort") + 1] == "fast"
    assert arguments[arguments.index("--device") + 1] == "cpu"
    assert "--start" in arguments
    assert all("center_px" not in view for view in json.loads(library.read("views"))["views"])


@pytest.mark.parametrize(
    ("status", "text"),
    [("uncertain", "uncertain: check it"), ("failed", "registration failed")],
)
def test_what_the_program_thinks_of_its_result(
    filled: Any, library: Library, status: str, text: str
) -> None:
    library.behave(status)
    _run(filled)
    assert text in filled.ui.progressLabel.text
    moved = filled._parameterNode.ctVolume.GetParentTransformNode() is not None
    assert moved is (status == "uncertain")


def test_a_problem_is_told_in_the_step(filled: Any, library: Library) -> None:
    library.behave("bad")
    _run(filled)
    assert "the X-rays show nothing" in filled.ui.registerStatusLabel.text
    assert filled._parameterNode.ctToWorld is None
    library.behave("ok")
    _run(filled)
    assert "show nothing" not in filled.ui.registerStatusLabel.text


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_cancel_ends_all_and_offers_the_best_pose(filled: Any, library: Library) -> None:
    library.behave("hang")
    ui, parameters = filled.ui, filled._parameterNode
    ui.applyButton.click()
    sleeper = library.folder / "sleeper"
    wait_until(lambda: sleeper.exists() and sleeper.read_text())
    wait_until(lambda: filled.steps["register"]._run.bestPose is not None)
    preview = slicer.util.getNode("Pose so far")
    assert preview.GetDisplayNode().GetVisibility()
    assert not preview.GetSaveWithScene()
    began = time.monotonic()
    ui.applyButton.click()
    wait_until(lambda: ui.applyButton.text == "Apply")
    assert time.monotonic() - began < 2.0
    assert not _alive(int(sleeper.read_text()))
    assert parameters.ctToWorld is None
    assert parameters.ctVolume.GetParentTransformNode() is None
    assert slicer.mrmlScene.GetFirstNodeByName("Pose so far") is None
    assert ui.progressLabel.text == "Cancelled; the scene is as it was"
    assert not ui.keepBestButton.isHidden()
    ui.keepBestButton.click()
    assert ui.keepBestButton.isHidden()
    np.testing.assert_allclose(frames.transformMatrix(parameters.ctToWorld), _pose(9.0))
    assert parameters.ctToWorld.GetAttribute(STATUS) == "uncertain"
    assert parameters.ctVolume.GetParentTransformNode() is parameters.ctToWorld
    assert "uncertain" in ui.progressLabel.text
    wait_until(lambda: _leftovers() == [])


def _cancelled(widget: Any, library: Library) -> None:
    """Apply, and cancel as soon as there is a best pose."""
    library.behave("hang")
    widget.ui.applyButton.click()
    wait_until(lambda: widget.steps["register"]._run.bestPose is not None)
    widget.ui.applyButton.click()
    wait_until(lambda: widget.ui.applyButton.text == "Apply")


@pytest.mark.parametrize("what", ["CT", "segment", "X-rays"])
def test_the_best_pose_is_kept_only_for_what_it_was_found_for(
    filled: Any, library: Library, tmp_path: Path, what: str
) -> None:
    ui, parameters = filled.ui, filled._parameterNode
    _cancelled(filled, library)
    assert not ui.keepBestButton.isHidden()
    ct, segment, xrays = parameters.ctVolume, parameters.segmentId, list(parameters.xrays)
    other = slicer_startup.load_volume(tmp_path / "case" / "ct.nii.gz")
    if what == "CT":
        parameters.ctVolume = other
    elif what == "segment":
        parameters.segmentId = "another"
    else:
        parameters.xrays = xrays[::-1]
    assert ui.keepBestButton.isHidden()
    filled.steps["register"].onKeepBest()
    assert other.GetParentTransformNode() is None
    assert ct.GetParentTransformNode() is None
    parameters.ctVolume, parameters.segmentId, parameters.xrays = ct, segment, xrays
    assert not ui.keepBestButton.isHidden()
    ui.keepBestButton.click()
    assert ct.GetParentTransformNode() is parameters.ctToWorld


def test_the_ct_is_removed_while_it_is_registered(filled: Any, library: Library) -> None:
    ui = filled.ui
    library.behave("hang")
    ui.applyButton.click()
    wait_until(lambda: filled.steps["register"]._run.bestPose is not None)
    slicer.mrmlScene.RemoveNode(filled._parameterNode.ctVolume)
    ui.applyButton.click()
    wait_until(lambda: ui.applyButton.text == "Apply")
    assert "the CT is no longer in the scene" in ui.registerStatusLabel.text
    assert ui.keepBestButton.isHidden()


def test_a_ct_removed_before_the_end_is_told(filled: Any, library: Library) -> None:
    ui = filled.ui
    ui.applyButton.click()
    task = filled.steps["register"]._run
    wait_until(lambda: task.job.state is not JobState.READY)
    slicer.mrmlScene.RemoveNode(filled._parameterNode.ctVolume)
    wait_until(lambda: ui.applyButton.text == "Apply")
    assert "the CT is no longer in the scene" in ui.registerStatusLabel.text
    assert "Unexpected" not in ui.registerStatusLabel.text


def test_a_failed_second_run_leaves_the_ct_where_it_is(filled: Any, library: Library) -> None:
    parameters = filled._parameterNode
    _run(filled)
    first = parameters.ctToWorld
    moved = lps_to_ras(np.eye(4))
    moved[:3, 3] = [1.0, 2.0, 3.0]
    first.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(moved))
    library.behave("failed")
    _run(filled)
    assert "the CT was not moved" in filled.ui.progressLabel.text
    assert parameters.ctVolume.GetParentTransformNode() is first
    np.testing.assert_allclose(frames.transformMatrix(first), moved)
    assert parameters.ctToWorld is not first
    library.behave("ok")
    _run(filled)
    assert parameters.ctVolume.GetParentTransformNode() is parameters.ctToWorld
    np.testing.assert_allclose(frames.transformMatrix(parameters.ctToWorld), _pose(10.0))


def test_trained_weights_need_no_clicks(filled: Any, library: Library, tmp_path: Path) -> None:
    ui = filled.ui
    for node in filled._parameterNode.xrays:
        xray.setCenterPx(node, None)
    filled.update()
    assert not ui.applyButton.enabled
    assert "Click the vertebra's centre" in ui.applyButton.toolTip
    weights = tmp_path / "weights.safetensors"
    ui.methodComboBox.setCurrentIndex(ui.methodComboBox.findData("learned"))
    assert "Choose the trained weights" in ui.applyButton.toolTip  # none is chosen unasked
    ui.modelPathLineEdit.currentPath = str(weights)
    assert "is not there" in ui.applyButton.toolTip
    weights.write_bytes(b"no model")
    filled.update()
    assert "not a file of this program" in ui.applyButton.toolTip
    panel_scene.write_model(weights, {"training": {"minutes": 3, "steps": 50}})
    filled.update()
    assert "For any patient, trained for 3 minutes, 50 steps" in ui.modelInfoLabel.text
    assert "Without clicks" in ui.startStatusLabel.text
    _run(filled)
    assert "Registered" in ui.progressLabel.text
    arguments = json.loads(library.read("arguments"))
    assert arguments[arguments.index("--model") + 1] == str(weights)
    assert all("center_px" not in view for view in json.loads(library.read("views"))["views"])


def _choose(comboBox: Any, key: str) -> None:
    comboBox.setCurrentIndex(comboBox.findData(key))


def test_the_published_order(filled: Any, library: Library) -> None:
    ui, parameters = filled.ui, filled._parameterNode
    assert ui.refineCheckBox.isHidden()
    _choose(ui.methodComboBox, "published")
    assert not ui.refineCheckBox.isHidden()
    assert ui.refineCheckBox.checked
    assert "weights that come with the program" in ui.modelInfoLabel.text
    _run(filled)
    arguments = json.loads(library.read("arguments"))
    assert arguments[arguments.index("--method") + 1] == "published"
    assert "--refine" in arguments
    assert "--model" not in arguments
    assert parameters.reconstruction is not None
    # What was there early became the result: nothing is there twice.
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLModelNode") == 1 + _drawn_models()
    assert parameters.reconstruction.GetImageData().GetDimensions()[0] == 4
    ui.refineCheckBox.checked = False
    assert not parameters.refine
    _run(filled)
    assert "--no-refine" in json.loads(library.read("arguments"))
    _choose(ui.methodComboBox, "optimize")
    _run(filled)
    assert "--no-refine" not in json.loads(library.read("arguments"))


def _drawn_models() -> int:
    """How many models are only drawn: outlines, surfaces, C-arms."""
    nodes = slicer.util.getNodesByClass("vtkMRMLModelNode")
    return sum(1 for node in nodes if not node.GetSaveWithScene())


def _reconstructions() -> list[Any]:
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in nodes if node.GetName().startswith("RadGSReg reconstruction")]


def test_the_volume_is_shown_before_the_registration_begins(filled: Any, library: Library) -> None:
    library.behave("hang")
    ui, parameters = filled.ui, filled._parameterNode
    _choose(ui.methodComboBox, "published")
    displays = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLDisplayNode")
    volumes: list[int] = []
    step = filled.steps["register"]
    shown = step.onPose
    step.onPose = lambda pose: (volumes.append(len(_reconstructions())), shown(pose))
    ui.applyButton.click()
    wait_until(lambda: len(volumes) == 2)
    # It was there before either pose came.
    assert volumes == [1, 1]
    (early,) = _reconstructions()
    assert early.GetImageData().GetDimensions() == (7, 5, 6)
    assert early.GetDisplayNode().GetApplyThreshold() == 1
    ui.applyButton.click()
    wait_until(lambda: ui.applyButton.text == "Apply")
    assert ui.progressLabel.text == "Cancelled; the scene is as it was"
    assert _reconstructions() == []
    assert parameters.reconstruction is None
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLDisplayNode") == displays


def test_an_earlier_result_comes_back_where_a_run_gives_none(filled: Any, library: Library) -> None:
    ui, parameters = filled.ui, filled._parameterNode
    _run(filled)
    before = parameters.reconstruction
    cloud = parameters.gaussians.GetPolyData()
    _choose(ui.methodComboBox, "published")
    library.behave("bad")
    _run(filled)
    assert "the X-rays show nothing" in ui.registerStatusLabel.text
    assert parameters.reconstruction is before
    assert before.GetImageData().GetDimensions() == (4, 5, 6)
    assert parameters.gaussians.GetPolyData() is cloud


def test_cancel_while_the_files_are_written(filled: Any, library: Library) -> None:
    filled.ui.applyButton.click()
    task = filled.steps["register"]._run
    assert task.job.state is JobState.READY
    filled.ui.applyButton.click()
    wait_until(lambda: filled.ui.applyButton.text == "Apply")
    assert task.job.processId is None
    assert "Cancelled" in filled.ui.progressLabel.text
    assert filled.ui.keepBestButton.isHidden()
    wait_until(lambda: _leftovers() == [])


def test_closing_the_scene_ends_the_computation(filled: Any, library: Library) -> None:
    library.behave("hang")
    filled.ui.applyButton.click()
    sleeper = library.folder / "sleeper"
    wait_until(lambda: sleeper.exists() and sleeper.read_text())
    slicer.mrmlScene.Clear()
    wait_until(lambda: filled.steps["register"]._run is None)
    assert not _alive(int(sleeper.read_text()))
    assert "Select the CT" in filled.ui.ctStatusLabel.text
    assert filled.ui.keepBestButton.isHidden()


def test_cleanup_leaves_no_process_behind(library: Library, tmp_path: Path) -> None:
    slicer_startup.start_panel()
    widget = slicer_startup.make_widget()
    _fill(widget, panel_scene.write_files(tmp_path / "case"))
    library.behave("hang")
    widget.ui.applyButton.click()
    sleeper = library.folder / "sleeper"
    wait_until(lambda: sleeper.exists() and sleeper.read_text())
    widget.cleanup()
    assert not _alive(int(sleeper.read_text()))
    slicer_startup.stop_panel()


def test_another_module_does_not_stop_it(filled: Any, library: Library) -> None:
    filled.ui.applyButton.click()
    filled.exit()
    wait_until(lambda: filled.steps["register"]._run is None)
    filled.enter()
    assert filled._parameterNode.ctToWorld is not None
    assert filled.ui.transformSelector.currentNode() is filled._parameterNode.ctToWorld


def test_missing_packages_are_installed_first(
    filled: Any, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = ["warp-lang", "torch"]
    monkeypatch.setattr(environment, "missingPackages", lambda: list(missing))
    filled.enter()
    assert "Missing: warp-lang, torch" in filled.ui.aboutStatusLabel.text
    assert "Apply installs first what is missing: warp-lang" in filled.ui.registerStatusLabel.text
    assert filled.ui.installButton.enabled

    def refuse() -> None:
        raise RuntimeError("PyTorch was not installed")

    monkeypatch.setattr(environment, "installMissing", refuse)
    filled.ui.applyButton.click()
    assert "PyTorch was not installed" in filled.ui.registerStatusLabel.text
    assert filled.steps["register"]._run is None
    monkeypatch.setattr(environment, "installMissing", missing.clear)
    filled.ui.installButton.click()
    assert "All packages are there" in filled.ui.aboutStatusLabel.text
    assert not filled.ui.installButton.enabled
    _run(filled)
    assert "Registered" in filled.ui.progressLabel.text


def test_about(filled: Any, library: Library) -> None:
    filled.ui.aboutButton.click()
    wait_until(lambda: "radgsreg of the test" in filled.ui.aboutLabel.text)


@pytest.mark.parametrize("what", ["geometry", "transform", "output"])
def test_wrong_inputs_disable_apply_and_say_why(filled: Any, what: str) -> None:
    parameters, ui = filled._parameterNode, filled.ui
    node = parameters.xrays[0]
    if what == "geometry":
        node.SetAttribute(xray.INTRINSIC, "[[1]]")
    elif what == "transform":
        above = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "above")
        node.SetAndObserveTransformNodeID(above.GetID())
        filled.update()
    else:
        parameters.reconstruction = node
    assert not ui.applyButton.enabled
    assert {
        "geometry": "AP",
        "transform": "is under the transform 'above'",
        "output": "cannot take the reconstruction",
    }[what] in ui.applyButton.toolTip


def _save(folder: Path) -> Path:
    """The scene and the data of its nodes, as Slicer's own storage nodes write them."""
    scene = slicer.mrmlScene
    kinds = {
        "vtkMRMLScalarVolumeNode": ("vtkMRMLNRRDStorageNode", "nrrd"),
        "vtkMRMLSegmentationNode": ("vtkMRMLSegmentationStorageNode", "seg.nrrd"),
        "vtkMRMLLinearTransformNode": ("vtkMRMLTransformStorageNode", "tfm"),
        "vtkMRMLModelNode": ("vtkMRMLModelStorageNode", "vtk"),
        "vtkMRMLMarkupsFiducialNode": ("vtkMRMLMarkupsJsonStorageNode", "mrk.json"),
    }
    folder.mkdir()
    scene.SetURL(str(folder / "scene.mrml"))
    for kind, (storageKind, suffix) in kinds.items():
        for node in slicer.util.getNodesByClass(kind):
            if not node.GetSaveWithScene():
                continue
            storage = scene.AddNewNodeByClass(storageKind)
            storage.SetFileName(str(folder / f"{node.GetID()}.{suffix}"))
            node.SetAndObserveStorageNodeID(storage.GetID())
            assert storage.WriteData(node), node.GetName()
    assert scene.Commit()
    return folder / "scene.mrml"


def test_a_scene_is_saved_closed_opened_and_continued(
    filled: Any, library: Library, tmp_path: Path
) -> None:
    ui = filled.ui
    ui.effortComboBox.setCurrentIndex(ui.effortComboBox.findData("careful"))
    ui.drawingCheckBox.checked = True
    ui.nominalCheckBox.checked = True
    _run(filled)
    before = frames.transformMatrix(filled._parameterNode.ctToWorld)
    path = _save(tmp_path / "saved")
    slicer.mrmlScene.Clear()
    assert filled._parameterNode.ctVolume is None
    assert "Select the CT" in ui.ctStatusLabel.text
    assert ui.xrayTable.rowCount == 0
    assert ui.effortComboBox.currentData == "normal"
    slicer.mrmlScene.SetURL(str(path))
    assert slicer.mrmlScene.Connect()
    filled.enter()
    parameters = filled._parameterNode
    assert parameters.ctVolume.GetName() == "ct"
    assert "L3" in ui.ctStatusLabel.text
    assert [node.GetName() for node in parameters.xrays] == ["AP", "LA"]
    assert "the geometry of LA is only nominal" in ui.xrayStatusLabel.text
    assert ui.effortComboBox.currentData == "careful"
    assert ui.drawingCheckBox.checked
    assert slicer.mrmlScene.GetFirstNodeByName("AP beam") is not None
    np.testing.assert_allclose(frames.transformMatrix(parameters.ctToWorld), before, atol=1e-6)
    assert parameters.ctVolume.GetParentTransformNode() is parameters.ctToWorld
    _run(filled)
    assert "Registered" in ui.progressLabel.text


def test_the_staged_case_is_the_exported_one(filled: Any, tmp_path: Path) -> None:
    parameters = filled._parameterNode
    nodes = (parameters.ctVolume, parameters.segmentation, "L3", list(parameters.xrays))
    wanted = read_case(filled.logic.exportCase(*nodes, tmp_path / "exported"))
    for kind in (np.float32, np.int16):
        array = slicer.util.arrayFromVolume(parameters.ctVolume).astype(kind)
        slicer.util.updateVolumeFromArray(parameters.ctVolume, array)
        folder = tmp_path / kind.__name__
        folder.mkdir()
        for _ in staging.stageCase(*nodes, folder):
            pass
        case = read_case(folder / staging.CASE)
        np.testing.assert_array_equal(case.ct.array, wanted.ct.array)
        np.testing.assert_allclose(
            case.ct.index_to_physical, wanted.ct.index_to_physical, atol=1e-4
        )
        np.testing.assert_array_equal(case.labels.array, wanted.labels.array)
        assert (case.label, case.label_name) == (wanted.label, "L3")
        assert patient_of(case) == patient_of(wanted)  # a model trained for one is for the other
        assert len(case.views) == 2


def test_time_left() -> None:
    now = 100.0
    timing = TimeLeft(lambda: now)
    assert timing.text(0.5) == ""  # too early to say
    now = 110.0
    assert timing.text(0.02) == ""
    assert timing.text(0.25) == "about 30 s left"
    now = 130.0
    assert timing.seconds(0.75) == pytest.approx(0.7 * 30 + 0.3 * 10)
    now = 1000.0
    assert "min left" in timing.text(0.5)


@pytest.mark.usefixtures("brief_children")
@pytest.mark.slow
def test_a_real_registration_through_the_panel(widget: Any, tmp_path: Path) -> None:
    """The whole way on a small phantom: the library computes, the pose is the true one."""
    from registration_scenes import simulated

    from RadGSRegLib.measures import mtre
    from RadGSRegLib.simulation import write_simulated_case

    case = simulated()
    path = write_simulated_case(case, tmp_path / "case")
    files = path.parent
    content = json.loads(path.read_text())
    ct = slicer_startup.load_volume(files / content["ct"])
    segmentation = slicer_startup.load_segmentation(files / content["segmentation"])
    widget.ui.ctSelector.setCurrentNode(ct)
    widget.ui.segmentSelector.setCurrentNode(segmentation)
    slicer_startup.choose_label(widget, segmentation, case.case.label)
    widget.ui.viewsPathLineEdit.currentPath = str(files / "views.json")
    widget.ui.importButton.click()
    widget.ui.effortComboBox.setCurrentIndex(widget.ui.effortComboBox.findData("fast"))
    widget.ui.applyButton.click()
    wait_until(lambda: widget.steps["register"]._run.bestPose is not None, 120.0)
    assert slicer.mrmlScene.GetFirstNodeByName("Pose so far") is not None
    wait_until(lambda: widget.ui.applyButton.text == "Apply", 240.0)
    assert "Registered" in widget.ui.progressLabel.text, widget.ui.registerStatusLabel.text
    found = lps_to_ras(frames.transformMatrix(widget._parameterNode.ctToWorld))
    error = mtre(case.truth["points_ct"], found, case.truth["ct_to_world"])
    assert error < 2.0


def test_segments_on_the_cts_voxels_are_pasted_as_slicer_exports_them() -> None:
    from RadGSRegSlicer.scene import segments

    slicer_startup.start()
    rng = np.random.default_rng(4)
    ct = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    slicer.util.updateVolumeFromArray(ct, rng.integers(0, 9, (9, 10, 11)).astype(np.int16))
    matrix = lps_to_ras(ball.POSE) @ np.diag([0.7, 0.8, 1.5, 1.0])
    ct.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Spine")
    node.SetReferenceImageGeometryParameterFromVolumeNode(ct)
    boxes = [np.s_[1:4, 2:8, 2:5], np.s_[5:8, 2:8, 2:5], np.s_[2:7, 3:6, 3:9], np.s_[0:2, 0:3, 8:]]
    ids = []
    for number, box in enumerate(boxes):
        mask = np.zeros((9, 10, 11), np.uint8)
        mask[box] = 1
        id_ = node.GetSegmentation().AddEmptySegment(f"s{number}", f"s{number}")
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, id_, ct)
        ids.append(id_)
    pasted = segments._pasted(node, ids, ct)
    assert pasted is not None
    np.testing.assert_array_equal(pasted, segments._export(node, ids, ct))
    assert sorted(np.unique(pasted)) == [0, 1, 2, 3, 4]
    # On another grid the segments have to be resampled.
    ct.SetSpacing(0.75, 0.8, 1.5)
    assert segments._pasted(node, ids, ct) is None
