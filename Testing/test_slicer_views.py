# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""What views and panel show and say: the 3-D camera, names, corners, and nothing that is stale."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("vtk")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import qt_standin
import slicer_startup

slicer_startup.start_panel()

from dicom_files import NAME, picture, write_dicom
from panel_scene import wait_until
from RadGSRegSlicer.exchange import xraysources
from RadGSRegSlicer.operations.clicked import ClickRequest
from RadGSRegSlicer.operations.simulated import _loadPhantom
from RadGSRegSlicer.process import environment
from RadGSRegSlicer.review import views
from RadGSRegSlicer.review.review import Review
from RadGSRegSlicer.scene import levels, segments, xray
from RadGSRegSlicer.scene.drawing import detectorCornersRas
from review_scene import ball_nodes

from RadGSRegLib.simulation import write_simulated_case

pytestmark = pytest.mark.usefixtures("application")


@pytest.fixture
def panel(application: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An open panel with a result to review."""
    monkeypatch.setattr(environment, "missingPackages", list)
    monkeypatch.setattr(Review, "startScoring", lambda self: None)
    nodes = ball_nodes()
    widget = slicer_startup.make_widget()
    widget._parameterNode.ctToWorld = nodes["transform"]
    widget.nodes = nodes
    yield widget
    widget.cleanup()


def _review(nodes: dict[str, Any]) -> Review:
    return Review(nodes["ct"], nodes["segmentation"], "L3", nodes["xrays"], nodes["transform"])


# The 3-D view


def _inside(points: np.ndarray, aspect: float) -> np.ndarray:
    """How far from the middle of the 3-D view points are seen, 1 at its edge; NaN behind it."""
    one = views.cameraNode(slicer.mrmlScene)
    place, focus, up = (
        np.array(get()) for get in (one.GetPosition, one.GetFocalPoint, one.GetViewUp)
    )
    towards = (focus - place) / np.linalg.norm(focus - place)
    up = up - (up @ towards) * towards
    up /= np.linalg.norm(up)
    rays = points - place
    depth = rays @ towards
    half = np.tan(np.radians(one.GetViewAngle()) / 2.0)
    right = np.cross(towards, up)
    seen = np.maximum(np.abs(rays @ up) / half, np.abs(rays @ right) / half / aspect) / depth
    return np.where(depth > 0, seen, np.nan)


class _Window:
    """A main window whose 3-D view has a size."""

    def __init__(self, width: int, height: int) -> None:
        node = slicer.util.getNodesByClass("vtkMRMLViewNode")[0]
        view = types.SimpleNamespace(width=width, height=height)
        widget = types.SimpleNamespace(mrmlViewNode=lambda: node, threeDView=lambda: view)
        self.threeDViewCount = 1
        self.threeDWidget = lambda index: widget
        self.sliceWidget = lambda name: None


@pytest.mark.parametrize("size", [(300, 500), (900, 300)])
def test_the_camera_is_aimed_at_the_geometry_that_is_shown(
    panel: Any, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(slicer.app, "layoutManager", lambda: _Window(*size), raising=False)
    assert views.aspectOf3d() == pytest.approx(size[0] / size[1])
    panel.ui.drawingCheckBox.checked = True
    xrays = panel.nodes["xrays"]
    sources = [xray.sourcePositionRas(xray.getGeometry(node)) for node in xrays]
    points = np.concatenate([sources, *[detectorCornersRas(node) for node in xrays]])
    seen = _inside(points, size[0] / size[1])
    assert (seen < 1.0).all()  # neither beside the view nor behind it
    assert seen.max() > 0.6  # nor a dot in its middle
    # Only when it is switched on: the view is the user's from then on.
    views.cameraNode(slicer.mrmlScene).SetPosition(1.0, 2.0, 3.0)
    panel.update()
    assert views.cameraNode(slicer.mrmlScene).GetPosition() == (1.0, 2.0, 3.0)


def test_the_camera_is_aimed_at_the_result(panel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slicer.app, "layoutManager", lambda: _Window(300, 500), raising=False)
    panel.ui.reviewLayoutButton.click()
    qt_standin.processEvents(20)
    review = panel.steps["review"].review
    points = np.concatenate([detectorCornersRas(node) for node in panel.nodes["xrays"]])
    assert (_inside(points, 0.6) < 1.0).all()
    assert _inside(review.session.centreRas[None], 0.6)[0] < 0.05
    views.cameraNode(slicer.mrmlScene).SetPosition(1.0, 2.0, 3.0)
    panel.ui.reviewLayoutButton.click()  # it is there: the camera stays
    qt_standin.processEvents(20)
    assert views.cameraNode(slicer.mrmlScene).GetPosition() == (1.0, 2.0, 3.0)


def test_no_surface_is_drawn_twice(application: Any) -> None:
    nodes = ball_nodes()
    segmentation = nodes["segmentation"]
    segmentation.CreateDefaultDisplayNodes()
    review = _review(nodes)
    after = review.display._after.GetDisplayNode()
    assert after.GetVisibility3D()
    segmentation.CreateClosedSurfaceRepresentation()
    review.show3d(False, True, False, False)
    assert not after.GetVisibility3D()
    assert after.GetVisibility2D()  # its cut in the slices stays
    display = segmentation.GetDisplayNode()
    id_ = segmentation.GetSegmentation().GetNthSegmentID(0)
    for hide, show in (
        (lambda: display.SetVisibility(False), lambda: display.SetVisibility(True)),
        (lambda: display.SetVisibility3D(False), lambda: display.SetVisibility3D(True)),
        (
            lambda: display.SetSegmentVisibility(id_, False),
            lambda: display.SetSegmentVisibility(id_, True),
        ),
    ):
        hide()
        assert after.GetVisibility3D()
        show()
        assert not after.GetVisibility3D()
    segmentation.SetAndObserveTransformNodeID(None)  # then it is elsewhere
    review.display.update()
    assert after.GetVisibility3D()
    review.close()


# Names


def test_surfaces_have_the_segment_s_name() -> None:
    nodes = ball_nodes()
    id_ = nodes["segmentation"].GetSegmentation().GetNthSegmentID(0)
    review = Review(nodes["ct"], nodes["segmentation"], id_, nodes["xrays"], nodes["transform"])
    assert id_ != "L3"
    assert review.display._before.GetName() == "L3 before"
    assert review.display._after.GetName() == "L3 after"
    review.close()


def test_a_view_s_corner_names_what_is_seen(application: Any) -> None:
    review = _review(ball_nodes())
    review.showLayout()
    layers = views.compositeNode(slicer.mrmlScene, "RadGSRegA")
    comparison = review.comparisons["RadGSRegA"]
    pixels = xray.getPixels(comparison.xrayNode)

    def corner() -> str:
        node = slicer.mrmlScene.GetNodeByID(layers.GetForegroundVolumeID() or "")
        return "" if node is None else node.GetName()

    assert corner() == "AP (bone brought out)"
    review.setComparison("xray", enhance=False)
    assert corner() == ""
    review.setComparison("blend", enhance=False)
    assert corner() == ""  # there is no rendering yet
    comparison.setRendering(pixels)
    assert corner() == "AP (blended with the CT)"
    review.setComparison("rendering", enhance=False)
    assert corner() == "AP (rendering of the CT)"
    review.setComparison("xray", enhance=False)
    assert corner() == ""
    review.close()
    assert corner() == ""


def test_nobody_said_which_level_the_phantom_s_vertebrae_are(tmp_path: Path) -> None:
    from registration_scenes import simulated

    case = write_simulated_case(simulated(), tmp_path / "case").parent
    nodes = _loadPhantom(case)
    level = levels.segmentLevel(nodes.segmentationNode, nodes.segmentId)
    assert level is not None
    assert level.level == "L3"
    assert level.source == "terminology"
    assert segments.findSegment(nodes.segmentationNode, "L3") == nodes.segmentId


def test_a_clicked_segment_beside_one_of_its_level_has_another_name(library: Any) -> None:
    nodes = ball_nodes(result=False)
    segmentation = nodes["segmentation"]
    bounds = [0.0] * 6
    nodes["ct"].GetRASBounds(bounds)
    centre = [(bounds[k] + bounds[k + 1]) / 2.0 for k in (0, 2, 4)]
    for _ in range(2):
        clicked = ClickRequest(nodes["ct"], centre, "L3", segmentation).run()
        names = [
            segmentation.GetSegmentation().GetSegment(id_).GetName()
            for id_ in segments.segmentIds(segmentation)
        ]
        assert names == ["L3", "L3 (click)"]
    level = levels.segmentLevel(segmentation, clicked.segmentId)
    assert level is not None
    assert level.level == "L3"


def test_an_xray_from_dicom_has_its_series_description(tmp_path: Path) -> None:
    described = {"a": "Lumbar  AP", "b": f"for {str(NAME).split('^')[0].title()}", "c": ""}
    names = []
    for stem, text in described.items():
        path = write_dicom(tmp_path / f"{stem}.dcm", picture(), SeriesDescription=text)
        names.append(xraysources.fromFile(path).nodes[0].GetName())
    assert names == ["Lumbar AP", "X-ray 1", "X-ray 2"]


# Nothing stale


def test_after_closing_a_scene_no_layout_label_or_verdict_is_left(
    panel: Any, application: Any
) -> None:
    ui = panel.ui
    ui.reviewLayoutButton.click()
    qt_standin.processEvents(20)
    ui.progressLabel.text = "Registered"
    view = views.sliceNode(slicer.mrmlScene, "RadGSRegA")
    assert view.GetLayoutLabel() == "AP"
    assert "2 mm" in ui.reviewCardLabel.text
    qt_standin.unwrap(panel.parent).entered = False  # another module is open: nothing is refreshed
    slicer.mrmlScene.Clear(False)
    assert application.node.GetViewArrangement() == 3
    assert view.GetLayoutLabel() == "A"
    for label in (ui.reviewCardLabel, ui.progressLabel, ui.reviewStatusLabel):
        assert label.text == ""
    assert not ui.reviewAcceptButton.enabled
    qt_standin.processEvents(20)


def test_leaving_returns_to_the_layout_before_whoever_left_it(panel: Any, application: Any) -> None:
    application.node.SetViewArrangement(4)
    panel.ui.placeClickButton.checked = True  # the click step switches, too
    assert application.node.GetViewArrangement() == views.LAYOUT_ID
    panel.ui.reviewLayoutButton.click()
    qt_standin.processEvents(20)
    panel.ui.reviewLeaveButton.click()
    assert application.node.GetViewArrangement() == 4


def test_new_views_are_fitted_again_in_the_next_turn(panel: Any, application: Any) -> None:
    panel.ui.reviewLayoutButton.click()
    review = panel.steps["review"].review
    place = lambda: np.array(  # noqa: E731
        slicer.util.arrayFromVTKMatrix(
            views.sliceNode(slicer.mrmlScene, "RadGSRegA").GetSliceToRAS()
        )
    )
    right = place()
    wait_until(lambda: application.resets > 0)
    qt_standin.processEvents(20)
    np.testing.assert_allclose(place(), right, atol=1e-6)  # the reset of new widgets is undone
    # Not for views that were there, nor after the review has been left.
    views.sliceNode(slicer.mrmlScene, "RadGSRegA").SetSliceOffset(17.0)
    moved = place()
    panel.ui.reviewLeaveButton.click()
    review.layout._fitNew()
    np.testing.assert_allclose(place(), moved)


def test_the_keys_say_that_the_view_needs_a_click(panel: Any) -> None:
    assert "click in a view first" in panel.ui.reviewKeysCheckBox.text
    assert "clicked" in panel.ui.reviewKeysCheckBox.toolTip


# Words


def test_the_panel_has_no_abbreviations_of_papers(panel: Any) -> None:
    from RadGSRegSlicer.exchange.modelcard import describe

    figures = {"RecM, SSIM on the box": 0.6, "RegM, the same (mm)": 2.7, "SSIM and PSNR": "0.8, 25"}
    text = "\n".join(describe({"figures of a test": figures}))
    assert "Reconstruction, likeness of the volumes (at most 1) on the box: 0.6" in text
    form = Path(slicer_startup.MODULE_FOLDER, "Resources", "UI", "RadGSReg.ui").read_text()
    texts = [getattr(panel.ui, name).text for name in dir(panel.ui) if name.endswith("Label")]
    for word in ("RecM", "RegM", "SSIM", "PSNR"):
        assert word not in text
        assert word not in form
        assert not any(word in one for one in texts)


@pytest.mark.parametrize(
    ("button", "parameter", "place"),
    [
        ("placeCtLandmarksButton", "ctLandmarks", "In the CT"),
        ("placeWorldLandmarksButton", "worldLandmarks", "In the world"),
    ],
)
def test_landmarks_are_placed_with_a_button(
    panel: Any, button: str, parameter: str, place: str
) -> None:
    parameters, scene = panel._parameterNode, slicer.mrmlScene
    parameters.startMode = "landmarks"
    if place == "In the world":
        points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "points")
        parameters.ctLandmarks = points
    assert f"press Place beside '{place}'" in panel.ui.startStatusLabel.text
    getattr(panel.ui, button).checked = True
    node = getattr(parameters, parameter)
    interaction = scene.GetFirstNodeByClass("vtkMRMLInteractionNode")
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    selection = scene.GetFirstNodeByClass("vtkMRMLSelectionNode")
    assert selection.GetActivePlaceNodeID() == node.GetID()
    assert f"press Place beside '{place}'" not in panel.ui.startStatusLabel.text
    node.AddControlPointWorld(1.0, 2.0, 3.0)
    getattr(panel.ui, button).checked = False
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
