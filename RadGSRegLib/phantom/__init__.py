"""A procedural lumbar spine: CT in HU, labels and subregions; endless anatomies, no patient."""

from .build import Phantom, make_phantom
from .fields import Points
from .parameters import SpineParameters, VertebraParameters, random_spine
from .pelvis import sacrum
from .placement import vertebra_poses
from .region import Region, random_poses, region_box
from .sizes import LABELS, MOBILE_LEVELS, SIZES, SUBREGIONS, LevelSize
from .vertebra import joint_surfaces, shape_of

__all__ = [
    "LABELS",
    "MOBILE_LEVELS",
    "SIZES",
    "SUBREGIONS",
    "LevelSize",
    "Phantom",
    "Points",
    "Region",
    "SpineParameters",
    "VertebraParameters",
    "joint_surfaces",
    "make_phantom",
    "random_poses",
    "random_spine",
    "region_box",
    "sacrum",
    "shape_of",
    "vertebra_poses",
]
