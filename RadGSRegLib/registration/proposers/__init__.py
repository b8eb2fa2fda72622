"""Where a pose may be: clicks, a rough start, poses known beforehand, neighbouring levels."""

from .around import AroundTried, ClickSearch, StartSearch
from .correlation import rotation_grid, search
from .given import GivenPoses
from .levels import NeighbouringLevel, neighbouring_levels
from .types import Candidate, Proposal, Proposer, Tried

__all__ = [
    "AroundTried",
    "Candidate",
    "ClickSearch",
    "GivenPoses",
    "NeighbouringLevel",
    "Proposal",
    "Proposer",
    "StartSearch",
    "Tried",
    "neighbouring_levels",
    "rotation_grid",
    "search",
]
