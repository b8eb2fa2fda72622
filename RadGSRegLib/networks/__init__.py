"""Networks that learn reconstruction and registration (math.md section 3)."""

from .model import ModelConfig, RadGSReg, load_model, save_model
from .patient import CENTRE, is_trained_for, patient_cloud
from .recm import Prediction, RecM, RecMConfig
from .regm import RegM, RegMConfig
from .start import LearnedStart, Seen, learned_start, see
from .views import ViewBatch, crop_views

__all__ = [
    "CENTRE",
    "LearnedStart",
    "ModelConfig",
    "Prediction",
    "RadGSReg",
    "RecM",
    "RecMConfig",
    "RegM",
    "RegMConfig",
    "Seen",
    "ViewBatch",
    "crop_views",
    "is_trained_for",
    "learned_start",
    "load_model",
    "patient_cloud",
    "save_model",
    "see",
]
