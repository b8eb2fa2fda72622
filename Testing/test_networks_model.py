"""The whole model: polarity, files."""

from __future__ import annotations

import json
from dataclasses import replace

import network_scenes as scenes
import pytest
import torch

from RadGSRegLib.errors import InputError
from RadGSRegLib.networks import load_model, save_model
from RadGSRegLib.networks.model import ModelConfig, RadGSReg
from RadGSRegLib.tensors.tensor_file import load_tensors, save_tensors


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
