"""What is fitted at one stage: the X-rays' windows around the target, and what is known of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..system import side_by_side, worker_count
from ..tensors import applied, reads_are_free
from ..views import PreparedView, Windows
from .background import RenderedBackground
from .bodies import Arrangements, BodySource
from .bounds import GROUP_PX, MARGIN_MM, SMALL_WINDOW_PX
from .options import RefineOptions, Stage
from .residual import Residual
from .windows import pixel_weight, stage_windows


@dataclass(frozen=True)
class Group:
    """Windows that are computed together, and what a residual has prepared of them.

    ``trials``: the number of each window's trial; ``terms``: one for each of the residual's scales;
    ``background``: what is added to every rendering for all that is not a body.
    """

    trials: tuple[int, ...]
    windows: Windows
    terms: tuple[Any, ...]
    background: RenderedBackground | None = None

    @cached_property
    def index(self) -> Tensor:
        """The windows' trials (N,), to pick arrangements with."""
        return torch.tensor(self.trials, device=self.windows.image.device)


@dataclass(frozen=True)
class Problem:
    """What T trials fit at one stage, each to its own windows of V ``views``: the bodies, how a
    rendering is compared with an X-ray, and how the stage refines.

    The windows of all ``groups`` in their order are those of the first trial, then of the next.
    """

    bodies: BodySource
    groups: tuple[Group, ...]
    residual: Residual
    options: RefineOptions
    views: int

    def part(self, trials: Sequence[int]) -> Problem:
        """Return the problem of some of the trials, in the order of their numbers."""
        place = {trial: n for n, trial in enumerate(trials)}
        groups = []
        for group in self.groups:
            kept = [n for n, trial in enumerate(group.trials) if trial in place]
            named = tuple(place[group.trials[n]] for n in kept)
            if len(kept) == len(group.trials):
                groups.append(replace(group, trials=named))
            elif kept:
                index = torch.tensor(kept, device=group.windows.image.device)
                terms = tuple(self.residual.part(term, index) for term in group.terms)
                still = group.background
                background = None if still is None else still.part(index)
                groups.append(Group(named, group.windows.part(index), terms, background))
        return replace(self, groups=tuple(groups))

    def each_view(self) -> Problem:
        """Return the problem of a single trial as that of a trial for each view, which sees no
        other."""
        number = itertools.count()
        groups = [
            replace(group, trials=tuple(itertools.islice(number, len(group.trials))))
            for group in self.groups
        ]
        return replace(self, groups=tuple(groups), views=1)


def problem_at(
    bodies: BodySource,
    views: Sequence[PreparedView],
    residual: Residual,
    stage: Stage,
    arrangements: Arrangements,
    signs: Tensor,
) -> Problem:
    """Return what a stage fits from T arrangements: windows around where they put the target.

    ``signs`` (T, V) of the views, +1 where bone is bright, else -1. With a background, if the stage
    wants it, that explains each window best.
    """
    centre_ct = torch.from_numpy(bodies.centre_ct).to(bodies.device)
    centres_world = applied(arrangements.ct_to_world, centre_ct)
    half_mm = bodies.radius_mm + MARGIN_MM
    pictures = list(itertools.product(range(len(arrangements)), range(len(views))))

    def grouped(part: Sequence[tuple[int, int]]) -> Group:
        first = pictures.index(part[0])
        shown = stage_windows(views, part, centres_world, half_mm, stage)
        own = signs.reshape(-1)[first : first + len(part)]
        group = Group(tuple(t for t, _ in part), shown, residual.prepare(shown, own, stage.refine))
        if not stage.background or bodies.background is None:
            return group
        at = arrangements.part(group.index)
        background = best_background(bodies, residual, group, at, stage.refine)
        return replace(group, background=background)

    pixels = (2 * math.ceil(half_mm / stage.pixel_mm) + 1) ** 2
    parts = grouped_pictures(pictures, pixels) if reads_are_free(signs) else [pictures]
    groups = tuple(side_by_side(grouped, parts))
    return Problem(bodies, groups, residual, stage.refine, len(views))


def grouped_pictures(
    pictures: Sequence[tuple[int, int]], pixels: int
) -> list[Sequence[tuple[int, int]]]:
    """Return pictures of so many pixels in groups to compute together on the CPU.

    Small ones go through each operation together, so that threads work instead of waiting for the
    interpreter: no more than processors' caches hold, and as many groups as there are threads
    where those are worth it.
    """
    count = math.ceil(len(pictures) * pixels / GROUP_PX)
    if pixels >= SMALL_WINDOW_PX:
        count = max(count, worker_count())
    count = min(count, len(pictures))
    edges = [len(pictures) * n // count for n in range(count + 1)]
    return [pictures[begin:end] for begin, end in itertools.pairwise(edges)]


def best_background(
    bodies: BodySource,
    residual: Residual,
    group: Group,
    arrangements: Arrangements,
    options: RefineOptions,
) -> RenderedBackground:
    """Render the background at its pose into each window of a group, with the coefficients that
    explain it best; ``arrangements``: one for each window."""
    background, shown = bodies.background, group.windows
    assert background is not None
    lenses, to_camera = shown.lenses, shown.world_to_camera
    images = bodies.pictures(
        lenses, to_camera @ arrangements.ct_to_world, options.fidelity, arrangements
    )
    own, others = images[:, 0], images[:, 1:].sum(1)
    weight = pixel_weight(own, others, shown, options)
    background_to_camera = to_camera @ arrangements.background_to_world
    parts = background.render(lenses, background_to_camera)
    mixes = torch.tensor(background.mixes, device=weight.device)
    mixed = own + others + torch.einsum("mb,nbrc->mnrc", mixes, parts)
    compared = residual.compare(group.terms[0], mixed, weight, options)
    best = mixes[compared.score.argmax(0)]
    centre_ct = torch.from_numpy(bodies.centre_ct).to(weight.device)
    image, jacobian = background.render_linear(best, lenses, background_to_camera, centre_ct)
    return RenderedBackground(image, jacobian, arrangements.background_to_world, centre_ct, best)
