# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""The outline: what a closed surface casts onto an X-ray, against exact projections."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import ConvexHull, cKDTree

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
vtk = pytest.importorskip("vtk")

import ball
import slicer_startup

slicer_startup.start()

import itertools

from RadGSRegSlicer.review.outline import SilhouetteProjector
from RadGSRegSlicer.review.surface import VertebraSurface, vertebraSurface
from review_scene import ball_nodes, box_mesh, camera, mirrored, new_scene, transform_node

from RadGSRegLib.drr import project_volume
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Volume, exp_se3, lps_to_ras, transform_points


@pytest.fixture(autouse=True)
def scene() -> Any:
    return new_scene()


def _projector(mesh: Any) -> SilhouetteProjector:
    surface = VertebraSurface.of(mesh)
    return SilhouetteProjector(surface.points, surface.triangles)


def _dense(line: np.ndarray, step: float = 0.1) -> np.ndarray:
    """Points along a closed line, ``step`` apart."""
    parts = []
    for start, end in itertools.pairwise(line):
        count = max(int(np.ceil(np.linalg.norm(end - start) / step)), 1)
        parts.append(start + np.linspace(0.0, 1.0, count, endpoint=False)[:, None] * (end - start))
    return np.concatenate(parts)


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """The Hausdorff distance of two closed lines."""
    a, b = _dense(one), _dense(other)
    return max(cKDTree(a).query(b)[0].max(), cKDTree(b).query(a)[0].max())


@given(
    angle=st.floats(-3.0, 3.0),
    twist=st.tuples(*[st.floats(-0.8, 0.8)] * 3),
    flip=st.booleans(),
    steps=st.integers(1, 4),
)
def test_the_outline_of_a_box_is_the_hull_of_its_corners(
    angle: float, twist: tuple[float, ...], flip: bool, steps: int
) -> None:
    view = camera(angle, focal=2500.0)
    view = mirrored(view) if flip else view
    pose = exp_se3([*twist, 4.0, -6.0, 2.0])
    low, high = np.array([-14.0, -10.0, -8.0]), np.array([14.0, 10.0, 8.0])
    outline = _projector(box_mesh(low, high, steps)).outline(view.projection @ pose)
    corners = np.array([[x, y, z] for x in (-14, 14) for y in (-10, 10) for z in (-8, 8)], float)
    pixels = view.project(transform_points(pose, corners))
    hull = pixels[ConvexHull(pixels).vertices]
    (line,) = outline.silhouette
    np.testing.assert_array_equal(line[0], line[-1])
    assert _apart(line, np.vstack([hull, hull[:1]])) < 0.4
    assert outline.folds == ()
    left, right, top, bottom = outline.bounds
    np.testing.assert_allclose([left, top], pixels.min(axis=0), atol=0.35)
    np.testing.assert_allclose([right, bottom], pixels.max(axis=0), atol=0.35)


def test_a_box_before_another_is_a_fold() -> None:
    both = vtk.vtkAppendPolyData()
    both.AddInputData(box_mesh((-20, -20, -20), (20, 20, -10)))
    both.AddInputData(box_mesh((-10, -10, 5), (10, 10, 15)))
    both.Update()
    projection = np.hstack([np.diag([500.0, 500.0, 1.0]), [[0], [0], [1000]]])
    projection[:2] += np.outer([100.0, 90.0], projection[2])
    outline = _projector(both.GetOutput()).outline(projection)
    assert len(outline.silhouette) == 1
    (fold,) = outline.folds
    near = 500.0 * 10.0 / 1005.0
    np.testing.assert_allclose(fold.min(axis=0), [100 - near, 90 - near], atol=0.5)
    np.testing.assert_allclose(fold.max(axis=0), [100 + near, 90 + near], atol=0.5)
    assert _projector(both.GetOutput()).outline(projection, folds=False).folds == ()


def test_a_hole_has_an_outline_of_its_own() -> None:
    ring = vtk.vtkParametricTorus()
    ring.SetRingRadius(20.0)
    ring.SetCrossSectionRadius(6.0)
    source = vtk.vtkParametricFunctionSource()
    source.SetParametricFunction(ring)
    source.SetUResolution(60)
    source.SetVResolution(30)
    clean = vtk.vtkCleanPolyData()
    clean.SetInputConnection(source.GetOutputPort())
    clean.Update()
    projection = np.hstack([np.diag([500.0, 500.0, 1.0]), [[0], [0], [1000]]])
    lines = _projector(clean.GetOutput()).outline(projection).silhouette
    widths = sorted(float(np.ptp(line[:, 0])) for line in lines)
    np.testing.assert_allclose(widths, [14.0, 26.0], atol=0.6)


def test_nothing_is_drawn_of_what_is_not_in_front_of_the_source() -> None:
    projector = _projector(box_mesh((-10, -10, -10), (10, 10, 10)))
    projection = np.hstack([np.diag([500.0, 500.0, 1.0]), [[0], [0], [1000]]])
    for depth in (0.0, -500.0):
        moved = projection.copy()
        moved[2, 3] = depth
        outline = projector.outline(moved)
        assert (outline.silhouette, outline.folds, outline.bounds) == ((), (), None)


def test_inside_says_which_pixels_are_enclosed() -> None:
    view = camera(0.4, focal=1800.0)
    outline = _projector(box_mesh((-70, -9, -9), (30, 9, 9), 3)).outline(view.projection)
    inside = outline.inside(view.columns, view.rows)
    assert inside.shape == (view.rows, view.columns)
    (line,) = outline.silhouette
    assert line[:, 0].min() < -5.0  # part of it lies outside the picture
    pixels = np.stack(np.meshgrid(np.arange(view.columns), np.arange(view.rows)), -1)
    hull = ConvexHull(line)
    signed = pixels.reshape(-1, 2) @ hull.equations[:, :2].T + hull.equations[:, 2]
    depth = signed.max(axis=1).reshape(inside.shape)
    assert inside[depth < -0.5].all()
    assert not inside[depth > 0.5].any()


def test_the_surface_of_a_segment_is_where_its_voxels_are() -> None:
    nodes = ball_nodes()
    surface = vertebraSurface(nodes["segmentation"], "L3", nodes["ct"])
    centre = ball.CENTRE_CT * [-1, -1, 1]
    np.testing.assert_allclose(surface.centre, centre, atol=1e-3)
    radii = np.linalg.norm(surface.points - centre, axis=1)
    assert abs(radii.mean() - ball.RADIUS) < 0.4
    assert radii.std() < 0.6
    normals = np.cross(
        surface.points[surface.triangles[:, 1]] - surface.points[surface.triangles[:, 0]],
        surface.points[surface.triangles[:, 2]] - surface.points[surface.triangles[:, 0]],
    )
    middles = surface.points[surface.triangles].mean(axis=1) - centre
    assert (np.einsum("ij,ij->i", normals, middles) > 0).all()


def test_a_segmentation_under_its_own_transform_is_taken_where_it_is_seen() -> None:
    nodes = ball_nodes(result=False)
    shift = np.eye(4)
    shift[:3, 3] = [5.0, 0.0, -3.0]
    before = vertebraSurface(nodes["segmentation"], "L3", nodes["ct"])
    nodes["segmentation"].SetAndObserveTransformNodeID(transform_node(shift, "own").GetID())
    after = vertebraSurface(nodes["segmentation"], "L3", nodes["ct"])
    np.testing.assert_allclose(after.centre - before.centre, [5.0, 0.0, -3.0], atol=1e-6)
    # Under the CT's own transform, on the other hand, it goes with the CT.
    for name in ("ct", "segmentation"):
        nodes[name].SetAndObserveTransformNodeID(nodes["transform"].GetID())
    again = vertebraSurface(nodes["segmentation"], "L3", nodes["ct"])
    np.testing.assert_allclose(again.centre, before.centre, atol=1e-6)


def test_segments_that_cannot_be_drawn() -> None:
    nodes = ball_nodes()
    with pytest.raises(InputError, match="no segment 'L9'"):
        vertebraSurface(nodes["segmentation"], "L9", nodes["ct"])
    nodes["segmentation"].GetSegmentation().AddEmptySegment("T12", "T12")
    with pytest.raises(InputError, match=r"'T12' (is empty|has no label map)"):
        vertebraSurface(nodes["segmentation"], "T12", nodes["ct"])


def test_the_outline_lies_on_the_edge_of_the_rendering() -> None:
    case = ball.ball_case()
    nodes = ball_nodes()
    surface = vertebraSurface(nodes["segmentation"], "L3", nodes["ct"])
    projector = SilhouetteProjector(surface.points, surface.triangles)
    mask = Volume(np.asarray(case.labels.array > 0, np.float32), case.ct.index_to_physical)
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    pose = lps_to_ras(ball.POSE)
    for view in case.views:
        outline = projector.outline(view.camera.projection @ flip @ pose)
        to_camera = view.camera.world_to_camera @ ball.POSE
        shadow = project_volume(mask, view.camera.intrinsic, to_camera, view.camera.size).numpy()
        # A voxel's path: at the edge of what casts a shadow.
        seen = np.argwhere(shadow > 1.5)[:, ::-1]
        low, high = seen.min(axis=0), seen.max(axis=0)
        left, right, top, bottom = outline.bounds
        np.testing.assert_allclose([left, top, right, bottom], [*low, *high], atol=1.6)
        (line,) = outline.silhouette
        exact = ball.FOCAL * ball.RADIUS / np.sqrt(ball.DISTANCE**2 - ball.RADIUS**2)
        radii = np.linalg.norm(line - [160.0, 150.0], axis=1)
        np.testing.assert_allclose(radii, exact, atol=1.5)  # a voxel is 3.7 pixels wide
        assert abs(radii.mean() - exact) < 0.5


def test_an_outline_takes_milliseconds() -> None:
    sphere = vtk.vtkSphereSource()
    sphere.SetRadius(40.0)
    sphere.SetThetaResolution(110)
    sphere.SetPhiResolution(110)
    sphere.Update()
    projector = _projector(sphere.GetOutput())
    projection = camera(0.3, focal=3000.0).projection
    projector.outline(projection)
    spent = []
    for _ in range(5):
        began = time.perf_counter()
        projector.outline(projection)
        spent.append(time.perf_counter() - began)
    # 5 to 15 ms on a core of its own; room for a machine that has other work.
    assert min(spent) < 0.06
