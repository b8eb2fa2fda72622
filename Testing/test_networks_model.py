"""The whole model: registration network, polarity, files."""

from __future__ import annotations

import json
from dataclasses import replace

import network_scenes as scenes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation

from RadGSRegLib.errors import InputError
from RadGSRegLib.networks import load_model, save_model
from RadGSRegLib.networks.model import ModelConfig, RadGSReg
from RadGSRegLib.networks.regm import RegM, RegMConfig, move_volume
from RadGSRegLib.networks.regm_heads import Displacements, fit_rigid
from RadGSRegLib.networks.tensor_file import load_tensors, save_tensors
from RadGSRegLib.training.losses import point_distance


def _pose() -> torch.Tensor:
    pose = torch.eye(4)[None]
    pose[0, :3, :3] = torch.from_numpy(
        Rotation.from_euler("xyz", [20, -10, 15], degrees=True).as_matrix()
    ).float()
    pose[0, :3, 3] = torch.tensor([6.0, -4.0, 9.0])
    return pose


def test_a_moved_cube_is_the_moved_cloud():
    model = scenes.tiny_model(ModelConfig(scenes.TINY.recm, scenes.TINY.regm))
    cloud = scenes.lopsided_cloud()
    still, moved = model.voxelize([cloud]), model.voxelize([cloud.transformed(_pose()[0])])
    found = move_volume(still, _pose(), model.config.regm.box_mm)
    error = (found - moved).abs().sum() / moved.sum()
    # Voxels of 6 mm: what is left is interpolation.
    assert error < 0.35
    assert error < 0.5 * (still - moved).abs().sum() / moved.sum()


def test_regm_is_the_identity_untrained_and_learns_a_pose():
    torch.manual_seed(0)
    model = scenes.tiny_model()
    regm = RegM(scenes.TINY.regm)
    cloud = scenes.lopsided_cloud()
    ct = model.voxelize([cloud])
    seen = model.voxelize([cloud.transformed(_pose()[0])])
    with torch.no_grad():
        assert torch.allclose(regm(seen, ct), torch.eye(4)[None], atol=1e-4)
    optimizer = torch.optim.Adam(regm.parameters(), lr=1e-2)
    points = cloud.means[None]
    for _ in range(60):
        loss = point_distance(points, _pose(), regm(seen, ct, passes=1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # From 12 mm, with cells of 24 mm.
    assert loss < 2.0
    # The reconstruction's absolute scale does not matter.
    with torch.no_grad():
        assert torch.allclose(regm(3 * seen, ct), regm(seen, ct), atol=1e-4)


@given(
    hnp.arrays(np.float64, 3, elements=st.floats(-2.0, 2.0)),
    hnp.arrays(np.float64, 3, elements=st.floats(-30.0, 30.0)),
    st.integers(0, 100),
)
def test_the_rigid_fit_of_displacements_is_exact(turn, shift, seed):
    rng = np.random.default_rng(seed)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    pose[:3, 3] = shift
    places = rng.uniform(-40, 40, (50, 3))
    offsets = places @ pose[:3, :3].T + pose[:3, 3] - places
    weights = rng.uniform(0, 1, 50)
    # What has no weight may say what it likes.
    weights[:20] = 0.0
    offsets[:20] += rng.normal(0, 20, (20, 3))
    seen = Displacements(
        *(torch.from_numpy(a) for a in (places, offsets[None], weights[None], weights[None]))
    )
    assert np.allclose(fit_rigid(seen)[0].numpy(), pose, atol=2e-3)


def test_the_rigid_fit_of_nothing_has_a_gradient():
    offsets = torch.zeros(1, 8, 3, requires_grad=True)
    none = torch.zeros(1, 8)
    found = fit_rigid(Displacements(torch.randn(8, 3), offsets, none, none))
    found.square().sum().backward()
    assert torch.isfinite(found).all()
    assert offsets.grad is not None
    assert torch.isfinite(offsets.grad).all()


def test_regm_takes_sizes_that_its_grid_divides():
    with pytest.raises(InputError, match="multiple of 8"):
        RegMConfig(voxels=20)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_polarity_is_found_by_trying_both(sign):
    model = scenes.tiny_model()
    batch = scenes.rendered_batch(scenes.lopsided_cloud(), sign=sign)
    prediction, polarity, score = model.reconstruct(batch)
    assert polarity[0] == sign
    # Ranks are not line integrals, so this is far from one even at the true pose.
    assert 0.3 < score[0] <= 1.0
    assert torch.allclose(prediction.effect.poses[0], torch.eye(4), atol=1e-5)


def test_a_view_of_known_polarity_is_not_inverted():
    model = scenes.tiny_model()
    batch = scenes.rendered_batch(scenes.lopsided_cloud())
    mixed = replace(batch, pictures=batch.pictures * torch.tensor([1.0, -1.0])[:, None, None, None])
    _, polarity, score = model.reconstruct(mixed, [True, False])
    assert polarity[0] == -1
    assert torch.allclose(score, model.reconstruct(batch, [True, True])[2], atol=1e-5)


def test_a_model_comes_back_from_its_file(tmp_path):
    model = scenes.shaken(scenes.tiny_model())
    path = tmp_path / "model.safetensors"
    save_model(path, model, {"what": "a test", "figures": {"SSIM": 0.5}})
    again = load_model(path)
    assert again.config == model.config
    assert again.card["figures"] == {"SSIM": 0.5}
    assert not again.training
    batch = scenes.rendered_batch(scenes.lopsided_cloud())
    ours, theirs = model.reconstruct(batch)[0], again.reconstruct(batch)[0]
    assert torch.allclose(ours.effect.raw, theirs.effect.raw, atol=1e-4)
    cubes = model.voxelize([scenes.lopsided_cloud()])
    # mm, and the weights are kept in half precision.
    assert torch.allclose(model.align(ours, cubes), again.align(theirs, cubes), atol=1e-2)
    text = path.with_suffix(".md").read_text()
    assert "# model" in text
    assert "SSIM: 0.5" in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.md", "model.safetensors"]


def test_files_that_are_no_model_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_model(tmp_path / "none.safetensors")
    junk = tmp_path / "junk.safetensors"
    junk.write_bytes(b"no safetensors at all, but long enough to look at")
    with pytest.raises(InputError, match="damaged"):
        load_model(junk)
    other = tmp_path / "other.safetensors"
    save_tensors(other, {"a": torch.zeros(1)}, {"schema": "something/else"})
    with pytest.raises(InputError, match="is not a model"):
        load_model(other)

    good = tmp_path / "good.safetensors"
    save_model(good, scenes.tiny_model(), {})
    tensors, facts = load_tensors(good)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-1000])
    with pytest.raises(InputError, match="damaged"):
        load_model(cut)
    newer = tmp_path / "newer.safetensors"
    save_tensors(newer, tensors, {**facts, "version": 3})
    with pytest.raises(InputError, match="version 3"):
        load_model(newer)
    strange = json.loads(json.dumps(facts))
    strange["config"]["recm"]["layers_of_magic"] = 3
    save_tensors(newer, tensors, strange)
    with pytest.raises(InputError, match="layers_of_magic"):
        load_model(newer)
    fewer = dict(list(tensors.items())[:-1])
    save_tensors(newer, fewer, facts)
    with pytest.raises(InputError, match="does not fit"):
        load_model(newer)
    broken = {n: t * float("nan") if t.is_floating_point() else t for n, t in tensors.items()}
    save_tensors(newer, broken, facts)
    with pytest.raises(InputError, match="not finite"):
        load_model(newer)
    with pytest.raises(InputError, match="cannot be written"):
        save_tensors(tmp_path / "nowhere" / "m.safetensors", tensors, facts)


def test_large_weights_are_stored_in_half_precision_and_anchors_are_not(tmp_path):
    torch.manual_seed(0)
    model = scenes.shaken(RadGSReg(ModelConfig(), scenes.lopsided_cloud()))
    save_model(tmp_path / "m.safetensors", model, {})
    assert (tmp_path / "m.safetensors").stat().st_size < 5e6
    again = load_model(tmp_path / "m.safetensors")
    for name, weight in model.state_dict().items():
        kept = again.state_dict()[name]
        assert kept.dtype == weight.dtype
        if name.startswith("recm.anchors."):
            assert torch.equal(kept, weight)
        else:
            assert torch.allclose(kept, weight, rtol=1e-3, atol=1e-6)


def test_a_model_file_is_as_readable_as_any_other(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, scenes.tiny_model(), {})
    plain = tmp_path / "plain"
    plain.write_text("")
    assert path.stat().st_mode == plain.stat().st_mode
