# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""The biplane layout and the comparison, in Slicer's own slice logic, drawn off screen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("vtk")

import slicer_startup

slicer_startup.start()

from RadGSRegSlicer.review import views
from RadGSRegSlicer.review.comparison import Comparison, checkerboard, withoutShading
from RadGSRegSlicer.review.display import setContrast, showVolumeRendering, tintReconstruction
from RadGSRegSlicer.review.review import Review
from RadGSRegSlicer.scene import xray
from RadGSRegSlicer.scene.drawing import DRAWING
from review_scene import ball_nodes, camera, mirrored, new_scene, xray_node
from slicer_pictures import Stage, view_3d, view_slice

from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Camera

CYAN = (33, 212, 237)
SIZES = {"RadGSRegA": (320, 240), "RadGSRegB": (320, 240), "Red": (200, 200), "Yellow": (200, 200)}


@pytest.fixture(autouse=True)
def scene() -> Any:
    return new_scene()


@pytest.fixture
def stage() -> Stage:
    stage = Stage(slicer.mrmlScene)
    views.showLayout(slicer.mrmlScene)
    stage.build(SIZES)
    return stage


def _review(nodes: dict[str, Any], **more: Any) -> Review:
    return Review(
        nodes["ct"], nodes["segmentation"], "L3", nodes["xrays"], nodes["transform"], **more
    )


def test_the_layout_is_slicers_own_and_can_be_left() -> None:
    scene = slicer.mrmlScene
    assert views.showLayout(scene) is None  # nothing lays views out: nothing to switch
    stage = Stage(scene)
    layout = views.layoutNode(scene)
    layout.SetViewArrangement(3)
    assert views.showLayout(scene) == 3
    assert layout.GetViewArrangement() == views.LAYOUT_ID > 100
    assert views.showLayout(scene) is None  # already there
    stage.build(SIZES)
    for name in (*views.XRAY_VIEWS, *views.SLICE_VIEWS):
        assert views.sliceNode(scene, name) is not None
        assert views.compositeNode(scene, name) is not None
    assert views.cameraNode(scene) is not None
    views.restoreLayout(scene, 3)
    assert layout.GetViewArrangement() == 3


@pytest.mark.parametrize("flip", [False, True])
def test_an_xray_is_shown_whole_and_the_right_way_up(stage: Stage, flip: bool) -> None:
    view = camera(0.6)
    square = view.intrinsic.copy()
    square[1, 1] = square[0, 0]
    view = Camera(square, view.world_to_camera, view.columns, view.rows)
    view = mirrored(view) if flip else view
    pixels = np.zeros((view.rows, view.columns), np.uint8)
    pixels[20:30, 40:70] = 255
    node = xray_node("AP", view, pixels, (1.5, 1.5))
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevel(255, 127.5)
    assert views.showXray(slicer.mrmlScene, "RadGSRegA", node)
    assert views.sliceNode(slicer.mrmlScene, "RadGSRegA").GetLayoutLabel() == "AP"
    picture = view_slice(stage.sliceLogics["RadGSRegA"], (320, 240))
    bright = np.argwhere(picture.min(axis=2) > 128)[:, ::-1]
    # Two pixels of the view for one of the X-ray: 160 x 120 in 320 x 240.
    np.testing.assert_allclose(bright.min(axis=0), [80, 40], atol=1)
    np.testing.assert_allclose(bright.max(axis=0), [139, 59], atol=1)


def test_the_outline_is_drawn_where_it_is_projected(stage: Stage) -> None:
    nodes = ball_nodes()
    review = _review(nodes)
    review.showLayout()
    stage.build(SIZES)
    review.layout.fit(whole=True)
    picture = view_slice(stage.sliceLogics["RadGSRegA"], (320, 240)).astype(int)
    drawn = np.argwhere(np.abs(picture - CYAN).max(axis=2) < 60)[:, ::-1]
    assert len(drawn) > 100
    node = nodes["xrays"][0]
    left, right, top, bottom = review.session.outline(node).bounds
    step = 300.0 / 240.0  # rows of the X-ray in rows of the view
    offset = (320 - 320 / step) / 2.0  # the X-ray is less wide than the view
    wanted = np.array([[left, top], [right, bottom]]) / step + [offset, 0.0]
    np.testing.assert_allclose(drawn.min(axis=0), wanted[0], atol=2.5)
    np.testing.assert_allclose(drawn.max(axis=0), wanted[1], atol=2.5)
    # It follows the pose, and is not drawn in the other view's place.
    review.nudge("right", 8.0, node)
    picture = view_slice(stage.sliceLogics["RadGSRegA"], (320, 240)).astype(int)
    moved = np.argwhere(np.abs(picture - CYAN).max(axis=2) < 60)[:, ::-1]
    shift = 8.0 * 1842.6 / 750.0 / step
    np.testing.assert_allclose(moved.max(axis=0) - drawn.max(axis=0), [shift, 0], atol=2.0)
    review.close()


def test_a_view_that_gets_its_size_later_is_fitted_then(stage: Stage) -> None:
    review = _review(ball_nodes())
    review.showLayout()
    view = views.sliceNode(slicer.mrmlScene, "RadGSRegA")
    field = view.GetFieldOfView()
    view.SetDimensions(640, 480, 1)  # twice as large: the same part, twice as fine
    np.testing.assert_allclose(view.GetFieldOfView()[:2], field[:2], rtol=1e-6)
    view.SetDimensions(640, 240, 1)
    wide = view.GetFieldOfView()
    assert wide[1] == pytest.approx(field[1], rel=1e-6)
    assert wide[0] == pytest.approx(2.0 * field[0], rel=1e-6)
    review.close()
    view.SetDimensions(100, 100, 1)  # nobody is left to mind


def test_the_whole_review_leaves_nothing_behind(stage: Stage) -> None:
    nodes = ball_nodes()
    scene = slicer.mrmlScene
    layout = views.layoutNode(scene)
    layout.SetViewArrangement(3)
    count = scene.GetNumberOfNodes()
    review = _review(nodes)
    review.showLayout()
    assert set(review.layout.shown) == set(views.XRAY_VIEWS)
    review.setComparison("blend")
    for comparison in review.comparisons.values():
        comparison.setRendering(np.zeros((300, 320)))
    assert scene.GetNumberOfNodes() > count
    review.close()
    assert scene.GetNumberOfNodes() == count
    assert layout.GetViewArrangement() == 3
    assert nodes["ct"].GetTransformNodeID() == nodes["transform"].GetID()


def test_slices_show_the_reconstruction_over_the_moved_ct(stage: Stage) -> None:
    nodes = ball_nodes()
    reconstruction = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "volume")
    values = np.random.default_rng(0).random((10, 12, 14)).astype(np.float32)
    slicer.util.updateVolumeFromArray(reconstruction, values)
    reconstruction.CreateDefaultDisplayNodes()
    review = _review(nodes, reconstruction=reconstruction)
    review.showLayout()
    for name in views.SLICE_VIEWS:
        layers = views.compositeNode(slicer.mrmlScene, name)
        assert layers.GetBackgroundVolumeID() == nodes["ct"].GetID()
        assert layers.GetForegroundVolumeID() == reconstruction.GetID()
        assert 0.0 < layers.GetForegroundOpacity() < 1.0
        place = views.sliceNode(slicer.mrmlScene, name).GetSliceToRAS()
        centre = [place.GetElement(axis, 3) for axis in range(3)]
        np.testing.assert_allclose(centre, review.session.centreRas, atol=1e-3)
    for name, node in review.layout.shown.items():
        layers = views.compositeNode(slicer.mrmlScene, name)
        assert layers.GetBackgroundVolumeID() == node.GetID()
    tintReconstruction(reconstruction)
    assert reconstruction.GetDisplayNode().GetApplyThreshold()
    review.close()


def test_volume_rendering_and_surfaces_in_3d(stage: Stage) -> None:
    nodes = ball_nodes()
    reconstruction = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "volume")
    k, j, i = np.mgrid[:20, :20, :20] - 9.5
    ball = (np.sqrt(k**2 + j**2 + i**2) < 8) * 0.03
    slicer.util.updateVolumeFromArray(reconstruction, (ball + 0.001).astype(np.float32))
    reconstruction.CreateDefaultDisplayNodes()
    review = _review(nodes, reconstruction=reconstruction)
    view = views.viewByName(slicer.mrmlScene, "vtkMRMLViewNode", "1")
    for name in ("Box", "AxisLabels"):
        getattr(view, f"Set{name}Visible")(False)
    camera_node = review.layout.camera
    assert review.layout.overview()

    def covered() -> int:
        picture = view_3d(view, (300, 200), camera_node)
        background = picture[:, :1]
        return int((np.abs(picture.astype(int) - background).max(axis=2) > 40)[:, 2:].sum())

    review.show3d(before=False, after=False, volume=False, gaussians=False)
    bare = covered()
    review.show3d(before=False, after=True, volume=False, gaussians=False)
    assert covered() > bare + 50
    display = showVolumeRendering(reconstruction, True)
    assert display.GetVisibility()
    opacity = display.GetVolumePropertyNode().GetVolumeProperty().GetScalarOpacity()
    assert opacity.GetValue(0.031) > 0.3 > opacity.GetValue(0.0005)
    showVolumeRendering(reconstruction, False)
    assert not display.GetVisibility()
    assert showVolumeRendering(None, True) is None
    review.close()


# The comparison


def _comparison(stage: Stage, enhance: bool = False) -> tuple[Comparison, np.ndarray, np.ndarray]:
    pixels = np.full((120, 160), 50.0, np.float32)
    rendering = np.full((120, 160), 200.0, np.float32)
    rendering[:, :40] = np.nan
    node = xray_node("AP", camera(0.1), pixels)
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevel(255, 127.5)
    views.showXray(slicer.mrmlScene, "RadGSRegA", node)
    comparison = Comparison(node, "RadGSRegA")
    comparison.enhance = enhance
    comparison.setRendering(rendering)
    return comparison, pixels, rendering


def _seen(stage: Stage) -> np.ndarray:
    return view_slice(stage.sliceLogics["RadGSRegA"], (320, 240))[::2, ::2, 0].astype(int)


def test_the_modes_of_comparison(stage: Stage) -> None:
    comparison, _, _ = _comparison(stage)
    assert comparison.mode == "xray"
    np.testing.assert_allclose(_seen(stage)[60, [20, 100]], 50, atol=2)
    comparison.setMode("rendering", 0.5, False)
    # Where there is no rendering the X-ray itself is seen.
    np.testing.assert_allclose(_seen(stage)[60, [20, 100]], [50, 200], atol=2)
    comparison.setMode("blend", 0.25, False)
    np.testing.assert_allclose(_seen(stage)[60, [20, 100]], [50, 87.5], atol=2)
    comparison.setMode("checkerboard", 0.5, False)
    board = slicer.util.arrayFromVolume(comparison.volume)[0]
    wanted = np.where(np.add.outer(np.arange(12), np.arange(16)) % 2 == 0, 50, 200)
    wanted[:, :4] = 50
    np.testing.assert_array_equal(board[5::10, 5::10], wanted)  # tiles of 10 pixels
    assert set(np.unique(_seen(stage)[56:64, 100:150])) >= {50, 200}
    comparison.setMode("flicker", 0.5, False)
    shown = []
    for _ in range(3):
        shown.append(int(_seen(stage)[60, 100]))
        comparison.flick()
    np.testing.assert_allclose(shown, [200, 50, 200], atol=2)
    comparison.setMode("xray", 0.5, False)
    np.testing.assert_allclose(_seen(stage)[60, 100], 50, atol=2)
    comparison.close()
    kinds = [
        node.GetAttribute(DRAWING)
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    ]
    assert kinds == [None]


def test_renderings_stay_out_of_saved_scenes(stage: Stage) -> None:
    comparison, _, _ = _comparison(stage)
    comparison.setMode("blend", 0.5, False)
    assert not comparison.volume.GetSaveWithScene()
    assert not comparison.volume.GetDisplayNode().GetSaveWithScene()
    np.testing.assert_array_equal(
        slicer.util.arrayFromVolume(comparison.volume)[0, 60, [20, 100]], [50.0, 125.0]
    )
    comparison.close()


def test_checkerboard() -> None:
    board = checkerboard(np.zeros((4, 6)), np.ones((4, 6)), 2)
    np.testing.assert_array_equal(board[0], [0, 0, 1, 1, 0, 0])
    np.testing.assert_array_equal(board[3], [1, 1, 0, 0, 1, 1])


def test_shading_is_softened_and_edges_stay() -> None:
    ramp = np.tile(np.linspace(0.0, 100.0, 200, dtype=np.float32), (100, 1))
    ramp[40:60, 90:110] += 10.0
    flat = withoutShading(ramp, 12.0)
    assert flat.dtype == np.float32
    # Between two places far apart a quarter of the ramp is left; the step is left nearly whole.
    assert abs(float(flat[10, 150] - flat[10, 50])) < 0.3 * 50.0
    assert float(flat[50, 100] - flat[20, 100]) > 7.0


def test_contrast_is_set_on_the_vertebra() -> None:
    nodes = ball_nodes()
    review = _review(nodes)
    node = nodes["xrays"][0]
    setContrast(node, review.session.outline(node))
    display = node.GetDisplayNode()
    pixels = xray.getPixels(node)
    low, high = display.GetWindowLevelMin(), display.GetWindowLevelMax()
    assert low < pixels[150, 160] <= high + 1e-3
    assert high - low < 2.0 * float(np.ptp(pixels))
    review.close()


def test_a_review_without_xrays_is_refused() -> None:
    nodes = ball_nodes()
    nodes["xrays"] = []
    with pytest.raises(InputError, match="X-rays"):
        _review(nodes)


def test_a_review_from_the_python_console() -> None:
    import RadGSReg

    nodes = ball_nodes()
    logic = RadGSReg.RadGSRegLogic()
    review = logic.review(
        nodes["ct"], nodes["segmentation"], "L3", nodes["xrays"], nodes["transform"]
    )
    review.nudge("right", 2.0, nodes["xrays"][0])
    assert review.card().notes[0].startswith("Moved by hand since: 2.0 mm")
    review.session.undo()
    assert review.card().notes == []
    review.close()
