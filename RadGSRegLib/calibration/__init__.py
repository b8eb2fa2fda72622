"""Cameras from X-rays of beads whose places are known."""

from .bundle import Prior as Prior
from .chain import Chained as Chained
from .chain import chained as chained
from .correspond import Match as Match
from .correspond import RoughCamera as RoughCamera
from .correspond import match_beads as match_beads
from .dlt import dlt as dlt
from .export import rtk_parameters as rtk_parameters
from .export import write_matrix as write_matrix
from .export import write_mayacam as write_mayacam
from .export import write_opencv as write_opencv
from .export import write_rtk as write_rtk
from .grid_picture import grid_distortion as grid_distortion
from .resection import Resection as Resection
from .resection import Sighting as Sighting
from .resection import resect as resect
from .types import Beads as Beads
from .types import Calibrated as Calibrated
from .types import Distortion as Distortion
from .types import Spots as Spots
