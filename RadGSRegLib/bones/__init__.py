"""After a reconstruction: a bone's mask, its own axes, slices along them, its surface."""

from .axes import bone_axes as bone_axes
from .bounds import PERCENTILE as PERCENTILE
from .mask import BoneMask as BoneMask
from .mask import bone_mask as bone_mask
from .mesh_files import write_mesh as write_mesh
from .reslice import resliced as resliced
from .surface import Mesh as Mesh
from .surface import bone_surface as bone_surface
