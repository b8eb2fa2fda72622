"""Cameras from X-rays of beads whose places are known."""

from .ct_beads import find_ct_beads as find_ct_beads
from .layouts import LAYOUTS as LAYOUTS
from .layouts import layout as layout
from .pairs import triangulated as triangulated
from .phantom_file import beads_to_json as beads_to_json
from .phantom_file import read_beads as read_beads
from .phantom_file import write_beads as write_beads
from .printing import Holder as Holder
from .printing import holder as holder
from .printing import posts_under as posts_under
from .printing import write_holder as write_holder
from .spheres import sphere_shift_px as sphere_shift_px
from .spots import find_spots as find_spots
from .types import Beads as Beads
from .types import Calibrated as Calibrated
from .types import Distortion as Distortion
from .types import Spots as Spots
