"""A start for registration from a trained model: RecM, voxelizer, RegM; with no click if need be.

Without a click a small detector says where the vertebra may be. Crops about these places are
reconstructed, and each answer says where the vertebra's centre is, so that crops are moved there
and looked at again. How well the pictures agree with what they were taken to show, and the
detector itself, choose a few of these places; once their Gaussians have been fitted to the X-rays,
agreement alone says which is the likeliest. A model without a detector looks at crops all over the
place where the views' axes meet instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from ..cases import Case, View
from ..drr import excess_attenuation
from ..gaussians import GaussianCloud
from ..geometry import Array, Rigid, Volume, orthonormalize, translation
from ..registration import Candidate, GivenPoses, RegistrationOptions, Stage
from ..system import Progress, one_torch_thread, side_by_side_reporting
from ..views import PreparedView, ViewFilter, prepare_views
from . import bounds
from .bend import bend
from .crops import Frame
from .cubes import excess_cube
from .decoder import inside_volume
from .looking import Glimpse, centres_to_look, look
from .model import RadGSReg
from .patient import refuse_base_alone, trained_centre
from .recm import Prediction
from .settle import FINELY, ROUGHLY, settle
from .shapes import Shapes
from .views import ViewBatch

_Place = TypeVar("_Place", "Seen", Glimpse)


@dataclass(frozen=True)
class Seen:
    """What a model sees in X-rays.

    ``cloud_world``: the reconstruction, means in world mm, about ``centre_world`` (3,) mm;
    ``score``: how well it agrees, at most 1: its pictures with the crops as predicted, or with the
    X-rays themselves once it was moved to fit them (finely or, for the less likely places, roughly:
    such scores are not to be compared), before it was bent; ``signs``: +1 per view where bone is
    bright, else -1; ``prediction``: RecM's answer for the crops of ``frame`` (fitted, if it was),
    attention maps included; ``alone``: what it was before it was fitted. ``change_mm``: how far
    from where the patient's CT has them the X-rays ask Gaussians to be, besides where the vertebra
    as a whole is (mean; None: nothing asked them); what is less than `bounds.LEAST_CHANGE_MM` is
    not shown. ``inside_world``: how much of each voxel is inside of the vertebra, [0, 1], where the
    model has a decoder, and ``crop`` what that has looked at.
    """

    cloud_world: GaussianCloud
    centre_world: Array
    score: float
    signs: tuple[int, ...]
    prediction: Prediction
    frame: Frame
    alone: Prediction | None = None
    change_mm: float | None = None
    inside_world: Volume | None = None
    crop: ViewBatch | None = None

    @property
    def changed(self) -> str:
        """One sentence for people where a change since the CT is shown, else nothing."""
        if self.change_mm is None or self.change_mm < bounds.LEAST_CHANGE_MM:
            return ""
        return (
            f"the X-rays ask for a vertebra that differs from its CT by {self.change_mm:.1f} mm in"
            " the mean: it has changed since, or this is another one"
        )


@dataclass(frozen=True)
class LearnedStart:
    """What a model says about a case: poses to refine, and the likeliest reconstruction.

    At each place, the likeliest first: RegM's pose, after RecM's own where its anchors are the
    patient's. Without a click there are up to three places, because levels look alike. ``aligned``:
    RegM's poses (4, 4) alone, one for each place.
    """

    candidates: tuple[Candidate, ...]
    seen: Seen
    aligned: tuple[Array, ...] = ()

    def proposer(self, options: RegistrationOptions | None = None) -> GivenPoses:
        """Return what proposes these poses to a registration with these options."""
        return GivenPoses(self.candidates, (options or RegistrationOptions()).learned_places)


def see(
    views: Sequence[View],
    model: RadGSReg,
    guess: tuple[Array, Array] | None = None,
    progress: Progress | None = None,
    *,
    fit: bool = True,
    filters: Sequence[ViewFilter] = (),
) -> Seen:
    """Reconstruct the vertebra from X-rays alone.

    With ``fit`` what RecM predicts is moved as one piece to where the X-rays agree best with it
    (`networks.settle`), and bent (`networks.bend`): as the vertebrae of a population differ where
    the model knows how, or smoothly where it knows the patient's own, which may have changed since
    its CT. Without, it stays as predicted.

    It is looked for where clicks say it is, else preferably near a ``guess`` (centre (3,) mm and
    axes (3, 3) in the world; some 50 mm off is likely enough), else where the views' axes meet.
    ``filters`` make the X-rays better first. Raises InputError where they meet nowhere, and for a
    model that only trainings go on from; Cancelled when ``progress`` says so.
    """
    report = progress or Progress()
    prepared = prepare_views(views, filters)
    changes = model.changes() if fit else None
    most = 1.0 if changes is None else 0.8
    seen = _places(views, prepared, model, guess, report.part(0.0, most), fit)[0]
    if changes is None:
        return seen
    with one_torch_thread():
        return _changed(seen, model, changes, prepared, report.part(most, 1.0))


def see_places(
    views: Sequence[View],
    model: RadGSReg,
    guess: tuple[Array, Array] | None = None,
    progress: Progress | None = None,
    *,
    fit: bool = True,
    filters: Sequence[ViewFilter] = (),
) -> list[Seen]:
    """Do what `see` does at each place where the vertebra may be, the likeliest first: one where
    clicks say it, up to three without."""
    prepared = prepare_views(views, filters)
    return _places(views, prepared, model, guess, progress or Progress(), fit)


def learned_start(
    case: Case,
    model: RadGSReg,
    start_ct_to_world: Array | None = None,
    progress: Progress | None = None,
    *,
    fit: bool = True,
    filters: Sequence[ViewFilter] = (),
) -> LearnedStart:
    """Propose poses of the case's vertebra with a trained model: RecM, voxelizer, RegM.

    A patient's model of another CT or vertebra does not give RecM's pose, only RegM's. Without
    clicks and start the detector finds the places (docs/learning.md, "Without a click").

    Args:
        case: CT, labels and X-rays; clicks are used where there are two.
        model: as `load_model` gives it.
        start_ct_to_world: (4, 4), an approximate pose, off by up to 20 degrees and 50 mm.
        progress: told of the share done; may cancel.
        fit: fit what RecM predicts to the X-rays before RegM compares it with the CT, as in `see`.
        filters: what makes the views better first.

    Returns:
        Candidates (up to three places without a click) and the likeliest reconstruction, world mm.
        `LearnedStart.proposer` hands them to a registration.

    Raises:
        InputError: where nothing is to be seen, or the label is not in the segmentation.
        Cancelled: when ``progress`` says so.

    Example:
        >>> from RadGSRegLib.networks import learned_start, load_model, shipped_weights
        >>> start = learned_start(case, load_model(shipped_weights()), fit=False)
        >>> start.candidates[0].ct_to_world.shape
        (4, 4)
    """
    report = progress or Progress()
    guess = None if start_ct_to_world is None else guess_of(case, start_ct_to_world)
    part = report.part(0.0, 0.9)
    places = see_places(case.views, model, guess, part, fit=fit, filters=filters)
    report(0.9, "comparing the reconstruction with the CT")
    return align_places(case, model, places)


def guess_of(case: Case, start_ct_to_world: Array) -> tuple[Array, Array]:
    """Return where a start (4, 4) puts the centre (3,) of a case's mask, world mm, and how it turns
    the CT's axes (3, 3): what `see` takes for a guess."""
    start = np.asarray(start_ct_to_world, dtype=float)
    return Rigid(start).apply(case.centre_ct), start[:3, :3]


def align_places(case: Case, model: RadGSReg, places: Sequence[Seen]) -> LearnedStart:
    """Compare what a model sees at each place with the case's CT: RegM, as in `learned_start`.

    Raises InputError where the label is not in the segmentation.
    """
    centre_ct = case.centre_ct
    own = trained_centre(case, model)
    excess = excess_attenuation(case.ct, case.labels, case.label)
    cube = excess_cube(excess, centre_ct, model.config.regm)
    to_centred = translation(-centre_ct)
    candidates, worlds = [], []
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
        worlds.append(candidates[-1].ct_to_world)
    return LearnedStart(tuple(candidates), places[0], tuple(worlds))


def _places(
    views: Sequence[View],
    prepared: Sequence[PreparedView],
    model: RadGSReg,
    guess: tuple[Array, Array] | None,
    report: Progress,
    fit: bool,
) -> list[Seen]:
    """Where the vertebra may be, at least one place, the likeliest first; just one where clicks say
    it. Fitted to the X-rays if ``fit``."""
    refuse_base_alone(model)
    reference = None if guess is None else guess[1]
    with one_torch_thread():
        centres, sighting = centres_to_look(views, prepared, guess, model)
        glimpses = look(prepared, centres, reference, model, sighting, report.part(0.0, 0.4))
        for turn in range(bounds.RECENTRINGS):
            again = [glimpse.centre_world for glimpse in _few(glimpses, len(centres))]
            part = report.part(0.4 + 0.1 * turn, 0.5 + 0.1 * turn)
            glimpses = look(prepared, again, reference, model, sighting, part)
    chosen, shapes = _few(glimpses, len(centres)), model.shapes
    if not fit:
        return [_as_predicted(glimpse, model) for glimpse in chosen]

    def roughly(glimpse: Glimpse, part: Progress) -> Seen:
        return _settled(_as_predicted(glimpse, model), prepared, ROUGHLY, part)

    def finely(seen: Seen, part: Progress) -> Seen:
        return _settled(seen, prepared, FINELY, part)

    def shaped(seen: Seen, part: Progress) -> Seen:
        return seen if shapes is None else _bent(seen, model, shapes, prepared, part)

    message = "fitting the reconstruction to the X-rays"
    with one_torch_thread():
        likely = _likely(side_by_side_reporting(roughly, chosen, report.part(0.6, 0.7), message))
        least = bounds.CLOSE * likely[0].score
        close = [seen for n, seen in enumerate(likely) if n == 0 or seen.score >= least]
        part = report.part(0.7, 0.8)
        best = side_by_side_reporting(finely, close, part, message)
        likely = [*sorted(best, key=lambda seen: -seen.score), *likely[len(close) :]]
        part, message = report.part(0.8, 1.0), "bending the vertebra to the X-rays"
        return side_by_side_reporting(shaped, likely, part, message)


def _few(glimpses: Sequence[Glimpse], looked: int) -> list[Glimpse]:
    """The best few that do not mean the same place; the best alone if only one was looked at."""
    return _apart(glimpses, bounds.APART_MM)[: bounds.PLACES if looked > 1 else 1]


def _likely(settled: Sequence[Seen]) -> list[Seen]:
    """Those that agree hardly less than the best, the best first, of places of which the first was
    the likeliest: it stays, because a fit may go astray. Of those that came together only one."""
    best = max(seen.score for seen in settled)
    least = bounds.LIKELY * best if best > 0.0 else -np.inf
    kept = [seen for n, seen in enumerate(settled) if n == 0 or seen.score >= least]
    return _apart(sorted(kept, key=lambda seen: -seen.score), bounds.SAME_PLACE_MM)


def _as_predicted(glimpse: Glimpse, model: RadGSReg) -> Seen:
    prediction = model.decode(glimpse.prediction, glimpse.batch)
    cloud = model.clouds(prediction)[0].detach()
    return Seen(
        cloud.transformed(glimpse.frame.box_to_world),
        glimpse.centre_world,
        glimpse.score,
        glimpse.signs,
        prediction,
        glimpse.frame,
        alone=prediction,
        inside_world=_inside(prediction, glimpse.frame, model),
        crop=None if model.decoder is None else glimpse.batch,
    )


def _settled(seen: Seen, views: Sequence[PreparedView], stage: Stage, report: Progress) -> Seen:
    """What is seen, moved as one piece to where the X-rays agree best."""
    report(0.0, "fitting the reconstruction to the X-rays")
    done = settle(seen.cloud_world, seen.centre_world, views, seen.signs, report, [stage])
    to_world = seen.frame.box_to_world
    step_box = Rigid(to_world).inverse().matrix @ done.step_world @ to_world
    inside = seen.inside_world
    if inside is not None:
        inside = replace(inside, index_to_physical=done.step_world @ inside.index_to_physical)
    return replace(
        seen,
        cloud_world=seen.cloud_world.transformed(done.step_world),
        inside_world=inside,
        centre_world=Rigid(done.step_world).apply(seen.centre_world[None])[0],
        score=done.score,
        prediction=seen.prediction.moved(torch.from_numpy(step_box).float()),
    )


def _bent(
    seen: Seen, model: RadGSReg, shapes: Shapes, views: Sequence[PreparedView], report: Progress
) -> Seen:
    """The same in the shape that fits the X-rays best.

    The score stays that of the unbent one: a wrong place can be bent to look right.
    """
    anchors = model.recm.anchors
    bent = bend(seen.prediction, anchors, shapes, seen.frame, views, seen.signs, report)
    if seen.crop is None:
        return _with_answer(seen, model, bent.prediction)
    return _with_answer(seen, model, model.decode(bent.prediction, seen.crop))


def _changed(
    seen: Seen, model: RadGSReg, changes: Shapes, views: Sequence[PreparedView], report: Progress
) -> Seen:
    """The patient's vertebra as it has changed since the CT, if it has.

    It is bent from where RecM sees it and from where it was moved to: a changed vertebra, moved as
    one piece to where the X-rays agree best, may go astray.
    """
    anchors, frame, signs = model.recm.anchors, seen.frame, seen.signs
    starts = [seen.prediction] if seen.alone is None else [seen.alone, seen.prediction]
    both = [
        bend(start, anchors, changes, frame, views, signs, report.part(n / 2.0, (n + 1) / 2.0))
        for n, start in enumerate(starts)
    ]
    prediction = min(both, key=lambda bent: float(bent.misfit)).prediction
    effect = prediction.effect
    change_mm = float(anchors.offsets(effect.raw).norm(dim=-1).mean())
    if change_mm < bounds.LEAST_CHANGE_MM:
        # Of an unchanged vertebra the CT knows the shape better. Its place is better than before.
        unchanged = replace(effect, raw=torch.zeros_like(effect.raw))
        prediction = replace(prediction, effect=unchanged)
    return replace(_with_answer(seen, model, prediction), change_mm=change_mm)


def _with_answer(seen: Seen, model: RadGSReg, prediction: Prediction) -> Seen:
    """The same with another answer for its crops."""
    cloud = model.clouds(prediction)[0].detach()
    to_world = seen.frame.box_to_world
    centre_box = prediction.effect.poses[0, :3, 3].double().cpu().numpy()
    return replace(
        seen,
        cloud_world=cloud.transformed(to_world),
        centre_world=Rigid(to_world).apply(centre_box[None])[0],
        prediction=prediction,
        inside_world=_inside(prediction, seen.frame, model),
    )


def _inside(prediction: Prediction, frame: Frame, model: RadGSReg) -> Volume | None:
    if prediction.decoded is None or model.decoder is None:
        return None
    to_world = frame.box_to_world @ prediction.effect.poses[0].double().cpu().numpy()
    return inside_volume(prediction.decoded, model.decoder.config, to_world)


def _apart(places: Sequence[_Place], apart_mm: float) -> list[_Place]:
    """Those that do not mean the same place as one before them."""
    kept: list[_Place] = []
    for place in places:
        if all(np.linalg.norm(place.centre_world - k.centre_world) > apart_mm for k in kept):
            kept.append(place)
    return kept
