# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""Levels in the panel: names over the X-rays, corrected by a click, taken for the clicks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import ball
import panel_scene
import slicer_startup

from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import transform_points
from RadGSRegLib.spine import LEVELS, Vertebra, levels_to_record, name_vertebrae

slicer_startup.start()

from RadGSRegSlicer.scene import spinelevels, starts, xray

import RadGSReg

CENTRE = transform_points(ball.POSE, ball.CENTRE_CT[None])[0]
EVEN = dict.fromkeys(LEVELS, 0.0)


def spine(sacrum: float = 0.99, centre: np.ndarray = CENTRE) -> Any:
    """Three vertebrae, the middle one at the centre: L2, L3 and L4, if the sacrum is believed."""
    vertebrae = [
        Vertebra(centre + [0.0, 0.0, 34.0 * n], 0.9, {**EVEN, "L3": 0.0 if n else 4.0}, {})
        for n in (1, 0, -1)
    ]
    return name_vertebrae(vertebrae, {"sacrum": sacrum, "last rib": 0.0})


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> panel_scene.Library:
    (tmp_path / "quick").mkdir()
    return panel_scene.quick_library(tmp_path / "quick", monkeypatch)


@pytest.fixture
def nodes(widget: Any, tmp_path: Path) -> list[Any]:
    """The ball's CT, segment and X-rays, chosen in the panel."""
    files = panel_scene.write_files(tmp_path / "case")
    ct, segmentation = panel_scene.load_nodes(files)
    widget.ui.ctSelector.setCurrentNode(ct)
    widget.ui.segmentSelector.setCurrentNode(segmentation)
    widget.ui.viewsPathLineEdit.currentPath = str(files / "views.json")
    widget.ui.importButton.click()
    chosen = list(widget._parameterNode.xrays)
    for node in chosen:
        xray.setCenterPx(node, None)
    return chosen


def names(node: Any) -> list[str]:
    markups = starts.markupsOf(node, spinelevels.NAMES_ROLE)
    return [markups.GetNthControlPointLabel(n) for n in range(markups.GetNumberOfControlPoints())]


def name_levels(widget: Any, library: panel_scene.Library, sacrum: float = 0.99) -> None:
    library.see(levels_to_record(spine(sacrum)))
    widget.ui.nameLevelsButton.click()
    panel_scene.wait_until(lambda: widget.steps["start"].levelsRun is None)


def correct(widget: Any, nodes: list[Any], level: str, row: int = 0) -> Any:
    """Choose a level and press the button that corrects; returns the points to click with."""
    ui = widget.ui
    ui.clickTable.setCurrentCell(row, 0)
    ui.correctLevelComboBox.setCurrentIndex(ui.correctLevelComboBox.findData(level))
    ui.correctLevelButton.click()
    return starts.markupsOf(nodes[row], spinelevels.CORRECTION_ROLE)


def click_on(widget: Any, nodes: list[Any], level: str, vertebra: int, row: int = 0) -> None:
    """Choose a level and click on a vertebra in an X-ray."""
    markups = correct(widget, nodes, level, row)
    camera = xray.getGeometry(nodes[row]).camera
    column, line = camera.project(CENTRE + [[0.0, 0.0, 34.0 * vertebra]])[0]
    panel_scene.click_in_slice(nodes[row], markups, column + 6.0, line - 5.0)


def test_without_xrays_there_is_nothing_to_name(widget: Any) -> None:
    assert not widget.ui.nameLevelsButton.enabled
    assert "two X-rays" in widget.ui.nameLevelsButton.toolTip
    for button in ("clickLevelButton", "correctLevelButton", "forgetLevelsButton"):
        assert not getattr(widget.ui, button).enabled


def test_names_stand_over_both_xrays_and_give_the_clicks(
    widget: Any, nodes: list[Any], library: panel_scene.Library
) -> None:
    ui = widget.ui
    assert ui.nameLevelsButton.enabled
    assert not ui.clickLevelButton.enabled
    name_levels(widget, library)
    assert names(nodes[0]) == names(nodes[1]) == ["L2", "L3", "L4"]
    assert "L2 L3 L4, counted from the sacrum" in ui.levelsLabel.text
    markups = starts.markupsOf(nodes[1], spinelevels.NAMES_ROLE)
    geometry = xray.getGeometry(nodes[1])
    place = starts.rasToPixel(geometry, starts.definedPoints(markups)[1])
    assert place == pytest.approx(geometry.camera.project(CENTRE[None])[0].tolist(), abs=0.01)
    assert markups.GetLocked()
    # The chosen vertebra is L3.
    assert ui.clickLevelButton.text == "Click L3"
    ui.clickLevelButton.click()
    for node in nodes:
        geometry = xray.getGeometry(node)
        wanted = geometry.camera.project(CENTRE[None])[0].tolist()
        assert geometry.centerPx == pytest.approx(wanted, abs=0.01)
    ui.forgetLevelsButton.click()
    assert spinelevels.levelsOf(nodes) is None
    assert ui.levelsLabel.text == ""


def test_a_click_stands_where_the_level_is_not_to_be_seen(
    widget: Any, nodes: list[Any], library: panel_scene.Library
) -> None:
    # Along the beam of the first X-ray, out of the second's picture.
    beam = xray.getGeometry(nodes[0]).camera.world_to_camera[2, :3]
    library.see(levels_to_record(spine(centre=CENTRE + 100.0 * beam)))
    widget.ui.nameLevelsButton.click()
    panel_scene.wait_until(lambda: widget.steps["start"].levelsRun is None)
    assert names(nodes[1]) == []
    for node in nodes:
        xray.setCenterPx(node, (30.0, 40.0))
    widget.ui.clickLevelButton.click()
    assert xray.getGeometry(nodes[0]).centerPx == pytest.approx((160.0, 150.0), abs=0.01)
    assert xray.getGeometry(nodes[1]).centerPx == (30.0, 40.0)


def test_without_an_anchor_a_click_names_them_all(
    widget: Any, nodes: list[Any], library: panel_scene.Library
) -> None:
    ui = widget.ui
    name_levels(widget, library, sacrum=0.2)
    assert names(nodes[0]) == ["?", "?", "?"]
    assert "levels unknown" in ui.levelsLabel.text
    assert not ui.clickLevelButton.enabled
    click_on(widget, nodes, "L5", vertebra=-1, row=1)
    assert names(nodes[0]) == names(nodes[1]) == ["L3", "L4", "L5"]
    assert "counted from what you said" in ui.levelsLabel.text
    assert not ui.correctLevelButton.checked
    # A second word that contradicts the first takes its place.
    click_on(widget, nodes, "L4", vertebra=-1)
    assert names(nodes[0]) == ["L2", "L3", "L4"]
    assert spinelevels.levelsOf(nodes).told == {2: "L4"}
    # A click beside all names changes nothing.
    panel_scene.click_in_slice(nodes[0], correct(widget, nodes, "L1"), 20.0, 150.0)
    assert "no vertebra is near the point" in widget.ui.startStatusLabel.text
    assert names(nodes[0]) == ["L2", "L3", "L4"]


def test_a_correction_beside_the_picture_is_refused(
    widget: Any, nodes: list[Any], library: panel_scene.Library
) -> None:
    name_levels(widget, library)
    # In the view of the other X-ray.
    markups = correct(widget, nodes, "L5")
    panel_scene.click_in_slice(nodes[1], markups, 160.0, 150.0)
    assert "AP: the point is not in this X-ray" in widget.ui.startStatusLabel.text
    # In a view of neither, on the ray of a vertebra.
    markups = correct(widget, nodes, "L5")
    slicer.util.getNodesByClass("vtkMRMLInteractionNode")[0].SetCurrentInteractionMode(2)
    markups.AddControlPointWorld(*(float(x) for x in CENTRE * [-1.0, -1.0, 1.0]))
    assert "no picture of this X-ray is under the point" in widget.ui.startStatusLabel.text
    assert starts.definedPoints(markups) == []
    assert names(nodes[0]) == names(nodes[1]) == ["L2", "L3", "L4"]
    assert spinelevels.levelsOf(nodes).told == {}


@pytest.mark.parametrize("how", ["unticked", "removed", "deleted"])
def test_names_outlive_the_first_xray(
    widget: Any, nodes: list[Any], library: panel_scene.Library, how: str
) -> None:
    ui = widget.ui
    name_levels(widget, library)
    if how == "deleted":
        slicer.mrmlScene.RemoveNode(nodes[0])
    else:
        widget._parameterNode.xrays = nodes[1:]
    if how == "removed":
        xray.clearGeometry(nodes[0])
    panel_scene.wait_until(lambda: ui.clickTable.rowCount == 1)
    assert ui.correctLevelButton.enabled
    click_on(widget, nodes[1:], "L5", vertebra=-1)
    assert names(nodes[1]) == ["L3", "L4", "L5"]
    # Names can be taken off with no X-ray left, too.
    widget._parameterNode.xrays = []
    panel_scene.wait_until(lambda: ui.clickTable.rowCount == 0)
    assert not ui.correctLevelButton.enabled
    assert ui.forgetLevelsButton.enabled
    ui.forgetLevelsButton.click()
    assert not ui.forgetLevelsButton.enabled
    left = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    assert [node.GetName() for node in left if "Vertebra in" not in node.GetName()] == []


def test_naming_can_be_stopped_and_says_what_went_wrong(
    widget: Any, nodes: list[Any], library: panel_scene.Library
) -> None:
    ui = widget.ui
    library.behave("hang")
    library.see(levels_to_record(spine()))
    ui.nameLevelsButton.click()
    assert ui.nameLevelsButton.text == "Cancel"
    assert not ui.applyButton.enabled
    ui.nameLevelsButton.click()
    panel_scene.wait_until(lambda: widget.steps["start"].levelsRun is None)
    assert ui.nameLevelsButton.text == "Name the levels"
    assert "\N{WARNING SIGN}" not in ui.startStatusLabel.text
    assert spinelevels.levelsOf(nodes) is None
    library.behave("bad")
    ui.nameLevelsButton.click()
    panel_scene.wait_until(lambda: widget.steps["start"].levelsRun is None)
    assert "the X-rays show nothing" in ui.startStatusLabel.text


def test_the_logic_names_levels_without_a_window(
    nodes: list[Any], library: panel_scene.Library
) -> None:
    library.see(levels_to_record(spine()))
    done = RadGSReg.RadGSRegLogic().levelsInXrays(nodes, device="cpu")
    assert [v.level for v in done.vertebrae] == ["L2", "L3", "L4"]
    assert '"levels"' in library.read("arguments")
    with pytest.raises(InputError, match="is no option here"):
        RadGSReg.RadGSRegLogic().levelsInXrays(nodes, colour="red")
    kept = spinelevels.levelsOf(nodes)
    assert [v.level for v in kept.vertebrae] == ["L2", "L3", "L4"]
    assert np.allclose(kept.vertebrae[1].place_world, CENTRE, atol=1e-3)
