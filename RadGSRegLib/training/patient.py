"""The model of one patient's vertebra: the third stage (math.md section 3)."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from ..cases import CtCase
from ..errors import InputError
from ..gaussians import GaussianCloud, fit_vertebra
from ..geometry import translation
from ..networks import ModelConfig, RadGSReg, load_model, nearest_grid, shipped_weights
from .config import TrainingConfig
from .pool import Simulated, Source
from .subjects import Subject, make_subject


def own_anchors(subject: Subject, count: int) -> GaussianCloud:
    """Fit a subject's own cloud in centred CT axes: the anchors of its patient-specific model."""
    return fit_vertebra(subject.excess, count).transformed(translation(-subject.centre_ct))


def patient_source(case: CtCase) -> Source:
    """Take the target vertebra of one CT as the only source of pairs."""

    @cache
    def load(wide: bool) -> Subject:
        return make_subject(case.ct, case.labels, case.label, case.label_name, wide=wide)

    return Simulated(case.label_name, load)


def shipped_base(config: TrainingConfig) -> Path | None:
    """Find the shipped weights, if a patient's model can go on from them with the networks that
    ``config`` asks for (a base's shapes win, so other networks have to begin from scratch; what
    is open in them, `_of_patient`, is no other network). Where only RecM differs, as it is to look
    for landmarks, detector and RegM go on from them.

    Raises InputError where they are damaged.
    """
    weights = shipped_weights()
    if weights is None:
        return None
    shapes = load_model(weights).config
    return weights if same_networks(_with_landmarks(shapes, config.model), config.model) else None


def check_base(base: Path, config: TrainingConfig) -> None:
    """Raise InputError where a model has other networks than ``config`` asks for: a training that
    goes on from it would have those instead."""
    shapes = load_model(base).config
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
        left = () if grid else ("recm.anchors.",)
        if shapes is not base.config:
            left = ("recm.",)
        state = {
            name: tensor for name, tensor in base.state_dict().items() if not name.startswith(left)
        }
        model.load_state_dict(state, strict=False)
    return model


def _with_landmarks(shapes: ModelConfig, asked: ModelConfig) -> ModelConfig:
    """A base's shapes, with the RecM that is asked for where that alone looks for landmarks."""
    if asked.recm.landmarks and not shapes.recm.landmarks:
        return replace(shapes, recm=asked.recm)
    return shapes


def _of_patient(shapes: ModelConfig, asked: ModelConfig) -> ModelConfig:
    """The networks of a patient's model: their ``shapes``, with open in them what is ``asked``."""
    recm = replace(shapes.recm, residual=asked.recm.residual, stretch=asked.recm.stretch)
    return replace(shapes, recm=recm, modes=0, patient=True)


def finish_patient_model(model: RadGSReg, subject: Subject, config: TrainingConfig) -> None:
    """Give a trained patient-specific model the subject's Gaussians in full number.

    Where they are as a whole does not depend on how many there are. What has been learned of single
    ones does: where they may leave their anchors, these stay.
    """
    if model.config.recm.residual:
        return
    model.recm.set_anchors(own_anchors(subject, config.final_gaussians))
