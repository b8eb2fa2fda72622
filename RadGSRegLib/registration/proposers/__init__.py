"""Where a pose may be: clicks, a rough start, poses known beforehand, neighbouring levels."""

from .along_sight import SightSearch as SightSearch
from .along_sight import depths_about_start as depths_about_start
from .along_sight import on_click as on_click
from .around import AroundTried as AroundTried
from .around import ClickSearch as ClickSearch
from .around import EveryTurnSearch as EveryTurnSearch
from .around import StartItself as StartItself
from .around import StartSearch as StartSearch
from .around import click_search as click_search
from .correlation import rotation_grid as rotation_grid
from .correlation import search as search
from .given import GivenPoses as GivenPoses
from .levels import NeighbouringLevel as NeighbouringLevel
from .levels import neighbouring_levels as neighbouring_levels
from .pictures import other_pictures as other_pictures
from .polarity import MixedPolarity as MixedPolarity
from .types import Alternative as Alternative
from .types import Candidate as Candidate
from .types import Proposal as Proposal
from .types import Proposer as Proposer
from .types import Tried as Tried
