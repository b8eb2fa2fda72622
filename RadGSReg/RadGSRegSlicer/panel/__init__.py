"""The panel: one small class per step, and what they share."""

from .about import AboutStep
from .ct_step import CtStep
from .register_step import RegisterStep
from .review_step import ReviewStep
from .start_step import StartStep
from .train_step import TrainStep
from .volume_step import VolumeStep
from .xray_step import XrayStep

STEPS = (
    CtStep,
    TrainStep,
    XrayStep,
    StartStep,
    RegisterStep,
    ReviewStep,
    VolumeStep,
    AboutStep,
)
