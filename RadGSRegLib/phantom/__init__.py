"""A procedural lumbar spine: CT in HU, labels and subregions; endless anatomies, no patient."""

from .build import Phantom, make_phantom, random_poses, region_box
from .parameters import SpineParameters, VertebraParameters, random_spine
from .placement import vertebra_poses
from .sizes import LABELS, MOBILE_LEVELS, SIZES, SUBREGIONS, LevelSize

__all__ = [
    "LABELS",
    "MOBILE_LEVELS",
    "SIZES",
    "SUBREGIONS",
    "LevelSize",
    "Phantom",
    "SpineParameters",
    "VertebraParameters",
    "make_phantom",
    "random_poses",
    "random_spine",
    "region_box",
    "vertebra_poses",
]
