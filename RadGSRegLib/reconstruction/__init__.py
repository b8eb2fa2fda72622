"""Reconstruction by optimisation: X-rays to Gaussians and volume, with a CT prior or without."""

from .box import box_of_cloud
from .reconstruct import reconstruct_from_views
from .types import Reconstruction, ReconstructionOptions

__all__ = ["Reconstruction", "ReconstructionOptions", "box_of_cloud", "reconstruct_from_views"]
