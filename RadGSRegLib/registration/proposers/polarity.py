"""X-rays of one device of which one was inverted: then no pose explains them with one polarity."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...system import Progress
from ...views import sign_choices
from ..bounds import CLEAR_SCORE, LIKELY_PICTURE
from ..options import Places
from ..scene import Scene
from .types import Proposal, Proposer, Tried


@dataclass(frozen=True)
class MixedPolarity:
    """Searches again, with a polarity of its own for each view.

    Such a pose is never the answer: where it explains the X-rays better, something is wrong with
    them. ``search``: what poses of one polarity came from; ``open``: per view whether its polarity
    is not part of the data, so that it may be wrong.
    """

    search: Proposer
    open: tuple[bool, ...]
    name: str = "polarity"
    views_needed: int = 2
    reason: str = (
        "the X-rays are explained better with bone bright in one and dark in another; if one is "
        'inverted, or they come from different devices, say so by "device"'
    )
    clear_score: float = CLEAR_SCORE

    def scene(self, scene: Scene) -> Scene:
        """Return the scene as if each view had a device of its own."""
        views = [
            replace(view, device=f"{n} {view.name}", sign=0) if unknown else view
            for n, (view, unknown) in enumerate(zip(scene.views, self.open, strict=True))
        ]
        return replace(scene, views=tuple(views))

    def propose(self, scene: Scene, tried: Tried, progress: Progress) -> Proposal:
        """Propose the likeliest poses with signs that differ; none where all signs are known."""
        alike = sign_choices([replace(view, device="") for view in scene.views])
        if len(sign_choices(scene.views)) == len(alike):
            return Proposal((), Places(1, 1, 1, keep=1, survivors=1))
        proposal = self.search.propose(scene, tried, progress)
        # As with pictures: only where such a pose is about as likely as those of one polarity.
        least = LIKELY_PICTURE * max((c.score for c in proposal.candidates), default=0.0)
        mixed = [c for c in proposal.candidates if c.signs not in alike and c.score >= least]
        return Proposal(mixed, replace(proposal.places, candidates=4, survivors=1))
