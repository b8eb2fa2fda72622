"""Training: losses, data made on the fly, the three stages, checkpoints (math.md section 3)."""

from .card import measured_on as measured_on
from .config import PhaseShares as PhaseShares
from .config import TrainingConfig as TrainingConfig
from .config import read_config as read_config
from .levels import levels_config as levels_config
from .levels import pretrain_levels as pretrain_levels
from .patient import check_base as check_base
from .patient import shipped_base as shipped_base
from .pretraining import pretrain as pretrain
from .readers import held_out_names as held_out_names
from .stages import Pretraining as Pretraining
from .standard import pretrain_standard as pretrain_standard
from .standard import standard_config as standard_config
from .work import claim as claim
