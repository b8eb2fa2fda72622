"""Radiative Gaussians: the cloud, the rasterizer, the voxelizer, and fitting them to a volume."""

from ..system import available_backends as available_backends
from .adam import Adam as Adam
from .bodies import Bodies as Bodies
from .body_rasterizer import BODY_RASTERIZERS as BODY_RASTERIZERS
from .body_rasterizer import rasterize_bodies as rasterize_bodies
from .body_rasterizer import rasterize_bodies_with_jacobian as rasterize_bodies_with_jacobian
from .bounds import DEFAULT_CUTOFF as DEFAULT_CUTOFF
from .cloud import GaussianCloud as GaussianCloud
from .cloud import multiply_quaternions as multiply_quaternions
from .fit import FitOptions as FitOptions
from .fit import fit_vertebra as fit_vertebra
from .kept import fit_vertebra_once as fit_vertebra_once
from .moments import coarsen as coarsen
from .moments import match_moments as match_moments
from .ply import read_ply as read_ply
from .ply import write_ply as write_ply
from .rasterizer import RASTERIZERS as RASTERIZERS
from .rasterizer import rasterize as rasterize
from .rasterizer import rasterize_with_jacobian as rasterize_with_jacobian
from .voxelizer import VOXELIZERS as VOXELIZERS
from .voxelizer import voxelize as voxelize
from .warm_up import warm_up as warm_up
