"""What a training of one patient goes on from: the shipped weights, unless told otherwise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from RadGSRegLib import cli, training
from RadGSRegLib.networks import load_model, shipped
from RadGSRegLib.networks.shipped import shipped_name, shipped_weights
from RadGSRegLib.phantom import LABELS, make_phantom, random_spine
from RadGSRegLib.simulation import simulate_case, write_simulated_case
from RadGSRegLib.training.config import TrainingConfig
from RadGSRegLib.training.loop import History
from RadGSRegLib.training.patient import shipped_base

pytestmark = pytest.mark.usefixtures("brief_fit")

MODELS = Path(__file__).resolve().parent.parent / "Resources" / "Models"
SHIPPED = MODELS / "population.safetensors"
TINY = {"model": {"recm": {"size_px": 32, "pixel_mm": 4.0}}}
# The networks are the default ones; they are hardly changed from where they begin.
STILL = {
    "rate": 1e-12,
    "detection": {
        "rate": 1e-12,
        "steps": 1,
        "batch": 1,
        "pairs": 1,
        "first_pairs": 1,
        "validate": 1,
    },
    "steps": 3,
    "batch": 1,
    "pairs": 1,
    "first_pairs": 1,
    "gaussians": 60,
    "final_gaussians": 60,
    "validate": 1,
    "joint_cases": 1,
}


@pytest.mark.parametrize(
    ("arguments", "base", "said"),
    [
        (["--stage", "3", "case.json"], SHIPPED, f"went on from: {SHIPPED}"),
        (["--stage", "3", "case.json", "--no-landmarks"], SHIPPED, f"went on from: {SHIPPED}"),
        (["--stage", "3", "case.json", "--base", "none"], None, "began from scratch"),
        (["--stage", "3", "case.json", "--base", str(SHIPPED)], SHIPPED, f"from: {SHIPPED}"),
        (["--stage", "3", "case.json", "--config", "tiny"], None, "began from scratch"),
        (["--stage", "3", "case.json", "--config", "still"], SHIPPED, f"from: {SHIPPED}"),
        (["--stage", "1", "--phantoms", "1"], None, "began from scratch"),
        (
            ["--stage", "1", "--phantoms", "1", "--anchors", "grid", "--base", "none"],
            None,
            "began from scratch",
        ),
    ],
)
def test_the_base_of_a_command(arguments, base, said, tmp_path, monkeypatch, capfd):
    for name, options in (("tiny", TINY), ("still", STILL)):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(options))
        arguments = [str(path) if value == name else value for value in arguments]
    asked = []

    def train(what, config, progress):
        asked.append(what)
        names = ("step", "minutes", "recm_mm", "regm_mm", "error_mm")
        return History([dict.fromkeys(names, 1.0)])

    monkeypatch.setattr(training, "pretrain", train)
    assert cli.main(["pretrain", *arguments, "--out", str(tmp_path / "m.safetensors")]) == 0
    assert [one.base for one in asked] == [base]
    assert said in capfd.readouterr().out.replace("\n", "")


def test_other_networks_do_not_go_on_from_the_shipped_weights(monkeypatch):
    config = TrainingConfig().for_patient().with_landmarks()
    assert shipped_base(config) == SHIPPED
    model = config.model
    # A patient's shape is known whatever the options say.
    free = replace(model, recm=replace(model.recm, residual=True), modes=4)
    assert shipped_base(replace(config, model=free, rendered=1)) == SHIPPED
    for other in (
        replace(model, recm=replace(model.recm, encoder="resnet50")),
        replace(model, recm=replace(model.recm, counterfactual=False)),
        replace(model, regm=replace(model.regm, voxels=16)),
        replace(model, detector=None),
    ):
        assert shipped_base(replace(config, model=other)) is None
    # Without landmarks detector and RegM go on all the same.
    assert shipped_base(TrainingConfig()) == SHIPPED
    monkeypatch.setattr("RadGSRegLib.training.patient.shipped_weights", lambda: None)
    assert shipped_base(config) is None
    assert shipped_base(TrainingConfig()) is None


def test_where_the_weights_stand(tmp_path, monkeypatch):
    assert shipped_weights() == SHIPPED
    card = load_model(SHIPPED).card
    assert shipped_name(SHIPPED, card) == f"population, {card['date']}"
    assert len(card["date"]) == len("2026-01-01")
    assert shipped_name(tmp_path / SHIPPED.name, card) is None
    # As pip and a built extension install them; and where nobody did.
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "RadGSRegLib")
    assert shipped_weights() is None
    assert shipped_name(SHIPPED, card) is None
    installed = tmp_path / "RadGSRegLib" / "Models" / SHIPPED.name
    installed.parent.mkdir(parents=True)
    installed.touch()
    assert shipped_weights() == installed


@pytest.fixture(scope="module")
def case_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated case of a coarse phantom."""
    phantom = make_phantom(random_spine(5), 3.0, "L3")
    simulated = simulate_case(phantom.ct, phantom.labels, LABELS["L3"], "clean", 1)
    return write_simulated_case(simulated, tmp_path_factory.mktemp("case") / "case")


@pytest.mark.parametrize("option", [[], ["--base", "none"]])
def test_a_patients_model_is_what_its_card_says(option, case_path, tmp_path):
    config, out = tmp_path / "options.json", tmp_path / "patient.safetensors"
    config.write_text(json.dumps(STILL))
    arguments = ["--out", str(out), "--config", str(config), *option]
    assert cli.main(["pretrain", "--stage", "3", str(case_path), *arguments]) == 0
    model, base = load_model(out), load_model(SHIPPED)
    named = model.card["training"]["went on from a model"]
    assert named == (False if option else f"population, {base.card['date']}")
    ours, theirs = (dict(one.named_parameters()) for one in (model, base))
    left = ("recm.anchors.", "decoder.")
    kept = [n for n in theirs if not n.startswith(left) and theirs[n].dim() > 1]
    # Heads that nothing has trained are zero anywhere.
    names = [n for n in kept if theirs[n].any()]
    same = [torch.allclose(ours[name], theirs[name], atol=1e-4) for name in names]
    assert len(names) > 20
    assert any(same) is (not option)
    assert all(same) is (not option)
    text = out.with_suffix(".md").read_text()
    assert "Resources" not in text
    assert ("population, 2" in text) is (not option)
