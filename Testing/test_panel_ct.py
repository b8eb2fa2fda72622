# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""Step 1 of the panel says what is wrong, or not said yet, before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import ball
import panel_scene
import slicer_startup

slicer_startup.start()

from RadGSRegSlicer.scene import levels


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return panel_scene.write_files(tmp_path / "case")


def _choose(comboBox: Any, key: str) -> None:
    comboBox.setCurrentIndex(comboBox.findData(key))


def test_a_segment_from_a_click_is_no_level_that_nobody_said(
    widget: Any, library: Any, files: Path
) -> None:
    ui, parameters = widget.ui, widget._parameterNode
    ui.ctSelector.setCurrentNode(slicer_startup.load_volume(files / "ct.nii.gz"))
    ui.placeSegmentPointButton.click()
    parameters.segmentPoint.AddControlPointWorld(*(ball.CENTRE_CT * [-1, -1, 1]))
    assert ui.newLevelComboBox.currentData == ""
    assert not ui.segmentFromClickButton.enabled
    assert ui.segmentFromClickButton.toolTip == (
        'Choose which vertebra the point is in, or "not known"'
    )
    _choose(ui.newLevelComboBox, "unknown")
    ui.segmentFromClickButton.click()
    panel_scene.wait_until(lambda: parameters.segmentId != "")
    assert json.loads(library.read("arguments"))[0] == "segment"
    assert levels.segmentLevel(parameters.segmentation, parameters.segmentId) is None
    assert "say which level the vertebra is" in ui.ctStatusLabel.text


def test_a_segment_that_contradicts_itself_is_not_ready(widget: Any, files: Path) -> None:
    ct, segmentation = panel_scene.load_nodes(files)
    ui, parameters = widget.ui, widget._parameterNode
    ui.ctSelector.setCurrentNode(ct)
    ui.segmentSelector.setCurrentNode(segmentation)
    segment = segmentation.GetSegmentation().GetSegment(parameters.segmentId)
    levels.setSegmentLevel(segmentation, parameters.segmentId, "L3", byHand=False)
    segment.SetName("L2")
    widget.update()
    said = ui.ctStatusLabel.text
    assert "says different vertebrae of one segment" in said
    assert "(L3)" in said
    assert 'name "L2" (L2)' in said
    assert "say in step 1 which vertebra it is" in said
    assert not ui.applyButton.enabled
    assert "different vertebrae" in ui.applyButton.toolTip
    _choose(ui.levelComboBox, "L2")
    assert "L2, as you said" in ui.ctStatusLabel.text
