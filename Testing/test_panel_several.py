# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""Several vertebrae in the panel on the stand-in for Qt: ticked, registered, reviewed, accepted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import panel_scene
import qt_standin
import slicer_startup
from panel_scene import Library, wait_until
from PySide6.QtCore import Qt

slicer_startup.start()

from RadGSRegSlicer.exchange.gaussians import CLOUD
from RadGSRegSlicer.exchange.volumes import VOLUME
from RadGSRegSlicer.panel.ct_several import together
from RadGSRegSlicer.process import environment
from RadGSRegSlicer.review import views
from RadGSRegSlicer.scene.record import ACCEPTED
from RadGSRegSlicer.scene.registeredspine import levelsOf
from slicer_pictures import Stage


@pytest.fixture
def filled(widget: Any, tmp_path: Path, library: Library) -> Any:
    """The widget with the ball as L3 chosen, L2 and L4 beside it, and two X-rays."""
    library.bend()
    files = panel_scene.write_files(tmp_path / "case")
    ct, segmentation = panel_scene.load_nodes(files)
    widget.ids = panel_scene.three_levels(ct, segmentation)
    widget.ui.ctSelector.setCurrentNode(ct)
    widget.ui.segmentSelector.setCurrentNode(segmentation)
    widget.ui.segmentSelector.setCurrentSegmentID(widget.ids["L3"])
    widget.ui.viewsPathLineEdit.currentPath = str(files / "views.json")
    widget.ui.importButton.click()
    return widget


def cells(table: Any, column: int) -> list[str]:
    return [table.item(row, column).text() for row in range(table.rowCount)]


def ticks(table: Any) -> list[bool]:
    checked = Qt.CheckState.Checked
    return [table.item(row, 0).checkState() == checked for row in range(table.rowCount)]


def register(panel: Any) -> None:
    panel.ui.severalAllButton.click()
    assert panel.ui.applyButton.enabled, panel.ui.applyButton.toolTip
    panel.ui.applyButton.click()
    wait_until(lambda: panel.ui.applyButton.text == "Apply")


def test_vertebrae_are_ticked(filled: Any) -> None:
    ui, parameters, ids = filled.ui, filled._parameterNode, filled.ids
    table = ui.severalTable
    assert cells(table, 0) == ["L2", "L3 (first)", "L4"]
    assert ticks(table) == [False, True, False]
    assert ui.severalGroupBox.title == "Several vertebrae at once"
    table.item(2, 0).setCheckState(Qt.CheckState.Checked)
    assert together(parameters) == [ids["L3"], ids["L4"]]
    assert ui.severalGroupBox.title == "Several vertebrae at once: 2"
    assert "Register 2 vertebrae together" in ui.applyButton.toolTip
    # The chosen one is always among them.
    table.item(1, 0).setCheckState(Qt.CheckState.Unchecked)
    assert ticks(table) == [False, True, True]
    ui.severalAllButton.click()
    assert together(parameters) == [ids["L3"], ids["L2"], ids["L4"]]
    assert not ui.severalAllButton.enabled
    # Another one is chosen as the first: all stay ticked.
    ui.segmentSelector.setCurrentSegmentID(ids["L4"])
    assert cells(table, 0) == ["L2", "L3", "L4 (first)"]
    ui.severalNoneButton.click()
    assert together(parameters) == [ids["L4"]]
    segmentation = parameters.segmentation.GetSegmentation()
    ui.severalAllButton.click()
    segmentation.RemoveSegment(ids["L2"])
    assert len(together(parameters)) == 2
    assert cells(table, 0) == ["L3", "L4 (first)"]


def test_all_are_registered_and_reviewed_one_by_one(filled: Any, library: Library) -> None:
    library.bend({"L4": "uncertain"})
    ui, parameters = filled.ui, filled._parameterNode
    assert ui.reviewLevelsWidget.isHidden()
    register(filled)
    arguments = json.loads(library.read("arguments"))
    assert arguments[arguments.index("--labels") + 1] == "1,2,3"
    assert parameters.ctVolume.GetParentTransformNode() is parameters.spine
    assert "Registered 2 of 3 vertebrae well; look at L4" in ui.progressLabel.text
    assert "left out: AP shows 12 % of L5" in ui.progressLabel.text
    levels = {level.name: level for level in levelsOf(parameters.spine)}
    # The one that was clicked is shown first.
    table = ui.reviewLevelsTable
    assert not ui.reviewLevelsWidget.isHidden()
    assert ui.reviewLevelLabel.text == "L3, 2 of 3"
    assert table.currentRow() == 1
    assert parameters.ctToWorld is levels["L3"].transformNode
    assert cells(table, 0) == ["L2", "L3", "L4"]
    assert cells(table, 1) == ["good", "good", "uncertain"]
    assert cells(table, 2) == ["0.25 mm", "1.25 mm", "2.25 mm"]
    assert cells(table, 3) == ["3.0 mm, 5.0°", "3.0 mm, 5.0°", ""]
    assert "As the test wants L3" in ui.reviewCardLabel.text
    ui.reviewNextLevelButton.click()
    assert ui.reviewLevelLabel.text == "L4, 3 of 3"
    assert not ui.reviewNextLevelButton.enabled
    assert "As the test wants L4" in ui.reviewCardLabel.text
    assert filled.steps["review"].review.session.segmentId == filled.ids["L4"]
    assert parameters.reconstruction is levels["L4"].reconstructionNode
    table.setCurrentCell(0, 0)
    assert ui.reviewLevelLabel.text == "L2, 1 of 3"
    assert not ui.reviewPreviousLevelButton.enabled
    np.testing.assert_allclose(
        slicer.util.arrayFromTransformMatrix(levels["L2"].transformNode)[:3, 3], [0, -20, 30]
    )


def test_a_cancelled_run_leaves_the_scene_and_what_is_reviewed(
    filled: Any, library: Library
) -> None:
    register(filled)
    ui, parameters, step = filled.ui, filled._parameterNode, filled.steps["register"]
    spine, shown = parameters.spine, parameters.ctToWorld
    matrix = slicer.util.arrayFromTransformMatrix(shown)
    library.behave("hang")
    ui.applyButton.click()
    wait_until(lambda: step._run.bestPose is not None)
    ui.applyButton.click()
    wait_until(lambda: ui.applyButton.text == "Apply")
    qt_standin.processEvents(50)
    assert ui.progressLabel.text == "Cancelled; the scene is as it was"
    # The best pose until then is of one vertebra of several.
    step.onKeepBest()
    assert slicer.mrmlScene.GetFirstNodeByName("Pose so far") is None
    assert (parameters.spine, parameters.ctToWorld) == (spine, shown)
    np.testing.assert_array_equal(slicer.util.arrayFromTransformMatrix(shown), matrix)
    assert [level.name for level in levelsOf(spine)] == ["L2", "L3", "L4"]
    assert parameters.ctVolume.GetParentTransformNode() is spine
    assert ui.reviewLevelLabel.text == "L3, 2 of 3"


def test_each_is_accepted_on_its_own(filled: Any, library: Library) -> None:
    register(filled)
    ui, parameters = filled.ui, filled._parameterNode
    levels = {level.name: level for level in levelsOf(parameters.spine)}
    assert "0 of 3 vertebrae accepted" in ui.reviewStatusLabel.text
    ui.reviewAcceptButton.click()
    assert cells(ui.reviewLevelsTable, 4) == ["", "yes", ""]
    assert "1 of 3 vertebrae accepted" in ui.reviewStatusLabel.text
    ui.reviewPreviousLevelButton.click()
    assert ui.reviewAcceptButton.text == "Accept"
    ui.reviewAcceptButton.click()
    ui.reviewNextLevelButton.click()
    assert ui.reviewAcceptButton.text == "Accepted"
    accepted = {n: level.transformNode.GetAttribute(ACCEPTED) for n, level in levels.items()}
    assert accepted == {"L2": "true", "L3": "true", "L4": None}
    # A correction withdraws that of this vertebra alone.
    ui.reviewRightPlusButton.click()
    assert cells(ui.reviewLevelsTable, 4) == ["yes", "", ""]
    assert "still bent by the pose as it was registered" in ui.reviewCardLabel.text
    assert not ui.reviewHardenButton.enabled


def test_the_layout_stays_from_one_to_the_next(
    filled: Any, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(filled)
    scene, step = slicer.mrmlScene, filled.steps["review"]
    monkeypatch.setattr(environment, "missingPackages", lambda: ["torch"])  # no scores here
    stage = Stage(scene)
    filled.ui.reviewLayoutButton.click()
    stage.build({})
    filled.ui.reviewLayoutButton.click()
    step.review.layout.before = 3
    filled._parameterNode.reviewGaussians = True
    filled.ui.reviewNextLevelButton.click()
    assert views.layoutNode(scene).GetViewArrangement() == views.LAYOUT_ID
    assert step.review.layout.isShown
    outlines = step.review.display._outlines
    for node in filled._parameterNode.xrays:
        assert outlines[node.GetID()][0].GetPolyData().GetNumberOfPoints() > 0
    shown = [
        level.name
        for level in levelsOf(filled._parameterNode.spine)
        if level.gaussiansNode.GetDisplayNode().GetVisibility()
    ]
    assert shown == ["L4"]
    filled.ui.reviewLeaveButton.click()
    assert views.layoutNode(scene).GetViewArrangement() == 3


def test_one_alone_again_leaves_the_nodes_of_several(filled: Any, library: Library) -> None:
    register(filled)
    ui, parameters = filled.ui, filled._parameterNode
    bent, first = parameters.spine, parameters.ctToWorld
    register(filled)  # into the same nodes
    assert parameters.spine is bent
    assert parameters.ctToWorld is first
    ui.severalNoneButton.click()
    ui.applyButton.click()
    wait_until(lambda: ui.applyButton.text == "Apply")
    assert "--labels" not in json.loads(library.read("arguments"))
    assert parameters.spine is None
    assert parameters.ctToWorld is not first
    assert parameters.ctVolume.GetParentTransformNode() is parameters.ctToWorld
    assert ui.reviewLevelsWidget.isHidden()
    assert [level.name for level in levelsOf(bent)] == ["L2", "L3", "L4"]


def test_a_result_from_the_console_is_taken_up(filled: Any, library: Library) -> None:
    parameters, ui = filled._parameterNode, filled.ui
    nodes = parameters.ctVolume, parameters.segmentation, ["L2", "L4"], list(parameters.xrays)
    filled.logic.register(*nodes)
    wait_until(lambda: parameters.spine is not None)
    assert parameters.segmentId == filled.ids["L2"]
    assert together(parameters) == [filled.ids["L2"], filled.ids["L4"]]
    qt_standin.processEvents(50)
    assert ui.reviewLevelLabel.text == "L2, 1 of 2"


def test_a_level_whose_segment_is_not_known_is_not_drawn_as_another(
    filled: Any, library: Library, tmp_path: Path
) -> None:
    parameters = filled._parameterNode
    nodes = parameters.ctVolume, parameters.segmentation
    filled.logic.register(*nodes, ["L3", "L4"], list(parameters.xrays), outputFolder=tmp_path / "o")
    nodes[1].GetSegmentation().GetSegment(filled.ids["L4"]).SetName("Lumbar")
    filled.logic.loadResult(tmp_path / "o", *nodes)
    qt_standin.processEvents(50)
    assert filled.steps["review"].review.session.segmentId == filled.ids["L3"]
    filled.ui.reviewNextLevelButton.click()
    assert filled.ui.reviewLevelLabel.text == "L4, 2 of 2"
    assert filled.steps["review"].review is None
    assert "No segment has the name of this vertebra" in filled.ui.reviewStatusLabel.text
    filled.ui.reviewPreviousLevelButton.click()
    assert filled.steps["review"].review is not None


def test_a_level_without_a_volume_has_not_that_of_an_earlier_result(
    filled: Any, library: Library, tmp_path: Path
) -> None:
    parameters = filled._parameterNode
    nodes = parameters.ctVolume, parameters.segmentation
    xrays = list(parameters.xrays)
    filled.logic.register(*nodes, ["L3", "L4"], xrays, outputFolder=tmp_path / "o")
    for file in (CLOUD, VOLUME):
        for path in (tmp_path / "o").rglob(file):
            path.unlink()
    parameters.spine = None
    filled.logic.register(*nodes, "L3", xrays)
    qt_standin.processEvents(50)
    assert parameters.reconstruction is not None
    assert parameters.gaussians is not None
    filled.logic.loadResult(tmp_path / "o", *nodes)
    qt_standin.processEvents(50)
    assert parameters.spine is not None
    assert parameters.reconstruction is None
    assert parameters.gaussians is None


def test_a_level_whose_segment_was_removed_says_so(filled: Any, library: Library) -> None:
    register(filled)
    ui, step = filled.ui, filled.steps["review"]
    assert step.review.session.segmentId == filled.ids["L3"]
    segmentation = filled._parameterNode.segmentation.GetSegmentation()
    segmentation.RemoveSegment(filled.ids["L4"])
    segmentation.RemoveSegment(filled.ids["L3"])
    qt_standin.processEvents(50)
    assert step.review is None
    assert "The segment of this vertebra has been removed" in ui.reviewStatusLabel.text
    ui.reviewNextLevelButton.click()
    assert ui.reviewLevelLabel.text == "L4, 3 of 3"
    assert step.review is None
    assert "The segment of this vertebra has been removed" in ui.reviewStatusLabel.text
    ui.reviewPreviousLevelButton.click()
    ui.reviewPreviousLevelButton.click()
    assert step.review.session.segmentId == filled.ids["L2"]
    assert "removed" not in ui.reviewStatusLabel.text


def test_several_and_a_model_do_not_go_together(filled: Any) -> None:
    ui = filled.ui
    ui.severalAllButton.click()
    ui.methodComboBox.setCurrentIndex(ui.methodComboBox.findData("published"))
    assert not ui.applyButton.enabled
    assert "several cannot go with the method as published" in ui.applyButton.toolTip
    ui.severalNoneButton.click()
    assert ui.applyButton.enabled
