"""``radgsreg evaluate``: metrics over a folder of cases with truth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..system.exit_status import ExitStatus
from ..system.interrupt import Interrupt
from ..system.progress import Progress
from .arguments import add_common, add_effort, add_out, natural
from .command import Command, Outcome
from .running import reconstruction_options, registration_options, results_folder, torch_device

if TYPE_CHECKING:
    from ..cases import Case
    from ..registration.types import Registration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("cases", metavar="CASES_DIR", help="folders with case.json, truth.json")
    add_out(parser)
    parser.add_argument(
        "--start",
        choices=("center", "start", "none"),
        default="center",
        help="start from the clicks (default), or from start.json with the clicks removed; none: "
        "from nothing (--protocol paper, models only)",
    )
    parser.add_argument(
        "--reconstruct", action="store_true", help="reconstruct too, for SSIM and PSNR"
    )
    parser.add_argument(
        "--protocol",
        choices=("cases", "paper"),
        default="cases",
        help="cases: our own method case by case (default); paper: tables 1 and 2 of the paper, "
        "rivals included",
    )
    paper = parser.add_argument_group("with --protocol paper")
    paper.add_argument(
        "--methods", metavar="A,B,...", help="start, voxels, gaussians, descent, optimize, models"
    )
    paper.add_argument(
        "--model",
        dest="models",
        metavar="[NAME=]M",
        action="append",
        help="trained weights, or a folder with CASE.safetensors for every case; may be repeated",
    )
    paper.add_argument(
        "--draws", type=natural, default=0, help="further starts per case, for CR (default 0)"
    )
    add_effort(paper, "how many steps all methods take (default normal)")
    add_common(parser)


def check(args: argparse.Namespace) -> None:
    """Refuse options that are of no use with the protocol."""
    if args.protocol == "paper":
        if args.reconstruct:
            raise InputError("--reconstruct", "is part of --protocol paper", "leave it out")
        return
    given = {"--methods": args.methods, "--model": args.models, "--draws": args.draws}
    for name, value in given.items():
        if value:
            raise InputError(name, "is of use only with --protocol paper")
    if args.effort != "normal":
        raise InputError("--effort", "is of use only with --protocol paper")
    if args.start == "none":
        raise InputError("--start none", "is of use only with --protocol paper")


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Evaluate, and write tables, JSON and plots."""
    if args.protocol == "paper":
        return _paper(args, progress, interrupt)
    from ..cases import software_versions, write_json
    from ..evaluation import protocol

    protocol.find_cases(Path(args.cases))
    with results_folder(args.out, interrupt) as stage:
        from .. import pipeline
        from ..evaluation import plots, tables

        registering = registration_options(args)
        reconstructing = (
            reconstruction_options(args.device, args.seed) if args.reconstruct else None
        )

        def registrar(case: Case, start: Any, part: Progress) -> Registration:
            return pipeline.register_case(case, start, registering, part)

        def reconstructor(case: Case, registration: Registration, part: Progress) -> Any:
            return pipeline.reconstruct_registered(case, registration, reconstructing, part).volume

        trials = protocol.evaluate(
            Path(args.cases),
            registrar,
            reconstruct=reconstructor if args.reconstruct else None,
            start=args.start,
            method="optimize",
            progress=progress.part(0.0, 0.98),
        )
        summary = protocol.summarize(trials)
        text = tables.markdown(trials, summary)
        (stage / "evaluation.md").write_text(text, encoding="utf-8")
        (stage / "evaluation.csv").write_text(tables.csv_text(trials), encoding="utf-8")
        content = tables.json_content(trials, summary)
        content["software"] = software_versions()
        content["parameters"] = {"seed": args.seed, "start": args.start, "method": "optimize"}
        write_json(content, stage / "evaluation.json")
        for name, png in plots.all_plots(trials).items():
            (stage / name).write_bytes(png)
    whole = summary["all"]
    said = (
        f"{whole['cases']} case{'' if whole['cases'] == 1 else 's'}: "
        f"mTRE median {whole['mtre_mm']['median']:.2f} mm, "
        f"SR {100 * whole['sr']:.0f} %, silent failures {whole['silent_failures']}",
        "",
        *text.splitlines(),
        "",
        f"results: {args.out}",
    )
    facts = {key: whole[key] for key in ("cases", "sr", "smsr", "silent_failures")}
    return Outcome(ExitStatus.OK, said, {"out": str(args.out), **facts})


def _paper(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """The paper's tables for our methods, models and rivals."""
    from ..evaluation.protocol import find_cases

    find_cases(Path(args.cases))
    device = torch_device(args.device)
    with results_folder(args.out, interrupt) as stage:
        from ..evaluation.paper.protocol import PaperOptions, write_paper

        names = (args.methods or "").split(",")
        options = PaperOptions(
            methods=tuple(name.strip() for name in names if name.strip()),
            models=tuple(args.models or ()),
            start=args.start,
            draws=args.draws,
            effort=args.effort,
            seed=args.seed,
            device=device,
        )
        result = write_paper(Path(args.cases), stage, options, progress)
    cases = max(one.cases for one in result.summaries)
    count = f"{len(result.summaries)} methods on {cases} case{'' if cases == 1 else 's'}"
    said = (count, "", *result.text.splitlines(), "", f"results: {args.out}")
    facts = {"cases": cases, "reference": result.reference, "out": str(args.out)}
    return Outcome(ExitStatus.OK, said, facts)


COMMAND = Command(
    "evaluate", "metrics over a folder of cases with truth", add_arguments, run, check
)
