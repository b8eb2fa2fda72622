"""The published settings: what they are, training with them, kills, two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import network_scenes as scenes
import pytest
import torch

from RadGSRegLib import cli
from RadGSRegLib.cases import read_case
from RadGSRegLib.errors import InputError
from RadGSRegLib.networks import learned_start, load_model, patient_cloud
from RadGSRegLib.networks.model import ModelConfig
from RadGSRegLib.networks.recm import RecMConfig
from RadGSRegLib.phantom import LABELS, make_phantom, random_spine
from RadGSRegLib.simulation import simulate_case, write_simulated_case
from RadGSRegLib.system import Progress
from RadGSRegLib.training import Pretraining, pretrain, read_config
from RadGSRegLib.training.config import PhaseShares, TrainingConfig
from RadGSRegLib.training.losses import ExtraWeights
from RadGSRegLib.training.patient import patient_model
from RadGSRegLib.training.pool import SamplePool, Simulated
from RadGSRegLib.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("brief_fit")

ROOT = Path(__file__).resolve().parent.parent
# On top of the paper's: networks and numbers that take seconds.
SMALL = {
    "model": {
        "recm": {"size_px": 32, "pixel_mm": 4.0, "maps": 3, "hidden": 24, "per_anchor": 16},
        "regm": {"voxels": 16, "width": 2},
    },
    "detection": {"share": 0},
    "steps": 6,
    "shares": {"recm": 1, "regm": 1, "joint": 1},
    "batch": 4,
    "rendered": 4,
    "joint_cases": 4,
    "pairs": 4,
    "first_pairs": 4,
    "gaussians": 100,
    "validate": 2,
    "validate_every": 2,
}


@pytest.fixture(scope="module")
def case_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated case of a coarse phantom."""
    phantom = make_phantom(random_spine(5), 3.0, "L3")
    simulated = simulate_case(phantom.ct, phantom.labels, LABELS["L3"], "clean", 1)
    return write_simulated_case(simulated, tmp_path_factory.mktemp("cases") / "case")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`SMALL` as a file."""
    path = tmp_path_factory.mktemp("options") / "small.json"
    path.write_text(json.dumps(SMALL))
    return path


@pytest.fixture(scope="module")
def stages(
    case_path: Path, small: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Path]:
    """A model of each stage, each gone on from the one before."""
    folder = tmp_path_factory.mktemp("stages")
    given = {
        1: ["--phantoms", "1"],
        2: ["--cases", str(case_path.parent.parent)],
        3: [str(case_path)],
    }
    made: dict[int, Path] = {}
    for stage, data in given.items():
        out = folder / f"{stage}.safetensors"
        words = ["pretrain", "--stage", str(stage), *data, "--out", str(out)]
        words += ["--paper", "--encoder", "small", "--config", str(small)]
        words += ["--base", str(made[stage - 1]) if made else "none"]
        assert cli.main(words) == 0
        made[stage] = out
    return made


@pytest.mark.parametrize("encoder", ["small", "resnet50", "densenet121", "vit12"])
def test_the_settings_are_the_papers(encoder):
    paper = TrainingConfig.paper(encoder)
    recm, regm = paper.model.recm, paper.model.regm
    assert (recm.encoder, regm.encoder) == (encoder, encoder)
    assert (paper.batch, paper.rendered, paper.render_every, paper.joint_cases) == (8, 8, 1, 8)
    assert paper.extra == ExtraWeights(0.0, 0.0, 0.0, 0.0)
    assert paper.model.anchors == "grid"
    assert recm.residual
    assert recm.counterfactual
    assert [recm.pixel_aligned, recm.pose, recm.stretch] == [False] * 3
    assert paper.steps == 300 * paper.pairs // paper.batch
    assert paper.halve_every * 6 == paper.steps
    assert paper.rate == (1e-3 if encoder == "small" else 1e-4)


def test_every_stage_trains_a_grid(stages, case_path):
    case = read_case(case_path)
    for stage, path in stages.items():
        model = load_model(path)
        # 5^3 is the cube nearest to 100.
        assert len(model.recm.anchors) == 125
        facts = model.card["training"]
        assert (facts["anchors"], facts["Gaussians"], facts["steps"]) == ("grid", 125, 6)
        assert model.is_patient_specific is (stage == 3)
        figures = next(value for name, value in model.card.items() if name.startswith("figures"))
        assert 0.0 < figures["RecM, median L1 of the volume over the true one"] < 100.0
        assert bool(model.recm.anchors.base.any())
        # A grid says where Gaussians are, not where a vertebra's axes are.
        assert patient_cloud(case, model) is None
        assert len(learned_start(case, model, fit=False).candidates) == 1
    grids = [load_model(path).recm.anchors.cloud() for path in stages.values()]
    assert torch.equal(grids[0].means, grids[2].means)


def test_a_patients_model_keeps_what_a_grid_has_learned(stages):
    base, config = load_model(stages[2]), replace(scenes.SHORT_TRAINING, model=scenes.TINY)
    ours = patient_model(scenes.coarse_subject(), config, base).state_dict()
    theirs = base.state_dict()
    assert "recm.anchors.embedding" in theirs
    assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())


def test_a_base_of_other_networks_is_refused(stages, case_path, small, tmp_path, capfd):
    words = ["pretrain", "--stage", "3", str(case_path), "--out", str(tmp_path / "m.safetensors")]
    words += ["--paper", "--base", str(stages[1])]
    assert cli.main([*words, "--encoder", "small"]) == 2
    assert "other networks" in capfd.readouterr().err
    assert cli.main([*words[:-3], "--encoder", "small"]) == 2
    assert "--encoder" in capfd.readouterr().err


def test_a_killed_training_goes_on_to_the_same_model(stages, case_path, small, tmp_path):
    config = read_config(small, TrainingConfig.paper("small"))
    config = replace(config, checkpoint_every=1)
    out, work = tmp_path / "again.safetensors", tmp_path / "work"
    asked = Pretraining(3, out, case=case_path, base=stages[2], work=work)

    def kill(fraction: float, message: str) -> None:
        if "step 3" in message:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        pretrain(asked, config, Progress(kill))
    for changes in (
        {"rate": 0.5},
        {"halve_every": 3},
        {"rendered": 2},
        {"joint_cases": 2},
        {"ct_pairs": None},
        {"extra": ExtraWeights(volume=1.0)},
    ):
        other = replace(config, **changes)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="other options"):
            pretrain(asked, other)
    pretrain(asked, config)
    whole, again = load_model(stages[3]).state_dict(), load_model(out).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())


@pytest.mark.parametrize(
    ("changes", "learns"),
    [
        ({"rendered": 0}, False),
        ({"render_every": 2}, False),
        ({"rendered": 0, "extra": ExtraWeights()}, False),  # RecM gives no pose
        ({"rendered": 0, "shares": PhaseShares(0, 0, 1)}, True),
        ({"rendered": 0, "extra": ExtraWeights(), "shares": PhaseShares(0, 1, 0)}, True),
        ({"rendered": 0, "shares": PhaseShares(0, 1, 0)}, False),
        ({"rendered": -1}, False),
    ],
)
def test_what_teaches_nothing_is_refused(changes, learns):
    if learns:
        replace(TrainingConfig.paper("small"), **changes)
        return
    with pytest.raises(InputError, match=r"nothing to learn from|not negative"):
        replace(TrainingConfig.paper("small"), **changes)


def test_a_grid_must_be_open():
    with pytest.raises(InputError, match="shows no vertebra"):
        ModelConfig(RecMConfig(residual=False), anchors="grid")
    with pytest.raises(InputError, match="no anchors 'atlas'"):
        ModelConfig(anchors="atlas")


def test_minutes_halve_the_rate_as_often_as_steps():
    subject = scenes.coarse_subject()
    source = Simulated("phantom", lambda wide: subject)
    config = replace(scenes.SHORT_TRAINING, steps=60, halve_every=10, rate=1.0)
    model = patient_model(subject, config)

    def rates(config: TrainingConfig) -> list[float]:
        trainer = Trainer(model, SamplePool([source], config.samples, 0, None), config)
        return [trainer._rate(step / 60) for step in range(60)]

    assert rates(config) == [0.5 ** (step // 10) for step in range(60)]
    # The clock's share of a run of as good as endless steps.
    assert rates(config.by_clock()) == rates(config)


@pytest.mark.slow
def test_two_processes_train_with_the_papers_settings(case_path, small, tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    out = tmp_path / "patient.safetensors"
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words += ["-m", "RadGSRegLib", "pretrain", "--stage", "3", str(case_path), "--out", str(out)]
    words += ["--paper", "--encoder", "small", "--config", str(small), "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, *words, "--work", str(tmp_path / "work")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    model = load_model(out)
    assert model.card["training"]["steps"] == 6
    assert len(model.recm.anchors) == 125
