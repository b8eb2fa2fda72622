"""Training of a RecM that reads its pose from landmarks, around one patient's vertebra."""

from __future__ import annotations

import json
from dataclasses import replace

import network_scenes as scenes
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from RadGSRegLib import cli, training
from RadGSRegLib.cases import read_case
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import affine
from RadGSRegLib.networks import RadGSReg, load_model, save_model, see, shipped_weights
from RadGSRegLib.phantom import LABELS, make_phantom, random_spine
from RadGSRegLib.simulation import simulate_case, write_simulated_case
from RadGSRegLib.system import Progress
from RadGSRegLib.tensors import applied
from RadGSRegLib.training import own, patient
from RadGSRegLib.training.config import TrainingConfig
from RadGSRegLib.training.loop import History
from RadGSRegLib.training.objective import Objective
from RadGSRegLib.training.own import kept_cloud, own_anchors
from RadGSRegLib.training.patient import patient_model, shipped_base
from RadGSRegLib.training.pool import SamplePool, Simulated
from RadGSRegLib.training.pretraining import pretrain
from RadGSRegLib.training.stages import Pretraining
from RadGSRegLib.training.subjects import Subject
from RadGSRegLib.training.trainer import Trainer

RIGID = scenes.SHORT_TRAINING


def _landmarks(config: TrainingConfig, **open_too: bool) -> TrainingConfig:
    recm = replace(config.model.recm, landmarks=16, passes=2, **open_too)
    return replace(config, model=replace(config.model, recm=recm))


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A coarse phantom vertebra."""
    return scenes.coarse_subject()


def _trainer(subject: Subject, config: TrainingConfig, base: RadGSReg | None = None) -> Trainer:
    torch.manual_seed(0)
    source = Simulated("phantom", lambda wide: subject)
    model = patient_model(subject, config, base)
    pool = SamplePool([source], config.samples, 0, None)
    return Trainer(model, pool, replace(config, model=model.config))


def test_landmarks_learn_where_they_are(subject):
    trainer = _trainer(subject, _landmarks(RIGID))
    objective = Objective(trainer.model, RIGID.extra)
    adam = torch.optim.Adam(trainer.model.parameters(), lr=3e-3)
    batch = trainer._batch([0, 1], None)
    terms = []
    for _ in range(60):
        answer = objective(batch, "recm", 0)
        adam.zero_grad()
        answer["loss"].backward()
        adam.step()
        terms.append({name: float(term.detach()) for name, term in answer.items()})
    for name, share in (("places", 0.85), ("points_mm", 0.5), ("passes_mm", 0.5)):
        assert terms[-1][name] < share * terms[0][name], name


def test_nothing_is_asked_of_landmarks_without_their_weights(subject):
    trainer = _trainer(subject, _landmarks(RIGID))
    batch = trainer._batch([0, 1], None)
    correspondence = trainer.model.recm.correspondence
    gradients = {}
    for places in (0.0, 1.0):
        trainer.model.zero_grad()
        extra = replace(RIGID.extra, points=0.0, places=places)
        Objective(trainer.model, extra)(batch, "recm", 0)["loss"].backward()
        gradients[places] = float(correspondence.queries.grad.abs().sum())
    assert gradients[0.0] == 0.0
    assert gradients[1.0] > 0.0


def test_gaussians_may_leave_their_anchors_beside_landmarks(subject):
    trainer = _trainer(subject, _landmarks(RIGID, residual=True, stretch=True))
    batch = trainer._batch([0, 1], None)
    prediction = trainer.model.recm(batch.views)
    assert prediction.factual is not prediction.effect
    assert torch.equal(prediction.factual.poses, prediction.effect.poses)
    loss = Objective(trainer.model, RIGID.extra)(batch, "recm", 2)["loss"]
    loss.backward()
    for name in ("shape.weight", "correspondence.queries", "anchors.base"):
        assert trainer.model.recm.get_parameter(name).grad.any(), name


def test_what_a_base_knows_but_landmarks_is_kept(subject):
    torch.manual_seed(1)
    base = scenes.shaken(RadGSReg(scenes.TINY, scenes.lopsided_cloud()))
    model = patient_model(subject, _landmarks(RIGID), base)
    assert model.config.recm.landmarks == 16
    theirs = dict(base.named_parameters())
    same = {
        name.split(".")[0]: torch.equal(weight, theirs[name])
        for name, weight in model.named_parameters()
        if name in theirs and weight.any() and weight.shape == theirs[name].shape
    }
    assert same == {"recm": False, "regm": True}
    # From a base that knows landmarks all of it is kept, and the landmarks that its queries know.
    again = patient_model(subject, _landmarks(RIGID), model)
    ours, known = again.state_dict(), model.state_dict()
    for name in known:
        if not name.startswith("recm.anchors."):
            assert torch.equal(ours[name], known[name]), name


def test_the_shipped_weights_are_gone_on_from_for_landmarks_too(tmp_path, monkeypatch):
    path = tmp_path / "population.safetensors"
    save_model(path, RadGSReg(RIGID.model, scenes.lopsided_cloud()), {})
    monkeypatch.setattr(patient, "shipped_weights", lambda: path)
    assert shipped_base(RIGID) == path
    assert shipped_base(_landmarks(RIGID)) == path
    recm = replace(_landmarks(RIGID).model.recm, size_px=64)
    other = replace(RIGID, model=replace(RIGID.model, recm=recm))
    assert shipped_base(other) == path
    regm = replace(RIGID.model.regm, voxels=24)
    assert shipped_base(replace(other, model=replace(other.model, regm=regm))) is None


def test_a_trained_model_with_landmarks_answers_the_same_from_its_file(subject, tmp_path):
    trainer = _trainer(subject, replace(_landmarks(RIGID), steps=6))
    trainer.run()
    model = trainer.model.eval()
    batch = trainer._batch([0, 1], None).views
    save_model(tmp_path / "patient.safetensors", model, {})
    again = load_model(tmp_path / "patient.safetensors")
    poses = [m.reconstruct(batch)[0].effect.poses for m in (model, again)]
    assert torch.allclose(*poses, atol=0.05)
    assert again.is_rigid


def test_the_option_means_landmarks_on_the_base_that_comes_with_the_program(
    tmp_path, monkeypatch, capfd
):
    asked = []

    def train(what, config, progress):
        asked.append((what, config))
        names = ("step", "minutes", "recm_mm", "regm_mm", "error_mm")
        return History([dict.fromkeys(names, 1.0)])

    monkeypatch.setattr(training, "pretrain", train)
    words = ["pretrain", "--stage", "3", "case.json", "--minutes", "20"]
    words += ["--out", str(tmp_path / "m.safetensors")]
    assert cli.main(words) == 0
    what, config = asked[0]
    recm = config.model.recm
    assert (recm.encoder, recm.landmarks, recm.residual) == ("unet", 64, False)
    assert what.base == shipped_weights()
    assert config.steps > 10**6
    assert cli.main([*words, "--landmarks", "--paper"]) == 2
    assert "--landmarks" in capfd.readouterr().err
    known = str(shipped_weights())
    assert cli.main([*words, "--no-landmarks", "--base", known]) == 2
    assert "goes on from a model that looks for them" in capfd.readouterr().err
    # What a configuration opens is given what it learns from.
    path = tmp_path / "open.json"
    path.write_text(json.dumps({"model": {"recm": {"residual": True}}}))
    assert cli.main([*words, "--config", str(path)]) == 0
    opened = asked.pop()[1]
    assert (opened.model.recm.residual, opened.rendered) == (True, TrainingConfig().rendered)
    # Landmarks of many vertebrae, whose shapes are known, keep detector and RegM of a base.
    words = ["pretrain", "--stage", "1", "--phantoms", "1", "--landmarks", *words[-2:]]
    assert cli.main([*words, "--base", str(shipped_weights())]) == 0
    recm = asked[1][1].model.recm
    assert (recm.landmarks, recm.residual, recm.stretch) == (64, False, False)
    # Others than are asked for it must not have.
    other = tmp_path / "other.safetensors"
    save_model(other, RadGSReg(RIGID.model, scenes.lopsided_cloud()), {})
    assert cli.main([*words, "--base", str(other)]) == 2
    assert "other networks" in capfd.readouterr().err
    assert cli.main([*words, "--anchors", "grid"]) == 2
    assert "of a vertebra, not of a grid" in capfd.readouterr().err
    assert len(asked) == 2
    # Left out they follow the base.
    words.remove("--landmarks")
    assert cli.main([*words, "--base", known]) == 0
    assert asked[2][1].model.recm.landmarks == 64


def test_open_gaussians_beside_landmarks_are_rendered():
    rigid, free = TrainingConfig().for_patient(), TrainingConfig()
    assert rigid.with_landmarks().rendered == 0
    assert rigid.with_landmarks().shares.joint == 0.0
    assert free.with_landmarks().rendered == free.rendered > 0
    assert free.with_landmarks().shares == free.shares
    with pytest.raises(InputError, match="rendered cases alone"):
        replace(free.with_landmarks(), rendered=0)


def test_the_landmarks_of_many_vertebrae_are_put_on_the_patients(subject):
    torch.manual_seed(1)
    ours_ct = own_anchors(subject, 60)
    turn = affine(Rotation.from_euler("x", 12.0, degrees=True).as_matrix(), [0.5, 1.0, -0.5])
    own_to_shared = torch.from_numpy(np.linalg.inv(turn)).float()
    # The mean vertebra is this one, turned.
    shared = ours_ct.transformed(own_to_shared)
    config = _landmarks(RIGID)
    model = replace(config.model, patient=False)
    base = scenes.shaken(RadGSReg(model, shared))
    ours = patient_model(subject, config, base).recm.correspondence
    theirs = base.recm.correspondence
    assert torch.equal(ours.queries, theirs.queries)
    wanted = applied(torch.from_numpy(turn).float(), theirs.landmarks)
    assert float((ours.landmarks - wanted).norm(dim=1).mean()) < 1.5
    assert float((ours.up - torch.from_numpy(turn[:3, 2]).float()).norm()) < 0.05


def test_many_known_vertebrae_are_trained_on_and_a_patient_goes_on_from_them(tmp_path):
    options = {"model": {**scenes.TINY_NETWORKS}, "samples": {"size_px": 128}, "gaussians": 60}
    options["model"]["recm"] = {**scenes.TINY_NETWORKS["recm"], "landmarks": 16, "passes": 2}
    options["model"]["decoder"] = None
    counts = {"steps": 4, "batch": 2, "pairs": 4, "first_pairs": 4, "validate": 2}
    detection = {"share": 0.0}
    path, out = tmp_path / "options.json", tmp_path / "many.safetensors"
    path.write_text(json.dumps({**options, **counts, "detection": detection}))
    words = ["pretrain", "--stage", "1", "--phantoms", "1", "--landmarks", "--config", str(path)]
    assert cli.main([*words, "--out", str(out)]) == 0
    model = load_model(out)
    assert model.is_rigid
    assert not model.is_patient_specific
    assert model.shapes is None
    (heading,) = [name for name in model.card if name.startswith("figures")]
    assert heading.endswith("angles within 26, 19.5 and 13 degrees, their shapes known")
    assert model.card[heading]["RecM, SSIM on the vertebra's box"] > 0.0
    assert model.card[heading]["RecM, median distance of surface points (mm)"] > 0.0
    # Alone it would show the mean vertebra; a patient's training goes on from it.
    phantom = make_phantom(random_spine(5), 3.0, "L3")
    simulated = simulate_case(phantom.ct, phantom.labels, LABELS["L3"], "clean", 1)
    case = write_simulated_case(simulated, tmp_path / "case")
    with pytest.raises(InputError, match=r"many\.safetensors: .* trainings go on from it"):
        see(read_case(case).views, model)
    ours = tmp_path / "ours.safetensors"
    words = ["pretrain", "--stage", "3", str(case), "--base", str(out), "--config", str(path)]
    assert cli.main([*words, "--out", str(ours)]) == 0
    patients = load_model(ours)
    assert patients.is_patient_specific
    assert patients.config.recm.landmarks == 16
    assert see(read_case(case).views, patients, fit=False).prediction.passes == ()


def test_a_killed_training_of_known_vertebrae_goes_on_to_the_same_model(tmp_path):
    config = replace(_landmarks(RIGID), steps=4, checkpoint_every=1)
    config = replace(config, detection=replace(config.detection, share=0.0))

    def kill(fraction: float, message: str) -> None:
        if message.startswith("training reconstruction: step 1"):
            raise RuntimeError("killed")

    models = []
    for name, progress in (("whole", None), ("again", Progress(kill))):
        asked = Pretraining(1, tmp_path / f"{name}.safetensors", phantoms=1, work=tmp_path / name)
        if progress is not None:
            with pytest.raises(RuntimeError, match="killed"):
                pretrain(asked, config, progress)
            assert not asked.out.exists()
        pretrain(asked, config)
        assert len(list((asked.work / "clouds-1").glob("*.npz"))) > 0
        models.append(load_model(asked.out).state_dict())
    whole, again = models
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())


def test_clouds_are_fitted_once(subject, tmp_path, monkeypatch):
    path = tmp_path / "clouds" / "3.npz"
    first = kept_cloud(subject, 60, path)
    monkeypatch.setattr(own, "shared_cloud", lambda *_: pytest.fail("fitted again"))
    again = kept_cloud(subject, 60, path)
    for ours, theirs in zip(first.tensors, again.tensors, strict=True):
        assert torch.equal(ours, theirs)


def test_processes_share_the_cores_of_a_machine(monkeypatch):
    config = replace(TrainingConfig(), threads=8)
    assert config.compute("cpu").threads == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert config.compute("cpu").threads == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert config.compute("cpu").threads == 1


def test_each_pair_brings_its_own_vertebra(subject):
    config = _landmarks(RIGID)
    model = replace(config.model, patient=False)
    smaller = replace(scenes.lopsided_cloud(), means=0.8 * scenes.lopsided_cloud().means)
    many = RadGSReg(model, smaller)
    pool = SamplePool([Simulated("phantom", lambda wide: subject)], config.samples, 0, None)
    trainer = Trainer(many, pool, replace(config, model=model))
    batch = trainer._batch([0, 1], None)
    assert len(batch.own) == 2
    assert torch.allclose(
        batch.own[0].means.mean(0), own_anchors(subject, 60).means.mean(0), atol=1
    )
    # Another device, fewer cases: the vertebrae go with them.
    assert len(batch.first(1).to("cpu").own) == 1
    terms = Objective(many, config.extra)(batch, "recm", 0)
    terms["loss"].backward()
    assert many.recm.get_parameter("correspondence.queries").grad.any()
    # A patient's own are the anchors.
    assert _trainer(subject, config)._batch([0, 1], None).own == ()
