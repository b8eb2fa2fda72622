"""The loop: steps, phases, validation, checkpoints, a budget of minutes, several processes.

Where steps and not minutes end a run, the same configuration and data give the same weights, also
across a kill: everything random follows from the seed and the step's number, and checkpoints hold
the rest.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import Cancelled
from ..networks.cubes import excess_cube
from ..networks.model import RadGSReg
from ..system.progress import Progress
from ..system.torch_threads import one_torch_thread
from .checkpoint import load_checkpoint, save_checkpoint
from .config import PHASES, TrainingConfig
from .losses import point_distance
from .objective import Objective, in_anchor_axes
from .pool import VALIDATION, Batch, SamplePool, numbers_of_step, stack_samples

CHECKPOINT = "checkpoint.safetensors"
_POINTS = 64
_WARM_UP = 30


@dataclass
class History:
    """What was measured on the way: one entry per validation; ``detection``: of the detector."""

    entries: list[dict[str, float]] = field(default_factory=list)
    detection: list[dict[str, float]] = field(default_factory=list)

    def best(self) -> dict[str, float]:
        """The entry with the least error so far (empty before the first)."""
        return min(self.entries, key=lambda e: e["error_mm"], default={})


class Trainer:
    """Trains a model on a pool of pairs.

    ``folder`` (None: nowhere) is where checkpoints go; training goes on from one found there.
    ``log`` is called with (step, values by name) now and then, for TensorBoard or a test.
    ``unseen``: where held-out pairs come from (None: other X-rays of the same vertebrae).
    """

    def __init__(
        self,
        model: RadGSReg,
        pool: SamplePool,
        config: TrainingConfig,
        *,
        device: torch.device | str = "cpu",
        folder: Path | None = None,
        log: Callable[[int, dict[str, float]], None] | None = None,
        unseen: SamplePool | None = None,
    ) -> None:
        self.rank, self.world = _processes()
        self.device = torch.device(device)
        if self.device.type == "cuda" and self.world > 1:
            # One device per process, as torchrun numbers them.
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(self.device)
        self.model = model.to(self.device)
        self.pool = pool
        self.unseen = unseen
        self.config = config
        self.folder = folder
        self.log = log
        self.history = History()
        self.step = 0
        self._began = time.perf_counter()
        self._earlier = 0.0
        self._best: dict[str, Tensor] = {}
        self._subjects: dict[tuple[bool, int], tuple[Tensor, Tensor, Tensor]] = {}
        self.objective = Objective(self.model, config.extra, reduced=config.precision == "bfloat16")
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.rate)
        self._shared: torch.nn.Module = self.objective
        if self.world > 1:
            self._shared = torch.nn.parallel.DistributedDataParallel(
                self.objective, find_unused_parameters=True
            )
        self._validation: list[Batch] | None = None

    def run(
        self,
        progress: Progress | None = None,
        minutes: float | None = None,
        enough: Callable[[], bool] | None = None,
    ) -> History:
        """Train to the end of the steps, or until the minutes are over; the best weights are kept.

        ``enough`` is asked at every step and ends training just so when it says yes. What is
        measured on the way goes to ``progress.figures``. Raises Cancelled when ``progress`` says so
        (the checkpoint of the last step stays).
        """
        report = progress or Progress()
        self._resume()
        self._began = time.perf_counter()
        with one_torch_thread():
            while True:
                share = self._share(minutes, enough)
                if share >= 1.0:
                    break
                phase = self._phase(share)
                try:
                    report(share, self._message(phase))
                except Cancelled:
                    self._checkpoint()
                    raise
                self._one(phase, share)
                if self.step % self.config.validate_every == 0:
                    self._validate()
                    report.figures(self.history.best())
                if self.step % self.config.checkpoint_every == 0:
                    self._checkpoint()
            if not self.history.entries or self.history.entries[-1]["step"] != self.step:
                self._validate()
        self._checkpoint()
        if self._best:
            self.model.load_state_dict(self._best)
        return self.history

    @property
    def _minutes(self) -> float:
        """How long this run has lasted; those before a kill are in `_earlier`."""
        return (time.perf_counter() - self._began) / 60.0

    def _share(self, minutes: float | None, enough: Callable[[], bool] | None = None) -> float:
        """How much of the run is over, in [0, 1]: by steps, or by the clock if that is sooner."""
        by_steps = self.step / self.config.steps
        if minutes is None and enough is None:
            return by_steps
        now = 0.0 if minutes is None else self._minutes / minutes
        if enough is not None and enough():
            now = 1.0
        if self.world > 1:
            # All processes must stop at the same step.
            flag = torch.tensor([now], device=self.device)
            torch.distributed.broadcast(flag, 0)
            now = float(flag)
        return max(by_steps, now)

    def _phase(self, share: float) -> str:
        shares = self.config.shares
        place = share * shares.total
        for phase in PHASES:
            place -= getattr(shares, phase)
            if place < 0:
                return phase
        return PHASES[-1]

    def _rate(self, share: float) -> float:
        config = self.config
        if config.halve_every > 0:
            return config.rate * 0.5 ** (self.step // config.halve_every)
        # Each phase begins anew, so that RegM does not start at a rate that has run out.
        shares = self.config.shares
        low = 0.0
        for phase in PHASES:
            width = getattr(shares, phase) / shares.total
            if width > 0 and share < low + width:
                share = (share - low) / width
                break
            low += width
        peak = config.rate * (0.4 if self._joint(low) else 1.0)
        return peak * (0.5 + 0.5 * math.cos(math.pi * min(share, 1.0)) + 0.01)

    def _joint(self, low: float) -> bool:
        shares = self.config.shares
        return low >= (shares.recm + shares.regm) / shares.total - 1e-9 and low > 0

    def _known(self) -> int:
        config = self.config
        grown = config.first_pairs + int(self.step / config.steps_per_pair)
        return min(config.pairs, grown)

    def _one(self, phase: str, share: float) -> None:
        config = self.config
        warm = min(1.0, (self.step + 1) / _WARM_UP)
        for group in self.optimizer.param_groups:
            group["lr"] = warm * self._rate(share)
        numbers = numbers_of_step(config.seed, self.step, config.batch, self._known())
        mine = numbers[self.rank :: self.world]
        known = self._known()
        self.pool.prefetch(range(known, min(known + 4 * config.workers, config.pairs)))
        shuffle = np.random.default_rng([config.seed, self.step, 9, self.rank])
        batch = self._batch([int(n) for n in mine], shuffle).to(self.device)
        seed = config.seed * 1_000_003 + self.step * 64 + self.rank
        self.model.recm.generator = torch.Generator().manual_seed(seed)
        rendered = config.rendered if self.step % config.render_every == 0 else 0
        if phase == "joint":
            batch = batch.first(max(config.joint_cases // self.world, 1))
            rendered = len(batch.views)
        self.model.train()
        terms = self._shared(batch, phase, min(rendered, len(batch.views)))
        self.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        if self.log is not None and self.rank == 0 and self.step % 10 == 0:
            self.log(self.step, {f"train/{k}": float(v.detach()) for k, v in terms.items()})

    def _batch(
        self,
        numbers: list[int],
        generator: np.random.Generator | None,
        pool: SamplePool | None = None,
    ) -> Batch:
        pool = pool or self.pool
        samples = [pool.sample(n) for n in numbers]
        pixel = self.config.model.recm.pixel_mm
        views, targets, poses = stack_samples(samples, pixel, generator)
        known = [self._subject(pool, n) for n in numbers]
        axes, points, cubes = (torch.stack(parts) for parts in zip(*known, strict=True))
        return Batch(views, targets, poses, axes, points, cubes)

    def _subject(self, pool: SamplePool, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of a pair's vertebra: anchors_to_centred, surface points, RegM's cube."""
        key = (pool is self.pool, pool.source_of(number))
        if key not in self._subjects:
            subject = pool.subject(number)
            surface = subject.surface_points_ct - subject.centre_ct
            chosen = np.linspace(0, len(surface) - 1, _POINTS).astype(int)
            axes = np.asarray(subject.anchors_to_centred)
            self._subjects[key] = (
                torch.from_numpy(axes).float(),
                torch.from_numpy(surface[chosen]).float(),
                excess_cube(subject.excess, subject.centre_ct, self.config.model.regm),
            )
        return self._subjects[key]

    @torch.no_grad()
    def _validate(self) -> None:
        if self._validation is None:
            numbers = [VALIDATION + n for n in range(self.config.validate)]
            self._validation = [
                self._batch(numbers[n : n + 8], None, self.unseen)
                for n in range(0, len(numbers), 8)
            ]
        found, registered = [], []
        for one in self._validation:
            batch = one.to(self.device)
            prediction = self.model.recm.predict(batch.views)
            truth = batch.centred_to_box @ batch.anchors_to_centred
            points = in_anchor_axes(batch.points, batch.anchors_to_centred)
            found.append(point_distance(points, truth, prediction.effect.poses))
            poses = self.model.align(prediction, batch.ct)
            registered.append(point_distance(batch.points, batch.centred_to_box, poses))
        errors, aligned = torch.cat(found), torch.cat(registered)
        entry = {
            "step": float(self.step),
            "minutes": self._earlier + self._minutes,
            "recm_mm": float(errors.median()),
            "regm_mm": float(aligned.median()),
            "error_mm": float(errors.mean() + aligned.mean()),
            "pairs": float(self._known()),
        }
        best = self.history.best()
        self.history.entries.append(entry)
        if self.log is not None and self.rank == 0:
            self.log(self.step, {f"validation/{k}": v for k, v in entry.items()})
        if not best or entry["error_mm"] <= best["error_mm"]:
            state = self.model.state_dict()
            self._best = {name: t.detach().cpu().clone() for name, t in state.items()}

    def _message(self, phase: str) -> str:
        last = self.history.entries[-1] if self.history.entries else None
        said = {"recm": "reconstruction", "regm": "registration", "joint": "both together"}[phase]
        seen = f", error {last['recm_mm']:.1f} mm" if last else ""
        return f"training {said}: step {self.step}{seen}"

    def _checkpoint(self) -> None:
        if self.folder is None or self.rank != 0:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "step": self.step,
            "minutes": self._earlier + self._minutes,
            "history": self.history.entries,
            "config": self.config.to_json(),
        }
        path = self.folder / CHECKPOINT
        save_checkpoint(path, self.model, self.optimizer, facts, self._best)

    def _resume(self) -> None:
        if self.folder is None or not (self.folder / CHECKPOINT).is_file():
            return
        path = self.folder / CHECKPOINT
        facts, self._best = load_checkpoint(path, self.model, self.optimizer)
        self.step = int(facts["step"])
        self._earlier = float(facts.get("minutes", 0.0))
        self.history = History([dict(entry) for entry in facts["history"]])


def _processes() -> tuple[int, int]:
    """(rank, number of processes), joining the others where torchrun has started several."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world < 2:
        return 0, 1
    if not torch.distributed.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(backend)
    return torch.distributed.get_rank(), torch.distributed.get_world_size()
