"""Training of the detector, on whole views simulated like the crops."""

from collections.abc import Sequence
from typing import Unpack

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..networks import SIGHTED, Detector, Sighting, look
from . import bounds
from .config import DetectionOptions
from .loop import Around, Loop, falling
from .pool import VALIDATION, SamplePool, numbers_of_step
from .samples import Sample
from .whole_views import Shown, show


class DetectorTrainer(Loop):
    """Trains a detector on a pool of whole views.

    ``own``: it is to find the vertebra of the samples alone, not any labelled one.
    """

    checkpoint_name = "detector.safetensors"
    goes_on = False
    warm_up = 20

    def __init__(
        self,
        detector: Detector,
        pool: SamplePool,
        options: DetectionOptions,
        *,
        own: bool,
        **around: Unpack[Around],
    ) -> None:
        self.detector, self.own = detector, own
        super().__init__(detector, pool, options, **around)
        self.optimizer = torch.optim.AdamW(detector.parameters(), lr=options.rate)

    def _message(self, share: float) -> str:
        entries = self.history.entries
        error = f", error {entries[-1]['first_mm']:.0f} mm" if entries else ""
        return f"training detection: step {self.step}{error}"

    def _learn(self, share: float) -> None:
        shown: Shown = self._ahead.take(self.step)
        self.detector.train()
        loss = detection_loss(self.detector, shown, reduced=self.compute.reduced)
        self._descend(loss, self._warm() * self.options.rate * falling(share))

    def _make(self, step: int) -> Shown:
        seed = self.pool.seed
        numbers = numbers_of_step(seed, step, self.options.batch, self._known(step))
        samples = self.pool.samples([int(n) for n in numbers])
        disguise = np.random.default_rng([seed, step, 11])
        return show(samples, self.detector.config, self.own, disguise)

    def _heavy(self) -> Sequence[nn.Module]:
        return [self.detector]

    def _validate(self) -> None:
        pool = self.unseen or self.pool
        samples = pool.samples([VALIDATION + n for n in range(self.options.validate)])
        self._note("detection", measure(self.detector, samples, self.own))


def detection_loss(detector: Detector, shown: Shown, *, reduced: bool = False) -> Tensor:
    """Return the mean cross entropy of the detector's distributions against the wanted ones.

    With ``reduced`` the detector runs in bfloat16, the loss never does.
    """
    with torch.autocast(shown.pictures.device.type, dtype=torch.bfloat16, enabled=reduced):
        logits = detector(shown.pictures, shown.valid, shown.lateral)
    log = functional.log_softmax(logits.float().flatten(1), dim=1)
    wanted = shown.wanted.flatten(1)
    return -(wanted * log).sum() / wanted.sum().clamp_min(1.0)


def measure(detector: Detector, samples: Sequence[Sample], own: bool) -> dict[str, float]:
    """Measure how well places are found in samples' whole views, undisguised.

    ``first_mm``: the median distance of the first place from the nearest wanted centre; ``first``
    and ``among``: the share of samples whose first place, or any of the first `SIGHTED`, lies
    within `bounds.FOUND_MM` of the sample's own vertebra.
    """
    config = detector.config
    away, first, among = [], [], []
    for sample in samples:
        shown = show([sample], config, own, None)
        extrinsics, intrinsics = sample.extrinsics, sample.intrinsics.clone()
        logs = look(detector, shown.pictures, shown.valid, extrinsics)
        intrinsics[:, :2, 2] -= (sample.images.shape[-1] - config.size_px) / 2.0
        size, pixel = config.size_px, config.pixel_mm
        sighting = Sighting(logs, intrinsics, extrinsics, size, pixel, np.eye(4))
        places, _ = sighting.places(SIGHTED)
        centres = sample.centres.numpy()
        own_mm = np.linalg.norm(places - centres[0], axis=1)
        wanted = centres[:1] if own else centres
        away.append(float(np.linalg.norm(places[0] - wanted, axis=1).min()))
        first.append(float(own_mm[0] <= bounds.FOUND_MM))
        among.append(float(own_mm.min() <= bounds.FOUND_MM))
    return {
        "first_mm": float(np.median(away)),
        "first": float(np.mean(first)),
        "among": float(np.mean(among)),
    }
