"""Radiative Gaussians: the cloud, the rasterizer, the voxelizer, and fitting them to a volume."""

from ..system import available_backends
from .adam import Adam
from .bodies import Bodies
from .body_rasterizer import (
    BODY_RASTERIZERS,
    rasterize_bodies,
    rasterize_bodies_with_jacobian,
)
from .cloud import GaussianCloud, multiply_quaternions
from .fit import FitOptions, fit_vertebra
from .moments import coarsen, match_moments
from .ply import read_ply, write_ply
from .rasterizer import DEFAULT_CUTOFF, RASTERIZERS, rasterize, rasterize_with_jacobian
from .voxelizer import VOXELIZERS, voxelize
from .warm_up import warm_up

__all__ = [
    "match_moments",
    "multiply_quaternions",
    "Adam",
    "BODY_RASTERIZERS",
    "DEFAULT_CUTOFF",
    "RASTERIZERS",
    "VOXELIZERS",
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
