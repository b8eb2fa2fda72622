"""The weights that are shipped: they load, they are small and quick, and they have learned."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from RadGSRegLib import cli
from RadGSRegLib.cases import volume_from_itk
from RadGSRegLib.measures import shape_dice
from RadGSRegLib.networks import load_model, shipped_weights
from RadGSRegLib.phantom import LABELS, make_phantom, random_spine
from RadGSRegLib.simulation import simulate_case, write_simulated_case
from RadGSRegLib.training.losses import point_distance
from RadGSRegLib.training.pool import stack_samples
from RadGSRegLib.training.samples import SampleOptions, draw_sample
from RadGSRegLib.training.subjects import make_subject

FOLDER = Path(__file__).resolve().parent.parent / "Resources" / "Models"
# Those of levels and of the standardisation are other networks: test_levels.py, test_standard.py.
MODELS = sorted(p for p in FOLDER.glob("*.safetensors") if p.stem not in ("levels", "standard"))


def test_they_are_there_and_small():
    assert MODELS
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 40e6


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.name)
def test_the_card_says_what_they_are(path):
    card = load_model(path).card
    assert {"what", "use", "data", "training", "limits"} <= set(card)
    assert card["training"]["minutes"] > 0
    assert "Research only" in path.with_suffix(".md").read_text()
    # Nobody's own shape is shipped.
    assert not load_model(path).is_patient_specific


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.name)
def test_they_know_something_of_a_spine_never_seen(path):
    model = load_model(path)
    phantom = make_phantom(random_spine(987_654), 2.0, ["L2", "L3", "L4"])
    subject = make_subject(phantom.ct, phantom.labels, LABELS["L3"])
    axes = np.eye(4)
    axes[:3, :3] = phantom.poses["L3"][:3, :3]
    subject = subject.with_axes(axes)
    samples = [draw_sample(subject, SampleOptions(realism="realistic"), 50 + n) for n in range(6)]
    views, _, poses = stack_samples(samples, model.config.recm.pixel_mm, None)
    began = time.perf_counter()
    found = model.recm.predict(views)
    assert time.perf_counter() - began < 12.0  # six pairs; a busy test machine gets some slack
    truth = poses @ torch.from_numpy(subject.anchors_to_centred).float()
    points = torch.from_numpy(subject.surface_points_ct - subject.centre_ct).float()
    points = points @ truth.new_tensor(subject.anchors_to_centred[:3, :3])
    points = points[None].expand(len(samples), -1, -1)
    error = point_distance(points, truth, found.effect.poses).mean()
    untrained = point_distance(points, truth, torch.eye(4).repeat(len(samples), 1, 1)).mean()
    assert error < 0.8 * untrained


def test_a_vertebra_never_seen_before_is_shown_with_its_mask(tmp_path):
    phantom = make_phantom(random_spine(987_655), 2.0, "L3")
    simulated = simulate_case(phantom.ct, phantom.labels, LABELS["L3"], "realistic", 4)
    case, out = write_simulated_case(simulated, tmp_path / "case"), tmp_path / "out"
    words = ["reconstruct", str(case), "--out", str(out), "--method", "learned"]
    for _ in range(2):  # what is written counts as a result, which may be replaced
        assert cli.main([*words, "--model", str(shipped_weights())]) == 0
    mask = volume_from_itk(sitk.ReadImage(str(out / "vertebra.nii.gz")))
    volume = sitk.ReadImage(str(out / "reconstruction.nii.gz"))
    assert mask.size == volume.GetSize()
    assert set(np.unique(mask.array)) == {0, 1}
    pose = np.asarray(simulated.truth["ct_to_world"])
    inside = mask.with_array(mask.array.astype(np.float32))
    assert shape_dice(inside, phantom.labels, LABELS["L3"], pose) > 0.75
    true_ml = float((phantom.labels.array == LABELS["L3"]).sum()) * 8.0 / 1000.0
    quality = json.loads((out / "reconstruction.json").read_text())["quality"]
    assert quality["volume_ml"] == pytest.approx(true_ml, rel=0.25)
