"""Training of the decoder: vertebrae of many shapes, where RecM takes them to be and beside."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..geometry import translation
from ..measures import dice
from ..networks import UNIT, Decoded, Decoder, DecoderConfig, RadGSReg, ViewBatch, sample_grid
from ..system import Progress
from ..tensors import exp_se3
from .affine_views import draw_affine, with_affine
from .config import DecodingOptions
from .loop import Around, Loop, falling
from .losses import block_similarity
from .pool import VALIDATION, SamplePool, numbers_of_step, stack_samples
from .subjects import Subject

# How far off RecM's pose is taken to be: one standard deviation about and along each axis, radians
# and mm, times a factor between `_LEAST` and 1 that differs from pair to pair, and one whose
# logarithm has the standard deviation `_HEAVY`. Told no shape, RecM is off by 1.4 mm (median) on
# phantoms and by some 3 mm on the two published CTs. Neither these nor the weight of cross-entropy
# were varied.
_TURN_RAD, _SHIFT_MM = 0.055, 2.0
_LEAST = 0.25
_HEAVY = 0.4
_INSIDE_WEIGHT = 0.3
# So many vertebrae's targets are kept, half a megabyte each; others are made anew.
_KEPT_TARGETS = 1000


@dataclass(frozen=True)
class Decodings:
    """What a step works on: ``views``, bone bright; ``guessed_to_box`` (B, 4, 4), where the anchors
    are taken to be; ``density`` (1/mm) and ``inside`` (share) of the true vertebra (B, K, J, I) on
    the decoder's grid there."""

    views: ViewBatch
    guessed_to_box: Tensor
    density: Tensor
    inside: Tensor


class DecoderTrainer(Loop):
    """Trains a model's decoder on a pool of pairs, and nothing else of it."""

    checkpoint_name = "decoder.safetensors"
    goes_on = True
    warm_up = 30

    def __init__(
        self,
        model: RadGSReg,
        pool: SamplePool,
        options: DecodingOptions,
        **around: Unpack[Around],
    ) -> None:
        assert model.decoder is not None
        assert model.recm.correspondence is not None
        self.decoder, self.decoding = model.decoder, options
        self.up = model.recm.correspondence.up
        self.pixel_mm = model.config.recm.pixel_mm
        self._targets: dict[tuple[bool, int], tuple[Tensor, Tensor]] = {}
        super().__init__(model.decoder, pool, options, **around)
        self.optimizer = torch.optim.AdamW(
            self.decoder.parameters(), lr=options.rate, weight_decay=1e-4
        )

    def _step(self, share: float, report: Progress) -> None:
        if not self.decoder.mean.any():
            self._average(share, report)
        super()._step(share, report)

    def _average(self, share: float, report: Progress) -> None:
        """Tell the decoder the mean of some vertebrae, evenly chosen."""
        count = len(self.pool.sources)
        chosen = range(0, count, math.ceil(count / self.decoding.averaged))
        density, inside = (torch.zeros(self.decoder.config.shape) for _ in range(2))
        for number in chosen:
            report(share, "averaging vertebrae")
            for total, part in zip((density, inside), self._target(self.pool, number), strict=True):
                total += part.float() / len(chosen)
        self.decoder.set_mean(density, inside)

    def _message(self, share: float) -> str:
        entries = self.history.entries
        alike = f", Dice {entries[-1]['dice']:.2f}" if entries else ""
        return f"training the decoder: step {self.step}{alike}"

    def _learn(self, share: float) -> None:
        batch: Decodings = self._ahead.take(self.step)
        self.decoder.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.compute.reduced):
            decoded = self.decoder(batch.views, batch.guessed_to_box, self.up.to(self.device))
        loss = decoding_loss(Decoded(*(part.float() for part in decoded)), batch)
        self._descend(loss, self._warm() * self.options.rate * falling(share))

    def _make(self, step: int) -> Decodings:
        known, options = self._known(step), self.decoding
        numbers = numbers_of_step(self.pool.seed, step, options.batch, known)
        self.pool.prefetch(range(known, min(known + options.batch, options.pairs)))
        generator = torch.Generator().manual_seed(self.pool.seed * 1_000_003 + step)
        return self._batch(self.pool, [int(n) for n in numbers], generator, True)

    def _batch(
        self, pool: SamplePool, numbers: Sequence[int], generator: torch.Generator, changed: bool
    ) -> Decodings:
        """Pairs of vertebrae as they are, or ``changed``, and guesses of where anchors are."""
        views, _, centred_to_box = stack_samples(pool.samples(numbers), self.pixel_mm, None)
        axes = [pool.subject(number).anchors_to_centred for number in numbers]
        anchors_to_box = centred_to_box @ torch.from_numpy(np.stack(axes)).to(centred_to_box)
        linear = torch.eye(3).expand(len(numbers), 3, 3)
        if changed:
            linear = draw_affine(len(numbers), generator)
        views = with_affine(views, anchors_to_box, linear.to(anchors_to_box))
        guessed_to_anchors = draw_guesses(len(numbers), generator)
        targets = [self._target(pool, number) for number in numbers]
        volumes = torch.stack([torch.stack(both).float() for both in targets])
        config = self.decoder.config
        density, inside = moved_targets(volumes, guessed_to_anchors, linear, config).unbind(1)
        guessed_to_box = anchors_to_box @ guessed_to_anchors.to(anchors_to_box)
        return Decodings(views, guessed_to_box, density, inside.clamp(0.0, 1.0))

    def _target(self, pool: SamplePool, number: int) -> tuple[Tensor, Tensor]:
        """Density and inside of a pair's vertebra, in half precision, made once."""
        key = (pool is self.pool, pool.source_of(number))
        if key not in self._targets:
            while len(self._targets) >= _KEPT_TARGETS:
                self._targets.pop(next(iter(self._targets)))
            density, inside = decoder_target(pool.subject(number), self.decoder.config)
            self._targets[key] = density.half(), inside.half()
        return self._targets[key]

    def _heavy(self) -> Sequence[nn.Module]:
        return [self.decoder.pictures, self.decoder.grid]

    def _validate(self) -> None:
        pool = self.unseen or self.pool
        generator = torch.Generator().manual_seed(self.pool.seed + 13)
        measured = []
        numbers = [VALIDATION + n for n in range(self.options.validate)]
        for first in range(0, len(numbers), self.options.batch):
            part = numbers[first : first + self.options.batch]
            batch = self._batch(pool, part, generator, False)
            measured += measure_decoding(self.decoder, batch, self.up)
        alike, off = np.mean(measured, axis=0)
        self._note("decoding", {"dice": float(alike), "density_off": float(off)})


def decoder_target(subject: Subject, config: DecoderConfig) -> tuple[Tensor, Tensor]:
    """Return a subject's excess (1/mm) and how much of each voxel is inside of it, (K, J, I), on
    the decoder's grid in the anchors' axes."""
    mask = np.asarray(subject.labels.array) == subject.label
    kji = np.argwhere(mask)
    margin = np.ceil(2.0 * config.spacing_mm / subject.labels.spacing)
    low, high = kji.min(axis=0)[::-1] - margin, kji.max(axis=0)[::-1] + 1 + margin
    part = subject.labels.with_array(mask.astype(np.float32)).crop(low, high)
    to_ct = translation(subject.centre_ct) @ subject.anchors_to_centred
    grid_to_ct = to_ct @ config.index_to_anchors().numpy()
    density, inside = (
        sample_grid(volume, volume.physical_to_index @ grid_to_ct, config.spacing_mm, config.shape)
        for volume in (subject.excess, part)
    )
    return torch.from_numpy(density), torch.from_numpy(inside)


def draw_guesses(count: int, generator: torch.Generator) -> Tensor:
    """Draw how far off RecM's poses may be: guessed_to_anchors (count, 4, 4), mm."""

    def normal(columns: int) -> Tensor:
        return torch.randn(count, columns, generator=generator)

    far = torch.exp(_HEAVY * normal(1))
    far = far * (_LEAST + (1.0 - _LEAST) * torch.rand(count, 1, generator=generator))
    turns, shifts = _TURN_RAD * far * normal(3), _SHIFT_MM * far * normal(3)
    guessed_to_anchors = exp_se3(torch.cat([turns, torch.zeros_like(turns)], 1))
    guessed_to_anchors[:, :3, 3] = shifts
    return guessed_to_anchors


def moved_targets(
    volumes: Tensor, guessed_to_anchors: Tensor, linear: Tensor, config: DecoderConfig
) -> Tensor:
    """Show volumes (B, C, K, J, I) of the decoder's grid in the anchors' axes, changed there by
    ``linear`` (B, 3, 3), on the same grid in guessed axes; ``guessed_to_anchors`` (B, 4, 4), mm."""
    points = config.points().flatten(0, 2)
    turn, shift = guessed_to_anchors[:, :3, :3], guessed_to_anchors[:, None, :3, 3]
    at = points @ turn.mT + shift
    at = torch.linalg.solve(linear, at.mT).mT
    half = 0.5 * config.spacing_mm * torch.tensor(config.size)
    at = (at - torch.tensor(config.middle_mm)) / half
    grid = at.view(len(volumes), *config.shape, 3)
    return functional.grid_sample(volumes, grid, align_corners=False)


def decoding_loss(decoded: Decoded, batch: Decodings) -> Tensor:
    """Return the loss (scalar) of what a decoder says of a batch: relative L1 and 1 - SSIM of the
    density, the latter where the vertebra is, cross-entropy and 1 - Dice of inside."""
    wanted, inside = batch.density / UNIT, batch.inside
    density = decoded.density / UNIT
    off = (density - wanted).abs().mean() / wanted.mean().clamp_min(1e-6)
    alike = local_similarity(density, wanted, inside)
    entropy = functional.binary_cross_entropy_with_logits(decoded.inside, inside)
    entropy = entropy / inside.mean().clamp_min(1e-6)
    return off + (1.0 - alike) + _INSIDE_WEIGHT * entropy + (1.0 - soft_dice(decoded, inside))


def soft_dice(decoded: Decoded, inside: Tensor) -> Tensor:
    """Return the Dice coefficient (scalar, mean over the batch) of shares."""
    said = decoded.inside.sigmoid()
    both = (said * inside).sum((1, 2, 3))
    return (2.0 * both / (said + inside).sum((1, 2, 3)).clamp_min(1e-6)).mean()


def local_similarity(density: Tensor, wanted: Tensor, inside: Tensor) -> Tensor:
    """Return SSIM (scalar) over blocks of five voxels, every second, that come near the vertebra;
    of (B, K, J, I), the peak of what is wanted one."""
    peak = wanted.amax((1, 2, 3), keepdim=True).clamp_min(1e-3)
    alike = block_similarity(density / peak, wanted / peak, 5, 2)
    # Blocks within two more voxels of it: those have their middles where these have, but the first.
    near = functional.max_pool3d(inside[:, None], 9, stride=2)[:, 0]
    k, j, i = near.shape[1:]
    part = alike[:, 1 : 1 + k, 1 : 1 + j, 1 : 1 + i]
    return (part * near).sum() / near.sum().clamp_min(1e-6)


@torch.no_grad()
def measure_decoding(decoder: Decoder, batch: Decodings, up: Tensor) -> list[tuple[float, float]]:
    """Measure each case: Dice of what is said to be inside, and by what share of the vertebra
    densities are off."""
    decoder.eval()
    device = next(decoder.parameters()).device
    decoded = decoder(batch.views.to(device), batch.guessed_to_box.to(device), up.to(device))
    density, said = decoded.density.cpu(), (decoded.inside > 0.0).cpu()
    measured = []
    for n, true in enumerate(batch.inside > 0.5):
        off = float((density[n] - batch.density[n]).abs().sum() / batch.density[n].sum())
        measured.append((dice(said[n], true), off))
    return measured
