# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""What went wrong in a real Slicer, on a stand-in that does as its application does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("vtk")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import qt_standin
import SimpleITK as sitk  # noqa: N813
import slicer_application
import slicer_startup

slicer_startup.start_panel()

from panel_scene import click_in_slice, load_nodes, wait_until, write_files, xray_nodes
from RadGSRegSlicer.exchange import volumes
from RadGSRegSlicer.process import environment
from RadGSRegSlicer.review import views
from RadGSRegSlicer.review.review import Review
from RadGSRegSlicer.scene import segments, starts, xray
from review_scene import ball_nodes
from slicer_application import SIZES, StandInLayoutManager, logged
from slicer_pictures import view_slice

import RadGSReg
from RadGSRegLib.errors import InputError

pytestmark = pytest.mark.usefixtures("application")


@pytest.fixture
def panel(application: Any, tmp_path: Path) -> Iterator[Any]:
    """The panel with the ball's case loaded and not clicked."""
    files = write_files(tmp_path / "case")
    widget = slicer_startup.make_widget()
    ct, segmentation = load_nodes(files)
    widget._parameterNode.ctVolume = ct
    widget._parameterNode.segmentation = segmentation
    slicer_startup.choose_label(widget, segmentation, 22)
    widget.ui.viewsPathLineEdit.currentPath = str(files / "views.json")
    widget.ui.importButton.click()
    for node in widget._parameterNode.xrays:
        xray.setCenterPx(node, None)
    yield widget
    widget.cleanup()


def _bright(application: Any, name: str) -> float:
    return float(view_slice(application.stage.sliceLogics[name], SIZES[name]).max())


def test_the_first_click_step_shows_the_xrays(application: Any, panel: Any) -> None:
    panel.ui.placeClickButton.checked = True
    qt_standin.processEvents(20)
    assert set(views.XRAY_VIEWS) <= set(application.views)
    for name in views.XRAY_VIEWS:
        assert _bright(application, name) > 60


def test_the_review_shows_the_xrays_though_its_views_are_new(application: Any) -> None:
    review = Review(*_parts(ball_nodes()))
    review.showLayout()
    qt_standin.processEvents(20)
    for name in views.XRAY_VIEWS:
        assert _bright(application, name) > 60
    review.close()


def test_a_click_with_no_picture_under_it_is_refused(application: Any, panel: Any) -> None:
    first = panel._parameterNode.xrays[0]
    panel.ui.placeClickButton.checked = True
    qt_standin.processEvents(20)
    view = views.sliceNode(slicer.mrmlScene, "RadGSRegA")
    beam = slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS())[:3, 2]
    place = starts.pixelsToRas(first, [[60.0, 50.0]])[0] + beam  # a slice 1 mm before the picture
    markups = starts.markupsOf(first, starts.CLICK_ROLE)
    markups.AddControlPointWorld(*(float(x) for x in place))
    assert xray.getGeometry(first).centerPx is None
    assert starts.definedPoints(markups) == []
    assert "no picture of this X-ray is under the point" in panel.ui.startStatusLabel.text
    click_in_slice(first, markups, 60.0, 50.0)
    np.testing.assert_allclose(xray.getGeometry(first).centerPx, [60.0, 50.0], atol=1e-6)


def test_landmarks_with_no_picture_under_them_are_refused() -> None:
    nodes = ball_nodes()["xrays"]
    for node in nodes:
        markups = starts.markupsOf(node, starts.LANDMARKS_ROLE, "landmarks")
        markups.AddControlPointWorld(*starts.pixelsToRas(node, [[60.0, 50.0]])[0])
    assert starts.landmarksInXrays(nodes, 1).shape == (1, 3)
    markups.SetNthControlPointPositionWorld(0, 0.0, 0.0, 0.0)
    with pytest.raises(InputError, match="landmark 1: no picture of 'LA' is under its point"):
        starts.landmarksInXrays(nodes, 1)


def test_the_layout_is_known_when_the_application_has_started(
    application: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: dict[str, list[Any]] = {}
    monkeypatch.setattr(
        slicer.app,
        "connect",
        lambda signal, slot: calls.setdefault(signal, []).append(slot),
        raising=False,
    )
    parent = type("Parent", (), {})()
    RadGSReg.RadGSReg(parent)
    assert RadGSReg.registerLayout in calls["startupCompleted()"]
    RadGSReg.registerLayout()
    application.node.SetViewArrangement(views.LAYOUT_ID)
    assert set(views.XRAY_VIEWS) <= set(application.views)


def test_a_layout_that_was_current_but_unknown_is_set_again(application: Any) -> None:
    application.node.SetViewArrangement(views.LAYOUT_ID)
    assert slicer_application.errors == [f"Can't find layout:{views.LAYOUT_ID}"]
    slicer_application.errors.clear()
    RadGSReg.registerLayout()
    assert set(views.XRAY_VIEWS) <= set(application.views)
    slicer_application.errors.clear()  # the description was added before it was set again


def test_the_panel_makes_the_layout_known_where_no_start_did(application: Any) -> None:
    widget = slicer_startup.make_widget()  # as of a module that is loaded later
    application.node.SetViewArrangement(views.LAYOUT_ID)
    assert set(views.XRAY_VIEWS) <= set(application.views)
    widget.cleanup()


def test_a_saved_scene_opens_without_the_extension(application: Any, tmp_path: Path) -> None:
    widget = slicer_startup.make_widget()
    path = tmp_path / "scene.mrml"
    views.showLayout(slicer.mrmlScene)
    slicer.mrmlScene.SetURL(str(path))
    assert slicer.mrmlScene.Commit()
    assert f'"{views.LAYOUT_ID}"' not in path.read_text()
    application.node.SetViewArrangement(3)  # by the toolbar: such a layout is saved
    assert slicer.mrmlScene.Commit(str(tmp_path / "other.mrml"))
    assert 'currentViewArrangement="3"' in (tmp_path / "other.mrml").read_text()
    views.showLayout(slicer.mrmlScene)
    slicer.mrmlScene.Clear(False)
    assert application.node.GetViewArrangement() == 3
    widget.cleanup()
    qt_standin.processEvents()

    plain = slicer_startup.start_panel()  # nothing of the extension
    layout = StandInLayoutManager(plain, SIZES)
    layout.node.SetViewArrangement(2)
    plain.SetURL(str(path))
    assert plain.Connect()
    assert "Red" in layout.views


def _parts(nodes: dict[str, Any]) -> tuple[Any, ...]:
    return nodes["ct"], nodes["segmentation"], "L3", nodes["xrays"], nodes["transform"]


def test_no_outline_is_drawn_over_slices_of_the_ct(application: Any) -> None:
    review = Review(*_parts(ball_nodes()))
    for model in _lines(review):
        assert not model.GetDisplayNode().GetVisibility2D()
    review.showLayout()
    for model in _lines(review):
        display = model.GetDisplayNode()
        assert display.GetVisibility2D()
        assert not display.IsDisplayableInView(views.sliceNode(slicer.mrmlScene, "Red").GetID())
    review.close()


def _lines(review: Review) -> list[Any]:
    return [model for pair in review.display._outlines.values() for model in pair]


def test_after_apply_the_review_is_shown_and_scored(
    application: Any, panel: Any, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(environment, "missingPackages", list)
    monkeypatch.setattr(Review, "startScoring", lambda self: calls.append("start"))
    monkeypatch.setattr(Review, "stopScoring", lambda self: calls.append("stop"))
    _click_both(panel)
    for _ in range(2):
        application.node.SetViewArrangement(3)  # the X-rays' arrival has left it
        panel.ui.applyButton.click()
        calls.clear()
        wait_until(lambda: not panel.steps["register"].context.busy)
        review = panel.steps["review"].review
        assert review.layout.isShown
        assert calls[-1] == "start"
        aimed = views.cameraNode(slicer.mrmlScene)
        np.testing.assert_allclose(aimed.GetFocalPoint(), review.session.centreRas, atol=1e-6)
        aimed.SetFocalPoint(1.0, 2.0, 3.0)
    panel.ui.reviewLeaveButton.click()
    assert views.layoutNode(slicer.mrmlScene).GetViewArrangement() == 3


def _click_both(panel: Any) -> None:
    for node in panel._parameterNode.xrays:
        xray.setCenterPx(node, (60.0, 50.0))
    panel.update()
    assert panel.ui.applyButton.enabled, panel.ui.applyButton.toolTip


def test_a_second_result_leaves_no_view_without_an_image(application: Any, tmp_path: Path) -> None:
    path = tmp_path / "reconstruction.nii.gz"
    sitk.WriteImage(sitk.Image(4, 5, 6, sitk.sitkFloat32), str(path))
    scene = slicer.mrmlScene
    node = volumes.placeVolume(volumes.readVolume(path), scene, None)
    layers = views.compositeNode(scene, "Red")
    layers.SetBackgroundVolumeID(node.GetID())
    views.layoutNode(scene)
    view_slice(application.stage.sliceLogics["Red"], SIZES["Red"])
    without: list[bool] = []
    node.AddObserver("ModifiedEvent", lambda *args: without.append(node.GetImageData() is None))
    event = slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent
    node.AddObserver(event, lambda *args: without.append(node.GetImageData() is None))
    with logged(tmp_path) as lines:
        sitk.WriteImage(sitk.Image(7, 5, 6, sitk.sitkFloat32), str(path))
        assert volumes.placeVolume(volumes.readVolume(path), scene, node) is node
        view_slice(application.stage.sliceLogics["Red"], SIZES["Red"])
    assert node.GetImageData().GetDimensions() == (7, 5, 6)
    assert without
    assert not any(without)
    assert lines == []


def test_a_session_writes_no_error_to_the_log(
    application: Any, panel: Any, library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "missingPackages", list)
    monkeypatch.setattr(Review, "startScoring", lambda self: None)
    ui, step = panel.ui, panel.steps["review"]
    with logged(tmp_path) as lines:
        painting = application.paintAlways()
        ui.placeClickButton.checked = True
        qt_standin.processEvents(20)
        _click_both(panel)
        for _ in range(3):
            ui.applyButton.click()
            wait_until(lambda: not panel.steps["register"].context.busy)
            qt_standin.processEvents(20)
            for mode in ("blend", "flicker", "xray"):
                ui.reviewModeComboBox.setCurrentIndex(ui.reviewModeComboBox.findData(mode))
                for comparison in step.review.comparisons.values():
                    pixels = xray.getPixels(comparison.xrayNode)
                    comparison.setRendering(np.where(pixels > pixels.mean(), pixels, np.nan))
                qt_standin.processEvents(20)
            ui.reviewVolumeCheckBox.checked = not ui.reviewVolumeCheckBox.checked
        ui.reviewRightPlusButton.click()
        for button in (ui.reviewHardenButton, ui.reviewUndoButton, ui.reviewHardenButton):
            button.click()
            qt_standin.processEvents(20)
        ui.reviewLeaveButton.click()
        qt_standin.processEvents(20)
        ui.applyButton.click()
        wait_until(lambda: not panel.steps["register"].context.busy)
        ui.drawingCheckBox.checked = not ui.drawingCheckBox.checked
        ui.removeXrayButton.click()
        qt_standin.processEvents(20)
        slicer.mrmlScene.Clear(False)
        qt_standin.processEvents(20)
        painting.stop()
    assert lines == []
    assert slicer_application.errors == []


def test_a_label_map_for_a_moment_leaves_no_error() -> None:
    nodes = ball_nodes()
    scene, segmentation = slicer.mrmlScene, nodes["segmentation"]
    # Under a transform of its own it is resampled by Slicer, through nodes that go again.
    own = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "own")
    segmentation.SetAndObserveTransformNodeID(own.GetID())
    before = scene.GetNumberOfNodes()
    id_ = segmentation.GetSegmentation().GetNthSegmentID(0)
    labels = segments.labelsOnCt(segmentation, id_, nodes["ct"])
    assert (labels.array == labels.label).any()
    assert scene.GetNumberOfNodes() == before
    assert slicer_application.errors == []


def test_the_best_pose_keeps_the_reconstruction(panel: Any, library: Any) -> None:
    _click_both(panel)
    panel.ui.applyButton.click()
    wait_until(lambda: not panel.steps["register"].context.busy)
    volume, cloud = panel._parameterNode.reconstruction, panel._parameterNode.gaussians
    library.behave("hang")
    panel.ui.applyButton.click()
    wait_until(lambda: (library.folder / "sleeper").is_file())
    panel.ui.applyButton.click()
    wait_until(lambda: not panel.steps["register"].context.busy)
    panel.ui.keepBestButton.click()
    result = panel.steps["register"].result
    assert result.status == "uncertain"
    assert (result.reconstructionNode, result.gaussiansNode) == (volume, cloud)
    assert panel.steps["review"].review.reconstruction is volume


def test_a_volume_is_drawn_while_it_grows_and_turned_along_its_bone(
    application: Any, library: Any
) -> None:
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(slicer.mrmlScene)
    widget = slicer_startup.make_widget()
    parameters, step = widget._parameterNode, widget.steps["volume"]
    parameters.xrays = xray_nodes(4)
    timer = application.paintAlways()
    bright: list[float] = []
    grown = step.onGrown

    def look(result: Any) -> None:
        grown(result)
        bright.extend(_bright(application, name) for name in views.SLICE_VIEWS)

    step.onGrown = look
    widget.ui.aloneButton.click()
    wait_until(lambda: step._run is None)
    qt_standin.processEvents(20)
    assert len(bright) == 4
    assert min(bright) > 60
    for view in views.SLICE_VIEWS:
        assert _bright(application, view) > 60
        layers = views.compositeNode(slicer.mrmlScene, view)
        assert layers.GetBackgroundVolumeID() == parameters.aloneVolume.GetID()
    widget.ui.volumeSurfaceButton.click()
    widget.ui.volumeAxesButton.click()
    widget.ui.volumeCutRedCheckBox.checked = True
    qt_standin.processEvents(20)
    assert step.problem == ""
    assert parameters.volumeAxes is not None
    assert _bright(application, "Red") > 60
    timer.stop()
    widget.cleanup()
