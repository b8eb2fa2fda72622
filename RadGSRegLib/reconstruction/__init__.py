"""Reconstruction by optimisation: X-rays to Gaussians and volume, with a CT prior or without."""

from .box import box_of_cloud as box_of_cloud
from .reconstruct import reconstruct_from_views as reconstruct_from_views
from .types import Reconstruction as Reconstruction
from .types import ReconstructionOptions as ReconstructionOptions
