"""Stage 2: X-rays with known poses, and what is held out of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import network_scenes as scenes
import pytest

from RadGSRegLib import cli
from RadGSRegLib.cases import read_ct, write_volume_nifti
from RadGSRegLib.networks import load_model
from RadGSRegLib.phantom import LABELS, make_phantom, random_spine
from RadGSRegLib.simulation import simulate_case, write_simulated_case
from RadGSRegLib.training import bounds
from RadGSRegLib.training.pool import SamplePool

pytestmark = pytest.mark.usefixtures("brief_fit")

OPTIONS = {
    "model": scenes.TINY_NETWORKS,
    "detection": {"steps": 2, "batch": 2, "pairs": 2, "first_pairs": 2, "validate": 2},
    "steps": 2,
    "batch": 2,
    "pairs": 4,
    "first_pairs": 4,
    "gaussians": 60,
    "validate": 2,
    "joint_cases": 1,
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """X-rays of five patients, whose CTs differ by a few units."""
    folder = tmp_path_factory.mktemp("cases")
    phantom = make_phantom(random_spine(5), 3.0, "L3")
    simulated = simulate_case(phantom.ct, phantom.labels, LABELS["L3"], "clean", 1)
    first = write_simulated_case(simulated, folder / "patient-0").parent
    for number in range(1, 5):
        other = folder / f"patient-{number}"
        shutil.copytree(first, other)
        ct = read_ct(other / "ct.nii.gz")
        write_volume_nifti(ct.with_array(ct.array + number), other / "ct.nii.gz")
    return folder


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Which cases the pairs come from, by what they are for, filled while a training runs."""
    seen: dict[str, set[str]] = {}

    class Watched(SamplePool):
        def __init__(self, sources, options, seed, folder, workers=0, device="cpu"):
            super().__init__(sources, options, seed, folder, workers, device)
            seen[folder.name] = {source.name for source in sources}

    monkeypatch.setattr("RadGSRegLib.training.pretraining.SamplePool", Watched)
    # One vertebra is mean enough.
    monkeypatch.setattr(bounds, "AVERAGED", 1)
    return seen


def train(cases: Path, folder: Path, *more: str) -> dict:
    """The card of a model that hardly learned anything."""
    options, out = folder / "options.json", folder / "m.safetensors"
    options.write_text(json.dumps(OPTIONS))
    arguments = ["--stage", "2", "--cases", str(cases), "--out", str(out), *more]
    assert cli.main(["pretrain", *arguments, "--config", str(options)]) == 0
    return load_model(out).card


def test_a_fold_is_measured_on_but_not_trained_on(cases, pools, tmp_path, capfd):
    card = train(cases, tmp_path, "--fold", "1")
    everyone = {f"patient-{n}" for n in range(5)}
    assert pools["pairs"] == pools["views"]
    assert pools["unseen"] == pools["unseen-views"] == everyone - pools["pairs"]
    assert len(pools["unseen"]) == 1
    assert card["data"] == {"X-ray cases": 4, "X-ray cases held out": 1, "held-out fold": 1}
    assert card["figures on X-rays of the held-out fold"]
    assert "error on X-rays of the held-out fold" in capfd.readouterr().out


def test_without_a_fold_nothing_is_said_to_be_held_out(cases, pools, tmp_path, capfd):
    card = train(cases, tmp_path)
    assert len(pools["pairs"]) == 5
    assert "unseen" not in pools
    assert card["figures on other crops of the X-rays trained on"]
    assert "held-out" not in capfd.readouterr().out
