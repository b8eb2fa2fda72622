"""Registration without training: from clicks or a rough start to the pose, and how sure it is."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..cases import Case, View
from ..errors import InputError
from ..geometry import transform_points
from ..geometry.camera import triangulate
from ..system.parallel import side_by_side_reporting
from ..system.progress import Progress
from ..system.torch_threads import one_torch_thread
from ..views.prepare import PreparedView, prepare_view, window
from .anatomy import build_anatomy
from .clouds import build_model
from .descent import Descent
from .model import Arrangement, RenderModel
from .quality import Evidence, Verdict, judge
from .refine import (
    LevelView,
    Refined,
    RefineOptions,
    evaluate,
    prepare_level,
    refine,
    with_background,
)
from .search import Candidate, SearchOptions, search
from .types import Registration

Array = NDArray[np.float64]

# No wrong level has reached this in every view (0.71 in 104 trials, see `quality`); below it the
# neighbouring levels are tried.
CLEAR_SCORE = 0.8
LEVEL_DISTANCE_MM = 36.0
# Closer than this at the middle level, a neighbouring level is compared finely.
CLOSE_LEVELS = 0.05
# After one fine round a neighbouring level this far behind is not refined further: more rounds have
# brought up to 0.14 (37 rivals, four rounds).
_LEFT_BEHIND = 0.2
# A model's pose must explain each view so well at the middle level to be finished at all, and so
# well when finished to stand without a search: a wrong pose has no rivals but the levels beside it.
_WORTH_FINISHING = 0.5
_STANDS_ALONE = 0.65


@dataclass(frozen=True)
class Level:
    """One level of refinement: its pixels (mm at the vertebra), blur, and how it refines."""

    pixel_mm: float
    blur_mm: float
    refine: RefineOptions
    background: bool = True
    rounds: int = 1

    def in_two(self) -> tuple[Level, Level]:
        """The first round, and all others."""
        return replace(self, rounds=1), replace(self, rounds=self.rounds - 1)


@dataclass(frozen=True)
class Places:
    """How many places, and candidates in each, go from the search into refinement.

    From a click there is one place; from a rough start a neighbouring level may look right too.
    """

    count: int
    candidates: int
    positions_per_rotation: int
    keep: int
    """Places left after the coarse refinement, the best first."""
    survivors: int
    """Poses that go on from each of these."""
    neighbour_weight: float = 0.0
    apart_mm: float = 15.0
    finals: int = 1
    """Places left after the middle refinement."""


@dataclass(frozen=True)
class RegistrationOptions:
    """Everything that decides a registration; recorded with the result."""

    seed: int = 0
    click_range_mm: float = 12.0
    start_range_mm: float = 55.0
    rotation_range_deg: float = 25.0
    start_rotation_range_deg: float = 20.0
    reach_mm: float = 50.0
    coarse_cloud_mm: float = 7.0
    fine_cloud_mm: float = 3.0
    search: SearchOptions = field(default_factory=SearchOptions)
    coarse: Level = field(
        default_factory=lambda: Level(2.0, 1.8, RefineOptions(iterations=5), background=False)
    )
    middle: Level = field(
        default_factory=lambda: Level(
            1.3,
            0.9,
            RefineOptions(fine=True, move_neighbours=True, iterations=6, steps_per_matrix=6),
        )
    )
    fine: Level = field(
        default_factory=lambda: Level(
            0.8,
            0.5,
            RefineOptions(
                fine=True,
                voxels=True,
                move_neighbours=True,
                neighbourhoods_mm=(6.0,),
                iterations=5,
                steps_per_matrix=5,
            ),
            rounds=4,
        )
    )
    click_places: Places = Places(
        count=1,
        candidates=16,
        positions_per_rotation=1,
        keep=1,
        survivors=4,
        neighbour_weight=0.5,
    )
    start_places: Places = Places(
        count=8,
        candidates=4,
        positions_per_rotation=5,
        neighbour_weight=0.5,
        keep=5,
        survivors=2,
        finals=3,
    )
    learned_places: Places = Places(
        count=3,
        candidates=2,
        positions_per_rotation=1,
        keep=2,
        survivors=1,
        finals=2,
    )
    """For the poses of a model, tried before any search."""
    learned_search_places: Places = Places(
        count=3,
        candidates=5,
        positions_per_rotation=1,
        neighbour_weight=0.5,
        keep=3,
        survivors=2,
        finals=3,
    )
    """For a search around each of several places that a model has seen."""
    fine_candidates: int = 2
    fine_lead: float = 0.1
    """A second pose is refined finely only if it scores within this of the best."""


@dataclass(frozen=True)
class Hypothesis:
    """A refined arrangement with the views' signs."""

    refined: Refined
    signs: tuple[int, ...]

    @property
    def ct_to_world(self) -> Array:
        """The target's pose."""
        return self.refined.arrangement.ct_to_world


class Job:
    """What all steps of one registration share."""

    def __init__(self, model: RenderModel, views: list[PreparedView]) -> None:
        self.model = model
        self.views = views
        self._refined: dict[tuple[Level, tuple[int, ...], bytes], Hypothesis] = {}

    def distance_mm(self, a: Array, b: Array) -> float:
        """Mean distance of the target's surface between two poses."""
        points = self.model.anatomy.surface_points_ct
        step = max(len(points) // 500, 1)
        moved = transform_points(a, points[::step]) - transform_points(b, points[::step])
        return float(np.linalg.norm(moved, axis=1).mean())

    def level_views(
        self, level: Level, arrangement: Arrangement, signs: tuple[int, ...]
    ) -> tuple[LevelView, ...]:
        """The views' windows around where an arrangement puts the target."""
        pose = arrangement.ct_to_world
        centre = pose[:3, :3] @ self.model.centre_ct + pose[:3, 3]
        half = self.model.anatomy.radius_mm + 8.0
        windows = [window(v, centre, half, level.pixel_mm, level.blur_mm) for v in self.views]
        prepared = prepare_level(windows, list(signs), level.refine)
        if level.background:
            prepared = with_background(self.model, prepared, arrangement, level.refine)
        return prepared

    def refine(
        self, level: Level, arrangement: Arrangement, signs: tuple[int, ...], progress: Progress
    ) -> Hypothesis:
        """Refine at a level, rendering the background anew each round; what was refined in the same
        way before (a model's poses are tried twice) is remembered."""
        poses = (arrangement.ct_to_world, *arrangement.shifts_ct)
        key = (level, signs, b"".join(pose.tobytes() for pose in poses))
        if key not in self._refined:
            self._refined[key] = self._refine(level, arrangement, signs, progress)
        return self._refined[key]

    def _refine(
        self, level: Level, arrangement: Arrangement, signs: tuple[int, ...], progress: Progress
    ) -> Hypothesis:
        result: Refined | None = None
        stretch = Descent().stretch
        score = -1.0
        for n in range(level.rounds):
            views = self.level_views(level, arrangement, signs)
            part = progress.part(n / level.rounds, (n + 1) / level.rounds)
            before = arrangement
            # Of the round before only this holds: its pictures were others.
            descent = Descent(stretch)
            result = refine(self.model, views, arrangement, level.refine, part, descent)
            stretch = descent.stretch
            arrangement = result.arrangement
            moved = self.distance_mm(before.ct_to_world, arrangement.ct_to_world)
            if moved < 0.02 or result.score < score + 0.003:
                break
            score = result.score
        assert result is not None
        return Hypothesis(result, signs)

    def measured_anew(self, level: Level, one: Hypothesis) -> Refined:
        """A refined hypothesis with cost and Hessian of its own place: its Hessian may be that of
        where the last round began. The scores stay those that the rounds were judged by."""
        views = self.level_views(level, one.refined.arrangement, one.signs)
        state = evaluate(self.model, views, one.refined.arrangement, level.refine)
        evaluation = replace(
            one.refined.evaluation,
            cost=state.cost,
            hessian=state.hessian,
            effective_pixels=state.effective_pixels,
        )
        return replace(one.refined, evaluation=evaluation)

    def distinct(self, found: list[Hypothesis], apart_mm: float, count: int) -> list[Hypothesis]:
        """The best ``count`` that lie at least ``apart_mm`` from each other."""
        kept: list[Hypothesis] = []
        for one in sorted(found, key=lambda h: -h.refined.score):
            if all(self.distance_mm(one.ct_to_world, k.ct_to_world) > apart_mm for k in kept):
                kept.append(one)
            if len(kept) == count:
                break
        return kept


def register(
    case: Case,
    start_ct_to_world: Array | None = None,
    options: RegistrationOptions | None = None,
    progress: Progress | None = None,
    learned: Sequence[Candidate] = (),
) -> Registration:
    """The pose of the case's vertebra.

    Starts from ``start_ct_to_world`` (4, 4) (off by up to 20 degrees about and 50 mm along each
    axis), from clicks (`View.center_px`) in at least two views, or from both: then the rotation of
    the one and the position of the other. Without a start the CT's axes are taken as parallel to
    the world's within 25 degrees about each. ``learned`` poses (`networks.learned_start`) are tried
    first; where the best of them does not stand alone they are tried again beside those that the
    search finds, and say where to search where nothing else does.

    Raises InputError where there is nothing to start from or nothing to be seen there, and
    Cancelled when ``progress`` says so.
    """
    with one_torch_thread():
        return _register(
            case,
            start_ct_to_world,
            options or RegistrationOptions(),
            progress or Progress(),
            learned,
        )


def _register(
    case: Case,
    start_ct_to_world: Array | None,
    options: RegistrationOptions,
    progress: Progress,
    learned: Sequence[Candidate],
) -> Registration:
    began = time.perf_counter()
    timing: dict[str, float] = {}

    def lap(name: str) -> None:
        timing[name] = time.perf_counter() - began - sum(timing.values())

    progress(0.0, "taking the vertebra out of the CT")
    anatomy = build_anatomy(case, reach_mm=options.reach_mm)
    model = build_model(
        anatomy, case.ct, coarse_mm=options.coarse_cloud_mm, fine_mm=options.fine_cloud_mm
    )
    job = Job(model, [prepare_view(view) for view in case.views])
    lap("prepare")
    found = _from_learned(job, learned, options, progress.part(0.05, 0.3))
    if learned:
        lap("learned")
    if found is None:
        found = _from_search(case, job, start_ct_to_world, options, learned, progress, lap)
    fine, evidence = found
    verdict = _mistrust_nominal(judge(evidence), case.views)
    timing["total"] = time.perf_counter() - began
    best = fine[0]
    return Registration(
        status=verdict.status,
        reason=verdict.reason,
        ct_to_world=best.ct_to_world,
        covariance=evidence.covariance,
        centre_ct=model.centre_ct,
        quality={
            **evidence.to_quality(),
            "views": {
                view.name: {"score": score, "bone": "bright" if sign > 0 else "dark"}
                for view, score, sign in zip(
                    case.views, best.refined.evaluation.view_scores, best.signs, strict=True
                )
            },
        },
        timing_s=timing,
        parameters={**case.to_parameters(), "registration": asdict(options)},
        seed=options.seed,
    )


Found = tuple[list[Hypothesis], Evidence]


def _from_learned(
    job: Job, learned: Sequence[Candidate], options: RegistrationOptions, progress: Progress
) -> Found | None:
    """The best of a model's poses, where it is `ok` and explains each view well; else None, and a
    search must follow.

    `ok` includes that the neighbouring levels were tried wherever a view is not explained better
    than a wrong level ever was.
    """
    if not learned:
        return None
    places = options.learned_places
    coarse = _coarse(job, list(learned), places, options, progress.part(0.0, 0.2))
    progress.pose(coarse[0].ct_to_world)
    middle = _middle(job, coarse, options, progress.part(0.2, 0.4))
    weakest = min(middle[0].refined.evaluation.view_scores)
    if weakest < _WORTH_FINISHING:
        return None
    if weakest < CLEAR_SCORE:
        part = progress.part(0.4, 0.5)
        middle += _started_afresh(job, middle, places, options, part)
        middle = job.distinct(middle, 1.0, len(middle))
    fine = _fine(job, middle, options, progress.part(0.5, 0.9))
    progress.pose(fine[0].ct_to_world)
    if min(fine[0].refined.evaluation.view_scores) < _STANDS_ALONE:
        return None
    evidence = _evidence(job, fine, middle, options, progress.part(0.9, 1.0))
    return (fine, evidence) if judge(evidence).status == "ok" else None


def _from_search(
    case: Case,
    job: Job,
    start_ct_to_world: Array | None,
    options: RegistrationOptions,
    learned: Sequence[Candidate],
    progress: Progress,
    lap: Callable[[str], None],
) -> Found:
    """The best pose of those that a search finds and, beside them, a model's."""
    clicked = sum(view.center_px is not None for view in case.views) >= 2
    part = progress.part(0.3 if learned else 0.05, 0.35)
    if learned and start_ct_to_world is None and not clicked:
        found, places = _around_learned(job, learned, options, part)
    else:
        places = options.click_places if clicked else options.start_places
        reference, ranges = _reference(case, job.model, start_ct_to_world, options)
        found = search(job.model, job.views, reference, _ranged(ranges, places), part)
    candidates = [*learned, *found]
    if not candidates:
        raise InputError(
            "views",
            "the X-rays show nothing where the clicks or the start say the vertebra is",
            "check center_px, the start and the geometry",
        )
    progress.pose(candidates[0].ct_to_world)
    lap("search")
    coarse = _coarse(job, candidates, places, options, progress.part(0.35, 0.55), len(learned))
    progress.pose(coarse[0].ct_to_world)
    lap("coarse")
    middle = _middle(job, coarse, options, progress.part(0.55, 0.65))
    middle += _started_afresh(job, middle, places, options, progress.part(0.65, 0.7))
    middle = job.distinct(middle, 1.0, len(middle))
    progress.pose(middle[0].ct_to_world)
    lap("middle")
    fine = _fine(job, middle, options, progress.part(0.7, 0.9))
    progress.pose(fine[0].ct_to_world)
    lap("fine")
    evidence = _evidence(job, fine, middle, options, progress.part(0.9, 1.0))
    lap("check")
    return fine, evidence


def _mistrust_nominal(verdict: Verdict, views: tuple[View, ...]) -> Verdict:
    """No bet on 2 mm where the geometry itself may be off by more, however well all fits."""
    nominal = [view.name for view in views if view.nominal]
    if verdict.status != "ok" or not nominal:
        return verdict
    return Verdict(
        "uncertain",
        f"all views agree with the CT at this pose, but the geometry of {', '.join(nominal)} is "
        "only nominal and may be off by millimetres; calibrate it to be sure",
    )


def _around_learned(
    job: Job, learned: Sequence[Candidate], options: RegistrationOptions, progress: Progress
) -> tuple[list[Candidate], Places]:
    """What a search around each of a model's places finds, the best first, as from a click."""
    centre_ct = job.model.centre_ct
    seen: list[Candidate] = []
    centres_world: list[Array] = []
    for one in learned:
        centre_world = transform_points(one.ct_to_world, centre_ct[None])[0]
        apart_mm = [np.linalg.norm(centre_world - other) for other in centres_world]
        if min(apart_mm, default=np.inf) > options.click_range_mm:
            seen.append(one)
            centres_world.append(centre_world)
    places = options.click_places if len(seen) == 1 else options.learned_search_places
    ranges = replace(
        options.search,
        rotation_range_deg=options.rotation_range_deg,
        translation_range_mm=options.click_range_mm,
    )

    def around(one: Candidate, part: Progress) -> list[Candidate]:
        return search(job.model, job.views, one.ct_to_world, _ranged(ranges, places), part)

    found = side_by_side_reporting(around, seen, progress, "looking around the model's poses")
    return sorted(itertools.chain(*found), key=lambda c: -c.score), places


def _ranged(ranges: SearchOptions, places: Places) -> SearchOptions:
    """A search's options with what its kind of places needs."""
    return replace(
        ranges,
        positions_per_rotation=places.positions_per_rotation,
        neighbour_weight=places.neighbour_weight,
        apart_mm=places.apart_mm,
    )


def _reference(
    case: Case,
    model: RenderModel,
    start_ct_to_world: Array | None,
    options: RegistrationOptions,
) -> tuple[Array, SearchOptions]:
    """The pose in the middle of the search, and the search's ranges."""
    clicked = [view for view in case.views if view.center_px is not None]
    reference = np.eye(4) if start_ct_to_world is None else np.array(start_ct_to_world, dtype=float)
    centre = reference[:3, :3] @ model.centre_ct + reference[:3, 3]
    turn = options.rotation_range_deg
    reach = options.click_range_mm
    if start_ct_to_world is not None:
        turn = options.start_rotation_range_deg
    if len(clicked) >= 2:
        centre = _clicked_centre(clicked)
    elif start_ct_to_world is not None:
        reach = options.start_range_mm
    else:
        raise InputError(
            "views",
            "nothing says where the vertebra is",
            "give center_px in at least two views, or a start",
        )
    reference[:3, 3] = centre - reference[:3, :3] @ model.centre_ct
    return reference, replace(options.search, rotation_range_deg=turn, translation_range_mm=reach)


def _clicked_centre(clicked: list[View]) -> Array:
    pixels = np.array([view.center_px for view in clicked])
    try:
        centre, distance = triangulate([view.camera for view in clicked], pixels)
    except ValueError as error:
        raise InputError("views", str(error), "give views from different sides") from None
    if distance > 30.0:
        raise InputError(
            "views",
            f"the clicks' rays pass each other {distance:.0f} mm apart",
            "check center_px and the geometry",
        )
    return centre


def _coarse(
    job: Job,
    candidates: list[Candidate],
    places: Places,
    options: RegistrationOptions,
    progress: Progress,
    extra: int = 0,
) -> list[Hypothesis]:
    """The best refined poses of the best places; ``extra`` as in `_by_place`."""
    groups = _by_place(job.model, candidates, places, extra)
    every = [candidate for group in groups for candidate in group]

    def one(candidate: Candidate, part: Progress) -> Hypothesis:
        arrangement = Arrangement.as_in_ct(candidate.ct_to_world, job.model)
        return job.refine(options.coarse, arrangement, candidate.signs, part)

    refined = iter(side_by_side_reporting(one, every, progress, "refining the likeliest poses"))
    found = []
    for group in groups:
        poses = list(itertools.islice(refined, len(group)))
        found.append(job.distinct(poses, 1.0, places.survivors))
    found.sort(key=lambda poses: -poses[0].refined.score)
    survivors = [pose for poses in found[: places.keep] for pose in poses]
    return job.distinct(survivors, 1.0, len(survivors))


def _middle(
    job: Job, coarse: list[Hypothesis], options: RegistrationOptions, progress: Progress
) -> list[Hypothesis]:
    """All poses refined at the middle level, the best first."""

    def one(found: Hypothesis, part: Progress) -> Hypothesis:
        return job.refine(options.middle, found.refined.arrangement, found.signs, part)

    middle = side_by_side_reporting(one, coarse, progress, "refining the best poses")
    return job.distinct(middle, 1.0, len(middle))


def _started_afresh(
    job: Job,
    middle: list[Hypothesis],
    places: Places,
    options: RegistrationOptions,
    progress: Progress,
) -> list[Hypothesis]:
    """The best pose of each of the best places refined again with all else as in the CT.

    While the target was still far off, neighbours and background may have gone astray with it.
    """
    afresh = replace(options.middle, rounds=2)
    best = job.distinct(middle, places.apart_mm, places.finals)
    worth = [h for h in best if h.refined.score >= best[0].refined.score - options.fine_lead]

    def one(found: Hypothesis, part: Progress) -> Hypothesis:
        arrangement = Arrangement.as_in_ct(found.ct_to_world, job.model)
        return job.refine(afresh, arrangement, found.signs, part)

    return side_by_side_reporting(one, worth, progress, "refining the best poses afresh")


def _fine(
    job: Job, middle: list[Hypothesis], options: RegistrationOptions, progress: Progress
) -> list[Hypothesis]:
    """The best poses refined finely: one round tells which is best, and that one is finished."""
    threshold = middle[0].refined.score - options.fine_lead
    rivals = [h for h in middle[: options.fine_candidates] if h.refined.score >= threshold]
    first, rest = options.fine.in_two()

    def one(rival: Hypothesis, part: Progress) -> Hypothesis:
        return job.refine(first, rival.refined.arrangement, rival.signs, part)

    message = "refining the pose finely"
    found = side_by_side_reporting(one, rivals, progress.part(0.0, 0.5), message)
    found = job.distinct(found, 1.0, len(found))
    progress.pose(found[0].ct_to_world)
    best = job.refine(rest, found[0].refined.arrangement, found[0].signs, progress.part(0.5, 1.0))
    return [best, *found[1:]]


def _by_place(
    model: RenderModel, candidates: list[Candidate], places: Places, extra: int = 0
) -> list[list[Candidate]]:
    """Candidates (best first) grouped by where they put the target's centre.

    The first ``extra`` of them (a model's) take no other's place in a group.
    """
    groups: list[tuple[Array, list[Candidate]]] = []
    room: list[int] = []
    for number, candidate in enumerate(candidates):
        pose = candidate.ct_to_world
        centre = pose[:3, :3] @ model.centre_ct + pose[:3, 3]
        home = 0 if places.count == 1 and groups else None
        for n, (place, _) in enumerate(groups):
            if home is None and np.linalg.norm(centre - place) < places.apart_mm:
                home = n
        if home is None:
            if len(groups) == places.count:
                continue
            home = len(groups)
            groups.append((centre, []))
            room.append(places.candidates)
        if number < extra:
            groups[home][1].append(candidate)
        elif room[home] > 0:
            groups[home][1].append(candidate)
            room[home] -= 1
    return [members for _, members in groups]


def _level_lead(
    job: Job, best: Hypothesis, options: RegistrationOptions, progress: Progress
) -> float:
    """How much better the pose scores than the target placed one level up or down.

    One level off, a spine fits its own picture fairly well, in every view at once; only trying the
    right level tells. There the search starts anew, with small turns, up to the middle level, and
    to the fine one where that is close. 1 where neither level is in sight, or where the pose
    explains the views better than a wrong level ever did.
    """
    if min(best.refined.evaluation.view_scores) >= CLEAR_SCORE:
        return 1.0
    model = job.model
    near = replace(
        options.search,
        rotation_range_deg=options.search.rotation_step_deg,
        translation_range_mm=options.click_range_mm,
        neighbour_weight=options.click_places.neighbour_weight,
    )
    beside = []
    for step_ct in level_steps(model):
        ct_to_world = np.array(best.ct_to_world)
        ct_to_world[:3, 3] += ct_to_world[:3, :3] @ step_ct
        if _in_sight(job, ct_to_world):
            beside.append(ct_to_world)

    def fresh(level: Level, ct_to_world: Array, part: Progress) -> Hypothesis:
        return job.refine(level, Arrangement.as_in_ct(ct_to_world, model), best.signs, part)

    def there(ct_to_world: Array, part: Progress) -> list[Hypothesis]:
        likely = search(model, job.views, ct_to_world, near, part.part(0.0, 0.3))[:4]
        found = [fresh(options.coarse, one.ct_to_world, part.part(0.3, 0.5)) for one in likely]
        kept = job.distinct(found, 1.0, 2)
        return [fresh(options.middle, one.ct_to_world, part.part(0.5, 1.0)) for one in kept]

    message = "trying the neighbouring levels"
    found = side_by_side_reporting(there, beside, progress.part(0.0, 0.8), message)
    rivals = list(itertools.chain(*found))
    if not rivals:
        return 1.0
    own = fresh(options.middle, best.ct_to_world, progress.part(0.8, 0.9))
    rival = max(rivals, key=lambda one: one.refined.score)
    lead = own.refined.score - rival.refined.score
    if abs(lead) < CLOSE_LEVELS:
        first, rest = options.fine.in_two()
        for level, part in ((first, progress.part(0.9, 0.95)), (rest, progress.part(0.95, 1.0))):
            rival = job.refine(level, rival.refined.arrangement, rival.signs, part)
            lead = best.refined.score - rival.refined.score
            if lead > _LEFT_BEHIND:
                break
    return lead


def level_steps(model: RenderModel) -> list[Array]:
    """From the target to the level below and the one above, (3,) mm in the CT frame (LPS).

    To the labelled neighbour there; where the CT or its labels hold none, straight down or up by
    the usual distance of lumbar vertebrae.
    """
    steps = [body.centre_ct - model.centre_ct for body in model.neighbours if body.vertebra]
    steps.sort(key=lambda step: float(np.linalg.norm(step)))
    out = []
    for side in (-1.0, 1.0):
        # Steeper than 45 degrees: a rib is no neighbouring level.
        along = [
            s for s in steps if side * s[2] > 0.7 * np.linalg.norm(s) and 15 < side * s[2] < 60
        ]
        out.append(along[0] if along else np.array([0.0, 0.0, side * LEVEL_DISTANCE_MM]))
    return out


def _in_sight(job: Job, ct_to_world: Array) -> bool:
    """Whether the target's centre lies inside every view."""
    centre = ct_to_world[:3, :3] @ job.model.centre_ct + ct_to_world[:3, 3]
    for view in job.views:
        column, row = view.camera.project(centre[None])[0]
        if not (0 <= column < view.camera.columns and 0 <= row < view.camera.rows):
            return False
    return True


def _evidence(
    job: Job,
    fine: list[Hypothesis],
    middle: list[Hypothesis],
    options: RegistrationOptions,
    progress: Progress,
) -> Evidence:
    """What speaks for and against the best hypothesis."""
    progress(0.0, "checking the pose")
    best = fine[0]
    # Fitted again with wider neighbourhoods, to its end: a right pose does not care.
    wide = replace(
        options.fine,
        rounds=1,
        refine=replace(options.fine.refine, neighbourhoods_mm=(12.0,), iterations=8),
    )
    again = job.refine(wide, best.refined.arrangement, best.signs, progress.part(0.0, 0.2))
    score = best.refined.score

    def far(found: list[Hypothesis]) -> list[float]:
        return [
            one.refined.score
            for one in found
            if job.distance_mm(one.ct_to_world, best.ct_to_world) > 2.0
        ]

    def near(found: list[Hypothesis]) -> float:
        scores = [
            one.refined.score
            for one in found
            if job.distance_mm(one.ct_to_world, best.ct_to_world) <= 2.0
        ]
        return max(scores, default=score)

    return Evidence.of(
        job.measured_anew(options.fine, best),
        job.model,
        pixel_mm=options.fine.pixel_mm,
        disagreement_mm=job.distance_mm(again.ct_to_world, best.ct_to_world),
        lead=near(middle) - max(far(middle), default=near(middle) - 1.0),
        fine_lead=score - max(far(fine), default=score - 1.0),
        level_lead=_level_lead(job, best, options, progress.part(0.2, 1.0)),
    )
