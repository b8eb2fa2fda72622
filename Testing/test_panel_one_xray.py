# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""One X-ray alone in the panel: a start is needed, and what it gives is said."""

from __future__ import annotations

import json
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

from RadGSRegLib.cases import read_case
from RadGSRegLib.geometry import lps_to_ras

slicer_startup.start()

from RadGSRegSlicer.exchange import staging
from RadGSRegSlicer.scene import frames, xray


@pytest.fixture
def alone(widget: Any, tmp_path: Path, library: Library) -> Any:
    """The widget with a CT, a vertebra and one X-ray chosen, with a click."""
    files = panel_scene.write_files(tmp_path / "case")
    ct, segmentation = panel_scene.load_nodes(files)
    widget.ui.ctSelector.setCurrentNode(ct)
    widget.ui.segmentSelector.setCurrentNode(segmentation)
    widget.ui.viewsPathLineEdit.currentPath = str(files / "views.json")
    widget.ui.importButton.click()
    widget._parameterNode.xrays = list(widget._parameterNode.xrays)[:1]
    return widget


def _status(widget: Any, step: str) -> str:
    return str(getattr(widget.ui, f"{step}StatusLabel").text)


def _choose(comboBox: Any, key: str) -> None:
    comboBox.setCurrentIndex(comboBox.findData(key))


def _move_ct(widget: Any) -> Any:
    """Put the CT about where it is, as the module Transforms does."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "about there")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(lps_to_ras(ball.START)))
    widget._parameterNode.ctVolume.SetAndObserveTransformNodeID(node.GetID())
    return node


def test_clicks_in_one_xray_are_not_enough(alone: Any) -> None:
    assert "good sideways, its depth stays uncertain" in _status(alone, "xray")
    assert "\N{WARNING SIGN}" in alone.ui.xrayCollapsibleButton.text
    assert "One X-ray needs a start" in _status(alone, "start")
    assert not alone.ui.applyButton.enabled
    assert alone.ui.applyButton.toolTip.startswith("Step 3: One X-ray needs a start")
    # Nor are networks that look for the vertebra.
    _choose(alone.ui.methodComboBox, "published")
    assert "One X-ray needs a start" in alone.ui.applyButton.toolTip


def test_where_the_ct_is_is_a_start(alone: Any, library: Library) -> None:
    library.behave("uncertain")
    ui = alone.ui
    _choose(ui.startModeComboBox, "transform")
    assert "Select a transform" in _status(alone, "start")
    _move_ct(alone)
    wait_until(
        lambda: "Starts from where the CT is, under 'about there'" in _status(alone, "start")
    )
    assert ui.applyButton.enabled, ui.applyButton.toolTip
    assert (
        ui.applyButton.toolTip
        == "Register the vertebra to the one X-ray; its depth stays uncertain"
    )
    ui.applyButton.click()
    wait_until(lambda: ui.applyButton.text == "Apply")
    assert "uncertain: check it" in ui.progressLabel.text, _status(alone, "register")
    arguments = json.loads(library.read("arguments"))
    assert "--start" in arguments
    (view,) = json.loads(library.read("views"))["views"]
    assert (view["name"], "center_px" in view) == ("AP", False)
    card = alone.steps["review"].review.card()
    assert "From one X-ray: in-plane error 0.4 mm, depth 7.8 mm (expected)." in card.notes
    assert "depth 7.8 mm" in ui.reviewCardLabel.text


def test_a_chosen_transform_counts_before_the_ct_s_own(alone: Any) -> None:
    _move_ct(alone)
    _choose(alone.ui.startModeComboBox, "transform")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "elsewhere")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(lps_to_ras(ball.POSE)))
    alone.ui.startSelector.setCurrentNode(node)
    assert "Starts from 'elsewhere'" in _status(alone, "start")
    start = alone.steps["start"].startMatrix()
    np.testing.assert_allclose(start, lps_to_ras(ball.POSE))


def test_what_needs_two_says_so(alone: Any) -> None:
    _move_ct(alone)
    ui, parameters = alone.ui, alone._parameterNode
    _choose(ui.startModeComboBox, "transform")
    wait_until(lambda: ui.applyButton.enabled)
    assert "it needs two X-rays or more" in ui.refineCamerasCheckBox.toolTip
    assert not ui.refineCamerasCheckBox.enabled
    _choose(ui.methodComboBox, "published")
    assert "needs two X-rays or more" in ui.applyButton.toolTip
    _choose(ui.methodComboBox, "optimize")
    ids = panel_scene.three_levels(parameters.ctVolume, parameters.segmentation)
    parameters.alsoSegmentIds = [ids["L2"]]
    assert "several cannot go with one X-ray alone" in ui.applyButton.toolTip
    assert "three X-rays or more" in ui.aloneButton.toolTip


def test_the_case_of_one_xray_can_be_read(alone: Any, tmp_path: Path) -> None:
    node = _move_ct(alone)
    parameters = alone._parameterNode
    nodes = parameters.ctVolume, parameters.segmentation, parameters.segmentId, parameters.xrays
    folder = tmp_path / "staged"
    folder.mkdir()
    start = frames.transformMatrix(node)
    use = staging.XrayUse(clicks=False, least=1)
    for _ in staging.stageCase(*nodes, folder, start, use):
        pass
    (view,) = read_case(folder / staging.CASE, least=1).views
    geometry = xray.getGeometry(parameters.xrays[0])
    np.testing.assert_array_equal(view.pixels, xray.getPixels(parameters.xrays[0]))
    np.testing.assert_allclose(view.camera.world_to_camera, geometry.camera.world_to_camera)


def test_a_views_json_of_one_xray_is_loaded(widget: Any, tmp_path: Path) -> None:
    files = panel_scene.write_files(tmp_path / "case")
    content = json.loads((files / "views.json").read_text())
    (files / "views.json").write_text(json.dumps({**content, "views": content["views"][:1]}))
    widget.ui.viewsPathLineEdit.currentPath = str(files / "views.json")
    widget.ui.importButton.click()
    assert [node.GetName() for node in widget._parameterNode.xrays] == ["AP"]
    assert "its depth stays uncertain" in _status(widget, "xray")
