"""Reconstruction by optimisation: X-rays to Gaussians and volume, with a CT prior or without."""

from .box import FRESH_BOX_MM as FRESH_BOX_MM
from .box import Box as Box
from .box import box_of_cloud as box_of_cloud
from .box import cube as cube
from .deadline import Deadline as Deadline
from .density_control import DensityControl as DensityControl
from .density_control import halves as halves
from .free_cloud import FreeCloud as FreeCloud
from .from_scratch import FreshTarget as FreshTarget
from .from_scratch import fresh_targets as fresh_targets
from .losses import image_losses as image_losses
from .losses import total_variation as total_variation
from .observation import observe as observe
from .reconstruct import reconstruct_from_views as reconstruct_from_views
from .types import Reconstruction as Reconstruction
from .types import ReconstructionOptions as ReconstructionOptions
from .types import check_at_least as check_at_least
