"""X-rays that may be mirrored or exchanged: then other pictures than the given ones are right."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from ...geometry import Array, triangulate
from ...system import Progress
from ...views import PreparedView
from ..bounds import CLEAR_PICTURE_SCORE, EXCHANGED_VIEWS, ROUGH_PIXELS
from ..options import Places, RegistrationOptions
from ..scene import Scene
from .around import click_search
from .types import Proposal, Tried


@dataclass(frozen=True)
class OtherPictures:
    """Searches for the target in changed pictures, where the best pose's place is shown by them.

    View n shows the picture of view ``order[n]``, mirrored left to right where ``mirrored[n]``. The
    geometry stays. ``axes`` (3, 3) turn the CT's axes to the world's, within ``range_deg`` about
    each (None: in any way): the best pose says nothing of that, as it fits the given pictures.
    """

    order: tuple[int, ...]
    mirrored: tuple[bool, ...]
    reason: str
    axes: Array | None
    range_deg: float
    options: RegistrationOptions
    name: str = "picture"
    views_needed: int = 2
    clear_score: float = CLEAR_PICTURE_SCORE

    def scene(self, scene: Scene) -> Scene:
        """Return the scene with the changed pictures."""
        views = []
        for view, source, flip in zip(scene.views, self.order, self.mirrored, strict=True):
            shown = scene.views[source]
            shown = shown if shown is view else shown.taken_by(view.name, view.camera)
            views.append(shown.mirrored() if flip else shown)
        return replace(scene, views=tuple(views))

    def propose(self, scene: Scene, tried: Tried, progress: Progress) -> Proposal:
        """Propose the likeliest poses in the changed pictures, ``scene``; none without a pose."""
        places = Places(1, 4, 1, keep=1, survivors=1)
        if tried.best is None:
            return Proposal((), places)
        best_world = scene.centre_world(tried.best.ct_to_world)
        # The cameras are the same with either pictures.
        cameras = [view.camera for view in scene.views]
        pixels = []
        for camera, source, flip in zip(cameras, self.order, self.mirrored, strict=True):
            column, row = cameras[source].project(best_world[None])[0]
            pixels.append((camera.columns - 1 - column if flip else column, row))
        centre_world, _ = triangulate(cameras, pixels)
        search = self.options.search
        rough = replace(search, pixel_mm=ROUGH_PIXELS * search.pixel_mm)
        options = replace(self.options, search=rough)
        around = click_search(centre_world, self.axes, self.range_deg, options)
        return Proposal(around.propose(scene, tried, progress).candidates, places)


def other_pictures(
    views: tuple[PreparedView, ...],
    axes: Array | None,
    range_deg: float,
    options: RegistrationOptions,
) -> list[OtherPictures]:
    """Return what may be wrong with X-rays: each of them mirrored, and each two of one size
    exchanged, where there are no more than three.

    A picture that is taken for one from behind is a mirrored one too.
    """
    count, out = len(views), []
    plain = tuple(range(count))
    for n, view in enumerate(views):
        mirrored = tuple(n == other for other in plain)
        reason = f'X-ray "{view.name}" fits the CT as well or better when it is mirrored'
        out.append(OtherPictures(plain, mirrored, reason, axes, range_deg, options))
    for a, b in itertools.combinations(plain if count <= EXCHANGED_VIEWS else (), 2):
        if views[a].values.shape == views[b].values.shape:
            order = tuple({a: b, b: a}.get(n, n) for n in plain)
            reason = f'X-rays "{views[a].name}" and "{views[b].name}" fit the CT better exchanged'
            out.append(OtherPictures(order, (False,) * count, reason, axes, range_deg, options))
    return out
