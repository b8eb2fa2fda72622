"""``radgsreg evaluate``: metrics over a folder of cases with truth."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..errors import InputError
from ..system import ExitStatus, Interrupt, Progress
from .arguments import add_common, add_effort, add_out, add_path, whole
from .command import Command, Outcome
from .running import results_folder, torch_device

if TYPE_CHECKING:
    from ..evaluation import EvaluationOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(
        parser,
        "cases",
        "CASES_DIR",
        "folders with case.json and truth.json; runs of simulate --frames are followed",
    )
    add_out(parser)
    parser.add_argument(
        "--start",
        choices=("center", "start", "none"),
        help="start from the clicks (default), or from start.json with the clicks removed (default "
        "with --one-view); none: from nothing (--protocol paper, models only)",
    )
    parser.add_argument(
        "--one-view",
        action="store_true",
        help="take every X-ray of each case alone, as a case of its own, and measure the error "
        "across and along its line of sight",
    )
    parser.add_argument(
        "--reconstruct", action="store_true", help="reconstruct too, for SSIM and PSNR"
    )
    parser.add_argument(
        "--protocol",
        choices=("cases", "paper"),
        default="cases",
        help="cases: one method case by case (default); paper: tables 1 and 2 of the paper, "
        "baselines included",
    )
    parser.add_argument(
        "--method",
        "--methods",
        dest="methods",
        metavar="A[,B,...]",
        help="start, voxels, gaussians, descent, optimize, or a model's name; one with --protocol "
        "cases (default optimize), any number with --protocol paper (default all)",
    )
    parser.add_argument(
        "--model",
        dest="models",
        metavar="[NAME=]M",
        action="append",
        help="trained weights, or a folder with CASE.safetensors for every case; may be repeated",
    )
    parser.add_argument(
        "--labels",
        metavar="L1,L2,...|all",
        help="register these vertebrae of every case together, as register --labels does, and "
        "measure each",
    )
    paper = parser.add_argument_group("with --protocol paper")
    paper.add_argument(
        "--draws", type=whole(0), default=0, help="further starts per case, for CR (default 0)"
    )
    add_effort(paper, "how many steps all methods take (default normal)")
    add_common(parser)


def check(args: argparse.Namespace) -> None:
    """Refuse options that are of no use with the protocol."""
    if args.one_view:
        _check_one_view(args)
    if args.labels is not None:
        for option, given in (
            ("--protocol paper", args.protocol == "paper"),
            ("--reconstruct", args.reconstruct),
            ("--method", bool(args.methods)),
            ("--model", bool(args.models)),
        ):
            if given:
                raise InputError("--labels", f"cannot go with {option}", "leave one of them out")
    if args.protocol == "paper":
        if args.reconstruct:
            raise InputError("--reconstruct", "is part of --protocol paper", "leave it out")
        return
    if args.draws:
        raise InputError("--draws", "is of use only with --protocol paper")
    if args.models and not args.methods:
        raise InputError("--model", "is of use only with --method or --protocol paper")
    if args.effort != "normal":
        raise InputError("--effort", "is of use only with --protocol paper")
    if args.start == "none":
        raise InputError("--start none", "is of use only with --protocol paper")


def _check_one_view(args: argparse.Namespace) -> None:
    if args.start == "center":
        raise InputError(
            "--start center",
            "cannot go with --one-view: a click in one X-ray does not say how far away the bone is",
            "use --start start",
        )
    for option, given in (
        ("--labels", args.labels is not None),
        ("--protocol paper", args.protocol == "paper"),
        ("--reconstruct", args.reconstruct),
        ("--model", bool(args.models)),
    ):
        if given:
            raise InputError("--one-view", f"cannot go with {option}", "leave one of them out")


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Evaluate, and write tables, JSON and plots."""
    from ..evaluation import EvaluationOptions, hold_runs, write_cases, write_paper, write_several

    are_runs = hold_runs(args.cases)
    if are_runs:
        _check_runs(args)
    names = (args.methods or "").split(",")
    options = EvaluationOptions(
        methods=tuple(name.strip() for name in names if name.strip()),
        models=tuple(args.models or ()),
        start=args.start or ("start" if args.one_view else "center"),
        draws=args.draws,
        effort=args.effort,
        seed=args.seed,
        device=torch_device(args.device),
        reconstruct=args.reconstruct,
        one_view=args.one_view,
    )
    if are_runs:
        return _follow(args, options, progress, interrupt)
    write = write_paper if args.protocol == "paper" else write_cases
    with results_folder(args.out, interrupt) as stage:
        if args.labels is not None:
            report = write_several(args.cases, stage, options, args.labels, progress)
        else:
            report = write(args.cases, stage, options, progress)
    cases = max(summary.cases for summary in report.summaries.values())
    count = f"{cases} case{'' if cases == 1 else 's'}"
    if args.labels is not None:
        count = f"{cases} vertebra{'' if cases == 1 else 'e'}"
    if args.protocol == "paper":
        first = f"{len(report.summaries)} methods on {count}"
        facts = {"cases": cases, "reference": report.reference}
    else:
        whole = report.summaries["all"].contract()
        first = (
            f"{count}: mTRE median {whole['mtre_mm']['median']:.2f} mm, "
            f"SR {100 * whole['sr']:.0f} %, SMSR {100 * whole['smsr']:.0f} %, "
            f"silent failures {whole['silent_failures']}"
        )
        alone = report.one_view
        if alone is not None:
            first += (
                f"; of one X-ray alone, medians: in-plane {alone.in_plane.median_mm:.2f} mm, depth "
                f"{alone.depth.median_mm:.2f} mm"
            )
        facts = {key: whole[key] for key in ("cases", "sr", "smsr", "silent_failures")}
    said = (first, "", *report.text.splitlines(), "", f"results: {args.out}")
    return Outcome(ExitStatus.OK, said, {"out": str(args.out), **facts})


def _check_runs(args: argparse.Namespace) -> None:
    for option, given in (
        ("--one-view", args.one_view),
        ("--labels", args.labels is not None),
        ("--protocol paper", args.protocol == "paper"),
        ("--reconstruct", args.reconstruct),
        ("--method", bool(args.methods)),
        ("--model", bool(args.models)),
    ):
        if given:
            raise InputError(option, "is of no use with runs, which are followed", "leave it out")


def _follow(
    args: argparse.Namespace,
    options: EvaluationOptions,
    progress: Progress,
    interrupt: Interrupt,
) -> Outcome:
    """Evaluate runs of X-rays."""
    from ..evaluation import write_tracks

    with results_folder(args.out, interrupt) as stage:
        report = write_tracks(args.cases, stage, options, progress)
    whole, runs = report.whole, len(report.runs)
    first = (
        f"{runs} run{'' if runs == 1 else 's'}: {whole.ok} of {whole.shown} frames ok, "
        f"silent failures {whole.silent_failures}"
    )
    if whole.median_mm is not None and whole.smsr is not None:
        first += f", mTRE median {whole.median_mm:.2f} mm, SMSR {100 * whole.smsr:.0f} %"
    facts = {key: getattr(whole, key) for key in ("frames", "shown", "ok", "smsr")}
    facts |= {"runs": runs, "silent_failures": whole.silent_failures}
    said = (first, "", *report.text.splitlines(), "", f"results: {args.out}")
    return Outcome(ExitStatus.OK, said, {"out": str(args.out), **facts})


COMMAND = Command(
    "evaluate", "metrics over a folder of cases with truth", add_arguments, run, check
)
