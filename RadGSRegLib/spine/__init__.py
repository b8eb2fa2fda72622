"""The spine as a row of vertebrae: which is which, what says so, and what a person corrects."""

from .chain import LEVELS as LEVELS
from .chain import Chain as Chain
from .chain import chain as chain
from .levels import SpineLevels as SpineLevels
from .levels import Vertebra as Vertebra
from .levels import name_vertebrae as name_vertebrae
from .record import levels_from_record as levels_from_record
from .record import levels_to_record as levels_to_record
