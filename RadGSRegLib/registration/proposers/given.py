"""Poses that are known beforehand, as from a trained model."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...system import Progress
from ..options import Places
from ..scene import Scene
from .types import Candidate, Proposal, Tried


@dataclass(frozen=True)
class GivenPoses:
    """Proposes what it was given, the likeliest first. No search is made."""

    candidates: Sequence[Candidate]
    places: Places
    name: str = "learned"
    views_needed: int = 1

    def propose(self, scene: Scene, tried: Tried, progress: Progress) -> Proposal:
        """Propose all of them."""
        return Proposal(self.candidates, self.places)
