"""Crops: virtual cameras, resampling and what the encoder sees."""

from __future__ import annotations

import network_scenes as scenes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from RadGSRegLib import views
from RadGSRegLib.geometry import Camera, carm_camera, transform_points
from RadGSRegLib.networks import crops
from RadGSRegLib.networks.views import crop_prepared
from RadGSRegLib.tensors import without_host_reads
from RadGSRegLib.views import prepare_view

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


def _shown(
    picture: np.ndarray, camera: Camera, *frames: crops.Frame
) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = torch.from_numpy(picture)
    cameras = [frame.cameras_world()[0] for frame in frames]
    return views.resample(pixels, torch.ones_like(pixels), camera, cameras)


def _by_scipy(
    picture: np.ndarray, valid: np.ndarray, camera: Camera, virtual: Camera
) -> tuple[np.ndarray, np.ndarray]:
    """The whole picture smoothed and interpolated by scipy, in double precision."""
    v, u = np.mgrid[: virtual.rows, : virtual.columns]
    points = virtual.source_world + virtual.ray_directions(np.stack([u.ravel(), v.ravel()], 1))
    depth = transform_points(camera.world_to_camera, points)[:, 2]
    place = np.where(depth > 0, camera.project(points)[:, ::-1].T, -10.0)
    wide = camera.intrinsic[0, 0] / virtual.intrinsic[0, 0]
    sigma = 0.5 * np.sqrt(max(wide**2 - 1.0, 0.0))
    total, share = (np.where(valid, picture, 0.0).astype(float), valid.astype(float))
    if sigma > 0.2:
        total, share = (
            gaussian_filter(part, sigma, mode="constant", truncate=4.0) for part in (total, share)
        )
    image = map_coordinates(total / np.maximum(share, 1e-3), place, order=1, mode="nearest")
    shown = map_coordinates(share, place, order=1, mode="constant") > 0.7
    return image.reshape(u.shape), shown.reshape(u.shape)


@pytest.mark.parametrize("pixel_mm", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("side", [0.0, 60.0, 400.0])
def test_resampling_is_scipys_and_many_at_once_are_each_alone(pixel_mm: float, side: float) -> None:
    camera = _cameras()[0]
    generator = np.random.default_rng(3)
    picture = generator.random((488, 488)).astype(np.float32)
    valid = np.ones((488, 488), bool)
    valid[100:160, 200:300] = False
    centres = ([side, -20.0, 9.0], [0.5 * side, 30.0, -side])
    frames = [crops.make_frame(_cameras(), c, size_px=96, pixel_mm=pixel_mm) for c in centres]
    cameras = [frame.cameras_world()[0] for frame in frames]
    pixels = torch.from_numpy(picture)
    alone = views.resample(pixels, torch.from_numpy(valid), camera, cameras)
    with without_host_reads():
        together = views.resample(pixels, torch.from_numpy(valid), camera, cameras)
    for n, virtual in enumerate(cameras):
        image, shown = _by_scipy(picture, valid, camera, virtual)
        there = alone[1][n].numpy() > 0
        # Only the share of pixels that are valid, against its limit, may be rounded otherwise.
        assert (there != shown).sum() <= 2
        assert np.abs(alone[0][n].numpy() - image)[there & shown].max(initial=0.0) < 2e-5
    for one, other in zip(alone, together, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_crops_stay_on_their_device() -> None:
    """The meta device has no numbers: whatever reads one, or mixes devices, raises."""
    shown = [prepare_view(view) for view in scenes.xrays()]
    batch, frames = crop_prepared(
        shown, [[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]], size_px=64, pixel_mm=2.0, device="meta"
    )
    assert {tensor.device.type for tensor in vars(batch).values()} == {"meta"}
    assert batch.pictures.shape == (2, 2, 2, 64, 64)
    assert len(frames) == 2


def test_resampling_keeps_every_ray():
    camera = _cameras()[0]
    centre = np.array([12.0, -20.0, 9.0])
    frame = crops.make_frame(_cameras(), centre)
    virtual = frame.cameras[0]
    direction = np.array([0.3, -0.4, 0.8])
    picture = _linear_picture(camera, direction)
    image, valid = (part[0].numpy() for part in _shown(picture, camera, frame))
    wanted = _linear_picture(virtual, direction @ frame.box_to_world[:3, :3])
    assert valid.mean() > 0.95
    # Both sample the same function of the ray; smoothing leaves a smooth one as it is.
    assert np.abs(image - wanted)[valid > 0].max() < 2e-4


def test_what_lies_outside_a_picture_is_not_valid():
    camera = _cameras()[0]
    frame = crops.make_frame(_cameras(), [95.0, 0.0, 0.0])
    picture = np.ones((488, 488), np.float32)
    _, valid = _shown(picture, camera, frame)
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
