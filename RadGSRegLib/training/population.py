"""A model of many vertebrae: around their mean, and knowing how they differ."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import Volume
from ..networks import RadGSReg, nearest_grid
from ..system import Progress
from . import bounds
from .card import anchors_of
from .config import TrainingConfig
from .deformed import Deformed
from .patient import go_on_from
from .pool import Source
from .readers import phantom_sources
from .samples import Sample, SampleOptions
from .shapes import shapes_of
from .stages import Pretraining, TrainingData
from .subjects import Subject
from .template import find_axes, mean_vertebra, template_cloud


@dataclass(frozen=True)
class _Turned:
    """A source whose subjects are given the axes of the anchors (4, 4)."""

    inner: Source
    anchors_to_centred: NDArray[np.float64]
    axes_known: bool = True

    @property
    def simulated(self) -> bool:
        return self.inner.simulated

    @property
    def name(self) -> str:
        return self.inner.name

    def subject(self, wide: bool = False) -> Subject:
        return self.inner.subject(wide).with_axes(self.anchors_to_centred)

    def sample(self, subject: Subject, options: SampleOptions, seed: int) -> Sample:
        return self.inner.sample(subject, options, seed)


def population_model(
    asked: Pretraining,
    config: TrainingConfig,
    data: TrainingData,
    base: RadGSReg | None,
    work: Path,
    progress: Progress,
) -> RadGSReg:
    """Make the model to train in the first two stages, or go on from ``base``.

    All sources of ``data`` are given the anchors' axes, where anchors have such. Raises Cancelled
    when ``progress`` says so.
    """
    networks = replace(config.model, modes=0, patient=False)
    kind = anchors_of(config, base)
    posed = (networks if base is None else base.config).recm.pose
    # A grid that is not posed has no axes of a vertebra.
    mean = _turned(config, data, work, progress) if posed or kind != "grid" else None
    looks = config.model.recm.landmarks > 0
    if base is not None and (base.recm.correspondence is not None or not looks):
        _check_decoder(base, config, asked)
        model = base.with_detector(config.model.detector).with_decoder(config.model.decoder)
        model.train()
    elif mean is None or kind == "grid":
        return RadGSReg(networks, nearest_grid(config.gaussians))
    elif base is not None:
        networks = replace(networks, detector=base.config.detector or networks.detector)
        model = RadGSReg(networks, template_cloud(mean, config.gaussians))
        go_on_from(base, model)
    else:
        model = RadGSReg(networks, template_cloud(mean, config.gaussians))
    # Modes are of vertebrae, not of a grid, and of those that the model is not told.
    bendable = kind != "grid" and (not model.is_rigid or model.decoder is not None)
    if asked.stage == 1 and bendable and model.shapes is None:
        learned = shapes_of(
            model.recm.anchors,
            data.train,
            config.shapes,
            seed=config.seed,
            folder=work,
            minutes=asked.minutes,
            progress=progress.part(0.1, 1.0),
            enough=asked.is_enough,
        )
        model = model if learned is None else model.with_shapes(learned)
    return model


def _check_decoder(base: RadGSReg, config: TrainingConfig, asked: Pretraining) -> None:
    """Raise InputError where a base has another decoder than is asked for, which it would keep."""
    both = (base.config.decoder, config.model.decoder)
    if None not in both and both[0] != both[1]:
        raise InputError(
            asked.base or "--base",
            "has another decoder than is asked for",
            "leave model.decoder out, or go on from a model without one",
        )


def _turned(config: TrainingConfig, data: TrainingData, work: Path, progress: Progress) -> Volume:
    """The mean vertebra; all sources of ``data`` are given its axes."""
    # A phantom's axes are known, so the mean is theirs; other vertebrae are compared with it.
    known = [source for source in data.train if source.axes_known]
    if not known:
        known = phantom_sources(4, config.seed + 10**6, folder=work / "phantoms")
    chosen = known[:: max(len(known) // bounds.AVERAGED, 1)][: bounds.AVERAGED]
    mean = mean_vertebra([source.subject() for source in chosen], progress.part(0.0, 0.1))
    # By the source itself: files of two data sets may have one name.
    known_axes: dict[int, _Turned] = {}

    def turned(source: Source) -> Source:
        if source.axes_known:
            return source
        if isinstance(source, Deformed):
            # Its axes go with it.
            return replace(source, inner=turned(source.inner))
        if id(source) not in known_axes:
            known_axes[id(source)] = _Turned(source, find_axes(source.subject(), mean))
        return known_axes[id(source)]

    for sources in (data.train, data.unseen):
        sources[:] = [turned(source) for source in sources]
    return mean
