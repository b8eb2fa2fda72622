"""Vertebrae deformed smoothly: other shapes, never folded, the same again from the same seed."""

from __future__ import annotations

from pathlib import Path

import network_scenes as scenes
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from RadGSRegLib import cli, training
from RadGSRegLib.cases import volume_to_itk
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import affine, transform_points
from RadGSRegLib.phantom import make_phantom, random_spine
from RadGSRegLib.system import Progress
from RadGSRegLib.tensors import applied
from RadGSRegLib.training import population
from RadGSRegLib.training.config import TrainingConfig
from RadGSRegLib.training.deformed import Deformed, free_form
from RadGSRegLib.training.loop import History
from RadGSRegLib.training.patient import patient_model
from RadGSRegLib.training.pool import SamplePool, Simulated
from RadGSRegLib.training.readers import phantom_sources
from RadGSRegLib.training.samples import SampleOptions
from RadGSRegLib.training.stages import Pretraining, TrainingData, training_data
from RadGSRegLib.training.subjects import Subject
from RadGSRegLib.training.trainer import Trainer


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A coarse phantom vertebra."""
    return scenes.coarse_subject()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_space_is_bent_and_never_folded(seed):
    field = sitk.TransformToDisplacementField(
        free_form(np.zeros(3), seed),
        sitk.sitkVectorFloat64,
        [40, 40, 40],
        [-80.0] * 3,
        [4.0] * 3,
    )
    moved = np.linalg.norm(sitk.GetArrayFromImage(field), axis=-1)
    # Some millimetres, as vertebrae differ.
    assert 1.5 < np.sqrt((moved**2).mean()) < 5.0
    volume = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field))
    assert volume.min() > 0.05
    assert volume.std() > 0.05


def test_nothing_moves_where_the_mesh_ends():
    transform = free_form(np.zeros(3), 3)
    for place in (259.0, -259.0, 300.0):
        moved = transform.TransformPoint((place, 10.0, 0.0))
        assert np.allclose(moved, (place, 10.0, 0.0), atol=1e-3)
    assert free_form(np.zeros(3), 3).GetParameters() == transform.GetParameters()


def test_a_vertebra_becomes_another(subject):
    source = Simulated("one", lambda wide: subject)
    first, other = Deformed(source, 1).subject(), Deformed(source, 2).subject()
    again = Deformed(source, 1).subject()
    assert np.array_equal(first.labels.array, again.labels.array)
    assert first.label == subject.label
    assert set(first.centroids) == set(subject.centroids)

    def volume(one: Subject) -> float:
        return float((np.asarray(one.labels.array) == one.label).sum() * one.labels.spacing.prod())

    # As much bone as before, if not in the same places.
    assert volume(first) == pytest.approx(volume(subject), rel=0.35)
    sizes = [np.ptp(s.surface_points_ct, axis=0) for s in (subject, first, other)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(sizes[a] - sizes[b]).max() > 0.5
    hu = np.asarray(first.ct.array)
    assert np.isfinite(hu).all()
    assert hu.min() >= min(float(np.asarray(subject.ct.array).min()), -1000.0)


def test_wide_or_not_it_is_the_same_vertebra(tmp_path: Path):
    (source,) = phantom_sources(1, 5, spacing_mm=3.0, folder=tmp_path)[2:3]
    narrow, wide = (Deformed(source, 4).subject(w) for w in (False, True))
    assert np.linalg.norm(narrow.centre_ct - wide.centre_ct) < 1.5


def test_pairs_are_made_of_it(subject):
    source = Deformed(Simulated("one", lambda wide: subject), 1)
    options = SampleOptions(size_px=32, pixel_mm=4.0)
    (pair,) = SamplePool([source], options, 0, None).samples([0])
    assert pair.images.shape == (2, 32, 32)
    assert float(pair.targets.amax()) > 0.0
    assert source.name == "one, deformed 1"


def test_real_xrays_show_a_vertebra_as_it_is(subject):
    real = Simulated("real", lambda wide: subject, simulated=False)
    with pytest.raises(InputError, match="has real X-rays"):
        Deformed(real, 1)


def test_a_stage_takes_copies_of_each_vertebra_of_a_ct(tmp_path):
    phantom = make_phantom(random_spine(8), 3.0, ["L2", "L3", "L4"])
    for kind, volume in (("ct", phantom.ct), ("vertebrae", phantom.labels)):
        sitk.WriteImage(volume_to_itk(volume), str(tmp_path / f"a_{kind}.nii.gz"))
    asked = Pretraining(1, tmp_path / "m.safetensors", phantoms=1, cts=tmp_path, deformed=2)
    data = training_data(asked, TrainingConfig(), tmp_path / "work")
    names = [source.name for source in data.train]
    own = [name for name in names if name.startswith("a_ct") and "deformed" not in name]
    assert own
    assert [n for n in names if "deformed" in n] == [
        f"{name}, deformed {number}" for number in (0, 1) for name in own
    ]
    assert data.facts["deformed copies of each vertebra of a CT"] == 2
    alone = Pretraining(1, tmp_path / "m.safetensors", phantoms=1, deformed=2)
    with pytest.raises(InputError, match="is of CTs' vertebrae"):
        training_data(alone, TrainingConfig(), tmp_path / "work")


def test_what_was_bent_is_known_point_by_point(subject):
    bent = Deformed(Simulated("one", lambda wide: subject), 1).subject()
    assert bent.undeformed_to_centred is not None
    before = subject.surface_points_ct - subject.centre_ct
    after = bent.undeformed_to_centred(before) + bent.centre_ct
    # The bent mask's surface is where that of the mask went, to a voxel of 3 mm.
    apart = cKDTree(bent.surface_points_ct).query(after)[0]
    assert np.sqrt((apart**2).mean()) < 3.0
    unbent = cKDTree(bent.surface_points_ct).query(subject.surface_points_ct)[0]
    assert np.sqrt((apart**2).mean()) < np.sqrt((unbent**2).mean())
    # And it goes back to where it came from.
    back = free_form(np.round(subject.centre_ct), 1)
    there = np.array([back.TransformPoint(p) for p in after.tolist()])
    assert np.allclose(there, before + subject.centre_ct, atol=0.01)
    # Axes that are known go with it; what is left is no rigid motion.
    axes = bent.anchors_to_centred
    rigid = before @ axes[:3, :3].T + axes[:3, 3]
    left = bent.undeformed_to_centred(before) - rigid
    turn = Rotation.align_vectors(rigid + left - (rigid + left).mean(0), rigid - rigid.mean(0))
    assert np.rad2deg(turn[0].magnitude()) < 0.1
    assert np.abs(left.mean(0)).max() < 0.05
    assert 0.5 < np.sqrt((left**2).sum(1).mean()) < 6.0


def test_of_a_deformed_vertebra_regm_is_given_the_ct_as_it_was(subject):
    config = scenes.SHORT_TRAINING
    source = Simulated("one", lambda wide: subject)
    model = patient_model(subject, config)
    pool = SamplePool([source, Deformed(source, 1)], config.samples, 0, None)
    trainer = Trainer(model, pool, config)
    batch = trainer._batch([0, 1], None)
    ct, poses, points = batch.to_register()
    assert torch.equal(ct[0], ct[1])
    assert not torch.equal(ct[1], batch.ct[1])
    assert torch.equal(poses[0], batch.centred_to_box[0])
    assert torch.allclose(
        applied(poses[1], points[1]), applied(batch.centred_to_box[1], batch.points[1]), atol=1e-3
    )
    # Without copies it is what it always is.
    alone = SamplePool([source], config.samples, 0, None)
    assert not len(Trainer(model, alone, config)._batch([0], None).before)


def test_a_patients_training_takes_copies_of_the_patients(tmp_path, monkeypatch):
    asked = []

    def train(what, config, progress):
        asked.append((what, config))
        return History([dict.fromkeys(("step", "minutes", "recm_mm", "regm_mm", "error_mm"), 1.0)])

    monkeypatch.setattr(training, "pretrain", train)
    words = ["pretrain", "--stage", "3", "case.json", "--out", str(tmp_path / "m.safetensors")]
    assert cli.main([*words, "--deformed", "6"]) == 0
    assert cli.main(words) == 0
    (bent, config), (plain, other) = asked
    assert (bent.deformed, plain.deformed) == (6, 0)
    # Its shape is what the X-rays are asked for later; nothing but its pose is learned.
    assert config == other
    assert not config.model.recm.residual
    assert cli.main([*words, "--deformed", "6", "--paper"]) == 2


def test_axes_are_looked_for_once_and_go_with_the_copies(subject, tmp_path, monkeypatch):
    calls = []

    def find(subject: Subject, mean: object) -> np.ndarray:
        calls.append(1)
        return affine(Rotation.from_euler("x", 10.0, degrees=True).as_matrix(), [0.0, 0.0, 0.0])

    monkeypatch.setattr(population, "find_axes", find)
    source = Simulated("one", lambda wide: subject)
    known = phantom_sources(1, 5, spacing_mm=3.0, folder=tmp_path)[2:3]
    data = TrainingData([*known, source, Deformed(source, 0), Deformed(source, 1)])
    population._turned(TrainingConfig(), data, tmp_path, Progress())
    assert len(calls) == 1
    plain, bent, _ = (one.subject() for one in data.train[1:])
    assert all(source.axes_known for source in data.train)
    wanted = bent.undeformed_to_centred(plain.surface_points_ct - plain.centre_ct)
    back = np.linalg.inv(np.asarray(bent.anchors_to_centred))
    rigid = transform_points(np.asarray(plain.anchors_to_centred) @ back, wanted)
    # The rest is what no rigid motion says.
    assert np.abs((rigid - (plain.surface_points_ct - plain.centre_ct)).mean(0)).max() < 0.5
