"""The command: from a case to a model to a registration that needs no click."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import network_scenes as scenes
import numpy as np
import pytest
import torch

from RadGSRegLib import cli
from RadGSRegLib.cases import options_from, read_case
from RadGSRegLib.commands.running import with_inputs
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import is_rigid
from RadGSRegLib.measures import mtre
from RadGSRegLib.networks import (
    CENTRE,
    held_out_mm,
    is_trained_for,
    learned_start,
    load_model,
    patient_cloud,
)
from RadGSRegLib.phantom import LABELS, make_phantom, random_spine
from RadGSRegLib.registration import Candidate, RegistrationOptions, Scene, Tried
from RadGSRegLib.registration.proposers import AroundTried, around
from RadGSRegLib.simulation import simulate_case, write_simulated_case
from RadGSRegLib.system import Progress
from RadGSRegLib.training import Pretraining, pretrain
from RadGSRegLib.training import shapes as shapes_module
from RadGSRegLib.training.config import TrainingConfig
from RadGSRegLib.training.shapes import ShapeOptions, shapes_of

pytestmark = pytest.mark.usefixtures("brief_fit")

OPTIONS = {
    "model": scenes.TINY_NETWORKS,
    "detection": {"steps": 3, "batch": 2, "pairs": 3, "first_pairs": 2, "validate": 2},
    "steps": 4,
    "batch": 2,
    "pairs": 3,
    "first_pairs": 2,
    "gaussians": 60,
    "final_gaussians": 90,
    "validate": 2,
    "render_every": 2,
    "joint_cases": 1,
}


@pytest.fixture(scope="module")
def case_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated case of a coarse phantom."""
    folder = tmp_path_factory.mktemp("case")
    phantom = make_phantom(random_spine(5), 3.0, "L3")
    simulated = simulate_case(phantom.ct, phantom.labels, LABELS["L3"], "realistic", 1)
    return write_simulated_case(simulated, folder / "case")


@pytest.fixture(scope="module")
def trained(case_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A patient-specific model of it, as good as untrained."""
    folder = tmp_path_factory.mktemp("model")
    config = folder / "options.json"
    config.write_text(json.dumps(OPTIONS))
    out = folder / "patient.safetensors"
    words = ["pretrain", "--stage", "3", str(case_path), "--no-landmarks", "--config", str(config)]
    assert cli.main([*words, "--out", str(out)]) == 0
    return out


def test_stage_3_writes_a_model_with_a_card(trained):
    model = load_model(trained)
    assert model.is_patient_specific
    assert len(model.recm.anchors) <= OPTIONS["final_gaussians"]
    assert model.card["training"]["steps"] == 4
    assert held_out_mm(model.card) > 0.0
    assert model.detector is not None
    detection = model.card["detector on held-out simulated pairs of whole views"]
    assert detection["steps"] == 3
    assert 0.0 <= detection["one of the first 8 is (share)"] <= 1.0
    assert len(model.card["data"]["patient"]) == 16
    assert "Research only" in trained.with_suffix(".md").read_text()


@pytest.fixture
def before_operation(case_path: Path, tmp_path: Path) -> Path:
    """The same case when nobody has taken an X-ray yet."""
    content = json.loads(case_path.read_text())
    whole = {key: str(case_path.parent / content[key]) for key in ("ct", "segmentation")}
    path = tmp_path / "case.json"
    path.write_text(json.dumps({**whole, "label": content["label"]}))
    return path


def test_no_xrays_are_needed(before_operation, trained, tmp_path, capfd, monkeypatch):
    for optional in ("einops", "monai", "tensorboard", "torchvision", "yaml"):
        monkeypatch.setitem(sys.modules, optional, None)  # as where only the required is installed
    config, out = tmp_path / "options.json", tmp_path / "m.safetensors"
    config.write_text(json.dumps({**OPTIONS, "validate_every": 2}))
    arguments = ["pretrain", "--stage", "3", str(before_operation), "--out", str(out)]
    arguments += ["--config", str(config), "--progress"]
    assert cli.main(arguments) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    figures = [line["figures"] for line in lines if "figures" in line]
    assert [set(one) >= {"recm_mm", "regm_mm", "step"} for one in figures] == [True, True]
    assert any("error" in line["message"] for line in lines)
    # The same CT: the same patient as with the X-rays.
    assert load_model(out).card["data"] == load_model(trained).card["data"]
    # A file that is left over must not end the next training before it begins.
    assert cli.main([*arguments, "--stop", str(config)]) == 2
    assert "is there already" in capfd.readouterr().err


def test_a_model_knows_its_vertebra_by_its_place(trained, case_path):
    case, model = read_case(case_path), load_model(trained)
    cloud = patient_cloud(case, model)
    assert cloud is not None
    labels = np.asarray(case.labels.array)
    vertebra = np.argwhere(labels == case.label)
    inside = vertebra * case.ct.spacing[::-1]
    assert np.ptp(cloud.means.numpy(), axis=0).max() < np.ptp(inside, axis=0).max() + 10.0
    # Whatever it is called, and with a mended mask, its Gaussians are where they were.
    mended = labels.copy()
    mended[tuple(vertebra[: len(vertebra) // 8].T)] = 0
    changed = replace(
        case, labels=case.labels.with_array(mended), label_names={case.label: "another name"}
    )
    assert is_trained_for(changed, model)
    again = patient_cloud(changed, model)
    assert again is not None
    assert (again.means == cloud.means).all()
    others = [int(n) for n in np.unique(labels) if n not in (0, case.label)]
    assert others
    for other in others:
        assert not is_trained_for(replace(case, label=other), model)
    brighter = case.ct.with_array(np.asarray(case.ct.array) + 1)
    assert patient_cloud(replace(case, ct=brighter), model) is None
    # A card that says no place: the label's name decides.
    model.card["data"] = {k: v for k, v in model.card["data"].items() if k != CENTRE}
    assert is_trained_for(case, model)
    assert not is_trained_for(changed, model)


def test_a_file_ends_it_with_the_best_so_far(before_operation, tmp_path):
    config = options_from(TrainingConfig, OPTIONS, "test", TrainingConfig().for_patient())
    config = replace(config, steps=10**6, validate_every=3)
    stop, out = tmp_path / "stop", tmp_path / "patient.safetensors"
    told: list[dict[str, float]] = []

    def enough(figures: dict[str, float]) -> None:
        told.append(figures)
        stop.touch()

    asked = Pretraining(3, out, case=before_operation, minutes=60.0, stop=stop)
    history = pretrain(asked, config, Progress(on_figures=enough))
    assert [one["step"] for one in told] == [3]
    assert told[0]["recm_mm"] == history.best()["recm_mm"] > 0.0
    model = load_model(out)
    assert model.card["training"]["steps"] == 3
    assert model.is_patient_specific


@pytest.mark.parametrize("where", ["training detection: step 2", "training reconstruction: step 1"])
def test_a_killed_pretraining_goes_on_to_the_same_model(before_operation, trained, tmp_path, where):
    detection = {**OPTIONS["detection"], "checkpoint_every": 1}  # type: ignore[dict-item]
    options = {**OPTIONS, "detection": detection, "checkpoint_every": 1}
    config = options_from(TrainingConfig, options, "test", TrainingConfig().for_patient())
    out, work = tmp_path / "again.safetensors", tmp_path / "work"
    asked = Pretraining(3, out, case=before_operation, work=work)

    def kill(fraction: float, message: str) -> None:
        if message.startswith(where):
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        pretrain(asked, config, Progress(kill))
    assert not out.exists()
    pretrain(asked, config)
    whole, again = load_model(trained).state_dict(), load_model(out).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())


@pytest.mark.parametrize("clicked", [True, False])
def test_a_start_with_and_without_a_click(trained, case_path, clicked):
    case = read_case(case_path)
    if not clicked:
        case = replace(case, views=tuple(replace(v, center_px=None) for v in case.views))
    model = load_model(trained)
    start = learned_start(case, model)
    again = learned_start(case, model)
    # Two poses at each place, and one place where a click says it.
    assert len(start.candidates) == 2 if clicked else len(start.candidates) in (2, 4, 6)
    for one, other in zip(start.candidates, again.candidates, strict=True):
        assert is_rigid(one.ct_to_world)
        assert (one.ct_to_world == other.ct_to_world).all()
    assert start.candidates[0].signs == start.seen.signs
    attention = start.seen.prediction.attention[0]
    assert attention.shape[:2] == (2, 3)
    assert (attention > 0).all()
    assert start.seen.score <= 1.0
    assert len(start.seen.cloud_world) == len(model.recm.anchors)


def test_learned_poses_say_where_to_search(case_path, monkeypatch):
    truth = json.loads((case_path.parent / "truth.json").read_text())
    pose = np.asarray(truth["ct_to_world"])
    far = pose.copy()
    far[2, 3] += 36.0
    searched = []

    def search(scene, reference, options, progress):
        searched.append(reference)
        assert options.translation_range_mm == RegistrationOptions().click_range_mm
        return [Candidate(reference, 0.1 * len(searched), (1, 1))]

    monkeypatch.setattr(around, "search", search)

    class Around:
        centre_ct = np.array([5.0, 5.0, 5.0])

    scene = Scene(Around(), ())  # type: ignore[arg-type]
    learned = [Candidate(pose, 0.5, (1, 1)), Candidate(pose, 0.5, (1, 1))]
    options = RegistrationOptions()
    proposal = AroundTried(options).propose(scene, Tried(learned), Progress())
    found, places = proposal.candidates, proposal.places
    assert len(found) == 1
    assert np.allclose(searched[0], pose)
    assert places == options.click_places
    learned.append(Candidate(far, 0.4, (1, 1)))
    proposal = AroundTried(options).propose(scene, Tried(learned), Progress())
    found, places = proposal.candidates, proposal.places
    assert [c.score for c in found] == sorted((c.score for c in found), reverse=True)
    assert np.allclose(searched[2], far)
    assert len(found) == 2
    assert places == options.learned_search_places


def test_model_and_start_are_among_the_inputs(trained, case_path):
    start = case_path.with_name("start.json")
    before = read_case(case_path).inputs
    after = with_inputs(before, start, None, trained)
    assert set(after) - set(before) == {trained.name, start.name}
    assert all(len(value) == 64 for value in after.values())


def test_register_with_a_model(trained, case_path, tmp_path):
    """From the command to its files; a model after so few steps cannot help, but must not harm."""
    out = tmp_path / "out"
    arguments = ["register", str(case_path), "--out", str(out), "--effort", "fast"]
    arguments += ["--device", "cpu"]
    assert cli.main([*arguments, "--model", str(trained)]) in (0, 3)
    record = json.loads((out / "registration.json").read_text())
    assert trained.name in record["inputs"]
    seconds = record["timing_s"]
    assert seconds["see"] > 0.0
    assert seconds["learned"] > 0.0
    assert record["ran_on"] == dict.fromkeys(seconds.keys() - {"total"}, "cpu")
    stages = sum(value for name, value in seconds.items() if name != "total")
    assert seconds["total"] == pytest.approx(stages, abs=0.5)
    if record["status"] == "ok":
        truth = json.loads(case_path.with_name("truth.json").read_text())
        assert mtre(truth["points_ct"], record["ct_to_world"], truth["ct_to_world"]) < 2.0


def test_reconstruct_learned(trained, case_path, tmp_path, capsys):
    out = tmp_path / "out"
    case = tmp_path / "case"
    shutil.copytree(case_path.parent, case)
    content = json.loads((case / "case.json").read_text()) | {"remark": "of no use"}
    (case / "case.json").write_text(json.dumps(content))
    arguments = ["reconstruct", str(case), "--out", str(out), "--method", "learned"]
    assert cli.main([*arguments, "--model", str(trained), "--device", "cpu"]) == 0
    record = json.loads((out / "reconstruction.json").read_text())
    assert record["timing_s"].keys() == {"reconstruct", "total"}
    assert record["ran_on"] == {"reconstruct": "cpu"}
    assert record["method"] == "learned"
    assert record["parameters"]["notes"] == ['case.json: "remark" is not used']
    assert 'note: case.json: "remark" is not used' in capsys.readouterr().out
    assert (out / "gaussians.ply").is_file()
    assert (out / "reconstruction.nii.gz").is_file()


@pytest.fixture(scope="module")
def population(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of stage 1, as good as untrained but for the shapes; "work" lies beside them."""
    folder = tmp_path_factory.mktemp("population")
    options = folder / "options.json"
    few = {"modes": 8, "phantoms": 1, "epochs": 1}
    options.write_text(json.dumps({**OPTIONS, "shapes": few}))
    out = folder / "population.safetensors"
    arguments = ["--stage", "1", "--phantoms", "1", "--out", str(out), "--config", str(options)]
    assert cli.main(["pretrain", *arguments, "--work", str(folder / "work")]) == 0
    return out


def test_stage_1_learns_how_vertebrae_differ(population, case_path):
    model = load_model(population)
    assert not model.is_patient_specific
    # Ten vertebrae of two phantoms are enough for three modes, not for eight.
    assert len(model.shapes) == 3
    facts = model.card["how vertebrae differ"]
    assert facts == {"modes": 3, "vertebrae": 10, "of them from phantoms made for this": 5}
    found = learned_start(read_case(case_path), model)
    assert is_rigid(found.candidates[0].ct_to_world)
    assert len(found.seen.cloud_world) == len(model.recm.anchors)


def test_shapes_that_were_learned_are_kept(population, monkeypatch):
    work = population.parent / "work"
    monkeypatch.setattr(shapes_module, "phantom_sources", None)
    model = load_model(population)
    asked = ShapeOptions()
    again = shapes_of(model.recm.anchors, [], asked, seed=0, folder=work)
    assert torch.allclose(again.modes, model.shapes.modes, atol=1e-3)
    other = load_model(population).recm.anchors
    other.means = other.means[:-1]
    with pytest.raises(InputError, match="another training"):
        shapes_of(other, [], asked, seed=0, folder=work)


@pytest.mark.parametrize(
    ("minutes", "made", "used"), [(None, 9, 40), (1.0, 4, 20), (0.5, 2, 10), (0.1, 0, 2)]
)
def test_the_minutes_bound_how_many_vertebrae_are_learned(
    population, tmp_path, monkeypatch, minutes, made, used
):
    asked_for, learned_from = [], []

    def phantoms(count, seed, folder):
        asked_for.append(count)
        return []

    monkeypatch.setattr(shapes_module, "phantom_sources", phantoms)
    monkeypatch.setattr(shapes_module, "volume_of", lambda subject: subject)
    monkeypatch.setattr(
        shapes_module, "learn_shapes", lambda a, volumes, *_, **__: learned_from.extend(volumes)
    )
    sources = [SimpleNamespace(subject=lambda n=n: n) for n in range(40)]
    anchors = load_model(population).recm.anchors
    options = ShapeOptions(phantoms=9)
    found = shapes_of(anchors, sources, options, seed=0, folder=tmp_path, minutes=minutes)
    assert found is None
    assert asked_for == [made]
    # Fewer than three vertebrae make up no mode.
    assert len(learned_from) == (used if used > 2 else 0)
    ended = shapes_of(anchors, sources, options, seed=0, folder=tmp_path, enough=lambda: True)
    assert ended is None
    assert shapes_of(anchors, sources, ShapeOptions(modes=0), seed=0, folder=tmp_path) is None
    assert len(learned_from) == (used if used > 2 else 0)


def test_a_patient_has_one_shape(population, case_path, tmp_path):
    config = tmp_path / "options.json"
    config.write_text(json.dumps(OPTIONS))
    out = tmp_path / "patient.safetensors"
    arguments = ["--base", str(population), "--out", str(out), "--config", str(config)]
    assert cli.main(["pretrain", "--stage", "3", str(case_path), *arguments]) == 0
    assert load_model(out).shapes is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stage", "3"], "needs a case"),
        (["--stage", "2"], "X-ray cases"),
        (["--stage", "1"], "has no data"),
        (["--stage", "1", "--cts", "nowhere"], "nowhere"),
        (["--stage", "1", "--minutes", "0"], "minutes"),
        (["--stage", "3", "missing.json"], "missing.json"),
        (["--stage", "3", "c.json", "--phantoms", "2"], "only with --stage 1"),
        (["--stage", "1", "--phantoms", "2", "--fold", "0"], "only with --stage 2"),
        (["--stage", "2", "--cases", "x", "c.json"], "only with --stage 3"),
        (["--stage", "3", "c.json", "--anchors", "grid"], "--anchors"),
        (["--stage", "1", "--anchors", "grid", "--base", "x"], "--anchors"),
    ],
)
def test_what_cannot_be_trained_is_refused(arguments, message, tmp_path, capfd):
    out = tmp_path / "m.safetensors"
    assert cli.main(["pretrain", *arguments, "--out", str(out)]) == 2
    assert message in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_bad_name_is_refused_before_any_work(case_path, tmp_path, capfd):
    arguments = ["pretrain", "--stage", "3", str(case_path), "--out"]
    assert cli.main([*arguments, str(tmp_path / "model.pt")]) == 2
    assert ".safetensors" in capfd.readouterr().err
    assert cli.main([*arguments, str(tmp_path / "none" / "m.safetensors")]) == 2
    assert "folder" in capfd.readouterr().err


def test_a_work_folder_serves_one_training(case_path, trained, tmp_path, capfd):
    work, out = tmp_path / "work", tmp_path / "m.safetensors"
    config = tmp_path / "options.json"
    config.write_text(json.dumps(OPTIONS))
    arguments = ["--out", str(out), "--work", str(work), "--config", str(config)]
    first = ["pretrain", "--stage", "3", str(case_path), *arguments]
    assert cli.main(first) == 0
    assert cli.main(first) == 0
    text = (work / "training.json").read_text()
    assert set(json.loads(text)) == {"data", "base", "options"}
    written = out.read_bytes()
    neighbour = case_path.with_name("neighbour.json")
    content = json.loads(case_path.read_text())
    neighbour.write_text(json.dumps({**content, "label": LABELS["L2"]}))
    other = ["pretrain", "--stage", "3", str(neighbour), *arguments]
    assert cli.main([*other, "--base", str(trained)]) == 2
    assert "holds another training, with other data and base" in capfd.readouterr().err
    config.write_text(json.dumps({**OPTIONS, "seed": 5}))
    assert cli.main(first) == 2
    assert "other options" in capfd.readouterr().err
    assert out.read_bytes() == written
