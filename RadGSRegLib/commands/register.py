"""``radgsreg register``: the main job, a case to its result files."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..system.interrupt import Interrupt
from ..system.progress import Progress
from .arguments import add_common, add_effort, add_out, check_model
from .command import Command, Outcome
from .running import (
    pipeline_options,
    registration_outcome,
    results_folder,
    torch_device,
    with_inputs,
)

if TYPE_CHECKING:
    from ..cases import Case
    from ..gaussians import GaussianCloud
    from ..registration.search import Candidate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("case", metavar="CASE.json", help="the case (see the contract)")
    add_out(parser)
    parser.add_argument("--start", metavar="START.json", help="an approximate ct_to_world")
    parser.add_argument("--model", metavar="M", help="trained weights, for a start")
    add_effort(parser, "how much to search and refine (default normal, which is what was measured)")
    add_common(parser)


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Register the case's vertebra, reconstruct it, and write everything."""
    from ..cases import read_case, read_start

    progress(0.0, "reading the case")
    case = read_case(Path(args.case))
    start = None if args.start is None else read_start(Path(args.start))
    with results_folder(args.out, interrupt) as stage:
        from .. import pipeline
        from ..report.drawing import Drawing

        options = pipeline_options(args)
        learned, prior_ct, see_s = _learned(args, case, start, progress.part(0.05, 0.15))
        case = replace(case, inputs=with_inputs(case.inputs, args.start, args.model))
        part = progress.part(0.15, 0.9)
        with Drawing(case) as drawing:
            result = pipeline.run(
                case, start, options, part, learned, prior_ct, on_registered=drawing.begin
            )
            views = drawing.pictures(part)
        if learned:
            total = see_s + result.timing_s["total"]
            result = replace(result, timing_s={"see": see_s, **result.timing_s, "total": total})
        # Not before: what draws takes a third of a second to import, which its thread has done.
        from ..report.results import write_results

        write_results(stage, case, result, views=views, progress=progress.part(0.9, 1.0))
    return registration_outcome(result.registration, args.out)


def _learned(
    args: argparse.Namespace, case: Case, start: Any, progress: Progress
) -> tuple[Sequence[Candidate], GaussianCloud | None, float]:
    """Poses that the model of --model sees, the vertebra's Gaussians if it holds them, and how many
    seconds seeing took; nothing without a model.

    Raises InputError for a model of another patient or another of his vertebrae.
    """
    if args.model is None:
        return (), None, 0.0
    device = torch_device(args.device)
    from ..networks import is_trained_for, learned_start, load_model, patient_cloud

    model = load_model(Path(args.model), device)
    if model.is_patient_specific and not is_trained_for(case, model):
        raise InputError(
            args.model,
            f"was trained for another CT, or for another vertebra than {case.label_name}",
            "train one for this CT and label (radgsreg pretrain --stage 3), or leave --model out",
        )
    began = time.perf_counter()
    seen = learned_start(case, model, start, progress)
    return seen.candidates, patient_cloud(case, model), time.perf_counter() - began


COMMAND = Command(
    "register", "register the vertebra of a case: the main job", add_arguments, run, check_model
)
