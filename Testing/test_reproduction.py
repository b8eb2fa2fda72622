"""The paper's experiments: what is planned, and the smallest of them from models to tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from RadGSRegLib import cli
from RadGSRegLib.commands import reproduce as command
from RadGSRegLib.networks import load_model
from RadGSRegLib.reproduction import ABLATIONS, Design, plan, smallest
from RadGSRegLib.reproduction import run as run_module
from RadGSRegLib.training import TrainingConfig

pytestmark = pytest.mark.usefixtures("brief_fit")

FOLDS = [["a", "f"], ["b"], ["c"], ["d"], ["e"]]


def test_the_plan_has_every_stage_fold_and_variant():
    config = TrainingConfig()
    patient = config.for_patient()
    design = Design(
        Path("cases"), config, patient, ablations=tuple(ABLATIONS), encoders=("resnet50",)
    )
    cells = plan(design, FOLDS)
    assert len(cells) == 4 * (1 + 5 + 6)
    assert len({cell.place for cell in cells}) == len(cells)
    for number, cell in enumerate(cells):
        assert (cell.base is None) == (cell.stage == 1)
        if cell.base is not None:
            assert cell.base in cells[:number]
            assert (cell.base.variant, cell.base.stage) == (cell.variant, cell.stage - 1)
        if cell.stage == 3:
            # Of a fold that the base has not seen.
            assert cell.fold is not None
            assert cell.case in FOLDS[cell.fold]
            assert cell.base is not None
            assert cell.base.fold == cell.fold
    by_name = {(cell.variant, cell.stage): cell.config for cell in cells}
    assert by_name["RadGS-Reg", 1] == config
    assert by_name["RadGS-Reg", 3] == patient
    without = by_name["no-CAL", 3].model
    assert not without.recm.counterfactual
    assert replace(without, recm=replace(without.recm, counterfactual=True)) == patient.model
    shares = by_name["no-synergy", 1].shares
    assert shares.joint == 0.0
    assert shares.total == pytest.approx(config.shares.total)
    assert shares.recm / shares.regm == pytest.approx(config.shares.recm / config.shares.regm)
    other = by_name["resnet50", 2].model
    assert (other.recm.encoder, other.regm.encoder) == ("resnet50", "resnet50")


def test_the_command_knows_the_ablations():
    assert tuple(ABLATIONS) == command._ABLATIONS


def test_the_smallest_is_the_papers_but_for_its_size():
    small, paper = smallest(3), TrainingConfig.paper("small")
    assert small.seed == 3
    for name in ("pose", "stretch", "residual", "pixel_aligned", "counterfactual", "encoder"):
        assert getattr(small.model.recm, name) == getattr(paper.model.recm, name), name
    assert small.extra == paper.extra
    assert small.model.anchors == paper.model.anchors


@pytest.mark.slow
def test_the_smallest_goes_from_nothing_to_tables(tmp_path, monkeypatch, capfd):
    out = tmp_path / "out"
    words = ["reproduce", "--smallest", "--out", str(out), "--device", "cpu"]
    assert cli.main([*words, "--plan"]) == 0
    said = capfd.readouterr().out
    assert "11 models" in said
    assert not (out / "cells").exists()
    train, trained = run_module.train_cell, []

    def killed(cell, *rest):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(cell.place)
        return train(cell, *rest)

    monkeypatch.setattr(run_module, "train_cell", killed)
    assert cli.main(words) not in (0, 2)
    assert not (out / "tables").exists()
    monkeypatch.setattr(run_module, "train_cell", train)
    before = {path: path.stat().st_mtime_ns for path in out.glob("cells/**/*.safetensors")}
    assert len(before) == 3
    assert cli.main(words) == 0
    # What had been trained was not trained again.
    assert "models trained: 8" in capfd.readouterr().out
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    models = sorted(out.glob("cells/**/model.safetensors"))
    assert len(models) == 11
    assert not list(out.glob("cells/**/work"))
    stages = {path: load_model(path) for path in models}
    for path, model in stages.items():
        assert model.is_patient_specific is ("stage-3" in str(path))
        assert model.card["training"]["steps"] == 3
    tables = out / "tables"
    paper = json.loads((tables / "paper.json").read_text())
    assert [method["key"] for method in paper["methods"]] == ["RadGS-Reg", "stage-1", "stages-1-2"]
    for summary in paper["summaries"]:
        assert (summary["cases"], summary["failed"]) == (5, 0)
        for measure in ("ssim", "psnr_db", "mtre_mm", "sr", "registration_s"):
            assert summary[measure] is not None, measure
    tested = [summary["tests"] for summary in paper["summaries"][1:]]
    assert all(set(tests) == {"ssim", "psnr_db", "mtre_mm"} for tests in tested)
    assert "Wilcoxon" in (tables / "paper.md").read_text()
    assert len(list(tables.glob("attention_*.png"))) == 5
    # Another design does not go on with these models.
    assert cli.main([*words, "--seed", "4", "--cases", str(out / "cases")]) == 2
    assert "other options" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--encoder", "small"], "--paper"),
        (["--smallest", "--paper"], "settings of its own"),
        (["--cases", "nowhere"], "nowhere"),
        (["--minutes", "0"], "minutes"),
    ],
)
def test_what_cannot_be_reproduced_is_refused(arguments, message, tmp_path, capfd):
    assert cli.main(["reproduce", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert message in capfd.readouterr().err
