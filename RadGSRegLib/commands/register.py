"""``radgsreg register``: the main job, a case to its result files."""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..system import Interrupt, Progress, device_name
from .arguments import add_common, add_effort, add_out, add_path, check_model, explain_views
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
    from ..registration import Proposer, RegistrationOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser, "case", "CASE.json", "the case (see docs/files.md)")
    add_out(parser)
    add_path(parser, "--start", "START.json", "an approximate ct_to_world")
    add_path(parser, "--model", "M", "trained weights, for a start")
    add_effort(parser, "how much to search and refine (default normal, which is what was measured)")
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="the parameters of a registration.json, to run it again as it was, or a JSON or YAML "
        'file with the same under "registration"; --seed given beside it wins',
    )
    add_common(parser)
    explain_views(parser)
    # None: not given, so that what --config says holds.
    parser.set_defaults(effort=None, seed=None)


def check(args: argparse.Namespace) -> None:
    """Refuse a model that is not there, and two sources of the same options."""
    check_model(args)
    if args.config is not None and args.effort is not None:
        raise InputError("--effort", "cannot go with --config, which sets the same options")


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Register the case's vertebra, reconstruct it, and write everything."""
    from ..cases import read_case, read_start

    progress(0.0, "reading the case")
    case = read_case(args.case)
    start = None if args.start is None else read_start(args.start)
    registration = _registration_options(args, case)
    with results_folder(args.out, interrupt) as stage:
        from .. import pipeline
        from ..report import Drawing

        options = pipeline_options(args, registration)
        proposers, prior_ct, see_s = _learned(
            args, case, start, registration, progress.part(0.05, 0.15)
        )
        case = replace(case, inputs=with_inputs(case.inputs, args.start, args.model))
        part = progress.part(0.15, 0.9)
        with Drawing(case) as drawing:
            result = pipeline.run(
                case, start, options, part, proposers, prior_ct, on_registered=drawing.begin
            )
            views = drawing.pictures(part)
        if proposers:
            total = see_s + result.timing_s["total"]
            result = replace(
                result,
                timing_s={"see": see_s, **result.timing_s, "total": total},
                ran_on={"see": device_name(options.device), **result.ran_on},
            )
        # Not before: what draws takes a third of a second to import, which its thread has done.
        from ..report import write_results

        write_results(stage, case, result, views=views, progress=progress.part(0.9, 1.0))
    return registration_outcome(result.registration, args.out, case.notes)


def _registration_options(args: argparse.Namespace, case: Case) -> RegistrationOptions:
    """Return what --config holds, or --effort means, with --seed where that is given."""
    if args.config is None:
        from ..registration import registration_options

        return registration_options(args.effort or "normal", seed=args.seed or 0)
    options = read_parameters(args.config, set(case.to_parameters()))
    return options if args.seed is None else replace(options, seed=args.seed)


def read_parameters(path: Path, of_case: Collection[str] = ()) -> RegistrationOptions:
    """Read the options of a registration from a ``registration.json``, in which none may be
    missing, or from a JSON or YAML file like its "parameters", the rest at the defaults.

    ``of_case`` names what else stands there, of the case. Raises InputError for what is unknown or
    does not fit.
    """
    from ..cases import Fields, did_you_mean, options_from, read_mapping, read_registration_json
    from ..registration import RegistrationOptions, refuse_impossible

    values = read_mapping(path)
    whole = "schema" in values
    if whole:
        values = read_registration_json(path).parameters
    known = {"registration", "seed", "case", "notes", *of_case}
    for name in values:
        if name not in known:
            near = did_you_mean(str(name), known)
            raise InputError(path, f'there is no parameter "{name}"{near}')
    given = Fields(path, values).need("registration")
    if not isinstance(given, dict):
        raise InputError(path, '"registration" is no group of options')
    if "seed" in values and given.setdefault("seed", values["seed"]) != values["seed"]:
        raise InputError(path, '"seed" and that of "registration" differ')
    base = None if whole else RegistrationOptions()
    options = options_from(RegistrationOptions, given, path, base, "registration.")
    refuse_impossible(options, path, "registration.")
    return options


def _learned(
    args: argparse.Namespace,
    case: Case,
    start: Any,
    options: RegistrationOptions,
    progress: Progress,
) -> tuple[Sequence[Proposer], GaussianCloud | None, float]:
    """Return what proposes the poses that the model of --model sees, the vertebra's Gaussians if it
    holds them, and how many seconds seeing took; nothing without a model.

    Raises InputError for a model of another patient or another of his vertebrae.
    """
    if args.model is None:
        return (), None, 0.0
    device = torch_device(args.device)
    from ..networks import learned_start, load_model, patient_cloud, refuse_other_patient

    model = load_model(args.model, device)
    refuse_other_patient(case, model, args.model)
    began = time.perf_counter()
    learned = learned_start(case, model, start, progress)
    spent_s = time.perf_counter() - began
    return [learned.proposer(options)], patient_cloud(case, model), spent_s


COMMAND = Command(
    "register", "register the vertebra of a case: the main job", add_arguments, run, check
)
