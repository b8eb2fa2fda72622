"""Crops about several points, and what RecM answers to each."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..cases import View, clicked_centre, middle_of_views
from ..errors import InputError
from ..geometry import Array, Rigid
from ..system import Progress
from ..views import PreparedView
from . import bounds
from .crops import Frame
from .model import RadGSReg
from .places import Sighting, sight
from .recm import Prediction
from .views import ViewBatch, crop_prepared

# So many crops at a time, then one may cancel.
_BATCH = 32


@dataclass(frozen=True)
class Glimpse:
    """One crop's answer; ``rank`` orders them, the highest first. ``batch``: the crop, bone bright
    in all views."""

    rank: float
    score: float
    centre_world: Array
    prediction: Prediction
    frame: Frame
    signs: tuple[int, ...]
    batch: ViewBatch


def centres_to_look(
    views: Sequence[View],
    prepared: Sequence[PreparedView],
    guess: tuple[Array, Array] | None,
    model: RadGSReg,
) -> tuple[list[Array], Sighting | None]:
    """Return where to look: the click, else what the detector sees around a start or around where
    the views' axes meet (and that), else a grid there."""
    clicked = clicked_centre(views)
    if clicked is not None:
        return [clicked], None
    if guess is not None:
        middle, steps = guess[0], bounds.START_STEPS
    else:
        middle, steps = middle_of_views(views), bounds.SCAN_STEPS
    if model.detector is not None:
        near, axes = (None, None) if guess is None else guess
        try:
            sighting = sight(prepared, model.detector, middle, axes, near)
        except ValueError as error:
            raise InputError("views", str(error), "give views from different sides") from None
        places, scores = sighting.places(bounds.SIGHTED)
        worth = list(places[scores > scores.max(initial=-np.inf) - bounds.HOPELESS]) or [middle]
        spine = sighting.box_to_world[:3, 2]
        return [*worth, *(worth[0] + step * spine for step in bounds.LEVEL_STEPS_MM)], sighting
    axis = bounds.SCAN_MM * np.arange(-steps, steps + 1)
    return [middle + np.array(offset) for offset in itertools.product(axis, repeat=3)], None


def look(
    views: Sequence[PreparedView],
    centres: Sequence[Array],
    reference: Array | None,
    model: RadGSReg,
    sighting: Sighting | None,
    report: Progress,
) -> list[Glimpse]:
    """Return the answers of crops about several points, the best first."""
    config = model.config.recm
    device = next(model.parameters()).device
    glimpses: list[Glimpse] = []
    known = [view.sign != 0 for view in views]
    for first in range(0, len(centres), _BATCH):
        report(first / len(centres), "looking for the vertebra")
        some = centres[first : first + _BATCH]
        try:
            batch, frames = crop_prepared(
                views,
                some,
                reference,
                size_px=config.size_px,
                pixel_mm=config.pixel_mm,
                device=device,
            )
        except ValueError as error:
            raise InputError("views", str(error), "give views from different sides") from None
        prediction, polarity, scores = model.reconstruct(batch, known)
        poses = prediction.effect.poses.double().cpu().numpy()
        brightness, agreement = polarity.tolist(), scores.tolist()
        for n, frame in enumerate(frames):
            answer = prediction.case(n)
            world = Rigid(frame.box_to_world).apply(poses[n, :3, 3][None])[0]
            sign = 1 if brightness[n] > 0 else -1
            signs = tuple(view.sign or sign for view in views)
            score = agreement[n]
            rank = score
            if sighting is not None:
                rank += bounds.DETECTOR_WEIGHT * sighting.score_at(world)
            crop = batch.case(n)
            # Those whose polarity is known came bone bright.
            turn = [1 if view.sign else s for view, s in zip(views, signs, strict=True)]
            bright = crop.pictures * crop.pictures.new_tensor(turn)[:, None, None, None]
            crop = replace(crop, pictures=bright)
            glimpses.append(Glimpse(rank, score, world, answer, frame, signs, crop))
    return sorted(glimpses, key=lambda glimpse: -glimpse.rank)
