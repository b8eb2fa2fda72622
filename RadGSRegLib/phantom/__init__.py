"""A procedural lumbar spine: CT in HU, labels and subregions; endless anatomies, no patient."""

from .build import Phantom as Phantom
from .build import make_phantom as make_phantom
from .fields import Points as Points
from .parameters import SpineParameters as SpineParameters
from .parameters import random_spine as random_spine
from .pelvis import sacrum as sacrum
from .placement import vertebra_poses as vertebra_poses
from .region import random_poses as random_poses
from .region import region_box as region_box
from .sizes import LABELS as LABELS
from .sizes import MOBILE_LEVELS as MOBILE_LEVELS
from .sizes import SIZES as SIZES
from .vertebra import joint_surfaces as joint_surfaces
from .vertebra import shape_of as shape_of
