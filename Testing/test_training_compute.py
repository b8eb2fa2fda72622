"""How networks are trained: precision, batches ahead of time, compiled or not."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import network_scenes as scenes
import numpy as np
import pytest
import torch
from test_training_pretrain import OPTIONS, case_path

from RadGSRegLib import cli
from RadGSRegLib.errors import InputError
from RadGSRegLib.gaussians import rasterize
from RadGSRegLib.geometry import exp_se3, translation
from RadGSRegLib.networks import Detector, DetectorConfig, load_model, recm
from RadGSRegLib.networks.crops import make_frame
from RadGSRegLib.system import Progress
from RadGSRegLib.training import objective
from RadGSRegLib.training.ahead import Ahead, PinnedCopies, each
from RadGSRegLib.training.compute import Compiled, Compute
from RadGSRegLib.training.config import PhaseShares, TrainingConfig
from RadGSRegLib.training.detection import detection_loss
from RadGSRegLib.training.objective import Objective
from RadGSRegLib.training.patient import patient_model
from RadGSRegLib.training.pool import Batch, SamplePool, numbers_of_step
from RadGSRegLib.training.samples import Sample, SampleOptions, project_target
from RadGSRegLib.training.subjects import Subject
from RadGSRegLib.training.trainer import Trainer
from RadGSRegLib.training.whole_views import Shown

pytestmark = pytest.mark.usefixtures("brief_fit")

__all__ = ["case_path"]  # a fixture

SHORT = replace(
    scenes.SHORT_TRAINING, shares=PhaseShares(2, 2, 1), steps=5, validate=1, validate_every=100
)


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A coarse phantom vertebra."""
    return scenes.coarse_subject()


@dataclass(frozen=True)
class Bare:
    """A source of X-rays that show the vertebra alone, which is simulated far faster."""

    of: Subject
    name: str = "bare"
    axes_known: bool = False
    simulated: bool = False

    def subject(self, wide: bool = False) -> Subject:
        return self.of

    def sample(self, subject: Subject, options: SampleOptions, seed: int) -> Sample:
        frame = make_frame(
            scenes.cameras(), [0.0] * 3, size_px=options.size_px, pixel_mm=options.pixel_mm
        )
        rng = np.random.default_rng(seed)
        pose = exp_se3([*rng.normal(0.0, 0.1, 3), *rng.normal(0.0, 4.0, 3)])
        targets = project_target(subject.excess, frame, pose @ translation(-subject.centre_ct))
        images = targets + torch.from_numpy(rng.normal(0.0, 0.01, targets.shape))
        return Sample(
            images.float(),
            torch.ones_like(targets),
            targets,
            frame.intrinsics(),
            frame.extrinsics(),
            torch.from_numpy(pose).float(),
            torch.from_numpy(pose[None, :3, 3]).float(),
        )


def trainer(
    subject: Subject, work: Path | None = None, **changes: object
) -> tuple[Trainer, list[float]]:
    """A trainer, and the losses of its steps once it has run."""
    torch.manual_seed(0)
    config = replace(SHORT, **changes)
    model = patient_model(subject, config)
    made = Trainer(
        model,
        SamplePool([Bare(subject)], config.samples, 0, None),
        replace(config, model=model.config),
        folder=work,
    )
    losses: list[float] = []
    descend = made._descend

    def noted(loss: torch.Tensor, rate: float) -> None:
        descend(loss, rate)
        losses.append(float(loss.detach()))

    made._descend = noted  # type: ignore[method-assign]
    return made, losses


def plain_losses(subject: Subject) -> list[float]:
    """The same training written down again, without anything that can be switched on."""
    made, _ = trainer(subject)
    model, pool = made.model, SamplePool([Bare(subject)], SHORT.samples, 0, None)
    objective = Objective(model, SHORT.extra)
    adam = torch.optim.Adam(model.parameters(), lr=SHORT.rate)
    losses = []
    for step in range(SHORT.steps):
        phase, over = SHORT.shares.at(step / SHORT.steps)
        known = min(SHORT.pairs, SHORT.first_pairs + int(step / SHORT.steps_per_pair))
        numbers = numbers_of_step(SHORT.seed, step, SHORT.batch, known)
        batch = made._batch(
            [int(n) for n in numbers], np.random.default_rng([SHORT.seed, step, 9, 0]), pool
        )
        model.recm.generator = torch.Generator().manual_seed(SHORT.seed * 1_000_003 + step * 64)
        rendered = SHORT.rendered if step % SHORT.render_every == 0 else 0
        if phase == "joint":
            batch = batch.first(SHORT.joint_cases)
            rendered = len(batch.views)
        model.train()
        loss = objective(batch, phase, rendered)["loss"]
        after = 0.4 if phase == "joint" else 1.0
        falling = 0.5 + 0.5 * np.cos(np.pi * over) + 0.01
        for group in adam.param_groups:
            group["lr"] = min(1.0, (step + 1) / 30) * SHORT.rate * after * falling
        adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.fixture(scope="module")
def expected(subject: Subject) -> list[float]:
    losses = plain_losses(subject)
    assert len(set(losses)) == SHORT.steps
    return losses


def test_with_all_switches_off_nothing_has_changed(subject, expected):
    for precision in ("auto", "float32"):
        made, losses = trainer(subject, precision=precision)
        made.run()
        assert losses == expected


# Precision


def test_what_auto_means(monkeypatch):
    assert TrainingConfig().precision == "auto"
    assert not Compute("cpu").reduced
    assert Compute("cpu", "bfloat16").reduced
    for capability in ((7, 5), (8, 0), (9, 0)):
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda _, c=capability: c)
        assert Compute("cuda").reduced is (capability >= (8, 0))
        assert Compute("cuda:1").reduced is (capability >= (8, 0))
        assert not Compute("cuda", "float32").reduced
    with pytest.raises(InputError, match="no precision 'half'"):
        TrainingConfig(precision="half")


def test_geometry_stays_in_full_precision(monkeypatch):
    """With the networks in bfloat16 poses are rigid, and anchors project to the same pixels."""
    model = scenes.shaken(scenes.tiny_model()).recm
    batch = scenes.rendered_batch(scenes.lopsided_cloud())
    projected = []

    def project(points: torch.Tensor, *cameras: torch.Tensor) -> torch.Tensor:
        pixels = actual(points, *cameras)
        projected.append((pixels, actual(points.double(), *(c.double() for c in cameras))))
        return pixels

    actual = recm.project
    monkeypatch.setattr(recm, "project", project)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        prediction = model(batch)
    assert len(projected) == 2
    for pixels, truth in projected:
        assert pixels.dtype == torch.float32
        assert float((pixels - truth).abs().max()) < 1e-3
    for answer in (prediction.effect, prediction.factual):
        assert {answer.poses.dtype, answer.raw.dtype, answer.stretch.dtype} == {torch.float32}
        turn = answer.poses[:, :3, :3].double()
        rigid = turn @ turn.transpose(1, 2)
        torch.testing.assert_close(rigid, torch.eye(3).double()[None], atol=1e-5, rtol=0.0)
        moved = (turn.detach() - torch.eye(3)).abs().max()
        assert float(moved) > 1e-2  # the weights are such that it turns at all
    full = model(batch)
    # The generator of random attention differs; the answer without it is nearly the same.
    torch.testing.assert_close(prediction.factual.poses, full.factual.poses, atol=0.2, rtol=0.02)
    assert not torch.equal(prediction.factual.poses, full.factual.poses)


def test_losses_and_rendering_stay_in_full_precision(subject, monkeypatch):
    drawn = []

    def render(cloud: object, *scene: object) -> torch.Tensor:
        assert not torch.is_autocast_enabled("cpu")
        drawn.append(cloud.dtype)  # type: ignore[attr-defined]
        return rasterize(cloud, *scene)  # type: ignore[arg-type]

    monkeypatch.setattr(objective, "rasterize", render)
    made, _ = trainer(subject)
    scenes.shaken(made.model)
    batch = made._batch([0, 1], None)
    answers, compared = [], []
    made.model.recm.register_forward_hook(lambda *call: answers.append(call[-1].effect.poses))
    distance = objective.losses.point_distance

    def noted(points: torch.Tensor, truth: torch.Tensor, poses: torch.Tensor) -> torch.Tensor:
        compared.append(poses)
        return distance(points, truth, poses)

    monkeypatch.setattr(objective.losses, "point_distance", noted)
    for phase in ("recm", "regm", "joint"):
        values = []
        for reduced in (True, False):
            made.model.recm.generator = torch.Generator().manual_seed(1)
            part = Objective(made.model, SHORT.extra, reduced=reduced)
            loss = part(batch, phase, 1)["loss"]
            assert loss.dtype == torch.float32
            values.append(float(loss.detach()))
        assert values[0] == pytest.approx(values[1], rel=0.02), phase
        assert values[0] != values[1]
    assert set(drawn) == {torch.float32}
    # What the networks answer in full precision is compared in full precision.
    assert len(answers) == 4
    for poses in answers:
        assert any(torch.equal(poses, other) for other in compared)


def test_a_detector_in_half_precision():
    torch.manual_seed(0)
    detector = scenes.shaken(Detector(DetectorConfig(size_px=32, width=4)))
    wanted = torch.zeros(2, 16, 16)
    wanted[:, 3, 4] = 1.0
    shown = Shown(torch.randn(2, 2, 32, 32), torch.ones(2, 32, 32), torch.ones(2), wanted)
    full = detection_loss(detector, shown)
    half = detection_loss(detector, shown, reduced=True)
    assert half.dtype == torch.float32
    assert float(half.detach()) == pytest.approx(float(full.detach()), rel=0.02)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = detector(shown.pictures, shown.valid, shown.lateral)
    assert logits.dtype == torch.bfloat16
    log = logits.double().flatten(1).log_softmax(1)
    exact = -float((wanted.flatten(1) * log).sum().detach()) / 2.0
    assert float(half.detach()) == pytest.approx(exact, rel=1e-6)
    assert float(full.detach()) != pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("residual", [False, True])
def test_half_precision_trains(subject, residual):
    # Enough steps of RegM that some make a second pass.
    changes = {"precision": "bfloat16", "steps": 8, "shares": PhaseShares(1, 2, 1)}
    made, losses = trainer(subject, **changes)
    if residual:
        torch.manual_seed(0)
        model = scenes.tiny_model(SHORT.model)
        made = Trainer(model, made.pool, made.config, compute=Compute(precision="bfloat16"))
    made.run()
    assert made.step == 8
    assert all(torch.isfinite(t).all() for t in made.model.state_dict().values())
    assert {w.dtype for w in made.model.parameters()} == {torch.float32}
    assert residual or np.isfinite(losses).all()


def test_a_run_goes_on_with_other_switches(subject, tmp_path):
    """Checkpoints hold float32 weights, whatever the networks compute in."""
    first, _ = trainer(subject, tmp_path, precision="bfloat16", steps=4)
    first.run()
    second, losses = trainer(subject, tmp_path)
    second.run()
    assert second.step == SHORT.steps
    assert len(losses) == 1


# Batches ahead of time


class StandIn:
    """Carries batches nowhere, and notes who sent and received what."""

    def __init__(self) -> None:
        self.sent: list[tuple[object, str]] = []
        self.received: list[object] = []

    def send(self, batch: object) -> object:
        self.sent.append((batch, threading.current_thread().name))
        return [batch]

    def receive(self, sent: list[object]) -> object:
        self.received += sent
        return sent[0]


def test_batches_ahead_change_nothing_but_the_waiting(subject, expected):
    made, losses = trainer(subject)
    made.carrier = carrier = StandIn()
    made.run()
    assert losses == expected
    assert len(carrier.sent) == SHORT.steps  # none beyond the end
    assert [batch for batch, _ in carrier.sent] == carrier.received
    threads = [name for _, name in carrier.sent]
    assert threads[0] == threading.current_thread().name
    assert all(name.startswith("radgsreg-batch") for name in threads[1:])
    assert not [t for t in threading.enumerate() if t.name.startswith("radgsreg-batch")]


def test_the_next_batch_is_made_while_this_one_is_worked_on():
    made, go = [], threading.Event()

    def make(step: int) -> Shown:
        if step == 3:
            raise InputError("a pair", "is damaged")
        made.append(step)
        if step == 1:
            go.set()
        return Shown(*(torch.full((1,), float(step)) for _ in range(4)))

    ahead = Ahead(make, torch.device("cpu"), 10, StandIn())
    assert float(ahead.take(0).valid) == 0.0
    assert go.wait(5.0)  # before it is asked for
    assert float(ahead.take(0).valid) == 0.0  # a step that is made again
    assert float(ahead.take(1).valid) == 1.0
    assert float(ahead.take(2).valid) == 2.0
    with pytest.raises(InputError, match="damaged"):
        ahead.take(3)
    ahead.close()
    assert made.count(1) == 1


def test_without_a_carrier_batches_are_made_when_they_are_asked_for():
    made = []
    ahead = Ahead(lambda step: made.append(step) or torch.ones(1), torch.device("cpu"), 10)
    ahead.take(0)
    ahead.close()
    assert made == [0]


def test_copies_are_pinned_and_awaited(monkeypatch):
    """The order of calls on CUDA, told by a stand-in for it."""
    told: list[str] = []
    current = SimpleNamespace(wait_event=lambda event: told.append(f"wait for {event}"))

    class Stream:
        def __init__(self, device: torch.device) -> None:
            told.append(f"stream on {device}")

        def record_event(self) -> str:
            told.append("event")
            return "event"

    @contextlib.contextmanager
    def on(stream: Stream) -> Iterator[None]:
        told.append("in")
        yield
        told.append("out")

    def to(self: torch.Tensor, device: torch.device, *, non_blocking: bool) -> torch.Tensor:
        assert non_blocking
        told.append(f"copy to {device}")
        return self

    monkeypatch.setattr("torch.cuda.Stream", Stream)
    monkeypatch.setattr("torch.cuda.stream", on)
    monkeypatch.setattr("torch.cuda.current_stream", lambda device: current)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: told.append("pin") or self)
    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda self, stream: told.append(f"held {stream is current}")
    )
    ahead = Ahead(lambda step: torch.ones(2), torch.device("cuda", 1), 1)
    assert isinstance(ahead._carrier, PinnedCopies)
    torch.testing.assert_close(ahead.take(0), torch.ones(2))
    ahead.close()
    assert told == [
        "stream on cuda:1",
        "in",
        "pin",
        "copy to cuda:1",
        "event",
        "out",
        "wait for event",
        "held True",
    ]


def test_each_reaches_every_tensor(subject):
    made, _ = trainer(subject)
    batch = made._batch([0, 1], None)
    doubled = each(batch, lambda t: 2.0 * t)
    assert isinstance(doubled, Batch)
    torch.testing.assert_close(doubled.views.pictures, 2.0 * batch.views.pictures)
    torch.testing.assert_close(doubled.ct, 2.0 * batch.ct)


# Compiled or not


class Stubborn(torch.autograd.Function):
    """What can be computed but not differentiated, as when a backward pass does not compile."""

    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return x * 1.0

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no compiler for the way back\nand more that is not shown")


def failing(kind: str) -> Callable[[Callable[..., torch.Tensor]], Callable[..., object]]:
    """A `torch.compile` whose results do not work."""

    def compile_(forward: Callable[..., torch.Tensor], **options: bool) -> Callable[..., object]:
        def forwards(*args: torch.Tensor) -> object:
            if kind == "forward":
                raise RuntimeError("no compiler " + "x" * 500)
            out = forward(*args)
            if isinstance(out, tuple):
                return tuple(Stubborn.apply(part) for part in out)
            return Stubborn.apply(out)

        return forwards

    return compile_


@pytest.mark.parametrize("kind", ["forward", "backward"])
def test_where_compiling_fails_training_goes_on(subject, expected, monkeypatch, kind):
    monkeypatch.setattr("torch.compile", failing(kind))
    made, losses = trainer(subject, compile=True)
    said: list[str] = []
    history = made.run(Progress(lambda fraction, message: said.append(message) or True))
    assert losses == expected
    assert not made.compiled.works
    (note,) = history.notes
    assert note.startswith("compiling the networks failed (RuntimeError: no compiler")
    assert note.endswith("); training goes on without")
    assert len(note) < 250
    assert "not shown" not in note
    assert said.count(note) == 1


@pytest.mark.slow
def test_a_compiler_that_is_not_there(subject, expected, monkeypatch, tmp_path):
    """The real thing: inductor without a C++ compiler."""
    import torch._inductor.config as inductor

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing compiled before
    monkeypatch.setattr(inductor.cpp, "cxx", ("no-such-compiler",))
    torch._dynamo.reset()
    made, losses = trainer(subject, compile=True, shares=PhaseShares(1, 0, 0), steps=1)
    history = made.run()
    assert losses == expected[:1]
    (note,) = history.notes
    assert "compiling the networks failed" in note
    torch._dynamo.reset()


def test_what_fails_without_compiling_too_is_raised():
    def step() -> None:
        raise ValueError("a bug")

    compiled = Compiled([torch.nn.Linear(1, 1)])
    with pytest.raises(ValueError, match="a bug"):
        compiled.run(step, lambda: True)
    # So is what goes wrong after the weights have changed, and what is no fault of a compiler.
    compiled = Compiled([torch.nn.Linear(1, 1)])
    calls = []

    def late() -> None:
        calls.append(1)
        raise InputError("a pair", "is damaged") if len(calls) == 1 else ValueError("late")

    with pytest.raises(InputError):
        compiled.run(late, lambda: True)
    with pytest.raises(ValueError, match="late"):
        compiled.run(late, lambda: False)
    assert len(calls) == 2
    assert compiled.works


@pytest.mark.slow
def test_compiled_steps_give_nearly_the_same(subject, monkeypatch):
    """Through torch.compile up to the code that a compiler would be needed for."""
    actual, compiled = torch.compile, []

    def traced(forward: Callable[..., torch.Tensor], **options: bool) -> Callable[..., object]:
        compiled.append(forward)
        return actual(forward, backend="aot_eager", **options)

    monkeypatch.setattr("torch.compile", traced)
    together = {"shares": PhaseShares(0, 0, 1), "steps": 1}
    plain, expected = trainer(subject, **together)
    made, losses = trainer(subject, compile=True, **together)
    # Untrained last layers are zero, and would hide what comes before them.
    for each_ in (plain, made):
        scenes.shaken(each_.model)
    plain.run()
    names = list(made.model.state_dict())
    history = made.run()
    assert len(compiled) == len(made._heavy())
    assert history.notes == []
    assert made.compiled.works
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    for name, weight in made.model.named_parameters():
        torch.testing.assert_close(weight, plain.model.get_parameter(name), atol=1e-4, rtol=1e-3)
    # The networks are left as they were.
    assert list(made.model.state_dict()) == names
    assert "forward" not in vars(made.model.recm.encoder)
    torch._dynamo.reset()


def test_the_command_compiles_on_request_and_the_card_says_so(
    case_path, tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr("torch.compile", failing("forward"))
    config, out = tmp_path / "options.json", tmp_path / "m.safetensors"
    config.write_text(json.dumps({**OPTIONS, "precision": "bfloat16"}))
    words = ["pretrain", "--stage", "3", str(case_path), "--out", str(out)]
    assert cli.main([*words, "--config", str(config), "--compile"]) == 0
    printed = capfd.readouterr().out
    assert printed.count("compiling the networks failed") == 1
    training = load_model(out).card["training"]
    assert training["networks in"] == "bfloat16"
    assert training["compiled"] is False
    monkeypatch.undo()
    monkeypatch.setattr("torch.compile", lambda forward, **options: forward)
    config.write_text(json.dumps({**OPTIONS, "compile": True}))
    again = tmp_path / "again.safetensors"
    words[words.index(str(out))] = str(again)
    assert cli.main([*words, "--config", str(config)]) == 0
    training = load_model(again).card["training"]
    assert (training["networks in"], training["compiled"]) == ("float32", True)
