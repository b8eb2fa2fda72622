# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""No turn of the event loop takes longer than a user notices: hardening, the end of Apply."""

from __future__ import annotations

import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
vtk = pytest.importorskip("vtk")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import qt_standin
import slicer_startup

slicer_startup.start_panel()

from panel_scene import wait_until
from RadGSRegSlicer.panel.updates import Updates
from RadGSRegSlicer.process import environment, timers
from RadGSRegSlicer.process.client import ReviewClient
from RadGSRegSlicer.review import views
from RadGSRegSlicer.review.review import Review
from RadGSRegSlicer.review.surface import vertebraSurface
from RadGSRegSlicer.scene import segments, xray
from review_scene import ball_nodes, camera, xray_node
from slicer_application import StandInLayoutManager, Turns, drawSegments

from RadGSRegLib.geometry import Volume, exp_se3, lps_to_ras, transform_points

LONGEST_S = 0.2
CLOSED_SURFACE = "Closed surface"
MOVE = lps_to_ras(exp_se3([0.2, -0.1, 0.3, 5.0, -12.0, 20.0]))


@pytest.fixture(autouse=True)
def application() -> Iterator[Any]:
    scene = slicer_startup.start_panel()
    layout = StandInLayoutManager(scene, {"RadGSRegA": (320, 240), "RadGSRegB": (320, 240)})
    layout.node.SetViewArrangement(3)
    yield layout
    qt_standin.processEvents()
    assert qt_standin.errors == []


@pytest.fixture
def panel(application: Any) -> Iterator[Any]:
    """The panel with the ball's case, X-rays of a usual size and a spine of eight vertebrae."""
    yield from _panel(1)


@pytest.fixture
def coarse_panel(application: Any) -> Iterator[Any]:
    """The same with an eighth of the spine's voxels, for tests that measure no time."""
    yield from _panel(2)


def _panel(step: int) -> Iterator[Any]:
    nodes = ball_nodes(result=False)
    for node in nodes["xrays"]:
        slicer.mrmlScene.RemoveNode(node)
    cameras = [camera(angle, 1024, 1024, 4000.0) for angle in (0.0, 1.5)]
    ramp = np.add.outer(np.arange(1024.0), np.arange(1024.0)).astype(np.float32)
    pictures = (ramp, ramp[:, ::-1])
    both = zip(cameras, pictures, strict=True)
    xrays = [xray_node(f"view {k}", *one, (0.25, 0.275)) for k, one in enumerate(both)]
    for node in xrays:
        xray.setCenterPx(node, (500.0, 480.0))
    spine = _spine(nodes["ct"], step)
    widget = slicer_startup.make_widget()
    parameters = widget._parameterNode
    parameters.ctVolume, parameters.segmentation = nodes["ct"], spine
    parameters.segmentId = "label_3"
    parameters.xrays = xrays
    widget.update()
    widget.transform = nodes["transform"]
    yield widget
    widget.cleanup()


def _spine(ct: Any, step: int) -> Any:
    """A segmentation of eight balls of about as many voxels as a vertebra has in a fine CT.

    Only each ``step``-th voxel along every axis.
    """
    low = np.array(ct.GetOrigin()) * [-1.0, -1.0, 1.0]
    grid = np.diag([0.35 * step, 0.35 * step, 0.35 * step, 1.0])
    grid[:3, 3] = low
    k, j, i = np.mgrid[:160:step, :160:step, :160:step]
    labels = np.zeros(k.shape, np.uint8)
    for number in range(8):
        centre = 40 + 80 * np.array([number & 1, number >> 1 & 1, number >> 2])
        inside = (i - centre[0]) ** 2 + (j - centre[1]) ** 2 + (k - centre[2]) ** 2 < 36**2
        labels[inside] = number + 1
    node = segments.segmentationFromLabels("spine", Volume(labels, grid), ct)
    node.CreateClosedSurfaceRepresentation()
    return node


def _surface(node: Any, number: int) -> np.ndarray:
    polyData = (
        node.GetSegmentation().GetSegment(f"label_{number}").GetRepresentation(CLOSED_SURFACE)
    )
    return np.asarray(vtk.util.numpy_support.vtk_to_numpy(polyData.GetPoints().GetData()))


def test_segments_are_moved_with_their_surfaces_and_one_update_of_the_views(
    coarse_panel: Any,
) -> None:
    node = coarse_panel._parameterNode.segmentation
    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation("label_3", image)
    was, before = vtk.vtkMatrix4x4(), _surface(node, 3)
    image.GetImageToWorldMatrix(was)
    calls: list[int] = []
    node.AddObserver(slicer.vtkSegmentation.SegmentModified, lambda *args: calls.append(1))
    segments.moveSegments(node, MOVE)
    assert len(calls) == 1
    node.GetBinaryLabelmapRepresentation("label_3", image)
    now = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(now)
    moved = MOVE @ slicer.util.arrayFromVTKMatrix(was)
    np.testing.assert_allclose(slicer.util.arrayFromVTKMatrix(now), moved, atol=1e-9)
    np.testing.assert_allclose(_surface(node, 3), transform_points(MOVE, before), atol=1e-4)
    # Made anew from the moved label map, the surface would be the same.
    node.GetSegmentation().RemoveRepresentation(CLOSED_SURFACE)
    node.CreateClosedSurfaceRepresentation()
    np.testing.assert_allclose(
        _surface(node, 3).mean(axis=0), transform_points(MOVE, before).mean(axis=0), atol=0.05
    )


def test_segments_that_are_surfaces_are_moved_once(coarse_panel: Any) -> None:
    node = coarse_panel._parameterNode.segmentation
    node.GetSegmentation().SetSourceRepresentationName(CLOSED_SURFACE)
    before = _surface(node, 5)
    segments.moveSegments(node, MOVE)
    np.testing.assert_allclose(_surface(node, 5), transform_points(MOVE, before), atol=1e-4)


def test_views_hear_of_hardening_once_and_when_all_is_in_place(coarse_panel: Any) -> None:
    parameters, transform = coarse_panel._parameterNode, coarse_panel.transform
    segmentation = parameters.segmentation
    slicer.util.updateTransformMatrixFromArray(transform, MOVE)
    for node in (parameters.ctVolume, segmentation):
        node.SetAndObserveTransformNodeID(transform.GetID())
    parameters.ctToWorld = transform
    places: list[str | None] = []
    segmentation.AddObserver(
        slicer.vtkSegmentation.SegmentModified,
        lambda *args: places.append(segmentation.GetTransformNodeID()),
    )
    coarse_panel.ui.reviewHardenButton.click()
    assert places == [None]  # drawn before, it would be moved twice for a moment
    coarse_panel.ui.reviewUndoButton.click()
    assert places == [None, transform.GetID()]


def test_hardening_takes_no_long_turn(panel: Any, application: Any) -> None:
    parameters = panel._parameterNode
    slicer.util.updateTransformMatrixFromArray(panel.transform, MOVE)
    for node in (parameters.ctVolume, parameters.segmentation):
        node.SetAndObserveTransformNodeID(panel.transform.GetID())
    parameters.ctToWorld = panel.transform
    drawn = drawSegments(slicer.mrmlScene)
    qt_standin.processEvents(50)
    refreshed: list[int] = []
    panel.updates._refresh = lambda refresh=panel.refresh: (refreshed.append(1), refresh())
    before = _surface(parameters.segmentation, 3)
    longest = []
    for _ in range(2):
        refreshed.clear()
        with Turns() as turns:
            panel.ui.reviewHardenButton.click()
            qt_standin.processEvents(100)
        assert panel.steps["review"].review.session.isHardened
        assert len(refreshed) <= 2
        longest.append(max(turns.seconds))
        panel.ui.reviewUndoButton.click()
        qt_standin.processEvents(100)
    assert min(longest) < LONGEST_S  # the least: a busy computer computes slowly, too
    np.testing.assert_allclose(_surface(parameters.segmentation, 3), before, atol=1e-4)
    assert drawn


def test_the_end_of_apply_takes_no_long_turn(
    panel: Any, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "missingPackages", list)
    monkeypatch.setattr(Review, "startScoring", lambda self: None)
    longest = []
    for _ in range(3):
        assert panel.ui.applyButton.enabled, panel.ui.applyButton.toolTip
        panel.ui.applyButton.click()
        assert panel.steps["register"].context.busy, panel.ui.registerStatusLabel.text
        with Turns() as turns:
            wait_until(lambda: not panel.steps["register"].context.busy)
            qt_standin.processEvents(100)
        assert panel.steps["review"].review.layout.isShown
        longest.append(max(turns.seconds))
    assert min(longest) < LONGEST_S  # the least: a busy computer computes slowly, too


def test_each_part_of_the_review_has_a_turn_of_its_own(coarse_panel: Any) -> None:
    parameters = coarse_panel._parameterNode
    parameters.ctToWorld = coarse_panel.transform
    review = coarse_panel.steps["review"].review
    parts, scene = review.showLayoutInParts(), slicer.mrmlScene
    next(parts)  # the views are made
    assert review.layout.isShown
    assert review.layout.shown == {}
    next(parts)  # they get their X-rays
    assert list(review.layout.shown) == list(views.XRAY_VIEWS)
    for count in (1, 2):  # each is set up alone
        next(parts)
        assert len(review.comparisons) == count
    next(parts)
    assert views.compositeNode(scene, "Red").GetBackgroundVolumeID() is None
    assert list(parts) == []
    assert views.compositeNode(scene, "Red").GetBackgroundVolumeID() == parameters.ctVolume.GetID()


def test_a_result_is_shown_in_turns_of_its_parts(coarse_panel: Any) -> None:
    parameters, step = coarse_panel._parameterNode, coarse_panel.steps["review"]
    parameters.ctToWorld = coarse_panel.transform
    parts = len(list(step.review.showLayoutInParts()))
    step.review.layout.leave()
    assert parts > 3
    assert len(list(step.showResult(types.SimpleNamespace(status="ok")))) > parts
    assert step.review.layout.isShown


def test_a_process_is_left_without_waiting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    client = ReviewClient(["sleep", "60"])
    client.start(tmp_path, np.eye(4))
    assert client.isRunning
    ended: list[object] = []
    job = client.job
    end = job.end
    monkeypatch.setattr(job, "end", lambda: (timers.waitFor(lambda: bool(ended)), end()))
    client.leave()  # would wait for ever if it waited
    assert not client.isRunning
    assert client.poll()
    ended.append(True)
    wait_until(lambda: not job.isRunning and not client.folder.exists())


def test_scores_are_stopped_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = ball_nodes()
    review = Review(nodes["ct"], nodes["segmentation"], "L3", nodes["xrays"], nodes["transform"])
    client = review.startScoring(ReviewClient(["sleep", "60"]))
    wait_until(lambda: client.poll() or client.processId)
    waited: list[threading.Thread] = []
    end = client.end
    monkeypatch.setattr(client, "end", lambda: (waited.append(threading.current_thread()), end()))
    review.stopScoring()
    assert review.client is None
    wait_until(lambda: not client.folder.exists())
    assert waited
    assert threading.main_thread() not in waited
    review.close()


def test_a_case_that_cannot_be_written_is_said_by_the_client() -> None:
    nodes = ball_nodes()
    review = Review(nodes["ct"], nodes["segmentation"], "L3", nodes["xrays"], nodes["transform"])
    nodes["xrays"][1].SetName(nodes["xrays"][0].GetName())
    review.startScoring(ReviewClient(["sleep", "60"]))
    review.client.wait(5.0)
    review.poll()
    assert "AP" in review.problem
    assert review.client is None
    review.close()


def test_many_changes_are_one_refresh() -> None:
    calls: list[int] = []
    updates = Updates(lambda: calls.append(1))
    with updates.collected():
        updates.now()
        with updates.collected():
            updates.now("caller", "event")
        assert calls == []
    assert calls == [1]
    with updates.collected():
        pass
    updates.later()
    updates.later()
    assert calls == [1]
    qt_standin.processEvents(10)
    assert calls == [1, 1]
    updates.now()
    assert calls == [1, 1, 1]


def test_a_surface_is_made_once_and_anew_when_the_segment_changes(coarse_panel: Any) -> None:
    parameters = coarse_panel._parameterNode
    where = parameters.segmentation, parameters.segmentId, parameters.ctVolume
    first = vertebraSurface(*where)
    assert vertebraSurface(*where) is first
    assert vertebraSurface(parameters.segmentation, "label_4", parameters.ctVolume) is not first
    segments.moveSegments(parameters.segmentation, MOVE)
    moved = vertebraSurface(*where)
    np.testing.assert_allclose(moved.centre, transform_points(MOVE, first.centre[None])[0])
    parameters.segmentation.SetAndObserveTransformNodeID(coarse_panel.transform.GetID())
    slicer.util.updateTransformMatrixFromArray(coarse_panel.transform, np.linalg.inv(MOVE))
    np.testing.assert_allclose(vertebraSurface(*where).centre, first.centre, atol=1e-6)
