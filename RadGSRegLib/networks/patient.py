"""Models of one patient: whether a model is of a case's very vertebra, and what it holds of it."""

import numpy as np

from ..cases import Case, patient_of
from ..errors import InputError
from ..gaussians import GaussianCloud
from ..geometry import Array, translation
from . import bounds
from .model import RadGSReg

CENTRE = "centre (CT, LPS mm)"
"""What a patient's card says of where the vertebra is, under "data"."""


def patient_cloud(case: Case, model: RadGSReg) -> GaussianCloud | None:
    """Return the vertebra's Gaussians in the CT frame that a model was trained around.

    None for a model of many vertebrae, for one that its card says is of another CT or vertebra, and
    where Gaussians may leave their anchors: those are then as few as in training.
    """
    centre = trained_centre(case, model)
    if centre is None or model.config.recm.residual:
        return None
    return model.recm.anchors.cloud().to("cpu").transformed(translation(centre))


def trained_centre(case: Case, model: RadGSReg) -> Array | None:
    """Return the vertebra's centre (3,) in the CT when a patient's model was trained on it.

    The mask may have been mended since. None for a model of anything else, and for one whose
    anchors are not that vertebra, or are not posed: it does not say where the vertebra's axes are.
    """
    posed = model.config.anchors == "template" and model.config.recm.pose
    if not posed or not is_trained_for(case, model):
        return None
    return np.asarray(model.card["data"].get(CENTRE, case.centre_ct), dtype=float)


def refuse_other_patient(case: Case, model: RadGSReg) -> None:
    """Raise InputError for a patient's model of another CT or vertebra."""
    if model.is_patient_specific and not is_trained_for(case, model):
        raise InputError(
            model.source,
            f"was trained for another CT, or for another vertebra than {case.label_name}",
            "train a model for this CT and label (pretrain --stage 3), or leave --model out",
        )


def refuse_base_alone(model: RadGSReg) -> None:
    """Raise InputError for a model that has to be told the vertebra's shape: alone it would show
    the mean vertebra, moved."""
    told = model.recm.correspondence is not None and model.decoder is None
    if told and model.is_rigid and not model.is_patient_specific:
        raise InputError(
            model.source,
            "looks for vertebrae whose shapes are known; trainings go on from it",
            "train a model for this CT and label (pretrain --stage 3), or name another --model",
        )


def is_trained_for(case: Case, model: RadGSReg) -> bool:
    """Return whether a model is patient-specific, and of this very CT and vertebra.

    The vertebra is known by its place, since one program's "22" is another's "L3 vertebra"; by the
    label where a card says no place.
    """
    data = model.card.get("data", {})
    if not model.is_patient_specific or data.get("patient") != patient_of(case):
        return False
    if CENTRE not in data:
        return bool(data.get("label") == case.label_name)
    return bool(np.linalg.norm(case.centre_ct - np.asarray(data[CENTRE])) < bounds.SAME_VERTEBRA_MM)
