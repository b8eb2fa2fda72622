"""``radgsreg register --labels``: several vertebrae of a case at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..system import ExitStatus, Interrupt, Progress
from .command import Outcome
from .refined_views import write_refined_views
from .running import pipeline_options, results_folder, with_inputs
from .spine_files import write_spine

if TYPE_CHECKING:
    from ..cases import Case
    from ..multilevel import SpineRegistration
    from ..registration import RegistrationOptions
    from ..selfcalibration import CameraRefinement

# What is of one vertebra alone: the option, and where its value is.
_OF_ONE = {
    "--method published": lambda args: args.method == "published",
    "--model": lambda args: args.model is not None,
    "--by-level": lambda args: args.by_level,
    "--standardize": lambda args: args.standardize is not None,
}

# What joint covariance and relative motions do not hold.
_OF_PICTURES = (
    "the spread of relative motions is that of the pictures alone; what the refined cameras leave "
    "open is in each vertebra's own covariance"
)


def check_labels(args: argparse.Namespace) -> None:
    """Refuse what goes with one vertebra only."""
    for option, given in _OF_ONE.items():
        if given(args):
            raise InputError("--labels", f"cannot go with {option}", "leave one of them out")


def run_labels(
    args: argparse.Namespace,
    options_of: Callable[[argparse.Namespace, Case], RegistrationOptions],
    refines: bool,
    progress: Progress,
    interrupt: Interrupt,
) -> Outcome:
    """Register the vertebrae that are named together, reconstruct each, and write everything; where
    it ``refines`` nominal cameras, all are registered with the refined ones."""
    from dataclasses import replace

    from ..cases import labels_of, read_case, read_start

    progress(0.0, "reading the case")
    case = read_case(args.case)
    start = None if args.start is None else read_start(args.start)
    labels = labels_of(case, args.labels)
    case = replace(case, inputs=with_inputs(case.inputs, args.start))
    with results_folder(args.out, interrupt) as stage:
        from ..multilevel import register_vertebrae
        from ..pipeline import with_reconstruction
        from ..selfcalibration import refine_cameras

        options = pipeline_options(args, options_of(args, case))
        given = options.registration
        part, refinement = progress.part(0.05, 0.5), None
        if refines:
            whole, part = part, part.part(0.6, 1.0)
            refinement = refine_cameras(
                case, start, given, progress=whole.part(0.0, 0.6), device=options.device
            )
            case = replace(refinement.case, notes=(*refinement.case.notes, _OF_PICTURES))
            if not refinement.problem:
                start = refinement.ct_to_world[case.label]
        spine = register_vertebrae(case, labels, start, given, part, device=options.device)
        if refinement is not None:
            spine = _with_cameras(spine, refinement)
            if not refinement.problem:
                write_refined_views(args.case, Path(args.out), stage, refinement)
        results = {}
        for number, (label, registration) in enumerate(spine.levels.items()):
            done = progress.part(0.5, 0.8)
            part = done.part(number / len(spine.levels), (number + 1) / len(spine.levels))
            own = spine.case_of(label)
            results[label] = with_reconstruction(own, registration, options, part)
        write_spine(stage, spine, results, progress.part(0.8, 1.0))
    return spine_outcome(spine, args.out, whole=args.labels.strip().lower() == "all")


def _with_cameras(spine: SpineRegistration, refinement: CameraRefinement) -> SpineRegistration:
    """What refined cameras mean for each vertebra."""
    from dataclasses import replace

    from ..selfcalibration import judged

    levels = {
        label: judged(done, refinement, spine.case_of(label))
        for label, done in spine.levels.items()
    }
    timing_s = dict(spine.timing_s)
    timing_s["total"] = timing_s.get("total", 0.0) + refinement.seconds
    timing_s = {"refine_cameras": refinement.seconds, **timing_s}
    return replace(spine, levels=levels, timing_s=timing_s)


def spine_outcome(spine: SpineRegistration, out: str, whole: bool) -> Outcome:
    """Say what came of each vertebra. With ``whole`` all were asked for, and those that the X-rays
    do not show are no fault."""
    trusted = spine.status == "ok" and (whole or not spine.left_out)
    summary = []
    for label, registration in spine.levels.items():
        expected = registration.quality["expected_error_mm"]
        summary.append(
            f"{spine.name(label)}: {registration.status} (expected error {expected:.2f} mm): "
            f"{registration.reason}"
        )
    summary += [f"left out: {why}" for why in spine.left_out.values()]
    summary += [f"note: {note}" for note in spine.case.notes]
    summary.append(f"results: {out} (open {Path(out) / 'report.html'})")
    if not trusted:
        summary.append("do not rely on what is not ok; look at the pictures")
    levels = {spine.name(label): done.status for label, done in spine.levels.items()}
    facts = {"status": spine.status, "levels": levels, "out": str(out)}
    status = ExitStatus.OK if trusted else ExitStatus.NOT_TRUSTED
    return Outcome(status, tuple(summary), facts)
