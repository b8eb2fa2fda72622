"""A pose read from landmarks: attention, least squares, turned pictures, several passes."""

from __future__ import annotations

from dataclasses import replace

import network_scenes as scenes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from RadGSRegLib.errors import InputError
from RadGSRegLib.gaussians import rasterize
from RadGSRegLib.networks.anchors import project
from RadGSRegLib.networks.correspondence import (
    Places,
    attention_loss,
    cell_centres,
    spread_landmarks,
)
from RadGSRegLib.networks.model import ModelConfig, RadGSReg, load_model, placed, save_model
from RadGSRegLib.networks.pose_solver import pose_from_pixels
from RadGSRegLib.networks.recm import RecM, RecMConfig
from RadGSRegLib.networks.turned import expected, turn_towards
from RadGSRegLib.networks.views import ViewBatch
from RadGSRegLib.tensors import applied

CONFIG = replace(scenes.TINY.recm, landmarks=12, passes=2, residual=False, stretch=False)


def _pose(turn_deg: np.ndarray, shift: np.ndarray) -> torch.Tensor:
    out = np.eye(4)
    out[:3, :3] = Rotation.from_rotvec(turn_deg, degrees=True).as_matrix()
    out[:3, 3] = shift
    return torch.from_numpy(out)[None]


def _landmarks() -> torch.Tensor:
    return spread_landmarks(scenes.lopsided_cloud(), 12)


def _pictured(pose: torch.Tensor, batch: ViewBatch) -> torch.Tensor:
    points = applied(pose[:, None], _landmarks().double()[None])
    return project(points, batch.intrinsics.double(), batch.extrinsics.double())


def _solved(
    pixels: torch.Tensor, batch: ViewBatch, weights: torch.Tensor | None = None
) -> torch.Tensor:
    trust = torch.ones(pixels.shape[:-1]) if weights is None else weights
    cameras = batch.intrinsics, batch.extrinsics
    return pose_from_pixels(_landmarks(), pixels, trust, *cameras, torch.eye(4)[None])


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(-16, 16), min_size=3, max_size=3),
    st.lists(st.floats(-15, 15), min_size=3, max_size=3),
    st.sampled_from([(4.0, 93.0), (10.0, 70.0), (0.0, 40.0, 95.0)]),
)
def test_exact_places_give_the_exact_pose(turn, shift, angles):
    batch = scenes.rendered_batch(scenes.lopsided_cloud(), angles)
    truth = _pose(np.array(turn), np.array(shift))
    assert torch.allclose(_solved(_pictured(truth, batch), batch), truth, atol=1e-5)


def test_noisy_places_give_what_scipy_gives():
    batch = scenes.rendered_batch(scenes.lopsided_cloud())
    rng = np.random.default_rng(3)
    pixels = _pictured(_pose(np.array([8.0, -5.0, 12.0]), np.array([4.0, -6.0, 3.0])), batch)
    pixels = pixels + torch.from_numpy(rng.normal(0.0, 0.7, pixels.shape))
    weights = torch.from_numpy(rng.uniform(0.1, 3.0, pixels.shape[:-1]))

    def off(numbers: np.ndarray) -> np.ndarray:
        pose = _pose(np.rad2deg(numbers[:3]), numbers[3:])
        return ((_pictured(pose, batch) - pixels) * weights[..., None].sqrt()).numpy().ravel()

    best = least_squares(off, np.zeros(6), x_scale=[0.01] * 3 + [1.0] * 3, xtol=1e-14, ftol=1e-14)
    wanted = _pose(np.rad2deg(best.x[:3]), best.x[3:])
    assert torch.allclose(_solved(pixels, batch, weights), wanted, atol=1e-4)


def test_what_is_not_trusted_does_not_count():
    batch = scenes.rendered_batch(scenes.lopsided_cloud())
    truth = _pose(np.array([3.0, 2.0, -7.0]), np.array([1.0, 5.0, -2.0]))
    pixels = _pictured(truth, batch)
    pixels[:, :, :3] += 9.0
    weights = torch.ones(pixels.shape[:-1])
    assert not torch.allclose(_solved(pixels, batch, weights), truth, atol=0.1)
    weights[:, :, :3] = 0.0
    assert torch.allclose(_solved(pixels, batch, weights), truth, atol=1e-5)


def test_the_pose_has_the_right_derivatives():
    batch = scenes.rendered_batch(scenes.lopsided_cloud())
    pixels = _pictured(_pose(np.array([5.0, 1.0, 2.0]), np.array([2.0, 0.0, 4.0])), batch)
    generator = torch.Generator().manual_seed(0)
    pixels = pixels + torch.randn(pixels.shape, generator=generator)
    weights = 0.5 + torch.rand(pixels.shape[:-1], generator=generator, dtype=torch.float64)
    inputs = pixels.requires_grad_(), weights.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p, w: _solved(p, batch, w)[:, :3], inputs, fast_mode=True
    )


def test_attention_is_asked_to_be_where_landmarks_are():
    cells = cell_centres(torch.zeros(8, 8), 32)
    assert cells[:2].tolist() == [[1.5, 1.5], [5.5, 1.5]]
    truth = torch.tensor([[[[13.5, 9.5], [500.0, 9.5]]]])

    def loss(at: tuple[int, int]) -> float:
        logits = torch.zeros(1, 1, 2, 8, 8)
        logits[..., 0, at[0], at[1]] = 4.0
        return float(attention_loss(Places(logits, logits, truth, truth[..., 0]), truth, 32))

    # Row two, column three; what lies outside of the picture counts nothing.
    assert loss((2, 3)) < loss((2, 4)) < loss((6, 6))
    even = torch.zeros(1, 1, 2, 8, 8)
    flat = attention_loss(Places(even, even, truth, truth[..., 0]), truth, 32)
    assert float(flat) == pytest.approx(np.log(64.0), abs=0.05)


def test_landmarks_lie_apart_and_within_the_cloud():
    cloud = scenes.lopsided_cloud()
    points = spread_landmarks(cloud, 12)
    apart = torch.cdist(points, points) + 99.0 * torch.eye(12)
    at_random = torch.cdist(cloud.means[:12], cloud.means[:12]) + 99.0 * torch.eye(12)
    assert apart.min() > 2.0 * at_random.min()
    assert points.abs().amax() <= cloud.means.abs().amax()


@pytest.mark.parametrize("angles", [(4.0, 93.0), (-20.0, 65.0, 100.0)])
def test_a_turned_picture_is_what_a_turned_camera_takes(angles):
    config = replace(CONFIG, size_px=128, pixel_mm=1.0)
    pose = _pose(np.array([14.0, -9.0, 11.0]), np.array([8.0, 5.0, -6.0]))
    cloud = scenes.lopsided_cloud().transformed(pose[0])
    batch = scenes.rendered_batch(cloud, angles, config)

    def taken(views: ViewBatch) -> torch.Tensor:
        pairs = zip(views.intrinsics[0], views.extrinsics[0], strict=True)
        return torch.stack([rasterize(cloud, k, e, (128, 128)) for k, e in pairs])[None, :, None]

    # Upwards is a direction of the anchors' own, here none of their axes.
    upwards = torch.tensor([0.1, -0.2, 0.97], dtype=torch.float64)
    upwards = upwards / upwards.norm()
    turned = turn_towards(replace(batch, pictures=taken(batch)), pose, upwards, 96.0)
    assert torch.allclose(turned.pictures, taken(turned), atol=0.02 * float(turned.pictures.max()))
    middle = project(pose[:, None, :3, 3].float(), turned.intrinsics, turned.extrinsics)
    assert torch.allclose(middle, torch.full_like(middle, 63.5), atol=1e-2)
    up = (pose[:, None, :3, 3] + 10.0 * (pose[:, None, :3, :3] @ upwards)).float()
    above = project(up, turned.intrinsics, turned.extrinsics) - middle
    assert (above[..., 0].abs() < 0.02).all()
    assert (above[..., 1] < -9.0).all()

    def sources(views: ViewBatch) -> torch.Tensor:
        turns, shifts = views.extrinsics[..., :3, :3], views.extrinsics[..., :3, 3:]
        return -(turns.mT @ shifts)

    assert torch.allclose(sources(batch), sources(turned), atol=1e-2)


def test_what_is_expected_is_the_cloud_at_the_pose():
    cloud = scenes.lopsided_cloud()
    batch = scenes.rendered_batch(cloud)
    pose = _pose(np.array([4.0, 6.0, 1.0]), np.array([3.0, 2.0, 1.0]))
    drawn = expected(cloud, batch, pose)
    for view in range(2):
        camera = batch.intrinsics[0, view], batch.extrinsics[0, view]
        wanted = rasterize(cloud.transformed(pose[0]), *camera, (32, 32))
        assert torch.allclose(drawn[0, view], wanted / wanted.amax(), atol=2e-3)


def test_landmarks_learn_a_pose_and_a_second_pass_sees_other_pictures():
    torch.manual_seed(0)
    cloud = scenes.lopsided_cloud()
    recm = RecM(replace(CONFIG, counterfactual=False), cloud)
    assert recm.correspondence is not None
    truth = _pose(np.array([6.0, -4.0, 9.0]), np.array([5.0, -3.0, 4.0])).float()
    batch = scenes.rendered_batch(cloud.transformed(truth[0]))
    optimizer = torch.optim.Adam(recm.parameters(), lr=3e-3)

    def placed(pose: torch.Tensor) -> torch.Tensor:
        return applied(pose[:, None], recm.correspondence.landmarks[None])

    def off(pose: torch.Tensor) -> float:
        return float((placed(pose) - placed(truth)).norm(dim=-1).mean())

    for _ in range(40):
        passes = recm(batch).passes
        loss = torch.zeros(())
        for each in passes:
            pixels = project(placed(truth), each.batch.intrinsics, each.batch.extrinsics)
            loss = loss + attention_loss(each.places, pixels, 32)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    prediction = recm.predict(batch)
    assert off(torch.eye(4)[None]) > 6.0
    assert off(prediction.effect.poses) < 1.5
    assert torch.equal(prediction.effect.poses, prediction.passes[-1].poses)
    first, second = prediction.passes
    assert not torch.allclose(first.batch.pictures, second.batch.pictures, atol=0.1)


def test_a_model_with_landmarks_is_kept_whole(tmp_path):
    torch.manual_seed(0)
    config = ModelConfig(replace(CONFIG, encoder="unet"), scenes.TINY.regm)
    model = scenes.shaken(RadGSReg(config, scenes.lopsided_cloud())).eval()
    batch = scenes.rendered_batch(scenes.lopsided_cloud())
    save_model(tmp_path / "model.safetensors", model, {})
    again = load_model(tmp_path / "model.safetensors")
    # Large weights are kept in half precision.
    wanted, got = (m.recm.predict(batch).effect.poses for m in (model, again))
    assert torch.allclose(wanted, got, atol=5e-2)
    assert torch.equal(again.recm.correspondence.landmarks, model.recm.correspondence.landmarks)
    # Another cloud leaves the landmarks where their queries know them.
    again.recm.set_anchors(scenes.lopsided_cloud(90))
    assert torch.equal(again.recm.correspondence.landmarks, model.recm.correspondence.landmarks)


def test_each_vertebra_of_a_batch_is_looked_for_as_it_is():
    torch.manual_seed(3)
    usual = scenes.lopsided_cloud()
    recm = scenes.shaken(RecM(CONFIG, usual))
    other = replace(usual, means=usual.means * torch.tensor([1.6, 0.5, 1.4]))
    batch = scenes.rendered_batch(usual)
    two = ViewBatch(*(torch.cat([part, part]) for part in vars(batch).values()))
    both = recm.predict(two, [usual, other]).effect.poses
    # As a model whose anchors are that vertebra would answer.
    for number, cloud in enumerate((usual, other)):
        recm.set_anchors(cloud)
        alone = recm.predict(batch).effect.poses[0]
        assert torch.allclose(both[number], alone, atol=1e-4), number
    assert not torch.allclose(both[0], both[1], atol=5e-3)
    posed = placed([usual, other], both)
    assert torch.allclose(posed[1].means, applied(both[1], other.means), atol=1e-4)


def test_landmarks_move_to_a_vertebras_own_axes():
    recm = RecM(CONFIG, scenes.lopsided_cloud())
    correspondence = recm.correspondence
    shared = correspondence.landmarks.clone()
    assert torch.equal(correspondence.up, torch.tensor([0.0, 0.0, 1.0]))
    shared_to_own = _pose(np.array([20.0, -5.0, 8.0]), np.array([1.0, 2.0, 3.0]))[0].float()
    correspondence.move(shared_to_own)
    assert torch.allclose(correspondence.landmarks, applied(shared_to_own, shared))
    assert torch.allclose(correspondence.up, shared_to_own[:3, 2])
    # They are of the file, and a file from before is read as it was meant.
    assert "correspondence.up" in recm.state_dict()


def test_a_file_from_before_up_was_kept_is_read(tmp_path, monkeypatch):
    model = RadGSReg(replace(scenes.TINY, recm=CONFIG), scenes.lopsided_cloud())
    kept = model.state_dict()
    del kept["recm.correspondence.up"]
    monkeypatch.setattr(model, "state_dict", lambda: kept)
    save_model(tmp_path / "old.safetensors", model, {})
    again = load_model(tmp_path / "old.safetensors")
    assert torch.equal(again.recm.correspondence.up, torch.tensor([0.0, 0.0, 1.0]))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"landmarks": 5}, "5 landmarks say no pose"),
        ({"landmarks": 20, "pose": False}, "20 landmarks say no pose"),
        ({"passes": 2}, "landmarks alone"),
        ({"landmarks": 20, "passes": 0}, "up to 8"),
    ],
)
def test_impossible_landmarks_are_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        RecMConfig(**wrong)
