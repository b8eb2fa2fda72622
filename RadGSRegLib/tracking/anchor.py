"""The frame that is registered by itself, from which a run is followed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..cases import Case, Run, is_picture
from ..errors import InputError
from ..geometry import Array
from ..registration import (
    Candidate,
    Registration,
    RegistrationOptions,
    Scene,
    fitted,
    register_case,
    register_near,
    scaled,
    scene_of,
)
from ..system import Progress
from ..views import ViewFilter, prepare_views, sign_choices
from . import bounds
from .fitting import is_noise
from .types import rank_of


@dataclass(frozen=True)
class Anchor:
    """A frame's own registration, and seconds that finding it took."""

    frame: int
    registration: Registration
    seconds: float


def find_anchor(
    run: Run,
    frames: Sequence[int],
    start_ct_to_world: Array | None,
    options: RegistrationOptions,
    progress: Progress,
    filters: Sequence[ViewFilter],
    device: torch.device | str,
) -> Anchor:
    """Register the first of some frames that shows something; where that is not `ok`, others across
    the run, and return the best.

    A single view needs a start: it does not say how far away the bone is. Raises InputError where
    no frame shows anything, and where nothing says where the bone is.
    """
    began = time.perf_counter()
    shown = _readable(run, frames, filters)
    best: Anchor | None = None
    problem: InputError | None = None
    tried = _across(shown)
    for number, frame in enumerate(tried):
        part = progress.part(number / len(tried), (number + 1) / len(tried))
        part(0.0, f"registering frame {frame}")
        case = replace(run.case, views=run.views(frame))
        start = start_ct_to_world
        if start is None and best is not None and best.registration.status == "uncertain":
            start = best.registration.ct_to_world
        try:
            done = _registered(case, start, options, part, filters, device)
        except InputError as error:
            problem = problem or error
            if not _may_be_elsewhere(case, start):
                raise
            continue
        if best is None or _rank(done) > _rank(best.registration):
            best = Anchor(frame, done, 0.0)
        if done.status == "ok" or len(case.views) < 2:
            break
    if best is None:
        assert problem is not None
        raise problem
    return replace(best, seconds=time.perf_counter() - began)


def _may_be_elsewhere(case: Case, start: Array | None) -> bool:
    """Whether another frame may do better than one that shows nothing where it is said to be."""
    clicked = sum(view.center_px is not None for view in case.views) >= 2
    return clicked or (start is not None and len(case.views) > 1)


def _readable(run: Run, frames: Sequence[int], filters: Sequence[ViewFilter]) -> list[int]:
    """The first frame that shows something, and all after it."""
    for number, frame in enumerate(frames):
        views = run.views(frame)
        if all(map(is_picture, views)) and not any(map(is_noise, prepare_views(views, filters))):
            return list(frames[number:])
    raise InputError("views", "no frame of the run shows anything in all views", "check the files")


def _across(frames: Sequence[int]) -> list[int]:
    """The first frame, and some across the others."""
    places = np.linspace(0.0, len(frames) - 1.0, bounds.OTHER_ANCHORS + 1)
    return list(dict.fromkeys(frames[round(place)] for place in places))


def _registered(
    case: Case,
    start: Array | None,
    options: RegistrationOptions,
    progress: Progress,
    filters: Sequence[ViewFilter],
    device: torch.device | str,
) -> Registration:
    if len(case.views) > 1:
        return register_case(case, start, options, progress, (), filters, device)
    if start is None:
        raise InputError(
            "views",
            "one plane alone does not say how far away the bone is",
            "give a start (--start), or a second plane",
        )
    known = scaled(fitted(options, case))
    scene: Scene = scene_of(case, known, filters, device)
    candidates = [Candidate(start, 0.0, signs) for signs in sign_choices(scene.views)]
    return register_near(case, scene, candidates, known, progress)


def _rank(registration: Registration) -> tuple[int, float]:
    return rank_of(registration.status), float(registration.quality["weakest_score"])
