"""Training of the decoder: its pictures, its targets and its losses."""

from __future__ import annotations

from dataclasses import replace

import network_scenes as scenes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import surface_points
from RadGSRegLib.measures import dice
from RadGSRegLib.networks import (
    UNIT,
    Decoded,
    DecoderConfig,
    held_out_mm,
    load_model,
    project,
    save_model,
)
from RadGSRegLib.system import Progress
from RadGSRegLib.tensors import applied, exp_se3
from RadGSRegLib.training.affine_views import draw_affine, with_affine
from RadGSRegLib.training.config import DecodingOptions, DetectionOptions, TrainingConfig
from RadGSRegLib.training.decoding import (
    Decodings,
    decoder_target,
    decoding_loss,
    draw_guesses,
    moved_targets,
)
from RadGSRegLib.training.pretraining import pretrain
from RadGSRegLib.training.stages import Pretraining

GRID = DecoderConfig(spacing_mm=3.0, size=(34, 36, 28))


@given(seed=st.integers(0, 10**6))
def test_changed_cameras_see_changed_points_where_those_were(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    batch = scenes.rendered_batch(scenes.lopsided_cloud(), (4.0, 50.0, 93.0))
    axes_to_box = exp_se3(
        torch.randn(1, 6, generator=generator) * torch.tensor([[0.2] * 3 + [8.0] * 3])
    )
    linear = draw_affine(1, generator)
    changed = with_affine(batch, axes_to_box, linear)
    points = 25.0 * torch.randn(1, 20, 3, generator=generator)
    there = applied(axes_to_box[:, None], points)
    then = applied(axes_to_box[:, None], (linear[:, None] @ points[..., None])[..., 0])
    before = project(there, batch.intrinsics, batch.extrinsics)
    after = project(then, changed.intrinsics, changed.extrinsics)
    assert torch.allclose(before, after, atol=2e-3)
    turns = changed.extrinsics[..., :3, :3]
    assert torch.allclose(turns @ turns.mT, torch.eye(3).expand_as(turns), atol=1e-5)
    assert bool((torch.linalg.det(turns) > 0.0).all())
    assert changed.pictures is batch.pictures


def test_vertebrae_are_changed_about_as_much_as_people_differ():
    linear = draw_affine(4000, torch.Generator().manual_seed(0))
    still = (linear == torch.eye(3)).all(-1).all(-1)
    assert 0.1 < float(still.float().mean()) < 0.2
    sizes = linear[~still].diagonal(dim1=1, dim2=2)
    assert 0.08 < float(sizes.std()) < 0.11
    assert float(torch.linalg.det(linear).min()) > 0.3


def test_targets_are_those_of_the_changed_vertebra_where_the_anchors_are():
    points = GRID.points()
    soft = torch.exp(-points.square().sum(-1) / (2.0 * 15.0**2))[None, None]
    linear = torch.diag(torch.tensor([1.2, 0.9, 1.0]))[None]
    guessed_to_anchors = exp_se3(torch.tensor([[0.1, 0.0, -0.2, 2.0, -3.0, 4.0]]))
    ours = moved_targets(soft, guessed_to_anchors, linear, GRID)[0, 0]
    at = applied(guessed_to_anchors, points.flatten(0, 2)).view_as(points) / torch.tensor(
        [1.2, 0.9, 1.0]
    )
    wanted = torch.exp(-at.square().sum(-1) / (2.0 * 15.0**2))
    inner = (slice(6, -6),) * 3
    assert float((ours - wanted)[inner].abs().max()) < 0.02
    same = moved_targets(soft, torch.eye(4)[None], torch.eye(3)[None], GRID)
    assert torch.allclose(same, soft, atol=1e-4)


def test_a_subjects_target_is_its_mask_and_its_bone():
    subject = scenes.coarse_subject()
    turn = exp_se3(torch.tensor([0.2, 0.0, 0.1, 1.0, 2.0, -1.0])).double().numpy()
    density, inside = decoder_target(subject.with_axes(turn), GRID)
    assert density.shape == inside.shape == GRID.shape
    # Every surface point of the mask lies at the border of what is inside.
    surface = surface_points(subject.labels, np.asarray(subject.labels.array == subject.label))
    local = (surface - subject.centre_ct - turn[:3, 3]) @ turn[:3, :3]
    grid_to_index = np.linalg.inv(GRID.index_to_anchors().numpy())
    index = np.rint(local @ grid_to_index[:3, :3].T + grid_to_index[:3, 3]).astype(int)
    share = inside.numpy()[tuple(index[:, ::-1].T)]
    assert 0.3 < share.mean() < 0.9
    voxel_ml = GRID.spacing_mm**3 / 1000.0
    true_ml = float((subject.labels.array == subject.label).sum()) * 27.0 / 1000.0
    assert float(inside.sum()) * voxel_ml == pytest.approx(true_ml, rel=0.05)
    mass = float(subject.excess.array.sum()) * abs(np.linalg.det(subject.excess.index_to_physical))
    assert float(density.sum()) * GRID.spacing_mm**3 == pytest.approx(mass, rel=0.05)


def test_the_loss_asks_for_the_density_and_for_what_is_inside():
    points = DecoderConfig(spacing_mm=4.0, size=(24, 24, 24)).points()
    inside = (points.norm(dim=-1) < 25.0).float()[None]
    density = UNIT * inside
    batch = Decodings(None, torch.eye(4)[None], density, inside)
    sure = 8.0 * (2.0 * inside - 1.0)
    right = float(decoding_loss(Decoded(density, sure), batch))
    assert right < 0.01
    shifted = inside.roll(2, dims=3)
    wrong = {
        "density": Decoded(UNIT * shifted, sure),
        "inside": Decoded(density, 8.0 * (2.0 * shifted - 1.0)),
        "nothing": Decoded(0.0 * density, sure),
    }
    for name, decoded in wrong.items():
        assert float(decoding_loss(decoded, batch)) > right + 0.2, name


def test_anchors_stand_guessed_to_anchors_as_recm_puts_them():
    guessed_to_anchors = draw_guesses(4000, torch.Generator().manual_seed(3))
    shifts = guessed_to_anchors[:, :3, 3]
    assert 1.0 < float(shifts.std()) < 2.0
    angles = torch.arccos(
        ((guessed_to_anchors[:, :3, :3].diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)
    )
    assert 0.03 < float(angles.median()) < 0.09


def _short(share: float) -> TrainingConfig:
    counts = {"steps": 4, "batch": 2, "pairs": 4, "first_pairs": 4, "validate": 2}
    decoding = DecodingOptions(
        share=share, averaged=3, validate_every=2, checkpoint_every=1, **counts
    )
    config = replace(
        scenes.SHORT_TRAINING, model=scenes.TELLS_SHAPES, decoding=decoding, steps=2, batch=2
    )
    shapes = replace(config.shapes, modes=0)
    return replace(config, shapes=shapes, detection=replace(config.detection, share=0.0))


def test_a_killed_training_of_a_decoder_goes_on_to_the_same_model(tmp_path):
    config = _short(0.5)

    def kill(fraction: float, message: str) -> None:
        if message.startswith("training the decoder: step 2"):
            raise RuntimeError("killed")

    models = []
    for name, progress in (("whole", None), ("again", Progress(kill))):
        asked = Pretraining(1, tmp_path / f"{name}.safetensors", phantoms=1, work=tmp_path / name)
        if progress is not None:
            with pytest.raises(RuntimeError, match="killed"):
                pretrain(asked, config, progress)
            assert not asked.out.exists()
        history = pretrain(asked, config)
        assert history.decoding[-1]["step"] == 4.0
        models.append(load_model(asked.out))
    whole, again = (model.state_dict() for model in models)
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())
    (heading,) = [name for name in models[0].card if name.startswith("figures")]
    assert heading.endswith("told nothing")
    assert models[0].card[heading]["decoder, steps"] == 4
    assert 0.0 <= models[0].card[heading]["decoder, Dice"] <= 1.0
    # What the published order compares with is what RegM does when the model is told no shape.
    assert held_out_mm(models[0].card) == models[0].card[heading]["RegM, the same (mm)"]


def test_a_decoder_alone_is_added_to_a_model_that_knows_landmarks(tmp_path):
    config = _short(1.0)
    base = tmp_path / "base.safetensors"
    without = replace(config, model=replace(config.model, decoder=None))
    pretrain(Pretraining(1, base, phantoms=1), without)
    out = tmp_path / "with.safetensors"
    asked = Pretraining(1, out, phantoms=1, base=base)
    detection = DetectionOptions(share=0.5, steps=2, batch=1, pairs=1, first_pairs=1, validate=1)
    history = pretrain(asked, replace(config, detection=detection))
    assert history.decoding[-1]["step"] == 4.0
    before, after = load_model(base), load_model(out)
    assert before.decoder is None
    assert after.decoder is not None
    assert after.decoder.mean.any()
    theirs = after.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in before.state_dict().items())


def test_what_was_never_trained_is_not_kept(tmp_path):
    stop = tmp_path / "stop"
    for name, share, extra in (("none", 0.0, {}), ("stopped", 0.5, {"stop": stop})):

        def ended(fraction: float, message: str) -> None:
            if message.startswith("training"):
                stop.touch()

        out = tmp_path / f"{name}.safetensors"
        pretrain(
            Pretraining(1, out, phantoms=1, **extra),
            _short(share),
            Progress(ended if extra else None),
        )
        assert load_model(out).decoder is None, name


def test_a_base_with_another_decoder_is_refused(tmp_path):
    config = _short(0.5)
    base = tmp_path / "base.safetensors"
    save_model(base, scenes.tiny_model(scenes.TELLS_SHAPES), {})
    other = replace(config.model, decoder=replace(config.model.decoder, features=8))
    asked = Pretraining(1, tmp_path / "out.safetensors", phantoms=1, base=base)
    with pytest.raises(InputError, match=r"base\.safetensors: has another decoder"):
        pretrain(asked, replace(config, model=other))


def test_shares_beyond_all_are_refused():
    with pytest.raises(InputError, match=r"share is 1\.1, not in"):
        DecodingOptions(share=1.1)
    with pytest.raises(InputError, match="decoding: steps is 0"):
        DecodingOptions(steps=0)


def test_measured_masks_overlap_as_dice_says():
    assert dice([1, 1, 0, 0], [1, 0, 1, 0]) == 0.5
    assert dice([0, 0], [0, 0]) == 0.0
    with pytest.raises(ValueError, match="differ in shape"):
        dice([1], [1, 0])
