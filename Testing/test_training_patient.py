"""A patient's model whose Gaussians may leave their anchors: what it learns, keeps and says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import network_scenes as scenes
import pytest
import torch

from RadGSRegLib import cli
from RadGSRegLib.cases import read_case
from RadGSRegLib.networks import (
    RadGSReg,
    is_trained_for,
    learned_start,
    load_model,
    patient_cloud,
    save_model,
)
from RadGSRegLib.phantom import LABELS, make_phantom, random_spine
from RadGSRegLib.simulation import simulate_case, write_simulated_case
from RadGSRegLib.tensors.tensor_file import load_tensors, save_tensors
from RadGSRegLib.training.config import TrainingConfig
from RadGSRegLib.training.objective import Objective
from RadGSRegLib.training.patient import finish_patient_model, patient_model
from RadGSRegLib.training.pool import Batch, SamplePool, Simulated
from RadGSRegLib.training.subjects import Subject
from RadGSRegLib.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("brief_fit")

RIGID = scenes.SHORT_TRAINING
OPEN = replace(RIGID, model=scenes.TINY)
# What only open Gaussians learn with.
PARTS = ("anchors.base", "anchors.embedding", "shape_features", "shape_anchor", "shape_global")


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A coarse phantom vertebra."""
    return scenes.coarse_subject()


@pytest.fixture(scope="module")
def pool(subject: Subject) -> SamplePool:
    """Its pairs, in memory."""
    return SamplePool([Simulated("phantom", lambda wide: subject)], OPEN.samples, 0, None)


def _trainer(
    subject: Subject, pool: SamplePool, config: TrainingConfig, base: RadGSReg | None = None
) -> Trainer:
    torch.manual_seed(0)
    model = patient_model(subject, config, base)
    return Trainer(model, pool, replace(config, model=model.config))


def _learned(trainer: Trainer, batch: Batch, steps: int) -> Iterator[float]:
    """Losses of steps of RecM alone, every case rendered."""
    objective = Objective(trainer.model, OPEN.extra)
    adam = torch.optim.Adam(trainer.model.parameters(), lr=3e-3)
    trainer.model.recm.generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        loss = objective(batch, "recm", len(batch.points))["loss"]
        adam.zero_grad()
        loss.backward()
        adam.step()
        yield float(loss.detach())


def test_what_is_open_is_learned(subject, pool):
    trainer = _trainer(subject, pool, OPEN)
    model = trainer.model
    assert model.is_patient_specific
    assert not model.is_rigid
    batch = trainer._batch([0, 1], None)
    # The last layers begin at zero, so that what is before them learns from the second step on.
    assert len(list(_learned(trainer, batch, 2))) == 2
    gradients = {name: weight.grad for name, weight in model.recm.named_parameters()}
    for part in (*PARTS, "shape.", "pose_head"):
        names = [name for name in gradients if name.startswith(part)]
        assert names
        for name in names:
            gradient = gradients[name]
            assert gradient is not None, name
            assert float(gradient.abs().max()) > 0.0, name
    # Of a rigid one none of these learns.
    rigid = _trainer(subject, pool, RIGID)
    assert len(list(_learned(rigid, batch, 2))) == 2
    for name, weight in rigid.model.recm.named_parameters():
        if name.startswith((*PARTS, "shape.")):
            assert weight.grad is None or not bool(weight.grad.any()), name


def test_the_volume_leaves_the_rigid_copy(subject, pool):
    shares = []
    for config in (RIGID, OPEN):
        trainer = _trainer(subject, pool, config)
        model = trainer.model
        batch = trainer._batch([0, 1], None)
        losses = list(_learned(trainer, batch, 8))
        assert losses[-1] < losses[0]
        answer = model.recm.predict(batch.views).effect
        copies = [model.recm.anchors.cloud().transformed(pose) for pose in answer.poses]
        with torch.no_grad():
            volume, rigid = model.voxelize(model.recm.clouds(answer)), model.voxelize(copies)
        shares.append(float((volume - rigid).abs().sum() / rigid.sum()))
    assert shares[0] < 1e-5
    assert shares[1] > 0.02


def test_a_base_gives_its_weights_and_the_options_what_is_open(subject, pool):
    torch.manual_seed(1)
    base = scenes.shaken(RadGSReg(scenes.TINY, scenes.lopsided_cloud()))
    assert isinstance(base, RadGSReg)
    for config in (RIGID, OPEN):
        model = patient_model(subject, config, base)
        recm = model.config.recm
        assert (recm.residual, recm.stretch) == (config is OPEN, config is OPEN)
        ours, theirs = dict(model.named_parameters()), dict(base.named_parameters())
        for name in theirs:
            if not name.startswith("recm.anchors."):
                assert torch.equal(ours[name], theirs[name]), name
    anchors = model.recm.anchors
    finish_patient_model(model, subject, OPEN)
    assert model.recm.anchors is anchors
    rigid = patient_model(subject, RIGID, base)
    few = len(rigid.recm.anchors)
    finish_patient_model(rigid, subject, RIGID)
    assert len(rigid.recm.anchors) > few


def test_old_files_answer_as_before(tmp_path):
    for config, specific in ((RIGID.model, True), (OPEN.model, False)):
        path = tmp_path / "model.safetensors"
        save_model(path, RadGSReg(config, scenes.lopsided_cloud()), {})
        tensors, facts = load_tensors(path)
        assert facts["config"].pop("patient") is None
        save_tensors(path, tensors, facts)
        assert load_model(path).is_patient_specific is specific


def test_the_command_obeys_a_configuration(tmp_path, capfd):
    phantom = make_phantom(random_spine(5), 3.0, "L3")
    simulated = simulate_case(phantom.ct, phantom.labels, LABELS["L3"], "clean", 1)
    case_path = write_simulated_case(simulated, tmp_path / "case")
    recm = {**scenes.TINY_NETWORKS["recm"], "residual": True, "stretch": True}
    options = {
        "model": {**scenes.TINY_NETWORKS, "recm": recm},
        "detection": {"share": 0},
        **dict.fromkeys(("steps", "batch", "pairs", "first_pairs", "validate", "joint_cases"), 2),
        "gaussians": 60,
        "final_gaussians": 90,
    }
    config, out = tmp_path / "options.json", tmp_path / "patient.safetensors"
    config.write_text(json.dumps(options))
    arguments = ["pretrain", "--stage", "3", str(case_path), "--out", str(out)]
    assert cli.main([*arguments, "--config", str(config)]) == 0
    model, case = load_model(out), read_case(case_path)
    assert model.config.recm.residual
    assert model.config.recm.stretch
    assert model.is_patient_specific
    assert len(model.recm.anchors) <= 60
    assert bool(model.recm.anchors.base.any())
    assert is_trained_for(case, model)
    # Few Gaussians that were bent are no vertebra to begin a reconstruction with.
    assert patient_cloud(case, model) is None
    # RecM's pose and RegM's.
    assert len(learned_start(case, model, fit=False).candidates) == 2
    config.write_text(json.dumps({"model": {"patient": False}}))
    assert cli.main([*arguments, "--config", str(config)]) == 2
    assert "follows from the stage" in capfd.readouterr().err


def test_a_patients_training_begins_rigid():
    config = TrainingConfig().for_patient()
    assert not config.model.recm.residual
    assert not config.model.recm.stretch
    recm = replace(config.model.recm, residual=True, stretch=True)
    assert replace(config, model=replace(config.model, recm=recm)) == TrainingConfig()
