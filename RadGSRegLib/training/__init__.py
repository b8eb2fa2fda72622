"""Training: losses, data made on the fly, the three stages, checkpoints (math.md section 3)."""

from .card import measured_on as measured_on
from .config import TrainingConfig as TrainingConfig
from .config import read_config as read_config
from .patient import check_base as check_base
from .patient import shipped_base as shipped_base
from .pretraining import pretrain as pretrain
from .stages import Pretraining as Pretraining
