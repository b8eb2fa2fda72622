"""Invariants of cameras, C-arm angles, grids and matrix decomposition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from RadGSRegLib.cases import camera_from_projection
from RadGSRegLib.geometry import (
    PATIENT_POSITIONS,
    Camera,
    Volume,
    carm_angles,
    carm_camera,
    exp_se3,
    is_rigid,
    room_to_patient,
    triangulate,
)

near_isocentre = arrays(np.float64, (6, 3), elements=st.floats(-80, 80))


@st.composite
def cameras(draw: st.DrawFn) -> Camera:
    """C-arm cameras with any angle, roll, principal point and a small skew."""
    camera = carm_camera(
        draw(st.floats(900, 1400)),
        draw(st.floats(500, 800)),
        draw(st.floats(-179, 179)),
        draw(st.floats(-80, 80)),
        (draw(st.integers(64, 1024)), draw(st.integers(64, 1024))),
        (draw(st.floats(0.1, 1.0)), draw(st.floats(0.1, 1.0))),
        (draw(st.floats(50, 500)), draw(st.floats(50, 500))),
    )
    offset = [draw(st.floats(-30, 30)) for _ in range(3)]
    roll = exp_se3([0, 0, draw(st.floats(-3, 3)), *offset])
    intrinsic = camera.intrinsic.copy()
    intrinsic[0, 1] = draw(st.floats(-5, 5))
    return Camera(intrinsic, roll @ camera.world_to_camera, camera.columns, camera.rows)


@given(cameras(), near_isocentre)
def test_rays_go_through_what_they_project(camera: Camera, x: np.ndarray) -> None:
    directions = camera.ray_directions(camera.project(x))
    towards = x - camera.source_world
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    np.testing.assert_allclose(directions, towards, atol=1e-9)


@given(cameras(), near_isocentre)
def test_projection_matrix_is_the_projection(camera: Camera, x: np.ndarray) -> None:
    h = np.column_stack([x, np.ones(len(x))]) @ camera.projection.T
    np.testing.assert_allclose(h[:, :2] / h[:, 2:], camera.project(x), rtol=1e-9, atol=1e-7)


@given(cameras(), near_isocentre, st.floats(-50, 200), st.floats(-50, 200), st.floats(0.25, 4))
def test_window_sees_the_same(
    camera: Camera, x: np.ndarray, column: float, row: float, step: float
) -> None:
    window = camera.window(column, row, 64, 32, step)
    np.testing.assert_allclose(
        window.project(x) * step + [column, row], camera.project(x), atol=1e-6
    )
    assert window.size == (64, 32)


@given(arrays(np.float64, 3, elements=st.floats(-80, 80)), st.floats(15, 160))
def test_triangulation_finds_the_point(point: np.ndarray, apart: float) -> None:
    views = [carm_camera(1124, 750, a, 5, (488, 488), (0.6, 0.6)) for a in (0.0, apart)]
    found, residual = triangulate(views, [v.project(point[None])[0] for v in views])
    np.testing.assert_allclose(found, point, atol=1e-6)
    assert residual < 1e-6


def test_triangulation_refuses_parallel_rays() -> None:
    view = carm_camera(1124, 750, 0, 0, (488, 488), (0.6, 0.6))
    with pytest.raises(ValueError, match="parallel"):
        triangulate([view, view], [(1, 1), (1, 1)])
    with pytest.raises(ValueError, match="two views"):
        triangulate([view], [(1, 1)])


@given(cameras(), st.floats(-1e3, 1e3).filter(lambda s: abs(s) > 1e-3), st.booleans())
def test_matrix_decomposition_returns_the_camera(
    camera: Camera, scale: float, mirrored: bool
) -> None:
    """Any scale and sign; a mirrored image gets a negative focal length, never a left hand."""
    intrinsic = camera.intrinsic.copy()
    if mirrored:
        intrinsic = np.array([[-1.0, 0, camera.columns - 1], [0, 1, 0], [0, 0, 1]]) @ intrinsic
    source = Camera(intrinsic, camera.world_to_camera, camera.columns, camera.rows)
    found = camera_from_projection(scale * source.projection, camera.columns, camera.rows)
    assert is_rigid(found.world_to_camera, 1e-9)
    assert (found.intrinsic[0, 0] < 0) == mirrored
    assert found.intrinsic[1, 1] > 0
    np.testing.assert_allclose(found.world_to_camera, source.world_to_camera, atol=1e-7)
    np.testing.assert_allclose(found.intrinsic, source.intrinsic, rtol=1e-7, atol=1e-6)


@pytest.mark.parametrize(
    "matrix",
    [
        np.zeros((3, 4)),
        np.ones((3, 4)),
        np.full((3, 4), np.nan),
        np.hstack([np.diag([1.0, 1.0, 0.0]), [[0.0], [0.0], [1.0]]]),  # parallel beams
        np.eye(4),
    ],
)
def test_matrix_decomposition_refuses_nonsense(matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="matrix"):
        camera_from_projection(matrix, 10, 10)


@given(
    st.floats(-179.9, 179.9),
    st.floats(-89, 89),
    st.sampled_from(PATIENT_POSITIONS),
)
def test_carm_angles_round_trip(primary: float, secondary: float, position: str) -> None:
    camera = carm_camera(
        1124, 750, primary, secondary, (400, 300), (0.6, 0.5), patient_position=position
    )
    assert is_rigid(camera.world_to_camera, 1e-12)
    np.testing.assert_allclose(carm_angles(camera, position), (primary, secondary, 0), atol=1e-6)
    np.testing.assert_allclose(camera.project([[0, 0, 0]]), [[199.5, 149.5]])


@given(st.floats(-170, 170), st.floats(-85, 85), st.floats(-179, 179))
def test_carm_roll(primary: float, secondary: float, roll: float) -> None:
    camera = carm_camera(1124, 750, primary, secondary, (400, 300), (0.6, 0.5))
    a = np.radians(roll)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]
    rolled = Camera(camera.intrinsic, turn @ camera.world_to_camera, 400, 300)
    np.testing.assert_allclose(carm_angles(rolled), (primary, secondary, roll), atol=1e-6)


@pytest.mark.parametrize(
    ("primary", "secondary", "beam"),
    [
        (0, 0, (0, -1, 0)),  # posterior to anterior
        (90, 0, (1, 0, 0)),  # detector at the patient's left
        (-90, 0, (-1, 0, 0)),
        (180, 0, (0, 1, 0)),
        (0, 90, (0, 0, 1)),  # detector at the head
        (0, -90, (0, 0, -1)),
    ],
)
def test_carm_convention(primary: float, secondary: float, beam: tuple[float, ...]) -> None:
    camera = carm_camera(1124, 750, primary, secondary, (400, 300), (0.6, 0.6))
    np.testing.assert_allclose(camera.view_direction_world, beam, atol=1e-12)
    np.testing.assert_allclose(camera.source_world, -750 * np.array(beam), atol=1e-9)


def test_frontal_image_shows_the_head_on_top_as_seen_from_behind() -> None:
    camera = carm_camera(1124, 750, 0, 0, (400, 300), (0.6, 0.6))
    head, right = camera.project([[0, 0, 50], [-50, 0, 0]])
    assert head[1] < 149.5
    assert right[0] > 199.5


@pytest.mark.parametrize(
    ("position", "up_in_the_room"),
    [  # what of the patient (LPS) points up, against gravity, and to the head end of the table
        ("HFS", ((0, -1, 0), (0, 0, 1))),
        ("HFP", ((0, 1, 0), (0, 0, 1))),
        ("HFDR", ((1, 0, 0), (0, 0, 1))),
        ("HFDL", ((-1, 0, 0), (0, 0, 1))),
        ("FFS", ((0, -1, 0), (0, 0, -1))),
        ("FFP", ((0, 1, 0), (0, 0, -1))),
        ("FFDR", ((1, 0, 0), (0, 0, -1))),
        ("FFDL", ((-1, 0, 0), (0, 0, -1))),
    ],
)
def test_patient_positions(position: str, up_in_the_room: tuple[tuple[int, ...], ...]) -> None:
    turn = room_to_patient(position)
    assert np.linalg.det(turn) == pytest.approx(1)
    np.testing.assert_allclose(turn @ [0, -1, 0], up_in_the_room[0])
    np.testing.assert_allclose(turn @ [0, 0, 1], up_in_the_room[1])


def test_carm_refusals() -> None:
    with pytest.raises(ValueError, match="between"):
        carm_camera(700, 750, 0, 0, (10, 10), (1, 1))
    with pytest.raises(ValueError, match="spacing"):
        carm_camera(1124, 750, 0, 0, (10, 10), (1, 0))
    with pytest.raises(ValueError, match="patient position"):
        carm_camera(1124, 750, 0, 0, (10, 10), (1, 1), patient_position="XYZ")


@given(arrays(np.float64, 6, elements=st.floats(-1.5, 1.5)), near_isocentre)
def test_volume_indices_round_trip(xi: np.ndarray, ijk: np.ndarray) -> None:
    matrix = exp_se3(xi * [1, 1, 1, 100, 100, 100]) @ np.diag([0.5, 0.7, 3.0, 1.0])
    volume = Volume(np.zeros((4, 5, 6)), matrix)
    assert volume.size == (6, 5, 4)
    np.testing.assert_allclose(volume.spacing, [0.5, 0.7, 3.0])
    np.testing.assert_allclose(volume.direction.T @ volume.direction, np.eye(3), atol=1e-12)
    x = np.column_stack([volume.physical_points(ijk), np.ones(len(ijk))])
    np.testing.assert_allclose((x @ volume.physical_to_index.T)[:, :3], ijk, atol=1e-8)


@given(st.lists(st.integers(-3, 9), min_size=6, max_size=6))
def test_crop_keeps_voxels_in_place(bounds: list[int]) -> None:
    array = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    volume = Volume(array, exp_se3([0.3, 0.2, 0.1, 4, 5, 6]) @ np.diag([1.0, 2.0, 3.0, 1.0]))
    part = volume.crop(bounds[:3], bounds[3:])
    for k, j, i in np.ndindex(part.array.shape):
        place = part.physical_points([[i, j, k]])
        x = np.append(place[0], 1.0)
        ijk = np.round((volume.physical_to_index @ x)[:3]).astype(int)
        assert part.array[k, j, i] == array[ijk[2], ijk[1], ijk[0]]


def test_volume_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="shape"):
        Volume(np.zeros((2, 2, 2)), np.eye(4)).with_array(np.zeros((2, 2, 3)))
