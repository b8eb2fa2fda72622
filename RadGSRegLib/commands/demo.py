"""``radgsreg demo``: a simulated case, registered, with the error against its truth."""

import argparse
from dataclasses import replace
from pathlib import Path

from ..system import Interrupt, Progress
from .arguments import add_common, add_out, add_realism
from .command import Command, Outcome
from .running import pipeline_options, registration_outcome, results_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_out(parser)
    add_realism(parser)
    add_common(parser)


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Make a case, register it, and write the results with the case beside them."""
    with results_folder(args.out, interrupt) as stage:
        options = pipeline_options(args)
        from .. import pipeline
        from ..cases import read_case
        from ..measures import mtre
        from ..report import Drawing
        from ..simulation import Prepared, simulate_phantom_case, write_simulated_case

        progress(0.0, "building a spine and its X-rays")
        part = progress.part(0.0, 0.3)
        simulated = simulate_phantom_case(
            args.seed, args.realism, progress=part, prepared=Prepared(device=options.device)
        )
        path = write_simulated_case(simulated, stage / "case")
        case = replace(read_case(path), label_names=simulated.case.label_names)
        with Drawing(case) as drawing:
            part = progress.part(0.3, 0.9)
            result = pipeline.run(case, None, options, part, on_registered=drawing.begin)
            views = drawing.pictures(part)
        registration = result.registration
        error = mtre(
            simulated.truth["points_ct"],
            registration.ct_to_world,
            simulated.truth["ct_to_world"],
        )
        # As in `register`: not before.
        from ..report import write_results

        truth, part = {"true error_mm": error}, progress.part(0.9, 1.0)
        write_results(stage, case, result, truth=truth, views=views, progress=part)
    outcome = registration_outcome(registration, args.out)
    first, *rest = outcome.summary
    said = (
        first,
        f"error against the truth (mTRE): {error:.2f} mm",
        *rest,
        f"the case itself: {Path(args.out) / 'case'}",
    )
    return Outcome(outcome.exit_status, said, {**outcome.facts, "mtre_mm": error})


COMMAND = Command("demo", "make a case, register it, show the error", add_arguments, run)
