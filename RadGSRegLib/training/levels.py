"""Training of the network that names levels, on whole views of whole spines."""

import os
from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Unpack

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..errors import InputError
from ..networks import MULTIPLE, STRIDE, DetectorConfig, LevelNetwork, ModelConfig, save_levels
from ..system import Progress, one_torch_thread
from .board import board
from .compute import Compute
from .config import DetectionOptions, TrainingConfig
from .level_views import UNTOLD, LevelsShown, levels_loss, show_levels
from .loop import Around, History, Loop, falling
from .pool import VALIDATION, SamplePool, numbers_of_step
from .samples import SampleOptions
from .spines import spine_sources
from .stages import Pretraining
from .work import claim

# Simulated pictures are wider than those shown, which are of two sizes, as large as those of small
# and of large detectors: of a network for the first of these sizes, in proportion for others.
_SMALL_PX, _LARGE_PX, _WIDE_PX = 96, 128, 160
_LARGE_EVERY = 4
_IN_A_ROW = 48
_UNSEEN_SPINES = 12


class LevelsTrainer(Loop):
    """Trains a network of levels on a pool of whole views of whole spines."""

    checkpoint_name = "levels.safetensors"
    goes_on = True
    warm_up = 50

    def __init__(
        self,
        network: LevelNetwork,
        pool: SamplePool,
        options: DetectionOptions,
        **around: Unpack[Around],
    ) -> None:
        self.levels = network
        super().__init__(network, pool, options, **around)
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=options.rate, weight_decay=1e-4)

    def _message(self, share: float) -> str:
        entries = self.history.entries
        right = f", {100.0 * entries[-1]['right']:.0f} % right" if entries else ""
        return f"training levels: step {self.step}{right}"

    def _learn(self, share: float) -> None:
        shown: LevelsShown = self._ahead.take(self.step)
        self.levels.train()
        reduced = self.compute.reduced
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=reduced):
            there, classes = self.levels(shown.pictures, shown.valid, shown.lateral)
        loss = levels_loss(there.float(), classes.float(), shown)
        self._descend(loss, self._warm() * self.options.rate * falling(share))

    def _make(self, step: int) -> LevelsShown:
        seed, known = self.pool.seed, self._known(step)
        # In a row, as their spines are listed; a few at a time, which are kept if one cancels.
        for first in range(0, known, _IN_A_ROW):
            self.pool.samples(range(first, min(first + _IN_A_ROW, known)))
        numbers = numbers_of_step(seed, step, self.options.batch, known)
        samples = self.pool.samples([int(n) for n in numbers])
        config = self.levels.config
        large = step % _LARGE_EVERY == _LARGE_EVERY - 1
        size = config.size_px
        if large:
            size = size * _LARGE_PX // _SMALL_PX // MULTIPLE * MULTIPLE
        return show_levels(samples, config, size, np.random.default_rng([seed, step, 11]))

    def _heavy(self) -> list[nn.Module]:
        return [self.levels]

    def _validate(self) -> None:
        pool = self.unseen or self.pool
        samples = pool.samples([VALIDATION + n for n in range(self.options.validate)])
        # Disguised as in training, or nothing would be without an anchor; each time alike.
        rng = np.random.default_rng([self.pool.seed, 12])
        shown = show_levels(samples, self.levels.config, self.levels.config.size_px, rng)
        self._note("levels", measure_levels(self.levels, shown))


@torch.no_grad()
def measure_levels(network: LevelNetwork, shown: LevelsShown) -> dict[str, float]:
    """Measure what a network says of single views, at the true centres of vertebrae.

    ``right``: the share of centres in views that tell levels where the right level is the likeliest
    class; ``untold``: of those in views that do not, the share that is said to be untold;
    ``there``: the share of all centres where a vertebra is likelier than 0.3.
    """
    network.eval()
    device = next(network.parameters()).device
    there, classes = network(
        shown.pictures.to(device), shown.valid.to(device), shown.lateral.to(device)
    )
    there, kinds = there.sigmoid().cpu(), classes.argmax(1).cpu()
    real = functional.avg_pool2d(shown.valid[:, None], STRIDE)[:, 0] > 0.5
    centres = (shown.wanted > 0.9) & real
    told = centres & (shown.told > 0)[:, None, None]
    untold = centres & (shown.told == 0)[:, None, None]

    def share(where: torch.Tensor, true: torch.Tensor) -> float:
        return float(true[where].float().mean()) if where.any() else 0.0

    return {
        "right": share(told, kinds == shown.classes),
        "untold": share(untold, kinds == UNTOLD),
        "there": share(centres, there > 0.3),
    }


def levels_config() -> TrainingConfig:
    """Return the settings that a training of levels begins with: those of ``detection``, of the
    network (``model.detector``), ``seed`` and ``precision`` count, nothing else."""
    return TrainingConfig(
        model=ModelConfig(detector=DetectorConfig(width=24)),
        detection=DetectionOptions(
            steps=8000,
            pairs=1920,
            first_pairs=960,
            steps_per_pair=0.5,
            rate=2e-3,
            validate=96,
            validate_every=400,
            checkpoint_every=200,
        ),
    )


def pretrain_levels(
    asked: Pretraining, config: TrainingConfig, progress: Progress | None = None
) -> History:
    """Train a network of levels on ``asked.phantoms`` whole spines and write it with its card.

    ``config``: `levels_config`, with what is to be otherwise. Where ``asked.minutes`` are given
    the clock ends the training.

    Raises InputError for what `Pretraining.check` refuses and without phantoms; Cancelled when
    ``progress`` says so (nothing is written then, but a ``work`` folder keeps what is needed to go
    on).
    """
    asked.check()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("--levels", "is trained by one process", "leave torchrun out")
    if asked.phantoms < 1:
        raise InputError("--levels", "is trained on phantoms alone", "give --phantoms")
    report = progress or Progress()
    shape = config.model.detector
    if shape is None:
        raise InputError("--levels", "needs a network", "set model.detector")
    if asked.minutes is not None:
        config = config.by_clock()
    temporary = TemporaryDirectory(prefix="radgsreg-") if asked.work is None else nullcontext()
    with temporary as folder:
        work = Path(folder) if isinstance(folder, str) else asked.work
        assert work is not None
        options = {"seed": config.seed, "network": asdict(shape), "batch": config.detection.batch}
        claim(work, {"data": ["levels", asked.phantoms], "options": options})
        torch.manual_seed(config.seed)
        network = LevelNetwork(shape)
        history, minutes = _train(network, asked, config, work, report.part(0.0, 0.98))
    save_levels(asked.out, network, _card(asked, config, history, minutes))
    report(1.0, f"trained: {asked.out}")
    return history


def _train(
    network: LevelNetwork,
    asked: Pretraining,
    config: TrainingConfig,
    work: Path,
    report: Progress,
) -> tuple[History, float]:
    """Train; returns what was measured, and the minutes of all runs in the work folder."""
    samples = replace(
        SampleOptions(),
        centre_mm=20.0,
        along_mm=30.0,
        size_px=_WIDE_PX * network.config.size_px // _SMALL_PX,
        pixel_mm=network.config.pixel_mm,
        whole=True,
    )
    seed, device = config.seed, asked.device
    kept = work / "trunks"
    train = spine_sources(asked.phantoms, seed, folder=kept)
    held = spine_sources(_UNSEEN_SPINES, seed + 2 * 10**6, cuts=2, folder=kept)
    pool = SamplePool(train, samples, seed, work / "views", device=device)
    unseen = SamplePool(held, samples, seed + 1, work / "unseen-views", device=device)
    with board(asked.board) as log, closing(pool), one_torch_thread():
        around: Around = {"compute": config.compute(device), "folder": work, "log": log}
        around["unseen"] = unseen
        trainer = LevelsTrainer(network, pool, config.detection, **around)
        history = trainer.run(report, asked.minutes, asked.is_enough)
        return history, trainer.minutes


def _card(
    asked: Pretraining, config: TrainingConfig, history: History, minutes: float
) -> dict[str, Any]:
    last = history.entries[-1]
    reduced = Compute(asked.device, config.precision).reduced
    return {
        "what": "RadGS-Reg, levels of vertebrae in whole X-rays",
        "use": "Research only, not for clinical decisions.",
        "data": {"phantom spines": asked.phantoms},
        "training": {
            "minutes": round(minutes, 1),
            "steps": int(last["step"]),
            "pairs": int(last["pairs"]),
            "device": asked.device,
            "network in": "bfloat16" if reduced else "float32",
            "seed": config.seed,
        },
        "figures on single views of phantoms never trained on": {
            "right level, where the view tells it (share of vertebrae)": round(last["right"], 3),
            "said to be untold, where it does not (share)": round(last["untold"], 3),
            "seen at all (share)": round(last["there"], 3),
        },
        "limits": "Simulated X-rays of phantoms with five lumbar vertebrae, twelve pairs of ribs, "
        "T9 to the sacrum; patients upright in the picture within 20 degrees.",
    }
