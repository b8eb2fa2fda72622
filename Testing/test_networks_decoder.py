"""The decoder: from pictures along their rays to voxels, Gaussians and a mask."""

from __future__ import annotations

from dataclasses import replace

import network_scenes as scenes
import numpy as np
import pytest
import torch
from torch.nn import functional

from RadGSRegLib.errors import InputError
from RadGSRegLib.gaussians import GaussianCloud, voxelize
from RadGSRegLib.measures import dice
from RadGSRegLib.networks import (
    Decoded,
    Decoder,
    DecoderConfig,
    ModelConfig,
    RadGSReg,
    Shapes,
    ViewBatch,
    bounds,
    decoded_cloud,
    load_model,
    save_model,
    see,
)
from RadGSRegLib.tensors import exp_se3

SMALL = DecoderConfig(spacing_mm=4.0, size=(24, 20, 16), middle_mm=(0.0, 4.0, -2.0), features=4)
UP = torch.tensor([0.0, 0.0, 1.0])


def ball(radius_mm: float, middle: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> GaussianCloud:
    """A ball as one Gaussian."""
    return GaussianCloud(
        torch.tensor([middle]),
        torch.full((1, 3), radius_mm / 2.0),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        torch.tensor([0.02]),
    )


def still(count: int = 1) -> torch.Tensor:
    return torch.eye(4).repeat(count, 1, 1)


def stacked(batches: list[ViewBatch]) -> ViewBatch:
    names = ("pictures", "valid", "intrinsics", "extrinsics")
    return ViewBatch(*(torch.cat([getattr(b, name) for b in batches]) for name in names))


def small_decoder() -> Decoder:
    torch.manual_seed(0)
    return Decoder(SMALL)


def test_voxels_lie_where_the_grid_says():
    points = SMALL.points()
    assert points.shape == (16, 20, 24, 3)
    index = np.array([5.0, 7.0, 11.0, 1.0])
    assert np.allclose(points[11, 7, 5], (SMALL.index_to_anchors().numpy() @ index)[:3], atol=1e-5)
    # Its middle is where the configuration puts it, of voxels and of cells.
    for coarser in (1, 2):
        middle = SMALL.points(coarser).flatten(0, 2).mean(0)
        assert np.allclose(middle, SMALL.middle_mm, atol=1e-4)
    # A cell's middle is that of its eight voxels.
    cells = functional.avg_pool3d(points.permute(3, 0, 1, 2)[None], 2)[0].permute(1, 2, 3, 0)
    assert torch.allclose(cells, SMALL.points(2), atol=1e-4)


def test_it_begins_at_the_mean():
    decoder = small_decoder()
    share = torch.rand(SMALL.shape)
    decoder.set_mean(0.01 * share, share)
    for weight in (decoder.voxels.weight, decoder.voxels.bias):
        torch.nn.init.zeros_(weight)
    with torch.no_grad():
        decoded = decoder(scenes.rendered_batch(ball(15.0)), still(), UP)
    assert torch.allclose(decoded.inside[0].sigmoid(), share.clamp(0.01, 0.99), atol=1e-5)
    assert bool((decoded.density >= 0.0).all())


def test_it_learns_what_the_pictures_show_and_not_a_mean():
    decoder = small_decoder()
    points = SMALL.points()

    def wanted(radius: float) -> torch.Tensor:
        return (points.norm(dim=-1) < radius).float()

    radii = [8.0, 12.0, 16.0, 20.0, 24.0, 28.0]
    batch = stacked([scenes.rendered_batch(ball(r)) for r in radii])
    true = torch.stack([wanted(r) for r in radii])
    decoder.set_mean(0.01 * true.mean(0), true.mean(0))
    adam = torch.optim.Adam(decoder.parameters(), lr=5e-3)
    for _ in range(80):
        decoded = decoder(batch, still(len(radii)), UP)
        loss = functional.binary_cross_entropy_with_logits(decoded.inside, true)
        adam.zero_grad()
        loss.backward()
        adam.step()
    # Two that it has not seen.
    for radius in (10.0, 26.0):
        with torch.no_grad():
            decoded = decoder(scenes.rendered_batch(ball(radius)), still(), UP)
        ours = dice(decoded.inside[0] > 0.0, wanted(radius))
        assert ours > dice(true.mean(0) > 0.5, wanted(radius)) + 0.1, radius


def test_the_order_of_views_does_not_matter_and_any_number_will_do():
    decoder = scenes.shaken(small_decoder()).eval()
    batch = scenes.rendered_batch(scenes.lopsided_cloud(), (4.0, 40.0, 93.0))
    order = [2, 0, 1]
    other = ViewBatch(*(tensor[:, order] for tensor in vars(batch).values()))
    with torch.no_grad():
        for ours, theirs in zip(
            decoder(batch, still(), UP), decoder(other, still(), UP), strict=True
        ):
            assert torch.allclose(ours, theirs, atol=1e-4)


def test_what_is_seen_moves_with_the_anchors():
    decoder = scenes.shaken(small_decoder()).eval()
    batch = scenes.rendered_batch(scenes.lopsided_cloud())
    box_to_other = exp_se3(torch.tensor([[0.1, -0.05, 0.2, 3.0, -4.0, 6.0]]))
    moved = replace(batch, extrinsics=batch.extrinsics @ torch.linalg.inv(box_to_other)[:, None])
    with torch.no_grad():
        here = decoder(batch, still(), UP)
        there = decoder(moved, box_to_other, UP)
    assert torch.allclose(here.density, there.density, atol=1e-5)
    assert torch.allclose(here.inside, there.inside, atol=1e-2)


def test_gaussians_are_as_dense_as_the_voxels():
    smooth = 0.02 * torch.exp(-SMALL.points().square().sum(-1) / (2.0 * 12.0**2))
    cloud = decoded_cloud(Decoded(smooth[None], torch.full((1, *SMALL.shape), 3.0)), SMALL)
    kept = smooth > 0.05 * 0.02
    assert len(cloud) == int(kept.sum())
    mass = float(smooth[kept].double().sum()) * SMALL.spacing_mm**3
    assert float(cloud.masses().sum()) == pytest.approx(mass, rel=1e-4)
    drawn = voxelize(cloud, SMALL.index_to_anchors().numpy(), SMALL.size)
    middle = tuple(n // 2 for n in SMALL.shape)
    assert float(drawn[middle]) == pytest.approx(float(smooth[middle]), rel=0.15)


def test_what_is_hardly_inside_is_left_out_but_never_all():
    density = torch.full((1, *SMALL.shape), 0.01)
    inside = torch.full((1, *SMALL.shape), -5.0)
    inside[0, 8, 10, 12] = 1.0
    cloud = decoded_cloud(Decoded(density, inside), SMALL)
    assert np.allclose(cloud.means.numpy(), SMALL.points()[8, 10, 12][None], atol=1e-5)
    density[0, 3, 3, 3] = 0.011
    assert len(decoded_cloud(Decoded(density, torch.full_like(inside, -5.0)), SMALL)) == 1


def test_a_decoder_needs_landmarks_and_a_grid():
    with pytest.raises(InputError, match="a decoder needs landmarks"):
        ModelConfig(scenes.TINY.recm, decoder=SMALL)
    for wrong in ({"size": (24, 20, 15)}, {"size": (8, 20, 16)}, {"features": 0}):
        with pytest.raises(InputError, match="too small or odd"):
            replace(SMALL, **wrong)
    with pytest.raises(InputError, match="not positive"):
        replace(SMALL, spacing_mm=0.0)


def decoding_model() -> RadGSReg:
    model = scenes.shaken(scenes.tiny_model(scenes.TELLS_SHAPES))
    assert isinstance(model, RadGSReg)
    assert model.decoder is not None
    points = model.decoder.config.points()
    inside = (points.norm(dim=-1) < 22.0).float()
    model.decoder.set_mean(0.02 * inside, inside)
    return model.eval()


def test_a_model_with_a_decoder_is_seen_through_and_kept(tmp_path):
    model = decoding_model()
    path = tmp_path / "shapes.safetensors"
    save_model(path, model, {})
    again = load_model(path)
    assert again.config == model.config
    views = [replace(view, center_px=(487.5, 487.5)) for view in scenes.xrays()]
    alone, kept = see(views, model, fit=False), see(views, again, fit=False)
    assert alone.prediction.decoded is not None
    # Large weights are kept in half precision.
    density = alone.prediction.decoded.density
    assert torch.allclose(density, kept.prediction.decoded.density, atol=2e-3)
    assert len(alone.cloud_world) > len(model.recm.anchors)
    inside = alone.inside_world
    # The grid's middle is the anchors' origin, which RecM has put there.
    middle = (np.array(inside.size) - 1.0) / 2.0
    assert np.allclose(inside.physical_points(middle[None])[0], alone.centre_world, atol=1e-3)
    # RegM compares a CT with what the decoder shows, not with the mean vertebra.
    voxels = model.voxelize(model.clouds(alone.prediction))
    assert not torch.allclose(voxels, model.voxelize(model.recm.clouds(alone.prediction.effect)))


def test_the_mask_is_moved_with_what_is_fitted():
    model = decoding_model()
    views = [replace(view, center_px=(487.5, 487.5)) for view in scenes.xrays()]
    for fit in (False, True):
        seen = see(views, model, fit=fit)
        share = seen.inside_world.array
        # The middle of the mask in the world, and that of the Gaussians, wherever both were moved.
        kji = np.argwhere(share > 0.5)
        middle = seen.inside_world.physical_points(kji[:, ::-1].astype(float)).mean(axis=0)
        cloud = seen.cloud_world.means.mean(dim=0).numpy()
        assert np.linalg.norm(middle - cloud) < 6.0, fit


def test_bent_and_decoded_are_shown_together_and_the_mask_is_decoded_anew():
    model = decoding_model()
    shapes = Shapes(2, len(model.recm.anchors))
    shapes.modes[0, :, 0] = 0.3 * torch.sign(model.recm.anchors.means[:, 0])
    shapes.modes[1, :, 2] = 0.2
    model = model.with_shapes(shapes)
    views = [replace(view, center_px=(487.5, 487.5)) for view in scenes.xrays()]
    seen = see(views, model)
    prediction = seen.prediction
    assert prediction.fitted
    bent = model.recm.clouds(prediction.effect)[0].detach()
    decoded = decoded_cloud(prediction.decoded, model.decoder.config)
    assert len(seen.cloud_world) == len(bent) + len(decoded)
    share = bounds.BENT_SHARE
    mass = share * bent.masses().sum() + (1.0 - share) * decoded.masses().sum()
    assert float(seen.cloud_world.masses().sum()) == pytest.approx(float(mass), rel=1e-4)
    again = model.decode(prediction, seen.crop).decoded
    assert torch.allclose(again.inside, prediction.decoded.inside, atol=1e-4)


def test_geometry_stays_exact_where_networks_are_reduced():
    decoder = scenes.shaken(small_decoder()).eval()
    batch = scenes.rendered_batch(scenes.lopsided_cloud())
    pose = exp_se3(torch.tensor([[0.1, -0.05, 0.2, 3.0, -4.0, 6.0]]))
    asked = []

    def kept(turned, pixels, lateral):
        asked.append(pixels)
        return Decoder._lifted(decoder, turned, pixels, lateral)

    decoder._lifted = kept
    for reduced in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            decoder(batch, pose, UP)
    assert torch.equal(*asked)


def test_without_a_decoder_nothing_changes():
    model = scenes.tiny_model()
    batch = scenes.rendered_batch(scenes.lopsided_cloud())
    prediction = model.recm.predict(batch)
    assert model.decode(prediction, batch) is prediction
    ours, theirs = model.clouds(prediction)[0], model.recm.clouds(prediction.effect)[0]
    assert torch.equal(ours.means, theirs.means)
    assert see(scenes.xrays(), model, fit=False).inside_world is None
