"""What a training run is asked for; JSON or YAML files hold the same names."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from ..cases import options_from, read_mapping
from ..errors import InputError
from ..networks import DecoderConfig, DetectorConfig, ModelConfig, RecMConfig, RegMConfig
from ..system import core_count
from .compute import Compute
from .ct_pairs import CtPairs
from .losses import ExtraWeights
from .samples import SampleOptions
from .shapes import ShapeOptions

PHASES = ("recm", "regm", "joint")
_ENDLESS = 10**7


@dataclass(frozen=True)
class PhaseShares:
    """How the steps (or the minutes) are shared out among the three module-aware phases."""

    recm: float = 0.7
    regm: float = 0.15
    joint: float = 0.15

    def __post_init__(self) -> None:
        if min(self.recm, self.regm, self.joint) < 0 or not self.total > 0:
            raise InputError("training", "the phases' shares are not negative, one is positive")

    @property
    def total(self) -> float:
        """Their sum."""
        return self.recm + self.regm + self.joint

    def at(self, share: float) -> tuple[str, float]:
        """Return the phase at a ``share`` of the run in [0, 1), and what of the phase is over."""
        low = 0.0
        for phase in PHASES:
            width = getattr(self, phase) / self.total
            if width > 0 and share < low + width:
                return phase, (share - low) / width
            low += width
        return PHASES[-1], 1.0


def _check_counts(what: str, options: DetectionOptions | TrainingConfig) -> None:
    """What both kinds of training count is at least one, and their rates are positive."""
    for name in (
        "steps",
        "batch",
        "pairs",
        "first_pairs",
        "validate",
        "validate_every",
        "checkpoint_every",
    ):
        if getattr(options, name) < 1:
            raise InputError(what, f"{name} is {getattr(options, name)}, not at least 1")
    for name in ("rate", "steps_per_pair"):
        if not getattr(options, name) > 0:
            raise InputError(what, f"{name} is {getattr(options, name)}, not positive")


@dataclass(frozen=True)
class DetectionOptions:
    """How the detector is trained, before the rest: a ``share`` of the minutes, or ``steps`` of
    ``batch`` pairs of whole views if that is sooner; ``pairs`` different ones at most, one more
    every ``steps_per_pair`` steps after the first ``first_pairs``. ``validate``: held-out pairs.
    """

    share: float = 0.15
    steps: int = 600
    batch: int = 8
    pairs: int = 300
    first_pairs: int = 32
    steps_per_pair: float = 3.0
    rate: float = 2e-3
    validate: int = 16
    validate_every: int = 100
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        _check_counts("detection", self)
        if not 0 <= self.share < 1:
            raise InputError("detection", f"share is {self.share}, not in [0, 1)")


@dataclass(frozen=True)
class StandardOptions(DetectionOptions):
    """How the standardisation is trained, alone: a batch is of single views, a pair of six.

    ``l1``: how much the difference counts beside the discriminator's opinion (pix2pix: 100);
    ``judged_after``: from this share of the run on the discriminator is asked (1: never).
    """

    steps: int = 8000
    batch: int = 8
    pairs: int = 960
    first_pairs: int = 320
    steps_per_pair: float = 2.0
    rate: float = 1e-3
    validate: int = 96
    validate_every: int = 400
    checkpoint_every: int = 200
    l1: float = 100.0
    judged_after: float = 0.85

    def __post_init__(self) -> None:
        _check_counts("standardisation", self)
        if not self.l1 > 0 or not 0 <= self.judged_after <= 1:
            raise InputError("standardisation", "l1 is positive, judged_after in [0, 1]")


@dataclass(frozen=True)
class DecodingOptions(DetectionOptions):
    """How the decoder is trained, after the rest and on the same pairs, where the model has one: a
    ``share`` of the minutes (1: neither RecM, RegM nor the detector is trained; 0: there is no
    decoder), or ``steps``; the rest as of the detector. It is told the mean of ``averaged``
    vertebrae."""

    share: float = 0.5
    steps: int = 6000
    pairs: int = 6000
    first_pairs: int = 1500
    steps_per_pair: float = 0.2
    validate: int = 24
    averaged: int = 200

    def __post_init__(self) -> None:
        _check_counts("decoding", self)
        if not 0 <= self.share <= 1:
            raise InputError("decoding", f"share is {self.share}, not in [0, 1]")
        if self.averaged < 1:
            raise InputError("decoding", f"averaged is {self.averaged}, not at least 1")


@dataclass(frozen=True)
class TrainingConfig:
    """One stage of training. The defaults are for CPUs; `paper` gives the paper's own.

    ``steps`` of ``batch`` pairs in all phases together; ``pairs`` different ones at most, one more
    every ``steps_per_pair`` steps after the first ``first_pairs``. ``rate`` of Adam, which falls to
    zero along a cosine, or is halved every ``halve_every`` steps where that is not zero (as often
    in a run that minutes end sooner, over what these last).
    ``rendered``: cases of a batch whose images and volumes enter eq. 2 and 3, every
    ``render_every`` steps (these cost more than the networks on a CPU); ``joint_cases``: those of a
    batch that the joint phase works on. ``gaussians``: anchors while training, of a
    grid the nearest cube of a number; ``final_gaussians``: those of a finished patient-specific
    model. ``shapes``: how a population's vertebrae are learned to differ, in the first stage.
    ``ct_pairs``: how far CTs are moved where RegM learns alone (None: to where they are in the
    X-rays of the pair). ``validate``: held-out pairs.
    ``precision``: "float32", "bfloat16" (networks under autocast; geometry, rendering and losses in
    float32), or "auto": bfloat16 on CUDA. ``compile``: the networks through torch.compile.
    ``workers``: threads that make pairs ahead of time (0: none), where there are cores for them.
    ``threads`` that torch may use for a step: where steps are to be the same on every machine, one.
    """

    model: ModelConfig = field(
        default_factory=lambda: ModelConfig(
            RecMConfig(size_px=64, pixel_mm=2.0),
            RegMConfig(voxels=32, box_mm=96.0),
            DetectorConfig(),
        )
    )
    samples: SampleOptions = field(default_factory=SampleOptions)
    shares: PhaseShares = field(default_factory=PhaseShares)
    extra: ExtraWeights = field(default_factory=ExtraWeights)
    ct_pairs: CtPairs | None = None
    detection: DetectionOptions = field(default_factory=DetectionOptions)
    decoding: DecodingOptions = field(default_factory=DecodingOptions)
    standard: StandardOptions = field(default_factory=StandardOptions)
    shapes: ShapeOptions = field(default_factory=ShapeOptions)
    seed: int = 0
    steps: int = 4000
    batch: int = 12
    pairs: int = 1800
    first_pairs: int = 48
    steps_per_pair: float = 3.0
    rate: float = 1e-3
    halve_every: int = 0
    rendered: int = 1
    render_every: int = 16
    joint_cases: int = 4
    gaussians: int = 500
    final_gaussians: int = 4000
    validate: int = 16
    validate_every: int = 100
    checkpoint_every: int = 250
    precision: str = "auto"
    compile: bool = False
    workers: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        _check_counts("training", self)
        for name in ("gaussians", "final_gaussians", "render_every", "joint_cases", "threads"):
            if getattr(self, name) < 1:
                raise InputError("training", f"{name} is {getattr(self, name)}, not at least 1")
        if self.rendered < 0 or self.halve_every < 0:
            raise InputError("training", "rendered and halve_every are not negative")
        self._check_losses()
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise InputError("training", f"there is no precision {self.precision!r}")

    def _check_losses(self) -> None:
        """Refuse phases with steps in which there is nothing to learn from."""
        recm = self.model.recm
        if recm.landmarks and (recm.residual or recm.stretch) and self.rendered == 0:
            raise InputError(
                "training",
                "Gaussians that are open beside landmarks learn from rendered cases alone",
                "set rendered to 1 or more",
            )
        if self.rendered > 0 and self.render_every == 1:
            return
        points, model = self.extra.points > 0, self.model
        moves = self.extra.displacements > 0 and model.regm.head == "displacement"
        places = self.extra.places > 0 and model.recm.landmarks > 0
        learns = {"recm": model.recm.pose and (points or places), "regm": points or moves}
        for phase, name in (("recm", "RecM"), ("regm", "RegM")):
            if getattr(self.shares, phase) > 0 and not learns[phase]:
                raise InputError(
                    "training",
                    f"{name} has nothing to learn from in steps without a rendered case, since "
                    "extra says nothing of its poses",
                    "set rendered to 1 or more and render_every to 1",
                )

    @classmethod
    def paper(cls, encoder: str = "resnet50") -> TrainingConfig:
        """Return the paper's: 128 px, batch 8, Adam halved every 50 of 300 epochs, a grid whose
        Gaussians are all open in every stage and seen by global features alone, eq. 2 and 3 on
        every case of every step and nothing beside them; RegM with the same ``encoder``, a head
        that gives a pose at once, and CTs moved by up to 20 degrees and 50 mm. The first rate is
        not the paper's (docs/learning.md)."""
        steps = 300 * 1800 // 8
        return cls(
            model=ModelConfig(
                RecMConfig(encoder=encoder, pose=False, stretch=False, pixel_aligned=False),
                RegMConfig(voxels=64, box_mm=128.0, passes=1, encoder=encoder, head="pose"),
                DetectorConfig(),
                anchors="grid",
            ),
            extra=ExtraWeights(points=0.0, displacements=0.0, volume=0.0, places=0.0),
            ct_pairs=CtPairs(rotation_deg=20.0, translation_mm=50.0),
            detection=DetectionOptions(steps=4000, batch=16, pairs=1800),
            steps=steps,
            batch=8,
            steps_per_pair=1.0,
            # With 1e-3 RegM with resnet50 or vit12 was further off after 60 steps than before.
            rate=1e-3 if encoder == "small" else 1e-4,
            halve_every=steps // 6,
            rendered=8,
            render_every=1,
            joint_cases=8,
            gaussians=10000,
            final_gaussians=10000,
            validate=64,
        )

    def for_patient(self) -> TrainingConfig:
        """Return the same as the third stage begins with: the vertebra's shape is known, so that
        only its pose is open. With landmarks that holds for vertebrae of all stages."""
        recm = replace(self.model.recm, residual=False, stretch=False)
        return replace(self, model=replace(self.model, recm=recm, anchors="template"))

    def with_landmarks(self, beside: RecMConfig | None = None) -> TrainingConfig:
        """Return the same with a RecM that reads its pose from 64 landmarks in three passes, on all
        cores but one, with most of the time for it, and seen from 30 % further around than is
        promised, so that the edges of that are not the edges of what was learned
        (docs/experiments/networks.md). ``beside``: what is open in RecM, if not what is here.
        """
        recm = replace(self.model.recm, encoder="unet", landmarks=64, passes=3)
        beside = beside or recm
        # Eq. 2 says nothing of a pose that landmarks do not; Gaussians that are open need it.
        rigid = not (beside.residual or beside.stretch)
        return replace(
            self,
            model=replace(self.model, recm=recm),
            samples=self.samples.wider(1.3),
            shares=PhaseShares(0.93, 0.07, 0.0) if rigid else self.shares,
            detection=replace(self.detection, share=0.05),
            rate=3e-3,
            rendered=0 if rigid else self.rendered,
            pairs=3000,
            first_pairs=600,
            steps_per_pair=0.5,
            validate=48,
            threads=max(core_count() - 1, 1),
        )

    def with_decoder(self) -> TrainingConfig:
        """Return the same with a decoder, so that vertebrae can be shown whose shapes the model is
        not told."""
        return replace(self, model=replace(self.model, decoder=DecoderConfig()))

    def compute(self, device: torch.device | str) -> Compute:
        """Return where and how the networks compute."""
        # Several processes of a machine share its cores.
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        threads = max(self.threads // processes, 1)
        return Compute(device, self.precision, self.compile, threads)

    def by_clock(self) -> TrainingConfig:
        """Return the same without an end by steps: the minutes decide."""
        detection = replace(self.detection, steps=_ENDLESS)
        decoding = replace(self.decoding, steps=_ENDLESS)
        standard = replace(self.standard, steps=_ENDLESS)
        # As many halvings as before.
        halve_every = self.halve_every * _ENDLESS // self.steps
        return replace(
            self,
            steps=_ENDLESS,
            halve_every=halve_every,
            detection=detection,
            decoding=decoding,
            standard=standard,
        )


def read_config(path: Path, base: TrainingConfig | None = None) -> TrainingConfig:
    """Read a configuration from a ``.json``, ``.yaml`` or ``.yml`` file; the rest as in ``base``.

    Raises InputError for files that cannot be read or hold anything unknown.
    """
    values = read_mapping(path)
    samples = values.get("samples")
    if isinstance(samples, dict) and "level" in samples:  # its name before, read for one version
        warnings.warn("samples.level is now samples.realism", FutureWarning, stacklevel=2)
        samples["realism"] = samples.pop("level")
    model = values.get("model")
    if isinstance(model, Mapping) and "modes" in model:
        raise InputError(
            path, "model.modes is what a model has learned, not what it should", "set shapes.modes"
        )
    if isinstance(model, Mapping) and "patient" in model:
        raise InputError(path, "model.patient follows from the stage", "leave it out")
    return options_from(TrainingConfig, values, path, base or TrainingConfig())
