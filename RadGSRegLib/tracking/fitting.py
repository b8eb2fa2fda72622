"""One frame: its X-rays made ready, and the bone refined in them from where it may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..cases import Case, Run, is_picture
from ..geometry import Array, Rigid
from ..registration import (
    Arrangement,
    Candidate,
    Followed,
    Hypothesis,
    LocallyNormalized,
    Refiner,
    Registration,
    RegistrationOptions,
    Scene,
    Stage,
    StretchedGaussNewton,
    judge_followed,
    judge_held,
    register_near,
)
from ..system import Progress
from ..views import PreparedView, ViewFilter, prepare_views
from . import bounds


@dataclass(frozen=True)
class Picture:
    """The X-rays of one frame made ready, as a case of their own, and in their scene."""

    case: Case
    scene: Scene


class Frames:
    """Makes the frames of a run ready: what they share is made once."""

    def __init__(
        self, run: Run, scene: Scene, signs: tuple[int, ...], filters: Sequence[ViewFilter]
    ) -> None:
        """``signs`` of the views: one device shows all frames alike, bone bright or dark."""
        self._run, self._scene, self._signs, self._filters = run, scene, signs, filters

    def picture(self, frame: int) -> Picture | None:
        """Return a frame, or None where some view shows nothing. Raises InputError."""
        views = self._run.views(frame)
        if not all(map(is_picture, views)):
            return None
        prepared = prepare_views(views, self._filters)
        if any(map(is_noise, prepared)):
            return None
        signed = tuple(
            view if view.sign == sign else with_sign(view, sign)
            for view, sign in zip(prepared, self._signs, strict=True)
        )
        # Clicks are of another frame.
        own = tuple(replace(view, center_px=None) for view in views)
        case = replace(self._run.case, views=own)
        return Picture(case, replace(self._scene, views=signed))


def with_sign(view: PreparedView, sign: int) -> PreparedView:
    """Return a view with a known sign; what was measured of its values is spared."""
    changed = replace(view, sign=sign)
    changed.__dict__.update({k: v for k, v in view.__dict__.items() if k in ("_scaled", "noise")})
    return changed


def is_noise(view: PreparedView) -> bool:
    """Whether a view shows nothing but the noise of its detector."""
    return not view.valid.any() or view.noise > bounds.NOISE_ALONE


@dataclass(frozen=True)
class Stages:
    """The stages of a registration as a frame that is near needs them."""

    coarse: Stage
    middle: Stage
    fine: Stage

    @classmethod
    def of(cls, options: RegistrationOptions) -> Stages:
        """Return them for scaled options."""
        return cls(
            replace(options.coarse, rounds=1),
            _brief(options.middle, bounds.MIDDLE_STEPS),
            _brief(options.fine, bounds.FINE_STEPS),
        )


def _brief(stage: Stage, steps: int) -> Stage:
    refine = replace(stage.refine, iterations=steps, steps_per_matrix=steps)
    return replace(stage, rounds=1, refine=refine)


@dataclass(frozen=True)
class Fit:
    """What came of a frame: the judged pose, and all around the bone as it was fitted."""

    registration: Registration
    arrangement: Arrangement


def followed(
    picture: Picture,
    starts: Sequence[Arrangement],
    signs: tuple[int, ...],
    leads: dict[str, float],
    options: RegistrationOptions,
    thorough: bool = False,
) -> Fit:
    """Refine a frame from one start or more, and judge what the best of them becomes.

    ``thorough``: all starts go on to the middle stage, and the best has all rounds of the last one.
    """
    refiner = Refiner(picture.scene, LocallyNormalized(), StretchedGaussNewton)
    stages, still = Stages.of(options), Progress()
    middle_stage = options.middle if thorough else stages.middle
    fine_stage = options.fine if thorough else stages.fine

    def refined(stage: Stage, at: Sequence[Arrangement]) -> list[Hypothesis]:
        done = refiner.refine_arrangements(stage, at, [signs] * len(at), still)
        return [Hypothesis(one, signs) for one in done]

    coarse = refiner.distinct(refined(stages.coarse, starts))
    kept = (
        coarse
        if thorough
        else [h for h in coarse if h.score >= coarse[0].score - bounds.CLOSE_START]
    )
    middle = refiner.distinct(refined(middle_stage, [h.arrangement for h in kept]))
    fine = refined(fine_stage, [middle[0].arrangement])[0]
    # Another place that the other start led to.
    apart = [
        h.score
        for h in middle[1:]
        if picture.scene.distance_mm(h.ct_to_world, middle[0].ct_to_world) > bounds.JUMP_MM
    ]
    known = Followed(
        leads=leads,
        lead=middle[0].score - max(apart) if apart else 1.0,
        disagreement_mm=picture.scene.distance_mm(fine.ct_to_world, middle[0].ct_to_world),
    )
    return Fit(judge_followed(refiner, fine, known, options, still), fine.arrangement)


def searched(
    picture: Picture,
    starts: Sequence[Array],
    signs: tuple[int, ...],
    ranges: tuple[float, float],
    options: RegistrationOptions,
    progress: Progress,
) -> Fit:
    """Register a frame by itself, near poses (4, 4) and else by a search around the first, within
    ``ranges`` (mm, degrees); judged in full."""
    wide = replace(options, start_range_mm=ranges[0], start_rotation_range_deg=ranges[1])
    candidates = [Candidate(start, 0.0, signs) for start in starts]
    done = register_near(picture.case, picture.scene, candidates, wide, progress)
    assert done.arrangement is not None
    return Fit(done, done.arrangement)


def judged_in_full(
    picture: Picture,
    fit: Fit,
    signs: tuple[int, ...],
    options: RegistrationOptions,
    progress: Progress,
) -> Fit:
    """Judge a pose that fits with all that a registration is judged by."""
    refiner = Refiner(picture.scene, LocallyNormalized(), StretchedGaussNewton)
    done = judge_held(picture.case, refiner, fit.arrangement, signs, options, progress)
    return Fit(done, fit.arrangement)


def least_shown(scene: Scene, ct_to_world: Array) -> tuple[float, str]:
    """Return the share of the bone's surface that the view shows which shows the least of it, and
    that view's name: what is outside the picture, burnt out or behind a collimator is not shown."""
    points_world = Rigid(ct_to_world).apply(scene.distance_points_ct)
    least = (1.0, "")
    for view in scene.views:
        rows, columns = view.valid.shape
        column, row = np.rint(view.camera.project(points_world)).astype(int).T
        inside = (column >= 0) & (row >= 0) & (column < columns) & (row < rows)
        shown = inside & view.valid[row.clip(0, rows - 1), column.clip(0, columns - 1)]
        least = min(least, (float(shown.mean()), view.name))
    return least


def scores_of(registration: Registration) -> dict[str, float]:
    """Each view's correlation by its name."""
    return {name: float(view["score"]) for name, view in registration.quality["views"].items()}


def signs_of(registration: Registration) -> tuple[int, ...]:
    """The views' signs: +1 where bone is bright."""
    views = registration.quality["views"].values()
    return tuple(1 if view["bone"] == "bright" else -1 for view in views)


def leads_of(registration: Registration) -> dict[str, float]:
    """How far a pose that was judged in full is ahead of other explanations, by their kinds."""
    names = ("level", "picture", "polarity")
    known = {name: registration.quality.get(f"{name}_lead") for name in names}
    return {name: float(lead) for name, lead in known.items() if lead is not None}
