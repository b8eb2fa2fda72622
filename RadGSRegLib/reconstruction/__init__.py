"""Reconstruction by optimisation: X-rays to Gaussians and volume, with a CT prior or without."""

from .reconstruct import reconstruct_from_views
from .types import Reconstruction, ReconstructionOptions

__all__ = ["Reconstruction", "ReconstructionOptions", "reconstruct_from_views"]
