"""Volume to X-ray: attenuation from CT numbers, and the projector."""

from .attenuation import (
    SOFT_TISSUE_HU,
    bone_attenuation,
    excess_attenuation,
    hu_to_attenuation,
    water_attenuation,
)
from .projector import PROJECTORS, project_volume, project_volume_with_jacobian

__all__ = [
    "PROJECTORS",
    "SOFT_TISSUE_HU",
    "bone_attenuation",
    "excess_attenuation",
    "hu_to_attenuation",
    "project_volume",
    "project_volume_with_jacobian",
    "water_attenuation",
]
