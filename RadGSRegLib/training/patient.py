"""The model of one patient's vertebra: the third stage (math.md section 3)."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..cases import CtCase
from ..errors import InputError
from ..gaussians import GaussianCloud, voxelize
from ..geometry import Volume
from ..networks import (
    ModelConfig,
    RadGSReg,
    load_model,
    nearest_grid,
    shipped_weights,
)
from .config import TrainingConfig
from .own import own_anchors
from .pool import Simulated, Source
from .subjects import Subject, make_subject
from .template import EDGE_MM, SPACING_MM, find_axes, index_to_box


def patient_source(case: CtCase) -> Source:
    """Take the target vertebra of one CT as the only source of pairs."""

    @cache
    def load(wide: bool) -> Subject:
        return make_subject(case.ct, case.labels, case.label, case.label_name, wide=wide)

    return Simulated(case.label_name, load)


def shipped_base(config: TrainingConfig) -> Path | None:
    """Find the shipped weights, if a patient's model can go on from them with the networks that
    ``config`` asks for (a base's shapes win, so other networks have to begin from scratch; what
    is open in them, `_of_patient`, is no other network). Where landmarks are known to only one of
    both, detector and RegM go on.

    Raises InputError where they are damaged.
    """
    weights = shipped_weights()
    if weights is None:
        return None
    shapes = _with_landmarks(load_model(weights).config, config.model)
    return weights if same_networks(shapes, config.model) else None


def check_base(base: Path, config: TrainingConfig) -> None:
    """Raise InputError where a model has other networks than ``config`` asks for: a training that
    goes on from it would have those instead."""
    shapes = _with_landmarks(load_model(base).config, config.model)
    # A detector of its own stays, and one that is missing is added.
    if not same_networks(shapes, replace(config.model, detector=shapes.detector)):
        raise InputError(
            base,
            "has other networks than are asked for",
            "go on from a model of the same settings and encoder, or leave --base out",
        )


def same_networks(shapes: ModelConfig, asked: ModelConfig) -> bool:
    """Ask whether two models have the same networks and kind of anchors, whatever is open in
    them."""
    return _of_patient(shapes, asked) == _of_patient(asked, asked)


def patient_model(
    subject: Subject, config: TrainingConfig, base: RadGSReg | None = None
) -> RadGSReg:
    """Make a model around the subject's own Gaussians, or around a grid, which is then that of
    ``base``; networks as in ``base`` where one is given, but for a RecM that is to look for
    landmarks and does not there.

    Whether Gaussians may leave their anchors, and be stretched, is as ``config`` says.
    """
    shapes = config.model if base is None else _with_landmarks(base.config, config.model)
    detector = shapes.detector or config.model.detector
    grid = shapes.anchors == "grid"
    if not grid:
        anchors = own_anchors(subject, config.gaussians)
    elif base is None:
        anchors = nearest_grid(config.gaussians)
    else:
        anchors = base.recm.anchors.cloud()
    model = RadGSReg(replace(_of_patient(shapes, config.model), detector=detector), anchors)
    if base is not None:
        go_on_from(base, model, but=() if grid else ("recm.anchors.",))
        correspondence = model.recm.correspondence
        shared = base.recm.correspondence is not None and not base.is_patient_specific
        if correspondence is not None and shared:
            correspondence.move(_shared_axes(subject, base.recm.anchors.cloud()))
    return model


def go_on_from(base: RadGSReg, model: RadGSReg, but: tuple[str, ...] = ()) -> None:
    """Give a model the weights of a base, ``but`` those whose names begin so, and but RecM's where
    only one of both looks for landmarks."""
    if (model.recm.correspondence is None) != (base.recm.correspondence is None):
        but = ("recm.",)
    known = base.state_dict().items()
    left = {name: tensor for name, tensor in known if not name.startswith(but)} if but else known
    model.load_state_dict(dict(left), strict=False)


def _shared_axes(subject: Subject, shared: GaussianCloud) -> Tensor:
    """Find where the axes of anchors that many vertebrae share (``shared``, mm) are in a subject's
    centred CT axes (4, 4), float32."""
    index_to_shared = index_to_box(SPACING_MM)
    edge = round(EDGE_MM / SPACING_MM)
    mean = voxelize(shared.detach().to("cpu"), index_to_shared, (edge,) * 3)
    volume = Volume(mean.numpy().astype(np.float32), index_to_shared)
    return torch.from_numpy(find_axes(subject, volume)).float()


def _with_landmarks(shapes: ModelConfig, asked: ModelConfig) -> ModelConfig:
    """A base's shapes, with the RecM that is asked for where only one of both looks for
    landmarks."""
    if (asked.recm.landmarks > 0) != (shapes.recm.landmarks > 0):
        return replace(shapes, recm=asked.recm, decoder=None)
    return shapes


def _of_patient(shapes: ModelConfig, asked: ModelConfig) -> ModelConfig:
    """The networks of a patient's model: their ``shapes``, with open in them what is ``asked``."""
    recm = replace(shapes.recm, residual=asked.recm.residual, stretch=asked.recm.stretch)
    return replace(shapes, recm=recm, modes=0, patient=True, decoder=None)


def finish_patient_model(model: RadGSReg, subject: Subject, config: TrainingConfig) -> None:
    """Give a trained patient-specific model the subject's Gaussians in full number.

    Where they are as a whole does not depend on how many there are. What has been learned of single
    ones does: where they may leave their anchors, these stay.
    """
    if model.config.recm.residual:
        return
    model.recm.set_anchors(own_anchors(subject, config.final_gaussians))
