"""A start for registration from a trained model: RecM, voxelizer, RegM; with no click if need be.

Without a click a small detector says where the vertebra may be. Crops about these places are
reconstructed, and each answer says where the vertebra's centre is, so that crops are moved there
and looked at again. How well the pictures agree with what they were taken to show, and the
detector itself, choose a few of these places; once their Gaussians have been fitted to the X-rays,
agreement alone says which is the likeliest. A model without a detector looks at crops all over the
place where the views' axes meet instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..cases import Case, View, patient_of
from ..drr import excess_attenuation
from ..errors import InputError
from ..gaussians import GaussianCloud
from ..geometry import invert_rigid, transform_points
from ..geometry.camera import triangulate
from ..geometry.pose import orthonormalize, translation
from ..registration import Candidate, GivenPoses, RegistrationOptions, Stage
from ..system.parallel import side_by_side_reporting
from ..system.progress import Progress
from ..system.torch_threads import one_torch_thread
from ..views.prepare import PreparedView, prepare_view
from .bend import bend
from .crops import Frame
from .cubes import excess_cube
from .model import RadGSReg
from .places import PLACES, Sighting, sight
from .recm import Prediction
from .settle import FINELY, ROUGHLY, settle
from .views import concatenate, crop_prepared

Array = NDArray[np.float64]
_Place = TypeVar("_Place", "Seen", "_Found")

CENTRE = "centre (CT, LPS mm)"
"""What a patient's card says of where the vertebra is, under "data"."""

# Centres nearer than this are of one vertebra, its mask mended; neighbours are 20 mm apart or more.
_SAME_MM = 10.0

# How much a place's logarithm of probability counts beside the agreement of its pictures.
_TRUST = 0.1
# Places this far behind the first are seen by one view alone, or by none.
_HOPELESS = 3.5
# The detector errs by a level, or by half of one: RecM looks there too.
_LEVEL_STEPS_MM = (-36.0, -18.0, 18.0, 36.0)

# Without a detector: a crop about a point this far off still shows the vertebra, if not in its
# middle.
_SCAN_MM = 20.0
_SCAN_STEPS = 1
_START_STEPS = 2
_PLACES = 3
_APART_MM = 12.0
# Fitted to the X-rays, a place that agrees less than this share of the best one is given up, unless
# it was the likeliest before; where even the best does not agree at all, nothing is.
_LIKELY = 0.4
# Fitted roughly, places that agree nearly as well as the best are fitted finely before one of them
# is called the best; the others stay behind them, where the rough fit has put them.
_CLOSE = 0.85
# Places that have run together in the fit are one; neighbours may be 12 mm apart before it.
_SAME_PLACE_MM = 5.0
_RECENTRINGS = 2
_BATCH = 32


@dataclass(frozen=True)
class Seen:
    """What a model sees in X-rays.

    ``cloud_world``: the reconstruction, means in world mm, about ``centre_world`` (3,) mm;
    ``score``: how well it agrees, at most 1: its pictures with the crops as predicted, or with the
    X-rays themselves once it was moved to fit them (finely or, for the less likely places, roughly:
    such scores are not to be compared); ``signs``: +1 per view where bone is bright,
    else -1; ``prediction``: RecM's answer for the crops of ``frame`` (fitted, if it was), attention
    maps included.
    """

    cloud_world: GaussianCloud
    centre_world: Array
    score: float
    signs: tuple[int, ...]
    prediction: Prediction
    frame: Frame


@dataclass(frozen=True)
class LearnedStart:
    """What a model says about a case: poses to refine, and the likeliest reconstruction.

    At each place, the likeliest first: RegM's pose, after RecM's own where its anchors are the
    patient's. Without a click there are up to three places, because levels look alike.
    """

    candidates: tuple[Candidate, ...]
    seen: Seen

    @property
    def cloud(self) -> GaussianCloud:
        """The reconstruction, world mm."""
        return self.seen.cloud_world

    @property
    def frame(self) -> Frame:
        """The crops it was seen in."""
        return self.seen.frame

    def proposer(self, options: RegistrationOptions | None = None) -> GivenPoses:
        """Return what proposes these poses to a registration with these options."""
        return GivenPoses(self.candidates, (options or RegistrationOptions()).learned_places)

    @property
    def attention(self) -> Tensor:
        """Attention maps (V, M, h, w) over the crops, mean one over each."""
        return self.seen.prediction.attention[0]


def see(
    views: Sequence[View],
    model: RadGSReg,
    guess: tuple[Array, Array] | None = None,
    progress: Progress | None = None,
    *,
    fit: bool = True,
) -> Seen:
    """Reconstruct the vertebra from X-rays alone.

    With ``fit`` what RecM predicts is moved as one piece to where the X-rays agree best with it
    (`networks.settle`), and bent as the vertebrae of a population differ where the model knows how
    (`networks.bend`); without, it stays as predicted.

    It is looked for where clicks say it is, else preferably near a ``guess`` (centre (3,) mm and
    axes (3, 3) in the world; some 50 mm off is likely enough), else where the views' axes meet.
    Raises InputError where they meet nowhere, and Cancelled when ``progress`` says so.
    """
    return _places(views, model, guess, progress or Progress(), fit)[0]


def learned_start(
    case: Case,
    model: RadGSReg,
    start_ct_to_world: Array | None = None,
    progress: Progress | None = None,
    *,
    fit: bool = True,
) -> LearnedStart:
    """Where the case's vertebra is: RecM (fitted to the X-rays as in `see` unless ``fit`` is off),
    voxelizer, RegM.

    A patient's model of another CT or vertebra has no pose of its own to offer, only RegM's. Raises
    InputError where `see` does, or where the label is not in the segmentation.
    """
    report = progress or Progress()
    centre_ct = _centre(case)
    own = _trained_centre(case, model)
    guess = None
    if start_ct_to_world is not None:
        start = np.asarray(start_ct_to_world, dtype=float)
        guess = (start[:3, :3] @ centre_ct + start[:3, 3], start[:3, :3])
    places = _places(case.views, model, guess, report.part(0.0, 0.9), fit)
    report(0.9, "comparing the reconstruction with the CT")
    excess = excess_attenuation(case.ct, case.labels, case.label)
    cube = excess_cube(excess, centre_ct, model.config.regm)
    to_centred = translation(-centre_ct)
    candidates = []
    for seen in places:
        with one_torch_thread():
            aligned = model.align(seen.prediction, cube[None])[0]
        poses = [aligned.double().cpu().numpy()]
        if own is not None:
            pose = seen.prediction.effect.poses[0].double().cpu().numpy()
            # RecM's axes begin where the mask's centre was when it was trained.
            poses.insert(0, pose @ translation(centre_ct - own))
        for pose in poses:
            world = orthonormalize(seen.frame.box_to_world @ pose @ to_centred)
            candidates.append(Candidate(world, seen.score, seen.signs))
    return LearnedStart(tuple(candidates), places[0])


def patient_cloud(case: Case, model: RadGSReg) -> GaussianCloud | None:
    """The vertebra's Gaussians in the CT frame that a model was trained around.

    None for a model of many vertebrae, and for one that its card says is of another CT or vertebra.
    """
    centre = _trained_centre(case, model)
    if centre is None:
        return None
    return model.recm.anchors.cloud().to("cpu").transformed(translation(centre))


def _trained_centre(case: Case, model: RadGSReg) -> Array | None:
    """Where the vertebra's centre (3,) was in the CT when a patient's model was trained on it; the
    mask may have been mended since. None for a model of anything else."""
    if not is_trained_for(case, model):
        return None
    return np.asarray(model.card["data"].get(CENTRE, _centre(case)), dtype=float)


def is_trained_for(case: Case, model: RadGSReg) -> bool:
    """Whether a model is patient-specific, and of this very CT and vertebra.

    The vertebra is known by its place, since one program's "22" is another's "L3 vertebra"; by the
    label where a card says no place.
    """
    data = model.card.get("data", {})
    if not model.is_patient_specific or data.get("patient") != patient_of(case):
        return False
    if CENTRE not in data:
        return bool(data.get("label") == case.label_name)
    return bool(np.linalg.norm(_centre(case) - np.asarray(data[CENTRE])) < _SAME_MM)


def _centre(case: Case) -> Array:
    mask = np.asarray(case.labels.array) == case.label
    if not mask.any():
        raise InputError(case.label_name, "is not in the segmentation", "check the label")
    points = case.labels.physical_points(np.argwhere(mask)[:, ::-1].astype(float))
    return np.asarray(points.mean(axis=0))


def _places(
    views: Sequence[View],
    model: RadGSReg,
    guess: tuple[Array, Array] | None,
    report: Progress,
    fit: bool,
) -> list[Seen]:
    """Where the vertebra may be, at least one place, the likeliest first; just one where clicks say
    it. Fitted to the X-rays if ``fit``."""
    prepared = [prepare_view(view) for view in views]
    reference = None if guess is None else guess[1]
    with one_torch_thread():
        centres, sighting = _centres(views, prepared, guess, model)
        found = _look(prepared, centres, reference, model, sighting, report.part(0.0, 0.4))
        for turn in range(_RECENTRINGS):
            again = [one.centre_world for one in _few(found, len(centres))]
            part = report.part(0.4 + 0.1 * turn, 0.5 + 0.1 * turn)
            found = _look(prepared, again, reference, model, sighting, part)
    chosen = _few(found, len(centres))
    if not fit:
        return [_as_predicted(one, model) for one in chosen]

    def roughly(one: _Found, part: Progress) -> Seen:
        return _settled(_as_predicted(one, model), prepared, ROUGHLY, part)

    def finely(seen: Seen, part: Progress) -> Seen:
        return _settled(seen, prepared, FINELY, part)

    def shaped(seen: Seen, part: Progress) -> Seen:
        return _bent(seen, model, prepared, part)

    message = "fitting the reconstruction to the X-rays"
    with one_torch_thread():
        likely = _likely(side_by_side_reporting(roughly, chosen, report.part(0.6, 0.7), message))
        least = _CLOSE * likely[0].score
        close = [one for n, one in enumerate(likely) if n == 0 or one.score >= least]
        part = report.part(0.7, 0.8)
        best = side_by_side_reporting(finely, close, part, message)
        likely = [*sorted(best, key=lambda one: -one.score), *likely[len(close) :]]
        part, message = report.part(0.8, 1.0), "bending the vertebra to the X-rays"
        return side_by_side_reporting(shaped, likely, part, message)


def _few(found: Sequence[_Found], looked: int) -> list[_Found]:
    """The best few that do not mean the same place; the best alone if only one was looked at."""
    return _apart(found, _APART_MM)[: _PLACES if looked > 1 else 1]


def _likely(settled: Sequence[Seen]) -> list[Seen]:
    """Those that agree hardly less than the best, the best first, of places of which the first was
    the likeliest: it stays, because a fit may go astray. Of those that came together only one."""
    best = max(one.score for one in settled)
    least = _LIKELY * best if best > 0.0 else -np.inf
    kept = [one for n, one in enumerate(settled) if n == 0 or one.score >= least]
    return _apart(sorted(kept, key=lambda one: -one.score), _SAME_PLACE_MM)


def _as_predicted(found: _Found, model: RadGSReg) -> Seen:
    cloud = model.recm.clouds(found.prediction.effect)[0].detach()
    return Seen(
        cloud.transformed(found.frame.box_to_world),
        found.centre_world,
        found.score,
        found.signs,
        found.prediction,
        found.frame,
    )


def _settled(seen: Seen, views: Sequence[PreparedView], stage: Stage, report: Progress) -> Seen:
    """What is seen, moved as one piece to where the X-rays agree best."""
    report(0.0, "fitting the reconstruction to the X-rays")
    done = settle(seen.cloud_world, seen.centre_world, views, seen.signs, report, [stage])
    to_world = seen.frame.box_to_world
    step_box = invert_rigid(to_world) @ done.step_world @ to_world
    return replace(
        seen,
        cloud_world=seen.cloud_world.transformed(done.step_world),
        centre_world=transform_points(done.step_world, seen.centre_world[None])[0],
        score=done.score,
        prediction=seen.prediction.moved(torch.from_numpy(step_box).float()),
    )


def _bent(seen: Seen, model: RadGSReg, views: Sequence[PreparedView], report: Progress) -> Seen:
    """The same in the shape that fits the X-rays best, for a model that knows shapes.

    The score stays that of the unbent one: a wrong place can be bent to look right.
    """
    if model.shapes is None:
        return seen
    anchors = model.recm.anchors
    prediction = bend(seen.prediction, anchors, model.shapes, seen.frame, views, seen.signs, report)
    cloud = model.recm.clouds(prediction.effect)[0].detach()
    to_world = seen.frame.box_to_world
    centre_box = prediction.effect.poses[0, :3, 3].double().cpu().numpy()
    return replace(
        seen,
        cloud_world=cloud.transformed(to_world),
        centre_world=transform_points(to_world, centre_box[None])[0],
        prediction=prediction,
    )


def _apart(found: Sequence[_Place], apart_mm: float) -> list[_Place]:
    """Those that do not mean the same place as one before them."""
    kept: list[_Place] = []
    for one in found:
        if all(np.linalg.norm(one.centre_world - k.centre_world) > apart_mm for k in kept):
            kept.append(one)
    return kept


@dataclass(frozen=True)
class _Found:
    """One crop's answer; ``rank`` orders them, the highest first."""

    rank: float
    score: float
    centre_world: Array
    prediction: Prediction
    frame: Frame
    signs: tuple[int, ...]


def _centres(
    views: Sequence[View],
    prepared: Sequence[PreparedView],
    guess: tuple[Array, Array] | None,
    model: RadGSReg,
) -> tuple[list[Array], Sighting | None]:
    """Where to look: the click, else what the detector sees around a start or around where the
    views' axes meet (and that), else a grid there."""
    clicked = [view for view in views if view.center_px is not None]
    try:
        if len(clicked) >= 2:
            pixels = np.array([view.center_px for view in clicked], dtype=float)
            return [triangulate([view.camera for view in clicked], pixels)[0]], None
        if guess is not None:
            middle, steps = guess[0], _START_STEPS
        else:
            cameras = [view.camera for view in views]
            middles = [((c.columns - 1) / 2, (c.rows - 1) / 2) for c in cameras]
            middle, steps = triangulate(cameras, middles)[0], _SCAN_STEPS
        if model.detector is not None:
            near, axes = (None, None) if guess is None else guess
            sighting = sight(prepared, model.detector, middle, axes, near)
            places, scores = sighting.places(PLACES)
            worth = list(places[scores > scores.max(initial=-np.inf) - _HOPELESS]) or [middle]
            spine = sighting.box_to_world[:3, 2]
            return [*worth, *(worth[0] + step * spine for step in _LEVEL_STEPS_MM)], sighting
    except ValueError as error:
        raise InputError("views", str(error), "give views from different sides") from None
    axis = _SCAN_MM * np.arange(-steps, steps + 1)
    return [middle + np.array(offset) for offset in itertools.product(axis, repeat=3)], None


def _look(
    views: Sequence[PreparedView],
    centres: Sequence[Array],
    reference: Array | None,
    model: RadGSReg,
    sighting: Sighting | None,
    report: Progress,
) -> list[_Found]:
    """The answers of crops about several points, the best first."""
    config = model.config.recm
    device = next(model.parameters()).device
    found: list[_Found] = []
    known = [view.sign != 0 for view in views]
    for first in range(0, len(centres), _BATCH):
        report(first / len(centres), "looking for the vertebra")
        some = centres[first : first + _BATCH]
        try:
            crops = [
                crop_prepared(views, c, reference, size_px=config.size_px, pixel_mm=config.pixel_mm)
                for c in some
            ]
        except ValueError as error:
            raise InputError("views", str(error), "give views from different sides") from None
        batch = concatenate([b for b, _ in crops]).to(device)
        prediction, polarity, scores = model.reconstruct(batch, known)
        for n, (_, frame) in enumerate(crops):
            one = prediction.case(n)
            centre = one.effect.poses[0, :3, 3].double().cpu().numpy()
            world = transform_points(frame.box_to_world, centre[None])[0]
            sign = 1 if float(polarity[n]) > 0 else -1
            signs = tuple(view.sign or sign for view in views)
            score = float(scores[n])
            rank = score if sighting is None else score + _TRUST * sighting.score_at(world)
            found.append(_Found(rank, score, world, one, frame, signs))
    return sorted(found, key=lambda one: -one.rank)
