"""A loop of training steps: validations, checkpoints, a budget of minutes, several processes.

Where steps and not minutes end a run, the same configuration and data give the same weights, also
across a kill: everything random follows from the seed and the step's number, and checkpoints hold
the rest.
"""

import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypedDict

import torch
from torch import Tensor, nn

from ..errors import Cancelled
from ..system import Progress, with_torch_threads
from .ahead import Ahead, Carrier
from .checkpoint import load_checkpoint, save_checkpoint
from .compute import Compiled, Compute
from .config import DetectionOptions, TrainingConfig
from .pool import SamplePool

Log = Callable[[int, dict[str, float]], None]


@dataclass
class History:
    """What was measured on the way: one entry per validation; ``detection``: of the detector,
    ``decoding``: of the decoder.

    ``notes``: remarks on the data, and on what did not work.
    """

    entries: list[dict[str, float]] = field(default_factory=list)
    detection: list[dict[str, float]] = field(default_factory=list)
    decoding: list[dict[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def best(self) -> dict[str, float]:
        """Return the entry with the least ``error_mm`` so far (empty where none has one)."""
        rated = [entry for entry in self.entries if "error_mm" in entry]
        return min(rated, key=lambda entry: entry["error_mm"], default={})


class Around(TypedDict, total=False):
    """What every `Loop` may be given besides what it trains; see there."""

    compute: Compute
    folder: Path | None
    log: Log | None
    unseen: SamplePool | None


class Loop(ABC):
    """Trains a network on a pool of pairs; what a step and a validation do is a subclass's own.

    ``folder`` (None: nowhere) is where the checkpoint goes; training goes on from one found there.
    ``log`` is called with (step, values by name) now and then, for TensorBoard or a test.
    ``unseen``: where held-out pairs come from (None: other X-rays of the same vertebrae).
    ``carrier``: what brings batches to the device (None: what `Ahead` takes).
    """

    checkpoint_name: ClassVar[str]
    goes_on: ClassVar[bool]
    """Whether training that had ended is taken up again."""
    warm_up: ClassVar[int]
    """In so many steps the rate rises to its full value."""
    optimizer: torch.optim.Optimizer
    carrier: Carrier | None = None

    def __init__(
        self,
        network: nn.Module,
        pool: SamplePool,
        options: DetectionOptions | TrainingConfig,
        *,
        compute: Compute | None = None,
        folder: Path | None = None,
        log: Log | None = None,
        unseen: SamplePool | None = None,
    ) -> None:
        self.rank, self.world = _processes()
        compute = compute or Compute()
        self.device = torch.device(compute.device)
        if self.device.type == "cuda" and self.world > 1:
            # One device per process, as torchrun numbers them.
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(self.device)
        self.compute = replace(compute, device=self.device)
        self.network = network.to(self.device)
        self.pool, self.unseen = pool, unseen
        self.options = options
        self.folder = folder
        self.log = log
        self.step = 0
        self.history = History()
        self._began = time.perf_counter()
        self._earlier = 0.0
        self._best: dict[str, Tensor] = {}
        # Where several processes share their gradients none may make a step again by itself.
        compiled = compute.compile and self.world == 1
        self.compiled = Compiled(self._heavy() if compiled else ())
        if compute.compile and not compiled:
            self.history.notes.append("with several processes the networks are not compiled")

    def run(
        self,
        progress: Progress | None = None,
        minutes: float | None = None,
        enough: Callable[[], bool] | None = None,
    ) -> History:
        """Train to the end of the steps, or until the minutes are over; the best weights are kept.

        ``enough`` is asked at every step and ends training just so when it says yes. The best of
        what is measured on the way goes to ``progress.figures``. Raises Cancelled when ``progress``
        says so (the checkpoint of the last step stays).
        """
        report = progress or Progress()
        if self._resume() and not self.goes_on:
            return self.history
        self._began = time.perf_counter()
        options = self.options
        self._ahead = Ahead(self._make, self.device, options.steps, self.carrier)
        with with_torch_threads(self.compute.threads), closing(self._ahead):
            while (share := self._share(minutes, enough)) < 1.0:
                try:
                    report(share, self._message(share))
                except Cancelled:
                    self._checkpoint(False)
                    raise
                self._step(share, report)
                if self.step % options.validate_every == 0:
                    self._validate()
                    if best := self.history.best():
                        report.figures(best)
                if self.step % options.checkpoint_every == 0:
                    self._checkpoint(False)
            entries = self.history.entries
            if not entries or entries[-1]["step"] != self.step:
                self._validate()
        self._checkpoint(math.isfinite(share))
        if self._best:
            self.network.load_state_dict(self._best)
        return self.history

    @abstractmethod
    def _message(self, share: float) -> str:
        """Say what is trained at a ``share`` of the run."""

    def _step(self, share: float, report: Progress) -> None:
        """Learn once, compiled where that is asked for and works; say once where it does not."""
        before = self.step
        problem = self.compiled.run(lambda: self._learn(share), lambda: self.step == before)
        if problem:
            self.history.notes.append(problem)
            report(share, problem)

    @abstractmethod
    def _learn(self, share: float) -> None:
        """Make one step with the batch that `_ahead` has for it, by `_descend`."""

    @abstractmethod
    def _make(self, step: int) -> Any:
        """Make the batch of a step on the CPU: a dataclass of tensors that follows from the seed
        and the number of the step alone."""

    @abstractmethod
    def _heavy(self) -> Sequence[nn.Module]:
        """The parts of the network that are compiled where that is asked for."""

    @abstractmethod
    def _validate(self) -> None:
        """Measure on held-out pairs, and `_note` it."""

    def _share(self, minutes: float | None, enough: Callable[[], bool] | None) -> float:
        """How much of the run is over: by steps, or by the clock if that is sooner; infinite where
        ``enough`` ends it."""
        by_steps = self.step / self.options.steps
        if minutes is None and enough is None:
            return by_steps
        now = 0.0
        if minutes is not None:
            now = self._minutes() / minutes if minutes > 0.0 else 1.0
        if enough is not None and enough():
            now = math.inf
        if self.world > 1:
            # All processes must stop at the same step.
            flag = torch.tensor([now], device=self.device)
            torch.distributed.broadcast(flag, 0)
            now = float(flag)
        return max(by_steps, now)

    @property
    def minutes(self) -> float:
        """How long all runs have lasted together, as far as checkpoints tell."""
        return self._earlier + self._minutes()

    def _minutes(self) -> float:
        """How long this run has lasted; those before a kill are in `_earlier`."""
        return (time.perf_counter() - self._began) / 60.0

    def _known(self, step: int) -> int:
        """How many different pairs are drawn from at a step."""
        options = self.options
        return min(options.pairs, options.first_pairs + int(step / options.steps_per_pair))

    def _warm(self) -> float:
        """What of the rate the first steps have."""
        return min(1.0, (self.step + 1) / self.warm_up)

    def _descend(self, loss: Tensor, rate: float) -> None:
        """Step down a loss's gradient, its norm bounded."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1

    def _note(self, kind: str, measured: dict[str, float]) -> None:
        """Keep, and log under ``kind``, what was measured after this step."""
        entry = {"step": float(self.step), **measured, "pairs": float(self._known(self.step))}
        self.history.entries.append(entry)
        self._log(kind, entry)

    def _log(self, kind: str, values: dict[str, float]) -> None:
        if self.log is not None and self.rank == 0:
            self.log(self.step, {f"{kind}/{name}": value for name, value in values.items()})

    def _checkpoint(self, done: bool) -> None:
        if self.folder is None or self.rank != 0:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "step": self.step,
            "minutes": self._earlier + self._minutes(),
            "entries": self.history.entries,
            "done": done,
        }
        path = self.folder / self.checkpoint_name
        save_checkpoint(path, self.network, self.optimizer, facts, self._best)

    def _resume(self) -> bool:
        """Go on from a checkpoint where there is one; return whether training had ended."""
        if self.folder is None or not (self.folder / self.checkpoint_name).is_file():
            return False
        path = self.folder / self.checkpoint_name
        facts, self._best = load_checkpoint(path, self.network, self.optimizer)
        self.step = int(facts["step"])
        self._earlier = float(facts["minutes"])
        self.history.entries = [dict(entry) for entry in facts["entries"]]
        return bool(facts["done"])


def falling(share: float) -> float:
    """Return what is left of a rate at a ``share`` in [0, 1] of a run: a cosine to nearly zero."""
    return 0.5 + 0.5 * math.cos(math.pi * share) + 0.01


def _processes() -> tuple[int, int]:
    """(rank, number of processes), joining the others where torchrun has started several."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world < 2:
        return 0, 1
    if not torch.distributed.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(backend)
    return torch.distributed.get_rank(), torch.distributed.get_world_size()
