"""``radgsreg reproduce``: the paper's experiments, from models to tables."""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..choices import ENCODERS
from ..errors import InputError
from ..system import ExitStatus, Interrupt, Progress
from .arguments import add_common, add_path, positive_minutes, whole
from .command import Command, Outcome
from .running import torch_device

if TYPE_CHECKING:
    from ..reproduction import Design

_ABLATIONS = ("no-CAL", "no-synergy")
_CASES = 10
_FEWEST = 5
_PHANTOMS = 12
_MINUTES = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="models and tables; one goes on here"
    )
    add_path(
        parser,
        "--cases",
        "DIR",
        f"cases with truth.json, of five patients or more (default: {_CASES} phantoms)",
    )
    parser.add_argument(
        "--phantoms", type=whole(0), help=f"spines of the first stage (default {_PHANTOMS})"
    )
    add_path(parser, "--cts", "DIR", "CTs with label maps, for the first stage")
    add_path(parser, "--verse", "DIR", "VerSe'20, for the first stage")
    parser.add_argument(
        "--minutes",
        type=positive_minutes,
        help=f"for each model (default {_MINUTES:g}; with --paper, --config and --smallest: their "
        "steps)",
    )
    parser.add_argument("--paper", action="store_true", help="the published settings, for a GPU")
    parser.add_argument(
        "--encoder", choices=ENCODERS, help="with --paper: of both networks (default: resnet50)"
    )
    add_path(parser, "--config", "FILE", "options as JSON or YAML, as for pretrain")
    parser.add_argument(
        "--ablations", nargs="*", choices=_ABLATIONS, default=[], help="what to leave out in turn"
    )
    parser.add_argument(
        "--encoders", nargs="*", choices=ENCODERS, default=[], help="further ones, in both networks"
    )
    parser.add_argument(
        "--methods", metavar="A[,B,...]", help="of the tables, as for evaluate (default: all)"
    )
    parser.add_argument(
        "--draws", type=whole(0), default=0, help="further starts per case, for CR (default 0)"
    )
    parser.add_argument(
        "--smallest",
        action="store_true",
        help="tiny networks, a few steps, five coarse phantoms: whether everything works",
    )
    parser.add_argument(
        "--plan", action="store_true", help="say what would be trained, and train nothing"
    )
    add_common(parser)


def check(args: argparse.Namespace) -> None:
    """Refuse options that contradict each other."""
    if args.encoder is not None and not args.paper:
        raise InputError("--encoder", "is of use only with --paper", "add it")
    if args.smallest and (args.paper or args.config is not None):
        raise InputError("--smallest", "has settings of its own", "leave --paper and --config out")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "reproduce", "runs in one process", "start it without torchrun (pretrain takes it)"
        )


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Train what is not trained yet, and write the tables."""
    device = torch_device(args.device)
    from ..reproduction import minutes_of, phantom_cases, plan, reproduce
    from ..training import held_out_names

    cases = args.cases
    if cases is None:
        count, spacing_mm = (_FEWEST, 3.0) if args.smallest else (_CASES, 1.5)
        part = progress.part(0.0, 0.05)
        cases = phantom_cases(args.out / "cases", count, args.seed, spacing_mm, part)
    design = _design(args, cases, device)
    if args.plan:
        cells = plan(design, held_out_names(cases))
        minutes = minutes_of(design, cells)
        lasts = "their steps decide how long" if minutes is None else f"{minutes / 60.0:.1f} hours"
        lines = (f"{len(cells)} models, {lasts}", *(cell.place.as_posix() for cell in cells))
        return Outcome(ExitStatus.OK, lines, {"models": len(cells), "minutes": minutes})
    report, trained = reproduce(design, args.out, progress.part(0.05, 1.0))
    tables = args.out / "tables"
    said = (f"models trained: {trained}", "", *report.text.splitlines(), "", f"results: {tables}")
    facts = {"out": str(args.out), "trained": trained, "reference": report.reference}
    return Outcome(ExitStatus.OK, said, facts)


def _design(args: argparse.Namespace, cases: Path, device: str) -> "Design":
    from ..reproduction import Design, smallest
    from ..training import TrainingConfig, read_config

    config = TrainingConfig()
    if args.paper:
        config = TrainingConfig.paper(args.encoder or "resnet50")
    elif args.smallest:
        config = smallest(args.seed)
    config = replace(config, seed=args.seed)
    patient = config if config.model.anchors == "grid" else config.for_patient()
    if args.config is not None:
        config, patient = (read_config(args.config, each) for each in (config, patient))
    minutes = args.minutes
    if minutes is None and not (args.paper or args.smallest or args.config is not None):
        minutes = _MINUTES
    if minutes is not None and args.config is None:
        config, patient = config.by_clock(), patient.by_clock()
    phantoms = args.phantoms
    if phantoms is None:
        given = args.cts is not None or args.verse is not None
        phantoms = 0 if given else 1 if args.smallest else _PHANTOMS
    design = Design(
        cases,
        config,
        patient,
        phantoms=phantoms,
        cts=args.cts,
        verse=args.verse,
        ablations=tuple(args.ablations),
        encoders=tuple(args.encoders),
        minutes=minutes,
        methods=tuple(name.strip() for name in (args.methods or "").split(",") if name.strip()),
        draws=args.draws,
        device=device,
    )
    if args.smallest and not design.methods:
        # The networks alone: what refines them has nothing to do with how they were trained.
        design = replace(design, methods=design.names())
    return design


COMMAND = Command(
    "reproduce", "the paper's experiments: models and tables", add_arguments, run, check
)
