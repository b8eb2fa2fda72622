# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""The panel's step for a volume without a CT: run, grow, cancel and keep; the tools after it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
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

slicer_startup.start()

from RadGSRegSlicer.exchange.results import judge
from RadGSRegSlicer.panel import volume_tools
from RadGSRegSlicer.review import rendering
from RadGSRegSlicer.scene import axes, bonesurface, frames, xray
from RadGSRegSlicer.scene.record import REASON, RECONSTRUCTION, STATUS

TEXT = "Reconstruct without a CT"


@pytest.fixture
def panel(widget: Any, library: Library) -> Any:
    """The panel with five X-rays and nothing else."""
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(slicer.mrmlScene)
    widget._parameterNode.xrays = panel_scene.xray_nodes(5)
    return widget


def _run(panel: Any) -> None:
    assert panel.ui.aloneButton.enabled, panel.ui.aloneButton.toolTip
    panel.ui.aloneButton.click()
    wait_until(lambda: panel.ui.aloneButton.text == TEXT)


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(slicer.util.arrayFromVolume(node).shape)


def test_three_x_rays_are_needed_and_no_ct(widget: Any, library: Library) -> None:
    ui, parameters = widget.ui, widget._parameterNode
    assert not ui.aloneButton.enabled
    assert not ui.withoutCtButton.enabled
    nodes = panel_scene.xray_nodes(3)
    parameters.xrays = nodes[:2]
    assert ui.aloneButton.toolTip == (
        "Step 2: 1 more needed: three X-rays or more show a volume without a CT"
    )
    assert ui.aloneButton.toolTip in ui.volumeStatusLabel.text
    parameters.xrays = nodes
    assert parameters.ctVolume is None
    assert ui.aloneButton.enabled
    assert ui.withoutCtButton.enabled
    assert not ui.applyButton.enabled  # the registration needs more
    assert "Ready to reconstruct from 3 X-rays" in ui.volumeStatusLabel.text
    nodes[1].SetName(nodes[0].GetName())
    widget.update()
    assert "same name" in ui.aloneButton.toolTip
    assert not ui.aloneButton.enabled


def test_it_grows_and_is_judged(panel: Any, library: Library) -> None:
    ui, parameters, step = panel.ui, panel._parameterNode, panel.steps["volume"]
    parameters.aloneMinutes, parameters.aloneBoxMm, parameters.aloneHoldOut = 3, 90, 1
    sizes: list[tuple[int, ...]] = []
    grown = step.onGrown

    def look(result: Any) -> None:
        grown(result)
        node = result.reconstructionNode
        sizes.append(_shape(node))
        assert rendering.renderingOf(node).GetVisibility()
        assert not ui.aloneProgressBar.isHidden()

    step.onGrown = look
    ui.withoutCtButton.click()  # in the step of the registration
    assert not ui.volumeCollapsibleButton.collapsed
    assert ui.aloneButton.text == ui.withoutCtButton.text == "Cancel"
    assert "Computing" in ui.volumeStatusLabel.text
    assert not ui.applyButton.enabled
    wait_until(lambda: ui.aloneButton.text == TEXT)
    assert sizes == [(10, 9, 8), (11, 10, 9)]
    assert _shape(parameters.aloneVolume) == (14, 13, 12)
    assert not parameters.aloneGaussians.GetDisplayNode().GetVisibility()
    assert ui.aloneLabel.text == ("Reconstructed: as the test wants it.\nX-rays held out: 31.5 dB.")
    assert "is ok: as the test wants it" in ui.volumeStatusLabel.text
    assert ui.aloneProgressBar.isHidden()
    assert parameters.volumeRendered
    qt_standin.processEvents(50)
    assert parameters.ctVolume is None  # what was reconstructed is no CT
    arguments = json.loads(library.read("arguments"))
    for option, value in (("--minutes", "3"), ("--box-mm", "90"), ("--hold-out", "1")):
        assert arguments[arguments.index(option) + 1] == value
    # A second run goes into the same nodes.
    node = parameters.aloneVolume
    step.onGrown = grown
    _run(panel)
    assert parameters.aloneVolume is node
    wait_until(lambda: list(Path(tempfile.gettempdir()).glob("radgsreg-*")) == [])


def test_bone_is_what_the_tools_work_on(panel: Any, library: Library) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    box = ui.aloneStandardizeCheckBox
    assert not box.checked
    xrays = parameters.xrays
    parameters.xrays = xrays[:2]
    assert not box.enabled
    parameters.xrays = xrays
    assert box.enabled
    box.checked = True
    assert parameters.aloneStandardize
    layers = _views(panel)["Red"][1]
    _run(panel)
    assert "--standardize" in json.loads(library.read("arguments"))
    volume, bone = parameters.aloneVolume, parameters.aloneBone
    assert bone is not volume
    assert ui.volumeNodeSelector.currentNode() is parameters.volumeNode is bone
    assert "Bone told from soft tissue: RadGSReg bone." in ui.aloneLabel.text
    assert "is ok: as the test wants it" in ui.volumeStatusLabel.text
    # In 3D the bone, in the slices all tissue; the tools are of the bone.
    assert rendering.renderingOf(bone).GetVisibility()
    assert not rendering.renderingOf(volume).GetVisibility()
    assert layers.GetBackgroundVolumeID() == volume.GetID()
    parameters.volumePercentile = 90.0
    value = bonesurface.boneThreshold(bone, 90.0)
    assert ui.volumeThresholdLabel.text == f"90.0 % ({value:.4f} / mm)"
    assert parameters.ctVolume is None  # nor is bone a CT
    # A second run goes into the same nodes; after a Cancel and without the tick there is no bone.
    _run(panel)
    assert (parameters.aloneVolume, parameters.aloneBone) == (volume, bone)
    library.behave("hang")
    ui.aloneButton.click()
    wait_until(lambda: panel.steps["volume"]._run.progress >= 0.6)
    ui.aloneButton.click()
    wait_until(lambda: ui.aloneButton.text == TEXT)
    assert parameters.aloneBone is None
    assert parameters.volumeNode is volume
    library.behave("ok")
    box.checked = False
    _run(panel)
    assert "--standardize" not in json.loads(library.read("arguments"))
    assert parameters.aloneBone is None
    assert "Bone" not in ui.aloneLabel.text
    assert _shape(bone) == (14, 13, 12)  # that of the run before is still there


def test_no_other_volume_takes_the_bone(panel: Any, library: Library) -> None:
    parameters = panel._parameterNode
    ct, mine = _block("CT"), _block("Mine")
    ct.SetAttribute(RECONSTRUCTION, "true")
    parameters.ctVolume, parameters.aloneStandardize = ct, True
    for chosen in (ct, mine):
        parameters.aloneBone = chosen
        _run(panel)
        assert _shape(ct) == _shape(mine) == (5, 6, 7)
        assert _shape(parameters.aloneBone) == (14, 13, 12)
    parameters.aloneBone = parameters.aloneVolume
    _run(panel)
    assert parameters.aloneBone is not parameters.aloneVolume
    parameters.reconstruction = parameters.aloneBone
    assert panel.steps["register"]._makeRequest().outputs.reconstructionNode is None


def test_odd_x_rays_are_named_in_the_panel(panel: Any, library: Library) -> None:
    library.behave("uncertain")
    _run(panel)
    assert panel.ui.aloneLabel.text.splitlines()[:2] == [
        "Uncertain, look closely: as the test wants it.",
        "Left out of the volume: V01.",
    ]
    assert "is uncertain" in panel.ui.volumeStatusLabel.text


def test_cancel_keeps_the_best(panel: Any, library: Library) -> None:
    library.behave("hang")
    ui, parameters = panel.ui, panel._parameterNode
    ui.aloneButton.click()
    wait_until(lambda: panel.steps["volume"]._run.progress >= 0.6)
    ui.aloneButton.click()
    assert ui.aloneLabel.text == "Stopping..."
    wait_until(lambda: ui.aloneButton.text == TEXT)
    assert _shape(parameters.aloneVolume) == (11, 10, 9)
    assert parameters.aloneVolume.GetAttribute(STATUS) == "uncertain"
    assert "not finished" in parameters.aloneVolume.GetAttribute(REASON)
    assert ui.aloneLabel.text.startswith("Uncertain, look closely: it was not finished")


def test_after_a_cancel_there_are_no_gaussians_of_another_run(panel: Any, library: Library) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    _run(panel)
    volume = parameters.aloneVolume
    assert parameters.aloneGaussians is not None
    library.behave("hang")
    ui.aloneButton.click()
    wait_until(lambda: panel.steps["volume"]._run.progress >= 0.6)
    ui.aloneButton.click()
    wait_until(lambda: ui.aloneButton.text == TEXT)
    assert parameters.aloneVolume is volume
    assert parameters.aloneGaussians is None


def test_cancel_before_a_volume_and_a_problem(panel: Any, library: Library) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    library.behave("mute")
    ui.aloneButton.click()
    wait_until(lambda: panel.steps["volume"]._run.progress >= 0.3)
    ui.aloneButton.click()
    wait_until(lambda: ui.aloneButton.text == TEXT)
    assert ui.aloneLabel.text == "Cancelled before there was a volume"
    assert parameters.aloneVolume is None
    library.behave("bad")
    _run(panel)
    assert "the X-rays show nothing" in ui.volumeStatusLabel.text
    assert parameters.aloneVolume is None
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 5


def _block(name: str, size: tuple[int, int, int] = (5, 6, 7)) -> Any:
    """A volume of the user's."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, np.full(size, 7.0))
    return node


def _views(panel: Any) -> dict[str, tuple[Any, Any]]:
    """Slice views, as the application has them: by name the slice and what it shows."""
    nodes = {}
    for name, orientation in axes.ORIENTATIONS.items():
        view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", name)
        layers = slicer.vtkMRMLSliceCompositeNode()
        for node in (view, layers):
            node.SetLayoutName(name)
        view.SetOrientation(orientation)
        nodes[name] = view, slicer.mrmlScene.AddNode(layers)
    return nodes


def _place(view: Any) -> Any:
    return slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS())


@pytest.mark.parametrize("again", [False, True])
def test_a_failure_leaves_the_views_as_they_were(panel: Any, library: Library, again: bool) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    shown = _views(panel)
    if again:
        _run(panel)
        ui.volumeRenderedCheckBox.checked = False
    other = _block("Other")
    for view, layers in shown.values():
        layers.SetBackgroundVolumeID(other.GetID())
        view.SetSliceOffset(4.0)
        view.SetFieldOfView(33.0, 44.0, 1.0)
    before = {name: _place(view) for name, (view, _) in shown.items()}
    step = panel.steps["volume"]
    library.behave("bad")
    ui.aloneButton.click()
    wait_until(lambda: step._run.progress >= 0.6)
    growing = slicer.mrmlScene.GetNodeByID(step._growing)
    assert shown["Red"][1].GetBackgroundVolumeID() == growing.GetID()
    wait_until(lambda: ui.aloneButton.text == TEXT)
    assert not parameters.volumeRendered
    for name, (view, layers) in shown.items():
        assert layers.GetBackgroundVolumeID() == other.GetID()
        np.testing.assert_allclose(_place(view), before[name])
        assert view.GetFieldOfView()[:2] == (33.0, 44.0)
    display = rendering.renderingOf(parameters.aloneVolume)
    assert display is None or not display.GetVisibility()


def test_only_an_ok_volume_has_a_check_mark(panel: Any, library: Library) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    button, label = ui.volumeCollapsibleButton, ui.volumeStatusLabel
    _run(panel)
    assert "\N{CHECK MARK}" in button.text
    for status, text in (
        ("uncertain", "is uncertain: why"),
        ("failed", "has failed: why"),
        ("", "has not been judged"),
    ):
        judge(parameters.aloneVolume, status, "why")
        panel.update()
        assert "\N{CHECK MARK}" not in button.text
        assert "\N{WARNING SIGN}" in button.text
        assert text in label.text
    parameters.xrays = parameters.xrays[:2]
    assert "For another one: Step 2: 1 more needed" in label.text


def test_while_another_module_is_open_the_views_are_its_own(panel: Any, library: Library) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    layers = _views(panel)["Red"][1]
    ui.aloneButton.click()
    qt_standin.unwrap(panel.parent).entered = False
    panel.exit()
    wait_until(lambda: panel.steps["volume"]._run is None)
    assert layers.GetBackgroundVolumeID() is None
    assert not parameters.volumeRendered
    qt_standin.unwrap(panel.parent).entered = True
    panel.enter()
    parameters = panel._parameterNode
    assert layers.GetBackgroundVolumeID() == parameters.aloneVolume.GetID()
    assert parameters.volumeRendered
    assert rendering.renderingOf(parameters.aloneVolume).GetVisibility()


def test_a_volume_without_a_preview_is_shown_at_the_end(panel: Any, library: Library) -> None:
    layers = _views(panel)["Red"][1]
    panel.steps["volume"].onGrown = lambda result: None
    _run(panel)
    parameters = panel._parameterNode
    assert layers.GetBackgroundVolumeID() == parameters.aloneVolume.GetID()
    assert rendering.renderingOf(parameters.aloneVolume).GetVisibility()


def test_the_rendering_can_be_hidden_while_it_grows(panel: Any, library: Library) -> None:
    ui, step = panel.ui, panel.steps["volume"]
    library.behave("hang")
    ui.aloneButton.click()
    wait_until(lambda: step.growing is not None)
    display = rendering.renderingOf(step.growing)
    assert display.GetVisibility()
    ui.volumeRenderedCheckBox.checked = False
    assert not display.GetVisibility()
    wait_until(lambda: step._run.progress >= 0.6)
    assert not display.GetVisibility()
    ui.aloneButton.click()
    wait_until(lambda: ui.aloneButton.text == TEXT)
    assert not display.GetVisibility()


def test_box_and_rendering_say_the_same(panel: Any, library: Library) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    volume = _with_bone(panel)
    ui.volumeRenderedCheckBox.checked = True
    display = rendering.renderingOf(volume)
    # What is changed in Volume Rendering stays when the panel is opened again.
    box = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Mine")
    display.SetAndObserveROINodeID(box.GetID())
    opacity = display.GetVolumePropertyNode().GetVolumeProperty().GetScalarOpacity()
    opacity.RemoveAllPoints()
    opacity.AddPoint(0.5, 0.5)
    panel.exit()
    panel.enter()
    parameters = panel._parameterNode
    assert opacity.GetSize() == 1
    assert display.GetROINode() is box
    assert display.GetVisibility()
    # Hidden elsewhere, it is not said to be shown.
    display.SetVisibility(False)
    panel.update()
    assert not ui.volumeRenderedCheckBox.checked
    # Another volume: that of the former goes.
    ui.volumeRenderedCheckBox.checked = True
    other = _with_bone(panel)
    assert not display.GetVisibility()
    assert rendering.renderingOf(other).GetVisibility()
    # Step 5 has a box for the volume of a registration.
    parameters.reconstruction = other
    for here, there in (
        (ui.volumeRenderedCheckBox, ui.reviewVolumeCheckBox),
        (ui.reviewVolumeCheckBox, ui.volumeRenderedCheckBox),
    ):
        for wanted in (False, True):
            here.checked = wanted
            assert there.checked == wanted
            assert rendering.renderingOf(other).GetVisibility() == wanted


def test_a_saved_percentile_that_is_none_is_survived(panel: Any) -> None:
    _with_bone(panel)
    parameters = panel._parameterNode
    with pytest.raises(ValueError, match="volumePercentile"):
        parameters.volumePercentile = 101.0
    parameters.parameterNode.SetParameter("volumePercentile", "101.0")
    panel.update()
    assert panel.ui.volumeThresholdLabel.text == "101.0 %"
    panel.ui.volumeSurfaceButton.click()
    assert "percentile: is 101" in panel.ui.volumeStatusLabel.text


def test_no_other_volume_is_written_over(panel: Any, library: Library) -> None:
    """Neither the CT nor a registration's volume nor what the tools work on."""
    parameters = panel._parameterNode
    ct, registered, other = _block("CT"), _block("Registered"), _block("Other")
    registered.SetAttribute(RECONSTRUCTION, "true")
    parameters.ctVolume, parameters.reconstruction = ct, registered
    parameters.volumeNode = other
    gaussians = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "Registered Gaussians")
    parameters.gaussians = gaussians
    for chosen in (None, ct, registered, other):
        parameters.aloneVolume, parameters.aloneGaussians = chosen, gaussians
        _run(panel)
        assert all(_shape(node) == (5, 6, 7) for node in (ct, registered, other))
        assert _shape(parameters.aloneVolume) == (14, 13, 12)
        assert parameters.volumeNode is parameters.aloneVolume
        assert gaussians.GetPolyData() is None
    assert ct.GetAttribute(RECONSTRUCTION) is None
    assert other.GetAttribute(RECONSTRUCTION) is None
    assert parameters.reconstruction is registered
    assert parameters.gaussians is gaussians
    # Nor does a registration write over it.
    alone = parameters.aloneVolume
    parameters.reconstruction, parameters.gaussians = alone, parameters.aloneGaussians
    outputs = panel.steps["register"]._makeRequest().outputs
    assert outputs.reconstructionNode is None
    assert outputs.gaussiansNode is None


def test_clicks_count_where_they_are_the_start(panel: Any, library: Library) -> None:
    parameters = panel._parameterNode
    for node in parameters.xrays:
        xray.setCenterPx(node, (7.0, 8.0))
    for mode in ("clicks", "transform"):
        parameters.startMode = mode
        _run(panel)
        views = json.loads(library.read("views"))["views"]
        assert all(("center_px" in view) == (mode == "clicks") for view in views)


def test_axes_of_more_than_one_vertebra_are_said_to_be_none(panel: Any) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    volume = _with_bone(panel)
    _views(panel)
    parameters.volumePercentile = 96.0
    ui.volumeAxesButton.click()
    assert ui.aloneLabel.text == ""
    assert axes.remarkOn(parameters.volumeAxes) == ""
    volume.SetSpacing(4.0, 4.0, 4.0)
    ui.volumeAxesButton.click()
    assert "is more than one vertebra" in ui.aloneLabel.text
    assert "is more than one vertebra" in axes.remarkOn(parameters.volumeAxes)
    volume.SetSpacing(1.0, 1.0, 1.0)
    for node in parameters.xrays:
        geometry = xray.getGeometry(node)
        xray.setGeometry(node, replace(geometry, patientAxes=None))
    ui.volumeAxesButton.click()
    assert axes.remarkOn(parameters.volumeAxes) == ""
    assert "do not say how the patient lies" in ui.aloneLabel.text


def test_the_volume_lies_in_the_world(panel: Any, library: Library) -> None:
    parameters = panel._parameterNode
    _run(panel)
    node = parameters.aloneVolume
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    for each in (node, parameters.aloneGaussians):
        each.SetAndObserveTransformNodeID(transform.GetID())
    _run(panel)
    assert parameters.aloneVolume is node
    assert node.GetParentTransformNode() is None
    assert parameters.aloneGaussians.GetParentTransformNode() is None


def test_the_tools_work_on_any_volume(panel: Any, library: Library) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    other = _with_bone(panel)
    _run(panel)
    assert ui.volumeNodeSelector.currentNode() is parameters.aloneVolume
    ui.volumeNodeSelector.setCurrentNode(other)
    assert parameters.volumeNode is other
    assert ui.volumeThresholdLabel.text == "80.0 % (0.0201 / mm)"
    _run(panel)
    assert _shape(other) == (40, 40, 40)


def test_closing_the_scene_ends_it(panel: Any, library: Library) -> None:
    library.behave("hang")
    panel.ui.aloneButton.click()
    wait_until(lambda: panel.steps["volume"]._run.progress >= 0.6)
    slicer.mrmlScene.Clear()
    wait_until(lambda: panel.steps["volume"]._run is None)
    assert panel._parameterNode.aloneVolume is None
    assert panel.ui.aloneLabel.text == ""


def _with_bone(panel: Any) -> Any:
    """A volume with a bone, as if it had been reconstructed."""
    z, y, x = np.indices((40, 40, 40)) - 19.5
    radius = np.sqrt((x / 12.0) ** 2 + (y / 9.0) ** 2 + (z / 6.0) ** 2)
    values = 0.02 + 0.03 / (1.0 + np.exp(8.0 * (radius - 1.0)))
    values += 0.03 * (np.abs(x + 15.0) + np.abs(y - 14.0) + np.abs(z) < 4.0)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Volume")
    slicer.util.updateVolumeFromArray(node, values.astype(np.float32))
    node.CreateDefaultDisplayNodes()
    panel._parameterNode.volumeNode = node
    return node


def _cells(panel: Any) -> int:
    return int(panel._parameterNode.volumeSurface.GetPolyData().GetNumberOfCells())


def test_the_surface_follows_the_slider(panel: Any, tmp_path: Path) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    assert not ui.volumeSurfaceButton.enabled
    _with_bone(panel)
    assert ui.volumePercentileSlider.value == 800
    assert ui.volumeThresholdLabel.text == "80.0 % (0.0201 / mm)"
    ui.volumePercentileSlider.value = 960
    assert parameters.volumePercentile == 96.0
    ui.volumeSurfaceButton.click()
    model, cells = parameters.volumeSurface, _cells(panel)
    assert cells > 100
    parameters.volumePercentile = 100.0  # as from the console; the slider ends before
    wait_until(lambda: "100.0" in ui.volumeThresholdLabel.text)
    wait_until(lambda: "nothing above the threshold" in ui.volumeStatusLabel.text)
    assert _cells(panel) == cells  # as it was
    ui.volumePercentileSlider.value = 950
    wait_until(lambda: "nothing above" not in ui.volumeStatusLabel.text)
    assert parameters.volumeSurface is model
    ui.volumeLargestCheckBox.checked = False
    wait_until(lambda: _cells(panel) > cells)
    # Saved, and not over what is there.
    assert not ui.volumeSaveButton.enabled
    ui.volumeSavePathLineEdit.currentPath = str(tmp_path / "bone.stl")
    ui.volumeSaveButton.click()
    assert (tmp_path / "bone.stl").stat().st_size > 1000
    assert "Saved" in ui.aloneLabel.text
    ui.volumeSaveButton.click()
    assert "is there already" in ui.volumeStatusLabel.text


def test_the_surface_waits_for_the_slider_to_rest(
    panel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    _with_bone(panel)
    ui.volumePercentileSlider.value = 960
    ui.volumeSurfaceButton.click()
    cells, made = _cells(panel), []
    make = bonesurface.boneSurface

    def count(*args: Any, **options: Any) -> Any:
        made.append(options["threshold"])
        return make(*args, **options)

    monkeypatch.setattr(bonesurface, "boneSurface", count)
    for value in (970, 975, 980):
        ui.volumePercentileSlider.value = value
        qt_standin.processEvents(50)
    assert made == []
    wait_until(lambda: _cells(panel) < cells)
    assert made == [bonesurface.boneThreshold(parameters.volumeNode, 98.0)]
    qt_standin.processEvents(500)
    assert len(made) == 1
    # Of a large volume it does not follow by itself, and says so.
    monkeypatch.setattr(volume_tools, "_LIVE_VOXELS", 40**3 - 1)
    ui.volumePercentileSlider.value = 960
    assert ui.volumeThresholdLabel.text == "96.0 %"
    wait_until(lambda: "This is large" in ui.aloneLabel.text)
    assert ui.volumeThresholdLabel.text.startswith("96.0 % (0.0")
    assert len(made) == 1
    ui.volumeSurfaceButton.click()
    assert _cells(panel) == cells
    # In a small box it follows.
    ui.volumeBoxButton.click()
    ui.volumePercentileSlider.value = 980
    wait_until(lambda: _cells(panel) < cells)


def test_a_box_limits_surface_and_rendering(panel: Any) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    volume = _with_bone(panel)
    assert not ui.volumeInBoxCheckBox.enabled
    ui.volumePercentileSlider.value = 960
    ui.volumeSurfaceButton.click()
    whole = _cells(panel)
    ui.volumeBoxButton.click()
    box = parameters.volumeBox
    assert parameters.volumeInBox
    assert ui.volumeBoxSelector.currentNode() is box
    np.testing.assert_allclose(box.GetSize(), [24.0, 18.0, 12.0], atol=1.5)
    ui.volumeRenderedCheckBox.checked = True
    display = rendering.renderingOf(volume)
    assert display.GetVisibility()
    assert display.GetROINode() is box
    assert display.GetCroppingEnabled()
    box.SetSize(10.0, 18.0, 12.0)  # as if it were dragged
    wait_until(lambda: _cells(panel) < whole)
    ui.volumeBoxButton.click()
    assert parameters.volumeBox is box
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 1
    box.SetSize(10.0, 18.0, 12.0)
    layers = _views(panel)["Red"][1]
    count = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    ui.volumeCropButton.click()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == count + 1
    cropped = slicer.util.getNode("Volume cropped")
    assert _shape(cropped)[2] == 10
    assert layers.GetBackgroundVolumeID() == cropped.GetID()
    assert "Volume cropped is in the slice views" in ui.aloneLabel.text
    assert parameters.volumeNode is volume
    ui.volumeInBoxCheckBox.checked = False
    assert not display.GetCroppingEnabled()
    wait_until(lambda: _cells(panel) == whole)
    ui.volumeRenderedCheckBox.checked = False
    assert not display.GetVisibility()


def test_slices_turn_along_the_bone_and_back(panel: Any) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    _with_bone(panel)
    parameters.volumePercentile = 96.0
    ui.volumeAxesButton.click()
    assert "slice views: are not there" in ui.volumeStatusLabel.text
    red = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "Red")
    red.SetLayoutName("Red")
    red.SetOrientation("Axial")
    ui.volumeAxesButton.click()
    assert "are not there" not in ui.volumeStatusLabel.text
    node = parameters.volumeAxes
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLLinearTransformNode") == 1
    matrix = slicer.util.arrayFromVTKMatrix(red.GetSliceToRAS())
    upright = slicer.util.arrayFromVTKMatrix(red.GetSliceOrientationPreset("Axial"))
    turned = frames.transformMatrix(node)
    np.testing.assert_allclose(matrix[:3, :3], turned[:3, :3] @ upright, atol=1e-6)
    ui.volumeUprightButton.click()
    assert red.GetOrientation() == "Axial"
    choice = ui.volumeAxesComboBox
    choice.setCurrentIndex(choice.findData("segment"))
    ui.volumeAxesButton.click()
    assert "segment: none is chosen" in ui.volumeStatusLabel.text


def test_volume_and_surface_are_cut_open(panel: Any) -> None:
    ui, parameters = panel.ui, panel._parameterNode
    volume = _with_bone(panel)
    parameters.volumePercentile = 96.0
    ui.volumeSurfaceButton.click()
    red = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "Red")
    red.SetLayoutName("Red")
    ui.volumeRenderedCheckBox.checked = True
    ui.volumeCutRedCheckBox.checked = True
    displays = [parameters.volumeSurface.GetDisplayNode(), rendering.renderingOf(volume)]
    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLClipNode")
    assert all(display.GetClipping() and display.GetClipNode() is node for display in displays)
    assert node.GetNthClippingNode(0) is red
    ui.volumeCutRedCheckBox.checked = False
    assert not any(display.GetClipping() for display in displays)


def test_thirty_x_rays_come_from_one_file(widget: Any, tmp_path: Path, library: Library) -> None:
    from RadGSRegSlicer.exchange import casefolder

    casefolder.writeViews(panel_scene.xray_nodes(30), tmp_path / "views")
    slicer.mrmlScene.Clear()
    ui = widget.ui
    ui.viewsPathLineEdit.currentPath = str(tmp_path / "views" / "views.json")
    ui.importButton.click()
    assert ui.xrayTable.rowCount == 30
    assert len(widget._parameterNode.xrays) == 30
    _run(widget)
    assert len(json.loads(library.read("views"))["views"]) == 30
