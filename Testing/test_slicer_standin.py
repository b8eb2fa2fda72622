# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""The stand-in for the application does what a real one was seen to do, module or no module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
vtk = pytest.importorskip("vtk")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import qt_standin
import slicer_application
import slicer_startup

slicer_startup.start_panel()

from PySide6.QtWidgets import QLineEdit, QSizePolicy, QVBoxLayout, QWidget
from qt_standin_widgets import ctkCollapsibleButton
from slicer_application import logged

UNKNOWN = 4321


def _offsets(layout: Any) -> dict[str, float]:
    nodes = {name: logic.GetSliceNode() for name, logic in layout.stage.sliceLogics.items()}
    return {name: node.GetSliceOffset() for name, node in nodes.items()}


def test_new_slice_views_lose_their_offset_in_their_first_turn(application: Any) -> None:
    qt_standin.processEvents(20)
    old = set(application.stage.sliceLogics)
    application.node.AddLayoutDescription(
        UNKNOWN,
        '<layout type="horizontal"><item><view class="vtkMRMLSliceNode" singletontag="New">'
        '<property name="orientation" action="default">Axial</property></view></item></layout>',
    )
    application.node.SetViewArrangement(UNKNOWN)
    assert application.views == ["New"]
    assert "New" not in old
    before = _offsets(application)
    qt_standin.processEvents(20)
    after = _offsets(application)
    assert {name for name in after if after[name] != before[name]} == {"New"}
    # It was its first turn: whoever shows something from now on is left alone.
    application.stage.sliceLogics["New"].GetSliceNode().SetSliceOffset(17.0)
    qt_standin.processEvents(20)
    assert _offsets(application)["New"] == 17.0


def test_an_unknown_layout_is_an_empty_window_and_an_error(application: Any) -> None:
    application.node.SetViewArrangement(UNKNOWN)
    assert application.views == []
    assert slicer_application.errors == [f"Can't find layout:{UNKNOWN}"]
    slicer_application.errors.clear()


def test_what_is_in_a_collapsible_button_sets_the_least_width() -> None:
    window = QWidget()
    column = QVBoxLayout(window)
    button = ctkCollapsibleButton()
    QVBoxLayout(button).addWidget(QLineEdit())
    column.addWidget(button)
    least, wanted = button.minimumSizeHint().width(), button.sizeHint().width()
    assert least < wanted
    assert window.minimumSizeHint().width() >= wanted  # as CTK's, unless told otherwise
    button.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
    column.activate()
    assert window.minimumSizeHint().width() < wanted


def test_what_is_removed_twice_is_an_error(application: Any) -> None:
    scene = slicer.mrmlScene
    node = scene.AddNewNodeByClass("vtkMRMLModelNode", "drawn")
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    scene.RemoveNode(node)
    assert display.GetScene() is None  # it went along
    assert slicer_application.errors == []
    scene.RemoveNode(display)
    assert len(slicer_application.errors) == 1
    assert display.GetName() in slicer_application.errors[0]
    slicer_application.errors.clear()


def test_the_log_has_the_errors_of_vtk(application: Any, tmp_path: Path) -> None:
    with logged(tmp_path) as lines:
        reslice = vtk.vtkImageReslice()
        reslice.Update()
    assert any("vtkImageReslice" in line and "0 connections" in line for line in lines)
    with logged(tmp_path) as lines:
        pass
    assert lines == []


def test_a_view_of_a_volume_without_an_image_is_an_error_while_all_is_painted(
    application: Any, tmp_path: Path
) -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "volume")
    image = vtk.vtkImageData()
    image.SetDimensions(4, 5, 6)
    image.AllocateScalars(vtk.VTK_FLOAT, 1)
    node.SetAndObserveImageData(image)
    node.CreateDefaultDisplayNodes()
    for layers in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        layers.SetBackgroundVolumeID(node.GetID())
    with logged(tmp_path) as lines:
        painting = application.paintAlways()
        qt_standin.processEvents(20)
        node.SetAndObserveImageData(None)
        qt_standin.processEvents(20)
        painting.stop()
    assert any("0 connections" in line for line in lines)
