"""Crops: virtual cameras, resampling and what the encoder sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from RadGSRegLib import views
from RadGSRegLib.geometry import Camera, carm_camera, transform_points
from RadGSRegLib.networks import crops

angles = st.floats(-15, 15)


def _cameras(primary: float = 3.0, secondary: float = -5.0) -> list[Camera]:
    ap = carm_camera(1124, 750, primary, secondary, (488, 488), (0.61, 0.61))
    la = carm_camera(1124, 750, 90 + secondary, primary, (488, 488), (0.61, 0.61))
    return [ap, la]


@given(angles, angles, st.tuples(*[st.floats(-40, 40)] * 3))
def test_virtual_cameras_look_at_the_middle_from_the_same_source(primary, secondary, centre):
    cameras = _cameras(primary, secondary)
    frame = crops.make_frame(cameras, centre)
    middle = (crops.SIZE_PX - 1) / 2
    for real, virtual in zip(cameras, frame.cameras, strict=True):
        assert np.allclose(virtual.project(np.zeros((1, 3))), middle, atol=1e-6)
        source = transform_points(frame.box_to_world, virtual.source_world[None])[0]
        assert np.allclose(source, real.source_world, atol=1e-6)
        # A millimetre across the view at the middle is a pixel, and up is up.
        right = virtual.world_to_camera[0, :3]
        assert np.allclose(virtual.project(right[None])[0], [middle + 1, middle], atol=1e-6)
        up = virtual.project(np.array([[0.0, 0.0, 10.0]]))[0]
        assert up[1] < middle - 5


def test_box_axes_follow_the_views_and_not_the_world():
    cameras = _cameras()
    turn = Rotation.from_euler("xyz", [12, -9, 15], degrees=True).as_matrix()
    directions = np.stack([c.view_direction_world for c in cameras])
    here = crops.box_axes(directions)
    there = crops.box_axes(directions @ turn.T)
    assert np.allclose(there, turn @ here, atol=1e-9)
    seen = directions @ here
    # The two views are not quite at right angles: what is left over is shared evenly.
    assert seen[0] @ [0, -1, 0] > 0.99
    assert seen[1] @ [1, 0, 0] > 0.99


def test_oblique_and_many_views_are_accepted_and_parallel_ones_refused():
    cameras = [carm_camera(1124, 750, a, 4, (488, 488), (0.6, 0.6)) for a in (0, 45, 90, 200)]
    frame = crops.make_frame(cameras, [0, 0, 0])
    assert len(frame.cameras) == 4
    assert np.abs(Rotation.from_matrix(frame.box_to_world[:3, :3]).magnitude()) < 0.15
    with pytest.raises(ValueError, match="parallel"):
        crops.make_frame([cameras[0], cameras[0]], [0, 0, 0])


def _linear_picture(camera: Camera, direction: np.ndarray) -> np.ndarray:
    v, u = np.mgrid[: camera.rows, : camera.columns]
    rays = camera.ray_directions(np.stack([u.ravel(), v.ravel()], 1).astype(float))
    return (rays @ direction).reshape(camera.rows, camera.columns).astype(np.float32)


def test_resampling_keeps_every_ray():
    camera = _cameras()[0]
    centre = np.array([12.0, -20.0, 9.0])
    frame = crops.make_frame(_cameras(), centre)
    virtual = frame.cameras[0]
    direction = np.array([0.3, -0.4, 0.8])
    picture = _linear_picture(camera, direction)
    image, valid = views.resample(
        picture, np.ones(picture.shape, bool), camera, frame.box_to_world, virtual
    )
    wanted = _linear_picture(virtual, direction @ frame.box_to_world[:3, :3])
    assert valid.mean() > 0.95
    # Both sample the same function of the ray; smoothing leaves a smooth one as it is.
    assert np.abs(image - wanted)[valid > 0].max() < 2e-4


def test_what_lies_outside_a_picture_is_not_valid():
    camera = _cameras()[0]
    frame = crops.make_frame(_cameras(), [95.0, 0.0, 0.0])
    picture = np.ones((488, 488), np.float32)
    _, valid = views.resample(
        picture, np.ones(picture.shape, bool), camera, frame.box_to_world, frame.cameras[0]
    )
    assert 0.2 < valid.mean() < 0.9


@given(st.floats(0.3, 3.0), st.booleans())
def test_no_display_curve_changes_what_the_encoder_sees_but_the_sign(gamma, invert):
    torch.manual_seed(0)
    image = torch.rand(1, 48, 48, dtype=torch.float64)
    valid = torch.ones_like(image)
    valid[:, :6] = 0
    shown = image**gamma
    shown = 5.0 - 3.0 * shown if invert else 3.0 * shown
    a = views.ranks_and_contrast(image, valid, 1.0)
    b = views.ranks_and_contrast(shown, valid, 1.0)
    assert a.shape == (1, 2, 48, 48)
    assert torch.allclose(a, -b if invert else b, atol=1e-3)
    assert (a[:, :, :6] == 0).all()
    assert a[:, 0].abs().max() <= 1.0


def test_pooling_keeps_the_geometry():
    camera = _cameras()[1]
    frame = crops.make_frame(_cameras(), [0, 0, 0])
    virtual = frame.cameras[1]
    image = torch.from_numpy(_linear_picture(virtual, np.array([0.1, 0.2, 0.9])))[None]
    intrinsic = torch.from_numpy(virtual.intrinsic)[None].float()
    coarse, valid, seen = views.pool_views(image, torch.ones_like(image), intrinsic, 2)
    smaller = Camera(seen[0].numpy(), virtual.world_to_camera, 64, 64)
    wanted = _linear_picture(smaller, np.array([0.1, 0.2, 0.9]))
    assert coarse.shape == (1, 64, 64)
    assert valid.min() == 1
    assert np.abs(coarse[0].numpy() - wanted).max() < 1e-4
    assert camera.columns == 488
