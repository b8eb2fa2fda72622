"""Training the detector: whole views, disguises, learning, going on after a kill."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import network_scenes as scenes
import numpy as np
import pytest
import torch

from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import Volume
from RadGSRegLib.networks.crops import make_frame
from RadGSRegLib.networks.detector import Detector, DetectorConfig
from RadGSRegLib.phantom import LABELS, make_phantom, random_spine
from RadGSRegLib.system import Progress
from RadGSRegLib.training.config import DetectionOptions
from RadGSRegLib.training.detection import DetectorTrainer, detection_loss, measure
from RadGSRegLib.training.pool import SamplePool
from RadGSRegLib.training.samples import Sample, SampleOptions, draw_sample
from RadGSRegLib.training.subjects import Subject, make_subject
from RadGSRegLib.training.whole_views import show, whole_views

CONFIG = DetectorConfig(size_px=32, pixel_mm=6.0, width=8)
VIEWS = whole_views(SampleOptions(), CONFIG)
OPTIONS = DetectionOptions(
    steps=8, batch=4, pairs=12, first_pairs=4, validate=4, validate_every=4, checkpoint_every=3
)


@dataclass(frozen=True)
class Dots:
    """Quick pairs: a bright ball in a noisy picture, a smaller one 40 mm above it."""

    name: str = "dots"
    simulated: bool = False

    def subject(self, wide: bool = False) -> Subject:
        assert wide
        return SimpleNamespace(nbytes=0)  # type: ignore[return-value]

    def sample(self, subject: Subject, options: SampleOptions, seed: int) -> Sample:
        rng = np.random.default_rng(seed)
        frame = make_frame(
            scenes.cameras(),
            [0.0, 0.0, 0.0],
            size_px=options.size_px,
            pixel_mm=options.pixel_mm,
        )
        centres = np.array([rng.uniform(-40.0, 40.0, 3)] * 2)
        centres[1, 2] += 40.0
        images = []
        for camera in frame.cameras:
            v, u = np.mgrid[: options.size_px, : options.size_px]
            image = rng.normal(0.0, 0.1, u.shape)
            for (x, y), radius in zip(camera.project(centres), (14.0, 7.0), strict=True):
                away = np.hypot(u - x, v - y) * options.pixel_mm
                image += np.exp(-((away / radius) ** 4))
            images.append(image)
        stacked = np.stack(images).astype(np.float32)
        pose = np.eye(4, dtype=np.float32)
        pose[:3, 3] = centres[0]
        shown = torch.from_numpy(stacked)
        return Sample(
            shown,
            torch.ones_like(shown),
            torch.zeros_like(shown),
            frame.intrinsics(),
            frame.extrinsics(),
            torch.from_numpy(pose),
            torch.from_numpy(centres).float(),
        )


def _trainer(folder: Path | None, options: DetectionOptions = OPTIONS) -> DetectorTrainer:
    torch.manual_seed(0)
    pool = SamplePool([Dots()], VIEWS, 0, None)
    return DetectorTrainer(Detector(CONFIG), pool, options, own=True, folder=folder)


@pytest.fixture(scope="module")
def phantom():
    """A coarse lumbar spine."""
    return make_phantom(random_spine(5), 2.0, "lumbar")


def test_a_wide_subject_is_coarser_and_reaches_farther(phantom):
    fine = make_subject(phantom.ct, phantom.labels, LABELS["L3"])
    wide = make_subject(phantom.ct, phantom.labels, LABELS["L3"], wide=True)
    assert np.prod(wide.ct.size) > 1.2 * np.prod(fine.ct.size)
    assert np.linalg.norm(wide.centre_ct - fine.centre_ct) < 1.0
    assert np.array_equal(wide.centroids_ct[0], wide.centre_ct)
    # A CT of half the spacing is averaged to the same grid's size.
    half = np.repeat(np.repeat(np.repeat(phantom.ct.array, 2, 0), 2, 1), 2, 2)
    matrix = phantom.ct.index_to_physical @ np.diag([0.5, 0.5, 0.5, 1.0])
    matrix[:3, 3] = phantom.ct.physical_points([[-0.25] * 3])[0]
    labels = np.repeat(np.repeat(np.repeat(phantom.labels.array, 2, 0), 2, 1), 2, 2)
    finer = make_subject(Volume(half, matrix), Volume(labels, matrix), LABELS["L3"], wide=True)
    assert finer.ct.spacing.max() > 2.9
    assert np.linalg.norm(finer.centre_ct - fine.centre_ct) < 1.0
    assert finer.ct.array.mean() == pytest.approx(wide.ct.array.mean(), abs=15.0)


def test_a_whole_view_says_where_all_vertebrae_are(phantom):
    subject = make_subject(phantom.ct, phantom.labels, LABELS["L3"], wide=True)
    sample = draw_sample(subject, whole_views(SampleOptions(), DetectorConfig()), 3)
    assert sample.images.shape == (2, 128, 128)
    assert len(sample.centres) == len(subject.centroids)
    assert np.allclose(sample.centres[0], sample.centred_to_box[:3, 3], atol=1e-3)
    # Each vertebra moves by itself, by 3 mm and 5 degrees at most.
    truth = np.linalg.norm(subject.centroids_ct - subject.centre_ct, axis=1)
    seen = np.linalg.norm(sample.centres - sample.centres[0], axis=1)
    assert np.abs(truth - seen).max() < 6.5
    assert np.linalg.norm(sample.centres[0]) < 51.0
    older = {k: v for k, v in sample.to_arrays().items() if k != "centres"}
    assert np.allclose(Sample.from_arrays(older).centres, sample.centres[:1], atol=1e-3)


def test_disguises_keep_the_truth():
    samples = [Dots().sample(None, VIEWS, seed) for seed in range(6)]  # type: ignore[arg-type]
    rows = torch.arange(16) * 2 + 0.5
    for generator in (None, np.random.default_rng(2)):
        shown = show(samples, CONFIG, True, generator)
        assert shown.pictures.shape == (12, 2, 32, 32)
        assert shown.lateral.tolist() == [0.0, 1.0] * 6
        hits = 0
        for picture, valid, wanted in zip(shown.pictures, shown.valid, shown.wanted, strict=True):
            assert float(wanted.sum()) == pytest.approx(1.0, abs=1e-4) or not wanted.any()
            best = int(wanted.argmax())
            row, column = int(rows[best // 16]), int(rows[best % 16])
            # The vertebra is what is brightest there, or darkest.
            part = picture[0].abs()[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            hits += float(part.amax()) > 0.9 and bool(valid[row, column])
        # Now and then a disguise covers the vertebra itself.
        assert hits >= (12 if generator is None else 8)
    apart = show(samples[:1], CONFIG, True, None).wanted[0]
    alike = show(samples[:1], CONFIG, False, None).wanted[0]
    best = int(apart.argmax())
    around = tuple(slice(max(n - 1, 0), n + 2) for n in divmod(best, 16))
    # Three quarters for the vertebra itself, else a half for each of two.
    assert float(apart[around].sum() / alike[around].sum()) == pytest.approx(1.5, abs=0.05)


def test_training_finds_the_vertebra():
    options = replace(OPTIONS, steps=45, batch=6, pairs=64, first_pairs=32, validate=8, rate=5e-3)
    trainer = _trainer(None, options)
    before = measure(trainer.detector, [trainer.pool.sample(10**6 + n) for n in range(8)], own=True)
    entries = trainer.run().entries
    assert entries[-1]["step"] == 45
    assert entries[-1]["first_mm"] < 10.0
    assert entries[-1]["first_mm"] < 0.4 * before["first_mm"]
    assert entries[-1]["among"] >= entries[-1]["first"] >= 0.75


def test_the_loss_is_the_cross_entropy():
    samples = [Dots().sample(None, VIEWS, 1)]  # type: ignore[arg-type]
    shown = show(samples, CONFIG, False, None)
    even = detection_loss(Detector(CONFIG), shown)
    # Untrained, every one of 16 x 16 cells is as likely.
    assert float(even.detach()) == pytest.approx(np.log(256.0), abs=1e-4)


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path):
    whole = _trainer(tmp_path / "whole")
    entries = whole.run().entries

    def kill(fraction: float, message: str) -> None:
        if broken.step == 5:
            raise RuntimeError("killed")

    broken = _trainer(tmp_path / "broken")
    with pytest.raises(RuntimeError, match="killed"):
        broken.run(Progress(kill))
    resumed = _trainer(tmp_path / "broken")
    assert resumed.run().entries == entries
    assert [e["step"] for e in entries] == [4.0, 8.0]
    state = resumed.detector.state_dict()
    for name, tensor in whole.detector.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    # What has ended is not taken up again, whatever the clock says.
    again = _trainer(tmp_path / "whole", replace(OPTIONS, steps=100))
    assert again.run(minutes=1.0).entries == entries
    assert again.step == 8


def test_cancelling_and_stopping_keep_a_checkpoint(tmp_path):
    trainer = _trainer(tmp_path)
    with pytest.raises(Cancelled):
        trainer.run(Progress(lambda fraction, message: trainer.step < 2))
    assert (tmp_path / DetectorTrainer.checkpoint_name).is_file()
    stopped = _trainer(tmp_path)
    stopped.run(enough=lambda: stopped.step == 4)
    assert stopped.step == 4
    on = _trainer(tmp_path)
    on.run()
    assert on.step == 8
    timed = _trainer(None, replace(OPTIONS, steps=10**6))
    assert timed.run(minutes=0.01).entries[-1]["step"] == timed.step > 0


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="batch"):
        DetectionOptions(batch=0)
    with pytest.raises(InputError, match="share"):
        DetectionOptions(share=1.0)
