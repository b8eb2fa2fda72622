"""Training: losses, data made on the fly, the three stages, checkpoints (math.md section 3)."""

from .card import measured_on
from .config import TrainingConfig, read_config
from .patient import shipped_base
from .pretraining import pretrain
from .stages import Pretraining

__all__ = [
    "Pretraining",
    "TrainingConfig",
    "measured_on",
    "pretrain",
    "read_config",
    "shipped_base",
]
