# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""The panel follows the scene: what arrives while it is open is taken up and shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("vtk")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import qt_standin
import slicer_startup

slicer_startup.start_panel()

from panel_scene import load_nodes, wait_until, write_files
from RadGSRegSlicer.exchange import results
from RadGSRegSlicer.process import environment
from RadGSRegSlicer.review import views
from RadGSRegSlicer.review.review import Review
from RadGSRegSlicer.scene import xray
from review_scene import ball_nodes, camera, xray_node

from RadGSRegLib.cases import RegistrationRecord, write_registration_json

pytestmark = pytest.mark.usefixtures("application")


@pytest.fixture
def panel(application: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An open panel in an empty scene."""
    monkeypatch.setattr(Review, "startScoring", lambda self: None)
    widget = slicer_startup.make_widget()
    yield widget
    widget.cleanup()


def _shown() -> list[str | None]:
    scene = slicer.mrmlScene
    return [views.compositeNode(scene, name).GetBackgroundVolumeID() for name in views.XRAY_VIEWS]


def test_a_ct_and_a_sole_segmentation_that_arrive_are_taken_up(panel: Any, tmp_path: Path) -> None:
    assert panel._parameterNode.ctVolume is None
    ct, segmentation = load_nodes(write_files(tmp_path / "case"))
    qt_standin.processEvents(20)
    parameters = panel._parameterNode
    assert parameters.ctVolume is ct
    assert parameters.segmentation is segmentation
    assert parameters.segmentId == segmentation.GetSegmentation().GetNthSegmentID(0)
    assert "L3" in panel.ui.ctStatusLabel.text
    # A second CT and a second segmentation change nothing that was chosen.
    load_nodes(tmp_path / "case")
    qt_standin.processEvents(20)
    assert (parameters.ctVolume, parameters.segmentation) == (ct, segmentation)


def test_of_several_segmentations_none_is_taken(panel: Any) -> None:
    for name in ("one", "other"):
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    qt_standin.processEvents(20)
    assert panel._parameterNode.segmentation is None


def test_what_was_taken_away_by_hand_does_not_come_back(panel: Any, tmp_path: Path) -> None:
    load_nodes(write_files(tmp_path / "case"))
    qt_standin.processEvents(20)
    panel._parameterNode.segmentation = None
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "any")
    panel.update()
    qt_standin.processEvents(20)
    assert panel._parameterNode.segmentation is None


def test_xrays_that_arrive_are_used_and_shown(panel: Any, application: Any) -> None:
    nodes = [xray_node("AP", camera(0.0))]
    qt_standin.processEvents(20)
    assert panel._parameterNode.xrays == nodes
    nodes.append(xray_node("LA", camera(1.5)))
    qt_standin.processEvents(20)
    assert panel._parameterNode.xrays == nodes
    assert application.node.GetViewArrangement() == views.LAYOUT_ID
    assert _shown() == [node.GetID() for node in nodes]
    # A third one may be another patient's: it is in the table, not in use.
    third = xray_node("oblique", camera(0.7))
    qt_standin.processEvents(20)
    assert panel._parameterNode.xrays == nodes
    assert xray.isXray(third)
    assert panel.ui.xrayTable.rowCount == 3


def test_loaded_xrays_are_shown_at_once(panel: Any, application: Any, tmp_path: Path) -> None:
    files = write_files(tmp_path / "case")
    panel.ui.viewsPathLineEdit.currentPath = str(files / "views.json")
    panel.ui.importButton.click()
    qt_standin.processEvents(20)
    assert application.node.GetViewArrangement() == views.LAYOUT_ID
    assert _shown() == [node.GetID() for node in panel._parameterNode.xrays]


def test_nothing_is_switched_while_another_module_is_open(panel: Any, application: Any) -> None:
    qt_standin.unwrap(panel.parent).entered = False
    nodes = [xray_node("AP", camera(0.0)), xray_node("LA", camera(1.5))]
    qt_standin.processEvents(20)
    assert panel._parameterNode.xrays == nodes
    assert application.node.GetViewArrangement() == 3
    qt_standin.unwrap(panel.parent).entered = True
    panel.exit()
    panel.enter()
    assert application.node.GetViewArrangement() == views.LAYOUT_ID  # once it is opened
    assert _shown() == [node.GetID() for node in nodes]
    application.node.SetViewArrangement(3)
    panel.exit()
    panel.enter()
    assert application.node.GetViewArrangement() == 3  # and not again


def test_xrays_that_were_there_are_shown_when_the_panel_is_opened(application: Any) -> None:
    nodes = [xray_node("AP", camera(0.0)), xray_node("LA", camera(1.5))]
    widget = slicer_startup.make_widget()
    assert application.node.GetViewArrangement() == 3
    widget.enter()
    qt_standin.processEvents(20)
    assert _shown() == [node.GetID() for node in nodes]
    widget.cleanup()


def test_a_result_of_the_console_is_in_review_at_once(
    panel: Any, library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "missingPackages", list)
    files = write_files(tmp_path / "case")
    ct, segmentation = load_nodes(files)
    other, _ = load_nodes(files)
    nodes = panel.logic.importXray(files / "views.json")
    panel._parameterNode.ctVolume = other
    result = panel.logic.register(ct, segmentation, "L3", nodes)
    wait_until(lambda: not panel.ui.reviewCollapsibleButton.collapsed)
    parameters, review = panel._parameterNode, panel.steps["review"].review
    assert (parameters.ctVolume, parameters.segmentation) == (ct, segmentation)
    assert (parameters.ctToWorld, parameters.xrays) == (result.transformNode, nodes)
    assert parameters.reconstruction is result.reconstructionNode
    assert review.session.transformNode is result.transformNode
    assert review.layout.isShown
    # Again, into the same nodes: the review is of the new result.
    outputs = results.OutputNodes(result.transformNode, result.reconstructionNode)
    library.behave("uncertain")
    panel.logic.register(ct, segmentation, "L3", nodes, outputs=outputs)
    wait_until(lambda: panel.steps["review"].review not in (None, review))
    qt_standin.processEvents(50)
    assert "Uncertain" in panel.ui.reviewCardLabel.text


def test_a_result_that_is_loaded_from_a_folder_is_in_review(panel: Any, tmp_path: Path) -> None:
    nodes = ball_nodes(result=False)
    qt_standin.processEvents(20)
    assert panel._parameterNode.xrays == nodes["xrays"]
    pose = slicer.util.arrayFromTransformMatrix(nodes["transform"])
    record = RegistrationRecord("uncertain", pose, None, {"reason": "test"})
    write_registration_json(record, tmp_path / "registration.json")
    result = panel.logic.loadResult(tmp_path, nodes["ct"], nodes["segmentation"])
    wait_until(lambda: panel.steps["review"].review is not None)
    assert panel.steps["review"].review.session.transformNode is result.transformNode


def test_nobody_listens_after_the_panel_is_gone(panel: Any) -> None:
    assert panel.steps["register"].onLoaded in results.listeners
    panel.cleanup()
    panel.cleanup()
    assert panel.steps["register"].onLoaded not in results.listeners
