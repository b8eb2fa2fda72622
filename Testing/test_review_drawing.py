# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""The live drawing of X-rays, and off-screen pictures of it held against our own projections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
vtk = pytest.importorskip("vtk")

import slicer_startup

slicer_startup.start()

from RadGSRegSlicer.review.outline import SilhouetteProjector
from RadGSRegSlicer.review.surface import VertebraSurface
from RadGSRegSlicer.scene import drawing, frames, xray
from RadGSRegSlicer.scene.drawing import (
    XrayDrawings,
    detectorCornersRas,
    lookAlongBeam,
    pixelsToRas,
)
from review_scene import ball_nodes, box_mesh, camera, mirrored, new_scene, xray_node
from slicer_pictures import Stage, view_3d
from vtk.util.numpy_support import vtk_to_numpy

from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import transform_points


@pytest.fixture(autouse=True)
def scene() -> Any:
    return new_scene()


def _points(model: Any) -> np.ndarray:
    return vtk_to_numpy(model.GetPolyData().GetPoints().GetData()).astype(float)


def _drawn(kind: str) -> list[Any]:
    models = slicer.util.getNodesByClass("vtkMRMLModelNode")
    return [model for model in models if model.GetAttribute(drawing.DRAWING) == kind]


@pytest.mark.parametrize("flip", [False, True])
def test_the_planes_corners_project_to_the_corners_of_the_corner_pixels(flip: bool) -> None:
    view = mirrored(camera(0.7)) if flip else camera(0.7)
    node = xray_node("AP", view)
    drawings = XrayDrawings()
    drawings.show([node])
    (beam,), (plane,) = _drawn("beam"), _drawn("plane")
    lps = transform_points(frames.LPS_RAS, _points(plane))
    right, bottom = view.columns - 0.5, view.rows - 0.5
    corners = [[-0.5, -0.5], [right, -0.5], [right, bottom], [-0.5, bottom]]
    np.testing.assert_allclose(view.project(lps), corners, atol=1e-3)
    texture = vtk_to_numpy(plane.GetPolyData().GetPointData().GetTCoords())
    np.testing.assert_array_equal(texture, [[0, 0], [1, 0], [1, 1], [0, 1]])
    assert plane.GetDisplayNode().GetTextureImageDataConnection() is not None
    # The beam's lines run from the source to these corners.
    source = xray.sourcePositionRas(xray.getGeometry(node))
    lines = _points(beam)[:8].reshape(4, 2, 3)
    np.testing.assert_allclose(lines[:, 0], np.tile(source, (4, 1)), atol=1e-3)
    np.testing.assert_allclose(lines[:, 1], _points(plane), atol=1e-3)
    # The tube stands behind the source, out of a camera's way.
    depth = transform_points(view.world_to_camera, transform_points(frames.LPS_RAS, _points(beam)))
    assert depth[16:, 2].max() < 0.0
    drawings.close()


def test_the_drawing_follows_the_geometry() -> None:
    node = xray_node("AP", camera(0.0))
    drawings = XrayDrawings()
    drawings.show([node])
    (beam,), (plane,) = _drawn("beam"), _drawn("plane")
    before = _points(plane)
    xray.setGeometry(node, xray.XrayGeometry(camera(0.9), (1.2, 1.3)))
    np.testing.assert_allclose(_points(plane), detectorCornersRas(node), atol=1e-3)
    assert np.abs(_points(plane) - before).max() > 100.0
    # A geometry that makes no sense is not drawn, and comes back when it does again.
    good = node.GetAttribute(xray.INTRINSIC)
    node.SetAttribute(xray.INTRINSIC, "[[1, 2]")
    assert [m.GetDisplayNode().GetVisibility() for m in (beam, plane)] == [0, 0]
    node.SetAttribute(xray.INTRINSIC, good)
    assert [m.GetDisplayNode().GetVisibility() for m in (beam, plane)] == [1, 1]
    drawings.close()
    assert _drawn("beam") == _drawn("plane") == []
    node.Modified()  # nothing observes it any more


def test_only_the_wanted_xrays_are_drawn_each_in_its_colour() -> None:
    nodes = [xray_node(name, camera(angle)) for name, angle in (("AP", 0.0), ("LA", 1.5))]
    drawings = XrayDrawings()
    drawings.show(nodes)
    colors = {model.GetDisplayNode().GetColor() for model in _drawn("beam")}
    assert len(colors) == 2
    drawings.show(nodes[1:])
    assert [model.GetName() for model in _drawn("beam")] == ["LA beam"]
    drawings.close()


def test_drawings_stay_out_of_saved_scenes_and_are_made_again(tmp_path: Path) -> None:
    node = xray_node("AP", camera(0.3))
    drawings = XrayDrawings()
    drawings.show([node])
    scene = slicer.mrmlScene
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(tmp_path / "AP.nrrd"))
    scene.AddNode(storage)
    node.SetAndObserveStorageNodeID(storage.GetID())
    assert storage.WriteData(node)
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Commit()
    assert "AP beam" not in (tmp_path / "scene.mrml").read_text()
    assert scene.Connect()
    (again,) = xray.xrayNodes(scene)
    ((beam,), (plane,)) = _drawn("beam"), _drawn("plane")
    assert (beam.GetName(), plane.GetName()) == ("AP beam", "AP picture")
    np.testing.assert_allclose(_points(plane), detectorCornersRas(again), atol=1e-3)
    assert plane.GetDisplayNode().GetTextureImageDataConnection() is not None
    drawings.close()


def _stage() -> tuple[Any, Any]:
    scene = slicer.mrmlScene
    view = scene.AddNewNodeByClass("vtkMRMLViewNode", "View1")
    view.SetLayoutName("1")
    view.SetBackgroundColor(0, 0, 0)
    view.SetBackgroundColor2(0, 0, 0)
    view.SetBoxVisible(False)
    view.SetAxisLabelsVisible(False)
    Stage(scene).build({})
    (eye,) = slicer.util.getNodesByClass("vtkMRMLCameraNode")
    return view, eye


@pytest.mark.parametrize("flip", [False, True])
def test_along_the_beam_the_picture_is_seen_as_it_is(flip: bool) -> None:
    """A mark on the X-ray appears where its pixel is, its own way up."""
    view = camera(0.5, 160, 120)
    # Centred, so that the camera looks at right angles onto the detector.
    centred = np.array([[700.0, 0, 79.5], [0, 700.0, 59.5], [0, 0, 1]])
    view = type(view)(centred, view.world_to_camera, 160, 120)
    view = mirrored(view) if flip else view
    pixels = np.zeros((120, 160), np.uint8)
    pixels[20:30, 30:50] = 255
    node = xray_node("AP", view, pixels, (1.5, 1.5))
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevel(255, 127.5)
    drawings = XrayDrawings()
    drawings.show([node])
    scene_view, eye = _stage()
    lookAlongBeam(eye, node, 160 / 120)
    picture = view_3d(scene_view, (640, 480), eye)
    bright = np.argwhere(picture.min(axis=2) > 128)[:, ::-1] / 4.0 - 0.375
    if flip:  # a mirrored picture is seen from behind, that is, from the source: turned about
        bright[:, 0] = 159.0 - bright[:, 0]
    np.testing.assert_allclose(bright.min(axis=0), [29.5, 19.5], atol=0.5)
    np.testing.assert_allclose(bright.max(axis=0), [49.5, 29.5], atol=0.5)
    drawings.close()


def test_along_the_beam_a_body_covers_what_the_camera_model_says() -> None:
    """VTK's picture from the source against our outline: the same within a pixel."""
    view = camera(-0.4, 320, 240, focal=1400.0)
    node = xray_node("AP", view, spacing=(0.8, 0.9))
    mesh = box_mesh((-30, -22, -15), (25, 14, 19), 2)
    model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "box")
    model.SetAndObservePolyData(mesh)
    model.CreateDefaultDisplayNodes()
    model.GetDisplayNode().SetColor(0, 1, 0)
    model.GetDisplayNode().SetAmbient(1.0)
    model.GetDisplayNode().SetDiffuse(0.0)
    scene_view, eye = _stage()
    size = (960, 720)
    lookAlongBeam(eye, node, size[0] / size[1])
    picture = view_3d(scene_view, size, eye)
    covered = np.argwhere(picture[..., 1] > 128)[:, ::-1].astype(float)
    assert len(covered) > 1000
    # Where each covered point of the picture lies on the detector, through VTK's own camera.
    lens = eye.GetCamera()
    matrix = slicer.util.arrayFromVTKMatrix(
        lens.GetCompositeProjectionTransformMatrix(size[0] / size[1], -1, 1)
    )
    corners = np.column_stack([detectorCornersRas(node), np.ones(4)]) @ matrix.T
    corners = corners[:, :2] / corners[:, 3:]
    assert np.abs(corners).max() < 1.001  # the whole detector is in view
    surface = VertebraSurface.of(mesh)
    projector = SilhouetteProjector(surface.points, surface.triangles)
    outline = projector.outline(view.projection @ frames.LPS_RAS)
    places = (
        np.column_stack(
            [pixelsToRas(node, outline.silhouette[0]), np.ones(1)[[0] * len(outline.silhouette[0])]]
        )
        @ matrix.T
    )
    there = (places[:, :2] / places[:, 3:] * [1, -1] + 1) / 2 * size - 0.5
    step = (
        np.linalg.norm(np.diff((corners * [1, -1] + 1) / 2 * size, axis=0)[0]) / view.columns
    )  # of the picture's pixels in one of the X-ray's
    np.testing.assert_allclose(there.min(axis=0), covered.min(axis=0), atol=step)
    np.testing.assert_allclose(there.max(axis=0), covered.max(axis=0), atol=step)


def test_an_xray_that_cannot_be_looked_along() -> None:
    nodes = ball_nodes()
    _, eye = _stage()
    with pytest.raises(InputError, match="no X-ray geometry"):
        lookAlongBeam(eye, nodes["ct"])
