"""Our reading of RTK's geometry, and our projector, against RTK itself.

In one file, because RTK takes ten seconds to load.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from gaussian_scenes import blob
from hypothesis import given
from hypothesis import strategies as st

from RadGSRegLib.cases import DetectorGrid, read_rtk_matrices, rtk_camera
from RadGSRegLib.cases.rtk import rtk_matrix
from RadGSRegLib.drr import project_volume
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import is_rigid

itk = pytest.importorskip("itk", reason="RTK is not installed")
if not hasattr(itk, "RTK"):
    pytest.skip("RTK is not installed", allow_module_level=True)
rtk = itk.RTK

ANGLE = st.floats(-180, 180)
OFFSET = st.floats(-60, 60)
POINTS = np.random.default_rng(3).uniform(-60, 60, (20, 3))
PROJECTIONS = [
    (750.0, 1124.0, 30.0, 5.0, -3.0, 10.0, 20.0, 2.0, 1.0),
    (750.0, 1124.0, 120.0),
    (750.0, 1124.0, -75.0, 0.0, 12.0, -25.0, 3.0),
]


def rtk_pixels(matrix: np.ndarray, grid: DetectorGrid, x: np.ndarray) -> np.ndarray:
    """Pixels of points by RTK's own matrix and the image's grid."""
    h = np.column_stack([x, np.ones(len(x))]) @ matrix.T
    return np.linalg.solve(grid.axes_mm, (h[:, :2] / h[:, 2:] - grid.origin_mm).T).T


@pytest.fixture
def geometry(tmp_path: Path) -> tuple[object, Path]:
    """A geometry, and the file that RTK writes of it."""
    made = rtk.ThreeDCircularProjectionGeometry.New()
    for projection in PROJECTIONS:
        made.AddProjection(*projection)
    writer = rtk.ThreeDCircularProjectionGeometryXMLFileWriter.New()
    path = tmp_path / "geometry.xml"
    writer.SetObject(made)
    writer.SetFilename(str(path))
    writer.WriteFile()
    return made, path


@pytest.mark.parametrize("drop_matrix", [False, True])
def test_file_of_rtk(geometry: tuple[object, Path], drop_matrix: bool) -> None:
    made, path = geometry
    if drop_matrix:  # then the parameters have to do
        path.write_text(re.sub(r"<Matrix>.*?</Matrix>", "", path.read_text(), flags=re.S))
    matrices = read_rtk_matrices(path)
    assert len(matrices) == len(PROJECTIONS)
    grid = DetectorGrid(np.array([-120.0, -100.0]), np.diag([0.6, 0.5]))
    for index, matrix in enumerate(matrices):
        truth = itk.array_from_matrix(made.GetMatrix(index))
        np.testing.assert_allclose(matrix, truth, rtol=1e-9, atol=1e-6)
        camera = rtk_camera(matrix, grid, 400, 400)
        assert is_rigid(camera.world_to_camera, 1e-9)
        np.testing.assert_allclose(
            camera.project(POINTS), rtk_pixels(truth, grid, POINTS), atol=1e-6
        )
        source = np.array(made.GetSourcePosition(index))[:3]
        np.testing.assert_allclose(camera.source_world, source, atol=1e-6)


@given(st.tuples(ANGLE, OFFSET, OFFSET, st.floats(-89, 89), ANGLE, OFFSET, OFFSET))
def test_parameters_give_the_matrix_of_rtk(values: tuple[float, ...]) -> None:
    made = rtk.ThreeDCircularProjectionGeometry.New()
    made.AddProjection(700.0, 1100.0, *values)
    names = (
        "GantryAngle",
        "ProjectionOffsetX",
        "ProjectionOffsetY",
        "OutOfPlaneAngle",
        "InPlaneAngle",
        "SourceOffsetX",
        "SourceOffsetY",
    )
    parameters = dict(zip(names, values, strict=True))
    ours = rtk_matrix(
        {"SourceToIsocenterDistance": 700.0, "SourceToDetectorDistance": 1100.0, **parameters}
    )
    np.testing.assert_allclose(ours, itk.array_from_matrix(made.GetMatrix(0)), atol=1e-6)


def test_iec_frame_becomes_lps(geometry: tuple[object, Path]) -> None:
    """IEC y is the patient's head, z the front."""
    matrix = read_rtk_matrices(geometry[1])[1]
    grid = DetectorGrid.centred(400, 300, (0.6, 0.6))
    as_is, as_lps = (rtk_camera(matrix, grid, 400, 300, frame) for frame in ("lps", "iec"))
    iec = np.column_stack([POINTS[:, 0], POINTS[:, 2], -POINTS[:, 1]])
    np.testing.assert_allclose(as_lps.project(POINTS), as_is.project(iec), atol=1e-6)
    with pytest.raises(ValueError, match="frame"):
        rtk_camera(matrix, grid, 400, 300, "ras")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("not xml", "is not XML"),
        ("<Other/>", "no RTK geometry"),
        ("<RTKThreeDCircularGeometry/>", "no projection"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><RTKThreeDCircularGeometry/>', "entities"),
        (
            "<RTKThreeDCircularGeometry><Projection><GantryAngle>1</GantryAngle></Projection>"
            "</RTKThreeDCircularGeometry>",
            "must be positive",
        ),
        (
            "<RTKThreeDCircularGeometry><Projection><Matrix>1 2 3</Matrix></Projection>"
            "</RTKThreeDCircularGeometry>",
            "3x4",
        ),
        (
            "<RTKThreeDCircularGeometry><RadiusCylindricalDetector>900"
            "</RadiusCylindricalDetector><Projection/></RTKThreeDCircularGeometry>",
            "cylindrical",
        ),
        (
            "<RTKThreeDCircularGeometry><SourceToDetectorDistance>wide"
            "</SourceToDetectorDistance><Projection/></RTKThreeDCircularGeometry>",
            "no number",
        ),
    ],
)
def test_refusals(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "geometry.xml"
    path.write_text(text)
    with pytest.raises(InputError, match=problem) as caught:
        read_rtk_matrices(path)
    assert "geometry.xml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_projector_equals_rtk() -> None:
    source, detector, spacing = 750.0, 1124.0, 3.0
    columns, rows = 36, 30
    array = blob(dtype=np.float32)
    image = itk.image_from_array(np.ascontiguousarray(array.array))
    image.SetSpacing([float(s) for s in array.spacing])
    image.SetOrigin([float(o) for o in array.origin])
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(array.direction)))
    geometry = rtk.ThreeDCircularProjectionGeometry.New()
    geometry.AddProjection(source, detector, 0.0)
    stack = itk.image_from_array(np.zeros((1, rows, columns), np.float32))
    origin = [-(columns - 1) / 2 * spacing + 4.0, -(rows - 1) / 2 * spacing - 3.0, 0.0]
    stack.SetSpacing([spacing, spacing, 1.0])
    stack.SetOrigin(origin)
    kind = itk.Image[itk.F, 3]
    projector = itk.JosephForwardProjectionImageFilter[kind, kind].New()
    projector.SetInput(0, stack)
    projector.SetInput(1, image)
    projector.SetGeometry(geometry)
    projector.Update()
    expected = itk.array_from_image(projector.GetOutput())[0]
    # RTK's source is at +z, its rows run up: our y and z are the opposite of its axes.
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[2, 3] = source
    focal = detector / spacing
    intrinsic = np.array(
        [[focal, 0, -origin[0] / spacing], [0, focal, rows - 1 + origin[1] / spacing], [0, 0, 1.0]]
    )
    ours = project_volume(array, intrinsic, pose, (columns, rows)).numpy()[::-1]
    assert expected.max() > 0.5
    assert np.abs(ours - expected).sum() / expected.sum() < 5e-3
