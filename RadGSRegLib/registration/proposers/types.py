"""The door for where a pose may be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...system import Progress
from ..options import Places
from ..scene import Scene


@dataclass(frozen=True, eq=False)
class Candidate:
    """A pose worth refining.

    ``ct_to_world`` (4, 4); ``score``: how well it agrees so far (a correlation, mean over views);
    ``signs``: +1 per view where bone is bright, else -1.
    """

    ct_to_world: NDArray[np.float64]
    score: float
    signs: tuple[int, ...]


@dataclass(frozen=True)
class Proposal:
    """Candidates, the best first, and how many of them are to be followed."""

    candidates: Sequence[Candidate]
    places: Places


class Posed(Protocol):
    """A pose (4, 4) and the views' signs, as of a candidate or of what became of one."""

    @property
    def ct_to_world(self) -> NDArray[np.float64]:
        """The target's pose."""

    @property
    def signs(self) -> tuple[int, ...]:
        """Per view +1 where bone is bright, else -1."""


@dataclass(frozen=True)
class Tried:
    """What was proposed before, and the best pose that came of it (None: none was refined yet)."""

    candidates: Sequence[Candidate] = ()
    best: Posed | None = None


class Proposer(Protocol):
    """Proposes poses of a scene.

    ``name``: what its time is recorded under; ``views_needed``: with fewer views it is not asked.
    """

    @property
    def name(self) -> str:
        """What its time is recorded under."""

    @property
    def views_needed(self) -> int:
        """With fewer views it is not asked."""

    def propose(self, scene: Scene, tried: Tried, progress: Progress) -> Proposal:
        """Propose candidates; there may be none. Raises Cancelled when ``progress`` says so."""


class Alternative(Proposer, Protocol):
    """Proposes what else may be the case: poses that have to explain the X-rays worse.

    ``name``: what its lead is recorded under: "level" (another vertebra), "picture" (other
    pictures), "polarity" (bone bright in one view and dark in another).
    """

    @property
    def reason(self) -> str:
        """What a verdict says where it explains them as well or better."""

    @property
    def clear_score(self) -> float:
        """A pose whose weakest view scores this much needs it not."""

    def scene(self, scene: Scene) -> Scene:
        """Return the scene that its poses are of: the given one, or that of changed pictures."""
