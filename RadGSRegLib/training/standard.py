"""Training of the standardisation, on whole views of whole spines from anywhere.

Pairs are simulated on the fly: an X-ray of any realism, and the line integrals of its bones. The
loss is pix2pix's, a conditional GAN on patches and 100 times L1 (P. Isola et al., CVPR 2017).
"""

from __future__ import annotations

import os
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from ..networks import StandardConfig, Standardizer, save_standardizer
from ..system import Progress, one_torch_thread
from .board import board
from .bone_views import BonesShown, bone_views, show_bones
from .compute import Compute
from .config import StandardOptions, TrainingConfig
from .loop import Around, History, Loop, falling
from .pool import VALIDATION, SamplePool, numbers_of_step
from .spines import spine_sources
from .stages import Pretraining
from .work import claim

# Vertebrae are to be told from discs: finer voxels than those that tell levels, mm.
_VOXEL_MM = 2.0
_UNSEEN_SPINES = 8
# Samples of a trunk are made in a row.
_IN_A_ROW = 8
# Pictures that say what is familiar: of the training, and of other patients; and the share of the
# latter that are.
_KNOWN, _HELD, _FAMILIAR = 2048, 256, 0.95


class ConditionalGan(nn.Module):
    """A standardisation and the discriminator that judges it while it is trained.

    The discriminator sees picture and bones together, MONAI's on patches.
    """

    def __init__(self, network: Standardizer) -> None:
        super().__init__()
        from monai.networks.nets import PatchDiscriminator

        self.network = network
        self.judge = PatchDiscriminator(
            spatial_dims=2, channels=24, in_channels=4, num_layers_d=2, norm="INSTANCE"
        )

    def opinion(self, shown: BonesShown, bone: Tensor) -> Tensor:
        """Return logits, patch by patch, that the bones of the pictures are true."""
        shown_with = torch.cat(
            [shown.pictures, shown.valid[:, None], (shown.valid * bone)[:, None]], 1
        )
        out: Tensor = self.judge(shown_with)[-1].float()
        return out


class StandardTrainer(Loop):
    """Trains a standardisation on a pool of whole views of whole spines."""

    checkpoint_name = "standard.safetensors"
    goes_on = True
    warm_up = 50

    def __init__(
        self,
        network: Standardizer,
        pool: SamplePool,
        options: StandardOptions,
        **around: Unpack[Around],
    ) -> None:
        self.pair, self.standard = ConditionalGan(network), options
        super().__init__(self.pair, pool, options, **around)
        # Reduced, convolutions are twice as fast with the channels last.
        self.pair.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(
            self.pair.parameters(), lr=options.rate, betas=(0.9, 0.99), weight_decay=1e-4
        )

    def _message(self, share: float) -> str:
        entries = self.history.entries
        error = f", error {entries[-1]['l1']:.3f}" if entries else ""
        return f"training the standardisation: step {self.step}{error}"

    def _learn(self, share: float) -> None:
        shown: BonesShown = self._ahead.take(self.step)
        self.pair.train()
        judged = share >= self.standard.judged_after
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.compute.reduced):
            bone, _ = self.pair.network(shown.pictures, shown.valid)
            bone = bone.float()
            loss = self.standard.l1 * masked_l1(bone, shown)
            if judged:
                loss = loss + self._adversarial(bone, shown)
        self._descend(loss / self.standard.l1, self._warm() * self.options.rate * falling(share))

    def _adversarial(self, bone: Tensor, shown: BonesShown) -> Tensor:
        """Both sides of the conditional GAN: the network is to be taken for true, the discriminator
        to tell it from the truth."""
        self.pair.judge.requires_grad_(False)
        fooling = self.pair.opinion(shown, bone)
        self.pair.judge.requires_grad_(True)
        told = (self.pair.opinion(shown, shown.bone), self.pair.opinion(shown, bone.detach()))
        # softplus(-x): the cross entropy of a logit x that is to say yes; softplus(x): no.
        return (
            functional.softplus(-fooling).mean()
            + 0.5 * functional.softplus(-told[0]).mean()
            + 0.5 * functional.softplus(told[1]).mean()
        )

    def _make(self, step: int) -> BonesShown:
        seed, known = self.pool.seed, self._known(step)
        for first in range(0, known, _IN_A_ROW):
            self.pool.samples(range(first, min(first + _IN_A_ROW, known)))
        numbers = numbers_of_step(seed, step, self.options.batch, known)
        samples = self.pool.samples([int(n) for n in numbers])
        config = self.pair.network.config
        return show_bones(samples, config, np.random.default_rng([seed, step, 13]))

    def _heavy(self) -> list[nn.Module]:
        return [self.pair.network]

    def _validate(self) -> None:
        pool = self.unseen or self.pool
        shown = self.shown_of(pool, VALIDATION, self.options.validate)
        self._note("standard", measure_standard(self.pair.network, shown))

    def shown_of(self, pool: SamplePool, first: int, count: int) -> BonesShown:
        """Show a view of each of ``count`` pairs of a pool, those from number ``first`` on."""
        rng = np.random.default_rng([self.pool.seed, 14])
        samples = pool.samples([first + n for n in range(count)])
        return show_bones(samples, self.pair.network.config, rng)

    def learn_familiar(self) -> None:
        """Tell the network what pictures of the training are like, and how far others lie off."""
        network = self.pair.network
        known = self.shown_of(self.pool, 0, min(_KNOWN, self._known(self.step)))
        other = self.shown_of(self.unseen or self.pool, VALIDATION, _HELD)
        network.learn_familiar(asked(network, known)[1], asked(network, other)[1], _FAMILIAR)


def masked_l1(bone: Tensor, shown: BonesShown) -> Tensor:
    """Return the mean absolute error of line integrals (N, H, W) where pictures are valid."""
    wrong = (shown.valid * (bone - shown.bone).abs()).sum()
    return wrong / shown.valid.sum().clamp_min(1.0)


@torch.no_grad()
def measure_standard(network: Standardizer, shown: BonesShown) -> dict[str, float]:
    """Measure what a network says of single views where they are valid.

    ``l1``: the mean absolute error of the line integrals; ``psnr_db`` and ``correlation``: medians
    over pictures of which at least a tenth is valid, the peak being the picture's own.
    """
    bone, _ = asked(network, shown)
    decibels, likeness = [], []
    for mine, true, valid in zip(bone, shown.bone, shown.valid > 0, strict=True):
        if valid.float().mean() < 0.1 or not bool(true[valid].any()):
            continue
        error = (mine[valid] - true[valid]).square().mean().clamp_min(1e-12)
        decibels.append(float(10.0 * (true[valid].max().square() / error).log10()))
        likeness.append(float(torch.corrcoef(torch.stack([mine[valid], true[valid]]))[0, 1]))
    return {
        "l1": float(masked_l1(bone, shown)),
        "psnr_db": float(np.median(decibels)) if decibels else 0.0,
        "correlation": float(np.median(likeness)) if likeness else 0.0,
    }


@torch.no_grad()
def asked(network: Standardizer, shown: BonesShown, at_once: int = 16) -> tuple[Tensor, Tensor]:
    """Ask a network for line integrals (N, H, W), never negative, and features (N, F), on the
    CPU."""
    network.eval()
    device = next(network.parameters()).device
    bones, features = [], []
    for first in range(0, len(shown.valid), at_once):
        part = slice(first, first + at_once)
        bone, feature = network(shown.pictures[part].to(device), shown.valid[part].to(device))
        bones.append(bone.float().clamp_min(0.0).cpu())
        features.append(feature.float().cpu())
    return torch.cat(bones), torch.cat(features)


def standard_config() -> TrainingConfig:
    """Return the settings that a training of the standardisation begins with: those of
    ``standard``, ``seed`` and ``precision`` count, nothing else."""
    return TrainingConfig(precision="bfloat16")


def pretrain_standard(
    asked_for: Pretraining,
    config: TrainingConfig,
    progress: Progress | None = None,
) -> History:
    """Train a standardisation on ``asked_for.phantoms`` whole spines and write it with its card.

    ``config``: `standard_config`, with what is to be otherwise. Where ``asked_for.minutes`` are
    given the clock ends the training.

    Raises InputError for what `Pretraining.check` refuses and without phantoms; Cancelled when
    ``progress`` says so (nothing is written then, but a ``work`` folder keeps what is needed to go
    on).
    """
    asked_for.check()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("--standard", "is trained by one process", "leave torchrun out")
    if asked_for.phantoms < 1:
        raise InputError("--standard", "is trained on phantoms alone", "give --phantoms")
    report = progress or Progress()
    if asked_for.minutes is not None:
        config = config.by_clock()
    temporary = TemporaryDirectory(prefix="radgsreg-") if asked_for.work is None else nullcontext()
    with temporary as folder:
        work = Path(folder) if isinstance(folder, str) else asked_for.work
        assert work is not None
        shape = StandardConfig()
        facts = {"seed": config.seed, "network": asdict(shape), "batch": config.standard.batch}
        facts |= {"voxels": _VOXEL_MM, "pictures": asdict(bone_views(shape))}
        claim(work, {"data": ["standard", asked_for.phantoms], "options": facts})
        torch.manual_seed(config.seed)
        network = Standardizer(shape)
        history, minutes = _train(network, asked_for, config, work, report.part(0.0, 0.98))
    save_standardizer(asked_for.out, network, _card(asked_for, config, history, minutes))
    report(1.0, f"trained: {asked_for.out}")
    return history


def _train(
    network: Standardizer,
    asked_for: Pretraining,
    config: TrainingConfig,
    work: Path,
    report: Progress,
) -> tuple[History, float]:
    """Train; returns what was measured, and the minutes of all runs in the work folder."""
    samples = bone_views(network.config)
    seed, device = config.seed, asked_for.device
    train, held = (
        spine_sources(count, first, cuts=1, pairs=_IN_A_ROW, spacing_mm=_VOXEL_MM, varied=True)
        for count, first in (
            (asked_for.phantoms, seed),
            (_UNSEEN_SPINES, seed + 2 * 10**6),
        )
    )
    pool = SamplePool(train, samples, seed, work / "views", device=device)
    unseen = SamplePool(held, samples, seed + 1, work / "unseen-views", device=device)
    with board(asked_for.board) as log, closing(pool), one_torch_thread():
        around: Around = {"compute": config.compute(device), "folder": work, "log": log}
        around["unseen"] = unseen
        trainer = StandardTrainer(network, pool, config.standard, **around)
        history = trainer.run(report, asked_for.minutes, asked_for.is_enough)
        trainer.learn_familiar()
        return history, trainer.minutes


def _card(
    asked_for: Pretraining, config: TrainingConfig, history: History, minutes: float
) -> dict[str, Any]:
    last = history.entries[-1]
    reduced = Compute(asked_for.device, config.precision).reduced
    return {
        "what": "RadGS-Reg, standardisation of X-rays: line integrals of bone",
        "use": "Research only, not for clinical decisions. Never the only ground for a result.",
        "data": {"phantom spines": asked_for.phantoms},
        "training": {
            "minutes": round(minutes, 1),
            "steps": int(last["step"]),
            "samples of six X-rays": int(last["pairs"]),
            "device": asked_for.device,
            "network in": "bfloat16" if reduced else "float32",
            "seed": config.seed,
        },
        "figures on single views of phantoms never trained on": {
            "mean error of line integrals": round(last["l1"], 4),
            "PSNR, dB (median)": round(last["psnr_db"], 2),
            "correlation (median)": round(last["correlation"], 3),
        },
        "limits": "Simulated X-rays of phantoms from T9 to the pelvis. Pictures unlike those are "
        "told apart by what they are like inside the network, not for certain.",
    }
