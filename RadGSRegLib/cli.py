"""The command line: arguments in, exit status (`system.exit_status`) out; `commands` do the work.

Nothing heavy is imported before the arguments are known to be good.
"""

import argparse
import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TextIO

from . import __version__
from .commands import COMMANDS, Outcome, rendered_by
from .errors import Cancelled, InputError
from .inputs import guarded_inputs, is_input
from .system import ExitStatus, Interrupt, Progress

# Arguments that name what is written, or only looked for.
_WRITTEN = {"out", "work", "stop", "board"}

Show = Callable[[float, str], None]


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(ExitStatus.INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of ``radgsreg`` with all its commands."""
    parser = _Parser(
        prog="radgsreg",
        description="Registers a vertebra of a CT to calibrated X-rays through radiative 3D "
        "Gaussians. Research use only, not for clinical decisions.",
    )
    parser.add_argument("--version", action="version", version=f"radgsreg {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS.values():
        if command.hidden:
            command.add_arguments(commands.add_parser(command.name))
        else:
            command.add_arguments(commands.add_parser(command.name, help=command.help))
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
            COMMANDS[args.command].check(args)
            with guarded_inputs(_inputs(args)):
                _refuse_output(args)
                return _run(args, interrupt)
        except InputError as error:
            return _refused(str(error))
        except (KeyboardInterrupt, Cancelled):
            return _cancelled()
        except BrokenPipeError:
            # The reader of the output is gone and does not wait for the result.
            _drop(sys.stdout)
            return ExitStatus.CANCELLED
        except BaseException as error:
            if interrupt.is_set:
                return _cancelled()
            return _failed(error)


def _inputs(args: argparse.Namespace) -> list[Path]:
    """The paths among the arguments that are there and are read."""
    given: list[object] = []
    for name, value in vars(args).items():
        if name not in _WRITTEN:
            given += value if isinstance(value, list) else [value]
    # Some are texts: a path or a word, and NAME=PATH.
    texts = [Path(text.rpartition("=")[2]) for text in given if isinstance(text, str)]
    paths = [path for path in given if isinstance(path, Path) and path.exists()]
    return paths + [path for path in texts if path.is_file()]


def _refuse_output(args: argparse.Namespace) -> None:
    """InputError for an output without a name, and for one that is an input."""
    out = getattr(args, "out", None)
    if out is None:
        return
    # What pathlib makes of an empty text is the current folder.
    if not str(out).strip() or (isinstance(out, Path) and out == Path()):
        raise InputError("--out", "is empty", "say where the results go")
    if is_input(out):
        raise InputError(out, "is an input too", "name another place for the results")


def _refused(sentence: str) -> int:
    print(f"radgsreg: {sentence}", file=sys.stderr)
    return ExitStatus.INPUT


def _failed(error: BaseException) -> int:
    """Say in one line what no one foresaw; the traceback only where it is asked for."""
    if os.environ.get("RADGSREG_TRACEBACK"):
        traceback.print_exception(error)
    if isinstance(error, OSError):
        where = error.filename if error.filename is not None else "the system"
        if error.filename is None:
            _drop(sys.stdout)  # what could not be printed would be tried again at the end
        return _refused(f"{where}: {error.strerror or error}")
    if isinstance(error, MemoryError):
        return _refused("there is not enough memory; use a smaller CT or close other programs")
    said = " ".join(f"{type(error).__name__}: {error}".split())
    print(
        f"radgsreg: an error of the program, nothing written ({said}); run it again with "
        "RADGSREG_TRACEBACK=1 and report what it prints",
        file=sys.stderr,
    )
    return ExitStatus.BUG


def _drop(stream: TextIO) -> None:
    """Send what is still to be printed nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(args: argparse.Namespace, interrupt: Interrupt) -> int:
    out, lines = sys.stdout, getattr(args, "progress", False)
    # Libraries that print must not get between the lines of JSON.
    quiet = contextlib.redirect_stdout(sys.stderr) if lines else contextlib.nullcontext()
    with quiet, _display(lines, out) as show:
        furthest, latest = 0.0, ""

        def tell(fraction: float, message: str) -> bool:
            nonlocal furthest, latest
            furthest = max(furthest, fraction)  # a bar that goes back looks like a fault
            latest = message
            show(furthest, message)
            return not interrupt.is_set

        def tell_more(**facts: object) -> None:
            if lines:
                _emit(out, furthest, latest, **facts)

        progress = Progress(
            tell,
            on_pose=lambda ct_to_world: tell_more(ct_to_world=ct_to_world.tolist()),
            on_figures=lambda figures: tell_more(figures=figures),
            on_reconstruction=lambda folder: tell_more(reconstruction=str(folder.resolve())),
        )
        with rendered_by(getattr(args, "backend", "auto"), getattr(args, "device", "auto")):
            outcome = COMMANDS[args.command].run(args, progress, interrupt)
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

        text = TextColumn("{task.description}")
        columns = (BarColumn(bar_width=32), TaskProgressColumn(), TimeElapsedColumn(), text)
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=1.0)
            yield lambda fraction, message: bar.update(
                task, completed=fraction, description=message
            )
    else:
        yield lambda fraction, message: None


def _emit(out: TextIO, fraction: float, message: str, **facts: object) -> None:
    """One line of progress as JSON."""
    record = {"progress": round(fraction, 4), "message": message, **facts}
    print(json.dumps(record, allow_nan=False), file=out, flush=True)


def _cancelled() -> int:
    print("radgsreg: cancelled, nothing written", file=sys.stderr)
    return ExitStatus.CANCELLED


def _joined(argv: Sequence[str]) -> list[str]:
    """The arguments with ``--point`` and its value in one: "-1,2,3" alone looks like an option."""
    out: list[str] = []
    for text in argv:
        if out and out[-1] == "--point":
            out[-1] = f"--point={text}"
        else:
            out.append(text)
    return out
