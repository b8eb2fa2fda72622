"""Radiative Gaussians: the cloud, the rasterizer, the voxelizer, and fitting them to a volume."""

from .backends import available_backends
from .cloud import GaussianCloud
from .rasterizer import DEFAULT_CUTOFF, rasterize, rasterize_with_jacobian
from .voxelizer import voxelize

__all__ = [
    "DEFAULT_CUTOFF",
    "GaussianCloud",
    "available_backends",
    "rasterize",
    "rasterize_with_jacobian",
    "voxelize",
]
