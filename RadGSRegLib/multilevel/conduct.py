"""From a case to the poses of several vertebrae, and how sure each is."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..cases import Case
from ..errors import InputError
from ..geometry import Array, transform_points
from ..registration import (
    Registration,
    RegistrationOptions,
    fitted,
    judge_held,
    polarities_at,
    scaled,
    scene_of,
    unjudged_pose,
)
from ..system import Progress, one_torch_thread, side_by_side_reporting
from ..views import ViewFilter
from . import bounds
from .fitting import Together, fit_together
from .levels import Level, chained, least_shown, make_levels
from .order import in_order, out_of_order, overlap_share
from .types import SpineRegistration

# Of a vertebra's voxels, to tell how much of it is shown.
_POINTS = 300


@one_torch_thread()
def register_vertebrae(
    case: Case,
    labels: Sequence[int],
    start_ct_to_world: ArrayLike | None = None,
    options: RegistrationOptions | None = None,
    progress: Progress | None = None,
    filters: Sequence[ViewFilter] = (),
    device: torch.device | str = "cpu",
) -> SpineRegistration:
    """Register several vertebrae of a case's CT to its X-rays, together.

    The case's own vertebra is looked for first, as `register_case` does: clicks and the start are
    of it. From there each next one begins where its neighbour's fit has put it; then all are
    refined in one least-squares problem, and each is judged by the evidence that a registration of
    it alone is judged by.

    Args:
        case: CT, labels, X-rays with cameras.
        labels: values of the segmentation; the case's own is always among them.
        start_ct_to_world: (4, 4), an approximate pose of the case's own vertebra.
        options: None: the defaults.
        progress: told of the share done; may cancel.
        filters: what makes the views better first.
        device: where to compute all but what is taken out of the CT.

    Returns:
        Poses (4, 4) LPS mm with covariance, status and evidence each; which of them were left out,
        and why.

    Raises:
        InputError: for labels that the CT lacks or that are swapped, where there is nothing to
            start from.
        Cancelled: when ``progress`` says so.

    Example:
        >>> from RadGSRegLib.multilevel import register_vertebrae
        >>> spine = register_vertebrae(case, [case.label], truth["start_ct_to_world"])
        >>> list(spine.levels) == [case.label]
        True
    """
    began, report = time.perf_counter(), progress or Progress()
    given = fitted(options or RegistrationOptions(), case)
    order = in_order(case, sorted({*labels, case.label}))
    timing_s: dict[str, float] = {}

    def lap(name: str) -> None:
        timing_s[name] = time.perf_counter() - began - sum(timing_s.values())

    report(0.0, "looking for the first vertebra")
    part = report.part(0.0, 0.3)
    quick = replace(given, fine=replace(given.fine, rounds=bounds.FIRST_ROUNDS))
    first = unjudged_pose(case, start_ct_to_world, quick, part, filters, device)
    lap("first")
    chosen = scaled(given)
    scene = scene_of(case, chosen, filters, device)
    levels = make_levels(case, order, scene, chosen)
    lap("prepare")
    refiner = levels[case.label].refiner()
    signs = polarities_at(refiner, scene.bodies.as_in_ct(first), chosen)
    part = report.part(0.3, 0.4)
    poses = chained(levels, case.label, first, signs, chosen, part)
    lap("chain")
    left_out = _not_shown(case, poses)
    levels = {label: level for label, level in levels.items() if label not in left_out}
    targets = [level.target for level in levels.values()]
    part = report.part(0.4, 0.7)
    try:
        done = fit_together(targets, poses, scene.views, signs, chosen, part)
    except np.linalg.LinAlgError as error:
        raise InputError(
            "views", "do not fix the vertebrae together", "check the X-rays and the geometry"
        ) from error
    lap("together")
    judging = _Judging(levels, done, signs, chosen, case.label)
    answers = judging.each(report.part(0.7, 1.0))
    lap("check")
    answers = _as_a_row(case, answers, done)
    return SpineRegistration(
        case=case,
        levels={label: _recorded(answers[label], given) for label in levels},
        begun_with=case.label,
        joint_covariance=done.covariance,
        timing_s={**timing_s, "total": time.perf_counter() - began},
        left_out=left_out,
    )


def _recorded(answer: Registration, given: RegistrationOptions) -> Registration:
    """An answer that says what was asked for, not what that was scaled to."""
    return replace(answer, parameters={**answer.parameters, "registration": asdict(given)})


def _not_shown(case: Case, poses: Mapping[int, Array]) -> dict[int, str]:
    """Which vertebrae some X-ray does not show enough of, and in words why not; the case's own is
    never among them."""
    out = {}
    for label, pose in poses.items():
        places = np.argwhere(case.labels.array == label)
        some = places[:: max(len(places) // _POINTS, 1), ::-1]
        points_world = transform_points(pose, case.labels.physical_points(some))
        share, name = least_shown(case.views, points_world)
        if label != case.label and share < bounds.SHOWN_SHARE:
            said = case.label_names.get(label, str(label))
            out[label] = f"{name} shows {100 * share:.0f} % of {said}"
    return out


@dataclass(frozen=True)
class _Judging:
    """Each vertebra judged where all were fitted together."""

    levels: Mapping[int, Level]
    done: Together
    signs: tuple[int, ...]
    options: RegistrationOptions
    begun_with: int

    def each(self, progress: Progress) -> dict[int, Registration]:
        def judged(number: int, part: Progress) -> Registration:
            level = list(self.levels.values())[number]
            at = self.done.unknowns.arrangement(number, self.done.setup)
            return judge_held(
                level.case,
                level.refiner(),
                at,
                self.signs,
                self.options,
                part,
                pictures_known=level.target.label != self.begun_with,
            )

        numbers = list(range(len(self.levels)))
        answers = side_by_side_reporting(judged, numbers, progress, "judging each vertebra")
        return dict(zip(self.levels, answers, strict=True))


def _as_a_row(
    case: Case, answers: Mapping[int, Registration], done: Together
) -> dict[int, Registration]:
    """No `ok` for vertebrae that lie in another order than in the CT, or in one another."""
    out, order = dict(answers), list(answers)
    poses = {label: answer.ct_to_world for label, answer in answers.items()}
    centres_ct = [answers[label].centre_ct for label in order]
    why: dict[int, str] = {}
    first = answers[case.label]
    if first.status != "ok":
        # The others hang on it: were it a neighbouring level, or a picture mirrored, all would be.
        said = f"{case.label_name}, which was looked for first, is not sure ({first.reason})"
        why.update((label, said) for label in order if label != case.label)
    for number in out_of_order(centres_ct, [poses[label] for label in order]):
        why.setdefault(order[number], "the vertebrae beside it lie in another order than in the CT")
    for upper, lower in itertools.pairwise(order):
        share = overlap_share(case, poses, upper, lower)
        if share > bounds.MOST_OVERLAP:
            names = [case.label_names.get(label, str(label)) for label in (upper, lower)]
            said = f"{names[0]} and {names[1]} would lie in one another"
            why.setdefault(upper, said)
            why.setdefault(lower, said)
    if done.settled_mm > bounds.MOST_UNSETTLED_MM:
        for label in order:
            why.setdefault(label, f"the vertebrae still moved by {done.settled_mm:.1f} mm")
    for label, reason in why.items():
        if out[label].status == "ok":
            out[label] = replace(out[label], status="uncertain", reason=reason)
    return out
