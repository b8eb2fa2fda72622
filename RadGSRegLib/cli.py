"""The command line: arguments in, exit status out; the work itself is in `commands`.

Exit status: 0 done; 1 a bug (with its traceback); 2 unusable arguments or input, one line on
standard error, nothing written; 3 the job ran and its result is not to be trusted; 130 cancelled.
Nothing heavy is imported before the arguments are known to be good.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn, TextIO

from . import __version__
from .choices import DEVICES, EFFORTS, REALISMS, RECONSTRUCTION_METHODS
from .errors import Cancelled, InputError
from .system.interrupt import Interrupt
from .system.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .commands import Outcome

EXIT_OK = 0
EXIT_INPUT = 2
EXIT_CANCELLED = 130

Show = Callable[[float, str], None]


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``radgsreg`` with all its commands."""
    parser = _Parser(
        prog="radgsreg",
        description="Registers a vertebra of a CT to calibrated X-rays through radiative 3D "
        "Gaussians. Research use only, not for clinical decisions.",
    )
    parser.add_argument("--version", action="version", version=f"radgsreg {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="make a case, register it, show the error")
    _add_out(demo)
    _add_level(demo)
    _add_common(demo)

    register = commands.add_parser("register", help="register the vertebra of a case: the main job")
    register.add_argument("case", metavar="CASE.json", help="the case (see the contract)")
    _add_out(register)
    register.add_argument("--start", metavar="START.json", help="an approximate ct_to_world")
    register.add_argument("--model", metavar="M", help="trained weights, for a start")
    register.add_argument(
        "--effort",
        choices=EFFORTS,
        default="normal",
        help="how much to search and refine (default normal, which is what was measured)",
    )
    _add_common(register)

    reconstruct = commands.add_parser("reconstruct", help="X-rays to Gaussians and volume only")
    reconstruct.add_argument("input", metavar="CASE_OR_VIEWS.json", help="a case, or X-rays alone")
    _add_out(reconstruct)
    reconstruct.add_argument(
        "--method",
        choices=RECONSTRUCTION_METHODS,
        default="optimize",
        help="default optimize; learned needs --model",
    )
    reconstruct.add_argument("--model", metavar="M", help="trained weights, for --method learned")
    reconstruct.add_argument(
        "--ct-prior", action="store_true", help="register first, start from the CT's Gaussians"
    )
    reconstruct.add_argument(
        "--start", metavar="START.json", help="an approximate ct_to_world for --ct-prior"
    )
    _add_common(reconstruct)

    simulate = commands.add_parser("simulate", help="realistic X-rays with truth")
    simulate.add_argument(
        "--case", metavar="CASE.json", help="take CT, segmentation and label here"
    )
    simulate.add_argument("--ct", metavar="CT", help="a CT; without any, the built-in phantom")
    simulate.add_argument("--segmentation", metavar="SEG", help="its label map")
    simulate.add_argument("--label", metavar="LABEL", help="number or name of the vertebra")
    _add_out(simulate)
    _add_level(simulate)
    simulate.add_argument("--count", type=_positive, default=1, help="how many cases (default 1)")
    _add_common(simulate, device=False)

    segment = commands.add_parser("segment", help="one vertebra of a CT, from a point inside it")
    segment.add_argument("ct", metavar="CT", help="the CT: NIfTI, NRRD, MHA or a DICOM folder")
    segment.add_argument(
        "--point", metavar="X,Y,Z", required=True, help="inside the vertebra's body, LPS mm"
    )
    segment.add_argument(
        "--out", metavar="MASK.nii.gz", required=True, help="where the label map goes"
    )
    segment.add_argument(
        "--label", metavar="N", type=_label, default=1, help="its number in the map (default 1)"
    )
    _add_lines(segment)

    evaluate = commands.add_parser("evaluate", help="metrics over a folder of cases with truth")
    evaluate.add_argument("cases", metavar="CASES_DIR", help="folders with case.json, truth.json")
    _add_out(evaluate)
    evaluate.add_argument("--method", choices=("optimize",), default="optimize")
    evaluate.add_argument(
        "--start",
        choices=("center", "start", "none"),
        default="center",
        help="start from the clicks (default), or from start.json with the clicks removed; none: "
        "from nothing (--protocol paper, models only)",
    )
    evaluate.add_argument(
        "--reconstruct", action="store_true", help="reconstruct too, for SSIM and PSNR"
    )
    _add_paper(evaluate)
    _add_common(evaluate)

    _add_pretrain(commands.add_parser("pretrain", help="train a model: the three stages"))

    commands.add_parser("info", help="versions, devices, backends, and which of them work here")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    # Idle threads of torch should sleep, not spin: where cores are shared, spinning threads make
    # small operations many times slower. It must be said before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        args = build_parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
    except SystemExit as stop:
        return int(stop.code or 0)
    with Interrupt() as interrupt:
        try:
            _check(args)
            return _run(args, interrupt)
        except InputError as error:
            print(f"radgsreg: {error}", file=sys.stderr)
            return EXIT_INPUT
        except (KeyboardInterrupt, Cancelled):
            return _cancelled()
        except BrokenPipeError:
            # Whoever read our output is gone: nobody waits for the result.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_CANCELLED
        except BaseException:
            if interrupt.is_set:
                return _cancelled()
            raise


def _run(args: argparse.Namespace, interrupt: Interrupt) -> int:
    out, lines = sys.stdout, getattr(args, "progress", False)
    # Libraries that print must not get between the lines of JSON.
    quiet = contextlib.redirect_stdout(sys.stderr) if lines else contextlib.nullcontext()
    with quiet, _display(lines, out) as show:
        from . import commands

        furthest, latest = 0.0, ""

        def tell(fraction: float, message: str) -> bool:
            nonlocal furthest, latest
            furthest = max(furthest, fraction)  # a bar that goes back looks like a fault
            latest = message
            show(furthest, message)
            return not interrupt.is_set

        def tell_pose(ct_to_world: NDArray[np.float64]) -> None:
            if lines:
                _emit(out, furthest, latest, ct_to_world=ct_to_world.tolist())

        def tell_figures(figures: dict[str, float]) -> None:
            if lines:
                _emit(out, furthest, latest, figures=figures)

        progress = Progress(tell, on_pose=tell_pose, on_figures=tell_figures)
        outcome = commands.run(args, progress, interrupt)
    _finish(outcome, out if lines else None)
    return outcome.exit_status


def _finish(outcome: Outcome, json_lines: TextIO | None) -> None:
    if json_lines is not None:
        last = {"progress": 1.0, "message": outcome.summary[0], **outcome.facts}
        print(json.dumps(last, allow_nan=False), file=json_lines, flush=True)
        return
    for line in outcome.summary:
        print(line)
    sys.stdout.flush()


@contextlib.contextmanager
def _display(lines: bool, out: TextIO) -> Iterator[Show]:
    """How progress is shown: JSON lines, a bar on a terminal, or not at all."""
    if lines:
        yield lambda fraction, message: _emit(out, fraction, message)
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        columns = (
            BarColumn(bar_width=32),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=1.0)

            def draw(fraction: float, message: str) -> None:
                bar.update(task, completed=fraction, description=message)

            yield draw
    else:
        yield lambda fraction, message: None


def _emit(out: TextIO, fraction: float, message: str, **facts: object) -> None:
    """One line of progress as JSON."""
    record = {"progress": round(fraction, 4), "message": message, **facts}
    print(json.dumps(record, allow_nan=False), file=out, flush=True)


def _cancelled() -> int:
    print("radgsreg: cancelled, nothing written", file=sys.stderr)
    return EXIT_CANCELLED


def _check(args: argparse.Namespace) -> None:
    """Refusals that need no look at any file."""
    model = getattr(args, "model", None)
    if model is not None and not os.path.isfile(model):  # noqa: PTH113 - before anything is loaded
        raise InputError(model, "there is no such model")
    if args.command == "reconstruct" and (args.method == "learned") != (args.model is not None):
        raise InputError("--method learned", "and --model belong together")
    if args.command == "reconstruct" and args.method == "learned" and args.ct_prior:
        raise InputError("--ct-prior", "is of use only with --method optimize")
    if args.command == "reconstruct" and args.start and not args.ct_prior:
        raise InputError("--start", "is of use only with --ct-prior")
    if args.command == "evaluate":
        _check_evaluate(args)
    if args.command == "pretrain":
        _check_pretrain(args)
    if args.command == "simulate":
        volumes = {"--ct": args.ct, "--segmentation": args.segmentation}
        if args.case is not None and any((*volumes.values(), args.label)):
            raise InputError("--case", "cannot go with --ct, --segmentation or --label")
        given = [name for name, value in volumes.items() if value is not None]
        if len(given) == 1 or (given and args.label is None):
            raise InputError(given[0], "--ct, --segmentation and --label belong together")


def _check_evaluate(args: argparse.Namespace) -> None:
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


def _check_pretrain(args: argparse.Namespace) -> None:
    """No option of another stage: that would be left out unsaid."""
    given = {
        "--phantoms": (1, args.phantoms or None),
        "--cts": (1, args.cts),
        "--verse": (1, args.verse),
        "--cases": (2, args.cases),
        "--fold": (2, args.fold),
        "CASE.json": (3, args.case),
    }
    for name, (stage, value) in given.items():
        if value is not None and args.stage != stage:
            raise InputError(name, f"is of use only with --stage {stage}", "leave it out")
    if args.anchors != "template" and (args.stage == 3 or args.base not in (None, "none")):
        raise InputError("--anchors", "is of use only with --stage 1 or 2 and without --base")


def _add_paper(parser: argparse.ArgumentParser) -> None:
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
        "--draws", type=_natural, default=0, help="further starts per case, for CR (default 0)"
    )
    paper.add_argument(
        "--effort",
        choices=EFFORTS,
        default="normal",
        help="how many steps all methods take (default normal)",
    )


def _add_pretrain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stage",
        type=int,
        choices=(1, 2, 3),
        required=True,
        help="1: many CTs, simulated X-rays; 2: X-rays with known poses; 3: one patient's CT",
    )
    parser.add_argument("case", metavar="CASE.json", nargs="?", help="the patient, for --stage 3")
    parser.add_argument("--out", metavar="MODEL.safetensors", required=True)
    parser.add_argument("--minutes", type=_minutes, help="stop then, with the best so far")
    parser.add_argument("--config", metavar="FILE", help="options as JSON or YAML")
    parser.add_argument(
        "--base",
        metavar="MODEL",
        help="go on from this model; none: from scratch (default: the weights that come with the "
        "program for --stage 3 with their networks, else none)",
    )
    parser.add_argument("--phantoms", type=_natural, default=0, help="spines, for --stage 1")
    parser.add_argument("--cts", metavar="DIR", help="CTs with label maps, for --stage 1")
    parser.add_argument("--verse", metavar="DIR", help="VerSe'20, for --stage 1")
    parser.add_argument("--cases", metavar="DIR", help="cases with truth.json, for --stage 2")
    parser.add_argument("--fold", type=int, choices=range(5), help="held out of --cases")
    parser.add_argument(
        "--anchors",
        choices=("template", "grid"),
        default="template",
        help="of stages 1 and 2: a mean vertebra (default), or the paper's grid",
    )
    parser.add_argument("--work", metavar="DIR", help="checkpoints; an interrupted run goes on")
    parser.add_argument(
        "--stop", metavar="FILE", help="end with the best so far as soon as this file appears"
    )
    parser.add_argument("--board", metavar="DIR", help="logs for TensorBoard")
    _add_common(parser)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="DIR", required=True, help="where the results go")


def _add_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--level",
        choices=REALISMS,
        default="realistic",
        help="how much the X-rays resemble real ones (default realistic)",
    )


def _add_common(parser: argparse.ArgumentParser, *, device: bool = True) -> None:
    if device:
        parser.add_argument(
            "--device",
            choices=DEVICES,
            default="auto",
            help="for reconstruction and networks; the registration's search runs on the CPU",
        )
    parser.add_argument("--seed", type=_natural, default=0, help="of all randomness (default 0)")
    _add_lines(parser)


def _add_lines(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--progress", action="store_true", help="print progress as lines of JSON on standard output"
    )


def _joined(argv: Sequence[str]) -> list[str]:
    """The arguments with ``--point`` and its value in one: "-1,2,3" alone looks like an option."""
    out: list[str] = []
    for text in argv:
        if out and out[-1] == "--point":
            out[-1] = f"--point={text}"
        else:
            out.append(text)
    return out


def _label(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 65535")
    return int(text)


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1e5:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of minutes")
    return value


def _natural(text: str) -> int:
    return _whole(text, 0)


def _positive(text: str) -> int:
    return _whole(text, 1)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or not least <= int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to 2^31 - 1")
    return int(text)
