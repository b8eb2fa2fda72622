"""Training: pairs by number, resuming after a kill, cancelling, budgets, several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import network_scenes as scenes
import numpy as np
import pytest
import torch

from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import Volume
from RadGSRegLib.system import Progress
from RadGSRegLib.training.board import board
from RadGSRegLib.training.checkpoint import load_checkpoint
from RadGSRegLib.training.config import TrainingConfig, read_config
from RadGSRegLib.training.kept import keep, read_kept
from RadGSRegLib.training.objective import Objective
from RadGSRegLib.training.patient import patient_model
from RadGSRegLib.training.pool import SamplePool, Simulated, stack_samples
from RadGSRegLib.training.samples import SampleOptions, draw_sample, project_target
from RadGSRegLib.training.subjects import Subject, make_subject
from RadGSRegLib.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("brief_fit")

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = SampleOptions(realism="realistic")
CONFIG = scenes.SHORT_TRAINING


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A coarse phantom vertebra."""
    return scenes.coarse_subject()


@pytest.fixture(scope="module")
def folder(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pairs of all tests are kept."""
    return tmp_path_factory.mktemp("pairs")


def _pool(subject: Subject, folder: Path | None, config: TrainingConfig = CONFIG) -> SamplePool:
    return SamplePool([Simulated("phantom", lambda wide: subject)], config.samples, 0, folder)


def _trainer(
    subject: Subject, folder: Path, work: Path | None, config: TrainingConfig = CONFIG
) -> Trainer:
    torch.manual_seed(0)
    model = patient_model(subject, config)
    return Trainer(
        model, _pool(subject, folder, config), replace(config, model=model.config), folder=work
    )


def test_a_sample_shows_the_vertebra_where_its_truth_says(subject):
    sample = draw_sample(subject, OPTIONS, 3)
    again = draw_sample(subject, OPTIONS, 3)
    for name, array in sample.to_arrays().items():
        assert np.array_equal(array, again.to_arrays()[name])
    assert sample.images.shape == (2, 128, 128)
    # The truth's own projection is where the X-ray has its local contrast.
    views, targets, _ = stack_samples([sample], 2.0, None)
    fine = targets - torch.nn.functional.avg_pool2d(
        targets, 9, stride=1, padding=4, count_include_pad=False
    )
    inside = targets > 0.1 * targets.max()
    seen = views.pictures[:, :, 1]
    right = torch.corrcoef(torch.stack([seen[inside], fine[inside]]))[0, 1]
    off = torch.roll(fine, (9, 9), (2, 3))
    wrong = torch.corrcoef(torch.stack([seen[inside], off[inside]]))[0, 1]
    assert right > 0.4
    assert right > wrong + 0.2


def test_moving_the_box_keeps_the_truth(subject):
    sample = draw_sample(subject, replace(OPTIONS, realism="clean"), 4)
    views, targets, poses = stack_samples([sample], 2.0, np.random.default_rng(1))
    moved = poses[0].double().numpy()
    assert np.linalg.norm(moved[:3, 3] - sample.centred_to_box[:3, 3].numpy()) > 0.5
    from RadGSRegLib.geometry import Camera, translation
    from RadGSRegLib.networks.crops import Frame

    cameras = tuple(
        Camera(k.double().numpy(), e.double().numpy(), 64, 64)
        for k, e in zip(views.intrinsics[0], views.extrinsics[0], strict=True)
    )
    wanted = project_target(
        subject.excess, Frame(np.eye(4), cameras), moved @ translation(-subject.centre_ct)
    )
    error = (targets[0] - wanted).abs().sum() / wanted.sum()
    assert error < 0.1


def test_pairs_follow_from_their_number_alone(subject, folder):
    a, b = _pool(subject, None), _pool(subject, None)
    first = a.sample(2)
    b.sample(5)
    assert np.array_equal(first.images, b.sample(2).images)
    kept = _pool(subject, folder)
    kept.sample(2)
    read = _pool(subject, folder).sample(2)
    assert np.array_equal(read.images, first.images)
    assert np.allclose(read.targets, first.targets, atol=2e-3)
    # Whatever has happened to a file, the sentence names it.
    whole = (folder / "0-2.npz").read_bytes()
    turned = whole[:200] + bytes([whole[200] ^ 255]) + whole[201:]
    broken = folder / "0-999.npz"
    for content in (b"", b"nothing", whole[: len(whole) // 2], whole[:-10], turned):
        broken.write_bytes(content)
        with pytest.raises(InputError, match=r"0-999\.npz: is damaged"):
            kept.sample(999)
    broken.unlink()


def test_vertebrae_beyond_the_memory_are_made_again(subject, monkeypatch):
    made: list[str] = []

    def source(name: str) -> Simulated:
        def load(wide: bool) -> Subject:
            made.append(name)
            return replace(subject, _scenes={})

        return Simulated(name, load)

    def pool() -> SamplePool:
        made.clear()
        return SamplePool([source(name) for name in "abc"], CONFIG.samples, 0, None)

    wanted = pool().samples(range(6))
    assert made == ["a", "b", "c"]
    monkeypatch.setattr("RadGSRegLib.training.pool._KEPT_BYTES", 1)
    got = pool().samples(range(6))
    # They are visited in turn: what came first stays.
    assert made == ["a", "b", "c", "b", "c"]
    for ours, theirs in zip(got, wanted, strict=True):
        assert torch.equal(ours.images, theirs.images)


def test_arrays_are_kept_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.npz"
    assert read_kept(path) is None
    keep(path, {"a": np.arange(3), "b": np.eye(2)})
    again = read_kept(path)
    assert again is not None
    assert {name: array.tolist() for name, array in again.items()} == {
        "a": [0, 1, 2],
        "b": [[1.0, 0.0], [0.0, 1.0]],
    }

    class Unwritable:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            raise OSError("the disk is full")

    with pytest.raises(InputError, match=r"a\.npz: cannot be written .the disk is full"):
        keep(path, {"a": Unwritable()})  # type: ignore[dict-item]
    assert [file.name for file in path.parent.iterdir()] == ["a.npz"]
    assert list(read_kept(path) or {}) == ["a", "b"]
    with pytest.raises(InputError, match=r"a\.npz: cannot be made"):
        keep(path / "b.npz", {})


def test_workers_change_nothing_but_the_waiting(subject):
    alone = _pool(subject, None)
    helped = SamplePool(
        [Simulated("phantom", lambda wide: subject)], CONFIG.samples, 0, None, workers=2
    )
    helped.prefetch(range(3))
    try:
        for number in range(3):
            ours, theirs = alone.sample(number), helped.sample(number)
            assert np.array_equal(ours.images, theirs.images)
            assert np.array_equal(ours.targets, theirs.targets)
    finally:
        helped.close()


def test_tensorboard_gets_what_was_measured(subject, folder, tmp_path):
    pytest.importorskip("tensorboard")
    with board(tmp_path) as write:
        trainer = _trainer(subject, folder, None, replace(CONFIG, steps=2))
        trainer.log = write
        trainer.run()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert "validation/recm_mm" in events.Tags()["scalars"]


def test_a_killed_run_goes_on_to_the_same_weights(subject, folder, tmp_path):
    whole = _trainer(subject, folder, tmp_path / "whole")
    whole.run()

    def kill(fraction: float, message: str) -> None:
        if broken.step == 6:
            raise RuntimeError("killed")

    broken = _trainer(subject, folder, tmp_path / "broken")
    with pytest.raises(RuntimeError, match="killed"):
        broken.run(Progress(kill))
    resumed = _trainer(subject, folder, tmp_path / "broken")
    history = resumed.run()
    assert resumed.step == whole.step == 8
    assert [e["step"] for e in history.entries] == [4.0, 8.0]
    # The time before the kill counts too.
    assert 0.0 < history.entries[0]["minutes"] < history.entries[1]["minutes"]
    state = resumed.model.state_dict()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    other = torch.nn.Linear(2, 3)
    adam = torch.optim.Adam(other.parameters())
    with pytest.raises(InputError, match="another network"):
        load_checkpoint(tmp_path / "whole" / Trainer.checkpoint_name, other, adam)


def test_cancelling_keeps_a_checkpoint_and_minutes_end_a_run(subject, folder, tmp_path):
    trainer = _trainer(subject, folder, tmp_path)
    with pytest.raises(Cancelled):
        trainer.run(Progress(lambda fraction, message: trainer.step < 2))
    assert (tmp_path / Trainer.checkpoint_name).is_file()
    timed = _trainer(subject, folder, None, replace(CONFIG, steps=10**6))
    history = timed.run(minutes=0.02)
    assert 0 < timed.step < 1000
    assert history.entries


def test_a_step_learns(subject, folder):
    trainer = _trainer(subject, folder, None)
    batch = trainer._batch([0, 1, 2], None)
    objective = Objective(trainer.model, CONFIG.extra).eval()
    optimizer = torch.optim.Adam(trainer.model.parameters(), lr=2e-3)
    for phase in ("recm", "regm", "joint"):
        losses = []
        for _ in range(12):
            loss = objective(batch, phase, 1)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.95 * losses[0], phase


def test_the_clock_alone_may_end_a_training():
    config = CONFIG.by_clock()
    assert min(config.steps, config.detection.steps) > 10**6
    assert min(config.decoding.steps, config.standard.steps) > 10**6
    same = replace(config, steps=CONFIG.steps, detection=CONFIG.detection)
    assert replace(same, decoding=CONFIG.decoding, standard=CONFIG.standard) == CONFIG


def test_configurations_come_from_files(tmp_path):
    path = tmp_path / "c.json"
    path.write_text('{"batch": 5, "model": {"recm": {"encoder": "vit12"}}, "rate": 1}')
    config = read_config(path)
    assert (config.batch, config.model.recm.encoder, config.rate) == (5, "vit12", 1)
    assert config.model.recm.pixel_mm == TrainingConfig().model.recm.pixel_mm
    for text, message in (
        ('{"batches": 5}', "batches"),
        ('{"batch": "five"}', "batch"),
        ('{"batch": 0}', "batch"),
        ('{"model": 3}', "model"),
        ('{"model": {"modes": 8}}', "shapes.modes"),
        ("{", "is not JSON"),
        ("[]", "no JSON object"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_config(path)
    path.write_text('{"samples": {"level": "hard"}}')
    with pytest.warns(FutureWarning, match="samples.realism"):
        assert read_config(path).samples.realism == "hard"
    other = tmp_path / "c.yaml"
    other.write_text("batch: 5\nmodel:\n  recm:\n    encoder: vit12\nrate: 1\n")
    assert read_config(other) == config


_WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1] + "/Testing")
import torch
torch.set_num_threads(1)
import test_training_loop as t
from dataclasses import replace
subject = t.scenes.coarse_subject()
config = replace(t.CONFIG, steps=4, batch=4, checkpoint_every=100, validate_every=100)
trainer = t._trainer(subject, Path(sys.argv[2]), None, config)
trainer.run()
torch.distributed.barrier()
total = sum(float(v.double().abs().sum()) for v in trainer.model.state_dict().values())
said = f"{trainer.rank} {trainer.world} {trainer.step} {total:.9f}"
Path(sys.argv[3], f"rank-{trainer.rank}.txt").write_text(said)
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_train_one_model(subject, folder, tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(_WORKER)
    for number in range(6):
        _pool(subject, folder).sample(number)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        + [str(script), str(ROOT), str(folder), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = [path.read_text().split() for path in sorted(tmp_path.glob("rank-*.txt"))]
    assert [line[:3] for line in said] == [["0", "2", "4"], ["1", "2", "4"]]
    # The same weights in both, though each saw half of every batch.
    assert said[0][3] == said[1][3]


def test_surface_points_reach_from_end_to_end(subject):
    points = subject.surface_points_ct
    assert len(points) == 500
    kji = np.argwhere(subject.excess.array > 0)
    whole = subject.excess.physical_points(kji[:, ::-1].astype(float))
    for quantity in (np.min, np.max):
        ends = quantity(points, axis=0) - quantity(whole, axis=0)
        assert np.abs(ends).max() <= subject.excess.spacing.max()
    half = whole[:, 2] > np.median(whole[:, 2])
    upper = points[:, 2] > np.median(whole[:, 2])
    assert abs(upper.mean() - half.mean()) < 0.1


def test_a_subject_needs_its_label(subject):
    labels = subject.labels.with_array(np.zeros_like(subject.labels.array))
    with pytest.raises(InputError, match="no label"):
        make_subject(subject.ct, labels, 22)
    with pytest.raises(InputError, match="another grid"):
        make_subject(subject.ct, Volume(labels.array[1:], labels.index_to_physical), 22)
