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
    ``config`` asks for (a base's shapes win, so other networks have to begin from scratch).

    Raises InputError where they are damaged.
    """
    weights = shipped_weights()
    if weights is None or _of_patient(load_model(weights).config) != _of_patient(config.model):
        return None
    return weights


def patient_model(
    subject: Subject, config: TrainingConfig, base: RadGSReg | None = None
) -> RadGSReg:
    """Make a model around the subject's own Gaussians; networks as in ``base`` where one is given.

    The shape is known, so Gaussians do not leave their anchors and nothing is stretched.
    """
    anchors = own_anchors(subject, config.gaussians)
    shapes = config.model if base is None else base.config
    known = replace(_of_patient(shapes), detector=shapes.detector or config.model.detector)
    model = RadGSReg(known, anchors)
    if base is not None:
        state = {
            name: tensor
            for name, tensor in base.state_dict().items()
            if not name.startswith("recm.anchors.")
        }
        model.load_state_dict(state, strict=False)
    return model


def _of_patient(shapes: ModelConfig) -> ModelConfig:
    """The networks' shapes where the vertebra's own is known."""
    return replace(shapes, recm=replace(shapes.recm, residual=False, stretch=False), modes=0)


def finish_patient_model(model: RadGSReg, subject: Subject, config: TrainingConfig) -> None:
    """Give a trained patient-specific model the subject's Gaussians in full number.

    It predicts where they are as a whole, which does not depend on how many there are.
    """
    model.recm.set_anchors(own_anchors(subject, config.final_gaussians))
