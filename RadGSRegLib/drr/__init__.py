"""Volume to X-ray: attenuation from CT numbers, and the projector."""

from .attenuation import BONE_HU as BONE_HU
from .attenuation import SOFT_TISSUE_HU as SOFT_TISSUE_HU
from .attenuation import bone_attenuation as bone_attenuation
from .attenuation import excess_attenuation as excess_attenuation
from .attenuation import hu_to_attenuation as hu_to_attenuation
from .attenuation import water_attenuation as water_attenuation
from .pictures import PROJECTORS as PROJECTORS
from .pictures import project_pictures as project_pictures
from .pictures import project_pictures_with_jacobian as project_pictures_with_jacobian
from .projector import project_volume as project_volume
from .projector import project_volume_with_jacobian as project_volume_with_jacobian
from .system_matrix import SystemMatrix as SystemMatrix
from .voxels import Voxels as Voxels
from .voxels import occupied_cells as occupied_cells
