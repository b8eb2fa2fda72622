"""Radiative Gaussians: the cloud, the rasterizer, the voxelizer, and fitting them to a volume."""

from .backends import available_backends, warm_up
from .bodies import Bodies, rasterize_bodies, rasterize_bodies_with_jacobian
from .cloud import GaussianCloud
from .fit import FitOptions, fit_vertebra
from .moments import coarsen
from .ply import read_ply, write_ply
from .rasterizer import DEFAULT_CUTOFF, rasterize, rasterize_with_jacobian
from .voxelizer import voxelize

__all__ = [
    "DEFAULT_CUTOFF",
    "Bodies",
    "FitOptions",
    "GaussianCloud",
    "available_backends",
    "coarsen",
    "fit_vertebra",
    "rasterize",
    "rasterize_bodies",
    "rasterize_bodies_with_jacobian",
    "rasterize_with_jacobian",
    "read_ply",
    "voxelize",
    "warm_up",
    "write_ply",
]
