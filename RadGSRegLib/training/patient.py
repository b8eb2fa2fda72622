"""The model of one patient's vertebra: the third stage (math.md section 3)."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from ..cases import CtCase
from ..gaussians import GaussianCloud, fit_vertebra
from ..geometry import translation
from ..networks import ModelConfig, RadGSReg, load_model, shipped_weights
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
    is open in them, `_of_patient`, is no other network).

    Raises InputError where they are damaged.
    """
    weights = shipped_weights()
    if weights is None:
        return None
    known = _of_patient(load_model(weights).config, config.model)
    return weights if known == _of_patient(config.model, config.model) else None


def patient_model(
    subject: Subject, config: TrainingConfig, base: RadGSReg | None = None
) -> RadGSReg:
    """Make a model around the subject's own Gaussians; networks as in ``base`` where one is given.

    Whether Gaussians may leave their anchors, and be stretched, is as ``config`` says.
    """
    anchors = own_anchors(subject, config.gaussians)
    shapes = config.model if base is None else base.config
    detector = shapes.detector or config.model.detector
    model = RadGSReg(replace(_of_patient(shapes, config.model), detector=detector), anchors)
    if base is not None:
        state = {
            name: tensor
            for name, tensor in base.state_dict().items()
            if not name.startswith("recm.anchors.")
        }
        model.load_state_dict(state, strict=False)
    return model


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
