"""Cameras from X-rays of beads whose places are known."""

from .types import Beads as Beads
from .types import Calibrated as Calibrated
from .types import Distortion as Distortion
from .types import Spots as Spots
