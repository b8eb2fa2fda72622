"""``radgsreg register``: the main job, a case to its result files."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import REGISTRATION_METHODS
from ..errors import InputError
from ..system import Interrupt, Progress
from .arguments import (
    add_common,
    add_effort,
    add_out,
    add_path,
    add_standardize,
    check_model,
    explain_views,
)
from .command import Command, Outcome
from .refined_views import write_refined_views
from .register_labels import check_labels, run_labels
from .register_methods import METHODS, Job, model_of
from .running import (
    asked_standard,
    levels_weights,
    pipeline_options,
    registration_outcome,
    results_folder,
    torch_device,
    with_inputs,
)

if TYPE_CHECKING:
    from ..cases import Case
    from ..geometry import Array
    from ..pipeline import PipelineOptions
    from ..registration import RegistrationOptions
    from ..selfcalibration import CameraRefinement


# What a registration.json may say was asked for, beside its options.
_SWITCHES = ("by_level", "standardize", "refine_cameras")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser, "case", "CASE.json", "the case (see docs/files.md)")
    add_out(parser)
    add_path(parser, "--start", "START.json", "an approximate ct_to_world")
    parser.add_argument(
        "--method",
        choices=REGISTRATION_METHODS,
        help="ours (default): search and refine, from the poses of --model where given; published: "
        "networks make Gaussians and a volume of the X-rays, and of that and the CT a pose",
    )
    parser.add_argument(
        "--refine",
        action=argparse.BooleanOptionalAction,
        help="with --method published: refine the networks' pose (default), or judge it as it is",
    )
    add_path(
        parser,
        "--model",
        "M",
        "trained weights, for a start; with --method published by default those of the program",
    )
    parser.add_argument(
        "--by-level",
        action="store_true",
        help="where nothing is clicked: begin where the X-rays name the level of the label, which "
        "they do only with the sacrum or the last rib in them (see radgsreg levels)",
    )
    add_standardize(
        parser, "look first where X-rays of the bones alone, drawn by a network, put the vertebra"
    )
    parser.add_argument(
        "--refine-cameras",
        action="store_true",
        help="refine the cameras that are only nominal together with the poses of three labelled "
        "vertebrae or more",
    )
    parser.add_argument(
        "--labels",
        metavar="L1,L2,...|all",
        help="register these vertebrae of the CT together, each into a folder of its own; clicks "
        "and the start are of the case's own label",
    )
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
    parser.set_defaults(effort=None, seed=None, method=None, refine=None)


def check(args: argparse.Namespace) -> None:
    """Refuse a model that is not there, and two sources of the same options."""
    check_model(args)
    if args.by_level and args.start is not None:
        raise InputError("--by-level", "is a start of its own", "leave --start out")
    if args.labels is not None:
        check_labels(args)
    if args.config is not None and args.effort is not None:
        raise InputError("--effort", "cannot go with --config, which sets the same options")


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Register the case's vertebra, reconstruct it, and write everything."""
    if args.labels is not None:
        refines = _refines_cameras(args, "ours")
        return run_labels(args, registration_options_of, refines, progress, interrupt)
    from ..cases import read_case, read_start

    progress(0.0, "reading the case")
    case = read_case(args.case, least=1)
    if len(case.views) == 1:
        _check_one_view(args)
    start = None if args.start is None else read_start(args.start)
    registration = registration_options_of(args, case)
    method, refine = _method(args)
    with results_folder(args.out, interrupt) as stage:
        from ..report import Drawing

        by_level = levels_weights("--by-level") if _begins_by_level(args) else None
        if by_level is not None:
            progress(0.02, "looking for levels")
            case = _by_level(case, by_level, args.device)
        model = model_of(method, args.model)
        standard = asked_standard(_standardizes(args))
        if standard is not None and method == "published":
            raise InputError("--standardize", "is of use only with --method ours", "leave it out")
        options = pipeline_options(args, registration)
        case = replace(case, inputs=with_inputs(case.inputs, args.start, model, by_level, standard))
        part = progress.part(0.05, 0.9)
        refinement: CameraRefinement | None = None
        if _refines_cameras(args, method):
            refinement = _with_refined_cameras(case, start, options, part.part(0.0, 0.6))
            case, part = refinement.case, part.part(0.6, 1.0)
            if not refinement.problem:
                start = refinement.ct_to_world[case.label]
        with Drawing(case) as drawing:
            job = Job(case, start, model, refine, options, stage, drawing.begin, standard)
            result = METHODS[method](job, part)
            views = drawing.pictures(part)
        if refinement is not None:
            from ..selfcalibration import judged

            result = replace(result, registration=judged(result.registration, refinement))
            if not refinement.problem:
                write_refined_views(args.case, Path(args.out), stage, refinement)
        chosen = {"by_level": by_level, "standardize": standard}
        if any(chosen.values()):
            # Other weights than the program's are not taken up again by --config.
            given = {"standardize": "named"} if isinstance(args.standardize, Path) else {}
            more = {name: True for name, path in chosen.items() if path is not None} | given
            known = {**result.registration.parameters, **more}
            result = replace(result, registration=replace(result.registration, parameters=known))
        # Not before: what draws takes a third of a second to import, which its thread has done.
        from ..report import write_results

        write_results(stage, case, result, views=views, progress=progress.part(0.9, 1.0))
    return registration_outcome(result.registration, args.out, case.notes)


def _check_one_view(args: argparse.Namespace) -> None:
    """Refuse what a single X-ray does not do."""
    asked = {
        "--method published": _method(args)[0] == "published",
        "--model": args.model is not None,
        "--standardize": bool(_standardizes(args)),
        "--refine-cameras": _refines_cameras(args, "ours"),
        "--by-level": _begins_by_level(args),
    }
    for option, given in asked.items():
        if given:
            raise InputError(option, "needs two X-rays or more", "add one, or leave it out")


def _refines_cameras(args: argparse.Namespace, method: str) -> bool:
    """Whether cameras are refined: as is given, or as --config holds."""
    recorded = {} if args.config is None else _parameters_of(args.config)[0]
    asked = bool(args.refine_cameras or recorded.get("refine_cameras") is True)
    if asked and method == "published":
        raise InputError("--refine-cameras", "is of use only with --method ours", "leave it out")
    return asked


def _with_refined_cameras(
    case: Case, start: Array | None, options: PipelineOptions, progress: Progress
) -> CameraRefinement:
    """Return the case with its nominal cameras refined, and what is known of them."""
    from ..selfcalibration import refine_cameras

    return refine_cameras(
        case, start, options.registration, progress=progress, device=options.device
    )


def _by_level(case: Case, weights: Path, device: str) -> Case:
    """Return the case with clicks where its X-rays name the level of its label."""
    from ..networks import clicked_by_level, load_levels
    from ..system import one_torch_thread

    with one_torch_thread():
        return clicked_by_level(case, load_levels(weights, torch_device(device)))


def _begins_by_level(args: argparse.Namespace) -> bool:
    """Whether it begins where X-rays name the level: as is given, or as --config holds."""
    recorded = {} if args.config is None else _parameters_of(args.config)[0]
    return bool(args.by_level or (recorded.get("by_level") is True and args.start is None))


def _standardizes(args: argparse.Namespace) -> Path | bool | None:
    """What ``--standardize`` names, or whether --config holds that X-rays are standardised."""
    if args.standardize is not None or args.config is None:
        return args.standardize  # type: ignore[no-any-return]
    recorded = _parameters_of(args.config)[0].get("standardize")
    if recorded == "named":
        raise InputError(
            args.config, "was standardised with weights of your own", "name them: --standardize M"
        )
    return recorded is True


def _method(args: argparse.Namespace) -> tuple[str, bool]:
    """Return the method, and whether networks' poses are refined: what is given, else what --config
    holds, else ours."""
    from ..cases import Fields

    recorded = {} if args.config is None else _parameters_of(args.config)[0]
    fields = Fields(args.config or Path("--config"), recorded)
    method = args.method or (fields.text("method") if "method" in fields else "ours")
    if method not in REGISTRATION_METHODS:
        fields.refuse(f'"method" is "{method}"', f"use one of {', '.join(REGISTRATION_METHODS)}")
    refine = args.refine
    if method == "ours":
        if refine is not None:
            raise InputError("--refine", "is of use only with --method published")
        return method, True
    if refine is None:
        refine = recorded.get("refine", True)
    if not isinstance(refine, bool):
        fields.refuse('"refine" must be true or false')
    return method, refine


def registration_options_of(args: argparse.Namespace, case: Case) -> RegistrationOptions:
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
    from ..cases import Fields, did_you_mean, options_from
    from ..registration import RegistrationOptions, refuse_impossible

    values, whole = _parameters_of(path)
    known = {"registration", "seed", "case", "notes", "method", "refine", *_SWITCHES, *of_case}
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


def _parameters_of(path: Path) -> tuple[dict[str, Any], bool]:
    """The parameters of a file for --config, and whether it is a whole ``registration.json``."""
    from ..cases import read_mapping, read_registration_json

    values = read_mapping(path)
    if "schema" in values:
        return read_registration_json(path).parameters, True
    return values, False


COMMAND = Command(
    "register", "register the vertebra of a case: the main job", add_arguments, run, check
)
