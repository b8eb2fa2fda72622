"""Reconstruction network: encoders, attention, anchors, counterfactual, any number of views."""

from __future__ import annotations

from dataclasses import replace

import network_scenes as scenes
import numpy as np
import pytest
import torch

from RadGSRegLib.errors import InputError
from RadGSRegLib.networks.anchors import Anchors, grid_cloud, project, sample_features
from RadGSRegLib.networks.attention import AttentionPool
from RadGSRegLib.networks.crops import make_frame
from RadGSRegLib.networks.encoders import PICTURE_ENCODERS, Encoder
from RadGSRegLib.networks.recm import RecM, RecMConfig
from RadGSRegLib.networks.views import ViewBatch

CONFIG = scenes.TINY.recm


def _recm(**changes: object) -> RecM:
    torch.manual_seed(0)
    recm = RecM(replace(CONFIG, **changes), scenes.lopsided_cloud())
    return scenes.shaken(recm)


@pytest.mark.parametrize("name", PICTURE_ENCODERS)
def test_every_encoder_gives_a_coarse_and_a_fine_map(name):
    if name not in ("small", "unet"):
        pytest.importorskip("monai")
        pytest.importorskip("einops")
    torch.manual_seed(0)
    encoder = Encoder(name, 2, 64).eval()
    x = torch.randn(2, 2, 64, 64)
    with torch.no_grad():
        coarse, fine = encoder(x)
        alone = encoder(x[:1])[1]
    assert coarse.shape[:2] == (2, encoder.coarse_channels)
    edge = 32 if name == "unet" else 16
    assert fine.shape == (2, encoder.fine_channels, edge, edge)
    # What else is in the batch does not matter.
    assert torch.allclose(alone[0], fine[0], atol=1e-4)


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="resnet51"):
        Encoder("resnet51", 2, 64)
    with pytest.raises(InputError, match="nothing is predicted"):
        RecMConfig(pose=False, residual=False)


def test_attention_is_positive_with_mean_one_and_uniform_maps_pool_plainly():
    torch.manual_seed(0)
    pool = AttentionPool(5, 3, grid=2)
    features = torch.rand(4, 5, 6, 6)
    maps = pool.attention(features)
    assert (maps > 0).all()
    assert torch.allclose(maps.mean((-2, -1)), torch.ones(4, 3), atol=1e-5)
    pooled = pool.pool(features, torch.ones_like(maps))
    assert pooled.shape == (4, pool.outputs)
    quarters = torch.nn.functional.adaptive_avg_pool2d(features, 2).flatten(1)
    assert torch.allclose(pooled[:, 15:], quarters, atol=1e-5)
    root = features.mean((-2, -1)).repeat(1, 3).sqrt()
    wanted = torch.nn.functional.normalize(root, dim=1) * 15**0.5
    assert torch.allclose(pooled[:, :15], wanted, atol=1e-3)


def test_the_intervention_is_random_in_training_and_uniform_at_inference():
    pool = AttentionPool(5, 3)
    maps = torch.rand(2, 3, 4, 4)

    def drawn(seed: int) -> torch.Tensor:
        return pool.counterfactual(maps, torch.Generator().manual_seed(seed))

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert drawn(1).mean() == pytest.approx(1.0, abs=0.2)
    pool.eval()
    assert (drawn(1) == 1).all()


def test_an_untrained_head_answers_with_the_anchors_as_they_are():
    torch.manual_seed(0)
    recm = RecM(CONFIG, scenes.lopsided_cloud())
    found = recm.predict(scenes.rendered_batch(scenes.lopsided_cloud()))
    cloud = recm.clouds(found.effect)[0]
    for ours, given in zip(cloud.tensors, scenes.lopsided_cloud().tensors, strict=True):
        assert torch.allclose(ours, given, atol=1e-4)


def test_eq1_is_the_difference_of_raw_outputs():
    recm = _recm().eval()
    batch = scenes.rendered_batch(scenes.lopsided_cloud())
    with torch.no_grad():
        found = recm(batch)
        coarse, fine = recm.encoder(batch.pictures.flatten(0, 1))
        maps = recm.pool.attention(coarse)
        factual, poses = recm._raw(batch, coarse, fine, maps)
        uniform, _ = recm._raw(batch, coarse, fine, torch.ones_like(maps), poses)
    assert torch.allclose(found.effect.raw, factual.gaussians - uniform.gaussians, atol=1e-6)
    assert torch.allclose(found.factual.raw, factual.gaussians, atol=1e-6)
    assert not torch.allclose(found.effect.raw, found.factual.raw, atol=1e-3)


def test_the_counterfactual_can_be_switched_off():
    recm = _recm(counterfactual=False).eval()
    found = recm(scenes.rendered_batch(scenes.lopsided_cloud()))
    assert found.effect is found.factual


def test_inference_is_deterministic_and_leaves_the_mode_alone():
    recm = _recm().train()
    batch = scenes.rendered_batch(scenes.lopsided_cloud())
    a, b = recm.predict(batch), recm.predict(batch)
    assert torch.equal(a.effect.raw, b.effect.raw)
    assert torch.equal(a.effect.poses, b.effect.poses)
    assert recm.training


@pytest.mark.parametrize("angles", [(4.0, 93.0), (4.0, 93.0, 45.0), (0.0, 30.0, 60.0, 90.0, 120.0)])
def test_any_number_of_views_in_any_order(angles):
    recm = _recm()
    batch = scenes.rendered_batch(scenes.lopsided_cloud(), angles)
    found = recm.predict(batch)
    assert found.attention.shape[:3] == (1, len(angles), CONFIG.maps)
    order = torch.arange(len(angles)).flip(0)
    turned = ViewBatch(
        batch.pictures[:, order],
        batch.valid[:, order],
        batch.intrinsics[:, order],
        batch.extrinsics[:, order],
    )
    again = recm.predict(turned)
    assert torch.allclose(again.effect.poses, found.effect.poses, atol=1e-4)
    assert torch.allclose(again.effect.raw, found.effect.raw, atol=1e-4)
    assert torch.allclose(again.attention[:, order], found.attention, atol=1e-5)


def test_every_weight_gets_a_gradient():
    recm = _recm()
    found = recm(scenes.rendered_batch(scenes.lopsided_cloud()))
    loss = torch.zeros(())
    for shape in (found.effect, found.factual):
        for tensor in recm.clouds(shape)[0].tensors:
            loss = loss + (tensor * torch.linspace(1, 2, tensor.numel()).view_as(tensor)).sum()
    loss.backward()
    without = [n for n, w in recm.named_parameters() if w.grad is None or not w.grad.any()]
    assert without == []


def test_without_residual_the_cloud_is_rigid():
    recm = _recm(residual=False, stretch=False)
    given = scenes.lopsided_cloud()
    found = recm.predict(scenes.rendered_batch(given))
    cloud = recm.clouds(found.effect)[0]
    pose = found.effect.poses[0]
    assert not torch.allclose(pose, torch.eye(4), atol=1e-3)
    wanted = given.transformed(pose)
    assert torch.allclose(cloud.means, wanted.means, atol=1e-3)
    assert torch.equal(cloud.densities, given.densities)


def test_gaussians_stay_in_bounds_whatever_the_raw_numbers():
    anchors = Anchors(grid_cloud(3), reach_mm=5.0, embedding=2)
    raw = torch.full((1, 27, 11), 50.0) * torch.sign(torch.randn(1, 27, 11))
    cloud = anchors.decode(raw, torch.eye(4)[None], torch.ones(1, 3))[0]
    assert ((cloud.means - anchors.means).abs() <= 5.0 + 1e-4).all()
    ratio = cloud.scales / anchors.scales
    assert ratio.min() >= 0.499
    assert ratio.max() <= 2.001
    assert (cloud.densities >= 0).all()


def test_features_are_taken_where_anchors_project():
    frame = make_frame(scenes.cameras(), [0, 0, 0])
    points = np.random.default_rng(0).uniform(-30, 30, (7, 3))
    pixels = project(
        torch.from_numpy(points)[None].float(),
        frame.intrinsics()[None],
        frame.extrinsics()[None],
    )
    for n, camera in enumerate(frame.cameras):
        assert np.abs(pixels[0, n].numpy() - camera.project(points)).max() < 1e-2
    # A map that holds its own column and row, at a quarter of the resolution.
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    ramp = torch.stack([4 * columns + 1.5, 4 * rows + 1.5]).expand(1, 2, 2, 32, 32)
    found = sample_features(ramp, pixels, 128)
    assert torch.allclose(found, pixels, atol=1e-2)


def test_the_grid_fills_its_cube_evenly():
    cloud = grid_cloud(6, 96.0)
    assert len(cloud) == 216
    assert torch.allclose(cloud.means.mean(0), torch.zeros(3), atol=1e-4)
    assert cloud.means.abs().max() == pytest.approx(40.0)
