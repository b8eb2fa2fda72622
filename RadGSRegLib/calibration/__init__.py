"""Cameras from X-rays of beads whose places are known."""

from .pairs import triangulated as triangulated
from .spheres import sphere_shift_px as sphere_shift_px
from .spots import find_spots as find_spots
from .types import Beads as Beads
from .types import Calibrated as Calibrated
from .types import Distortion as Distortion
from .types import Spots as Spots
