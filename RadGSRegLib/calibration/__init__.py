"""Cameras from X-rays of beads whose places are known."""

from .bundle import Prior as Prior
from .correspond import Match as Match
from .correspond import RoughCamera as RoughCamera
from .correspond import match_beads as match_beads
from .dlt import dlt as dlt
from .resection import Resection as Resection
from .resection import Sighting as Sighting
from .resection import resect as resect
from .types import Beads as Beads
from .types import Calibrated as Calibrated
from .types import Distortion as Distortion
from .types import Spots as Spots
