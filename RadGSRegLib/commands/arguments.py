"""Arguments that several commands share, and how their values are read."""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import BACKENDS, DEVICES, EFFORTS, REALISMS
from ..errors import InputError

if TYPE_CHECKING:
    from ..cases import StackPlace


def add_path(parser: argparse._ActionsContainer, name: str, metavar: str, help: str) -> None:
    """Add a file or folder that is read or written; None where it is an option not given."""
    parser.add_argument(name, metavar=metavar, type=Path, help=help)


def add_out(parser: argparse.ArgumentParser) -> None:
    """Add ``--out``, a folder."""
    parser.add_argument("--out", metavar="DIR", required=True, help="where the results go")


def explain_views(parser: argparse.ArgumentParser) -> None:
    """Say below the options how a ``views.json`` gives the geometry of an X-ray."""
    parser.epilog = (
        "Each X-ray in views.json gives its geometry in one way: intrinsic and extrinsic; "
        "projection_matrix (3x4); geometry (RTK's XML); mayacam (MayaCam 1.0 or 2.0, of XROMM and "
        "XMALab); dlt (XMALab's DLT coefficients); opencv (FileStorage's YAML or JSON); or the "
        "tags of a DICOM image. See docs/files.md."
    )


def add_stack(parser: argparse.ArgumentParser) -> None:
    """Add ``--spacing``, ``--axes`` and ``--rescale``, of a CT that is a TIFF stack."""
    group = parser.add_argument_group(
        "a CT that is a TIFF stack (one file of many pages, or a folder of numbered slices)"
    )
    group.add_argument(
        "--spacing",
        metavar="DX,DY,DZ",
        type=numbers(3),
        help="mm from column to column, row to row and slice to slice; needed for a stack",
    )
    group.add_argument(
        "--axes",
        metavar="XYZ",
        help="where columns, rows and slices lead in the patient: one letter each of L or R, P or "
        "A, S or I (default LPS: rows towards the back, slices towards the head)",
    )
    group.add_argument(
        "--rescale",
        metavar="SLOPE,INTERCEPT",
        type=numbers(2),
        help="HU are SLOPE times the stored value plus INTERCEPT (default 1,0)",
    )


def stack_place(args: argparse.Namespace) -> "StackPlace | None":
    """How the CT of `add_stack`'s options lies; None where they say nothing."""
    from ..cases import StackPlace

    if args.spacing is None:
        for name in ("axes", "rescale"):
            if getattr(args, name) is not None:
                raise InputError(f"--{name}", "is of a TIFF stack", "give --spacing too")
        return None
    try:
        return StackPlace(args.spacing, args.axes or "LPS", *(args.rescale or (1.0, 0.0)))
    except ValueError as error:
        raise InputError("--spacing, --axes, --rescale", str(error)) from None


def add_realism(parser: argparse.ArgumentParser) -> None:
    """Add ``--realism``, of simulated X-rays, and ``--level``, its old name."""
    parser.add_argument(
        "--realism",
        choices=REALISMS,
        default="realistic",
        help="how much the X-rays resemble real ones (default realistic)",
    )
    parser.add_argument(
        "--level", dest="realism", choices=REALISMS, action=_OldName, help=argparse.SUPPRESS
    )


class _OldName(argparse.Action):
    """Stores a value under the new name of its option, and says that name."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        new = f"--{self.dest}"
        print(f"{parser.prog}: {option_string} is now {new}; the old name will go", file=sys.stderr)
        setattr(namespace, self.dest, values)


def add_effort(parser: argparse._ActionsContainer, help: str) -> None:
    """Add ``--effort``."""
    parser.add_argument("--effort", choices=EFFORTS, default="normal", help=help)


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Add ``--seed``."""
    parser.add_argument("--seed", type=whole(0), default=0, help="of all randomness (default 0)")


def add_progress(parser: argparse.ArgumentParser) -> None:
    """Add ``--progress``, which `cli` reads."""
    parser.add_argument(
        "--progress", action="store_true", help="print progress as lines of JSON on standard output"
    )


def add_device(parser: argparse.ArgumentParser, help: str, default: str = "auto") -> None:
    """Add ``--device``."""
    parser.add_argument(
        "--device", choices=DEVICES, default=default, help=f"{help} (default {default})"
    )


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``, ``--backend``, ``--seed`` and ``--progress``."""
    add_device(parser, "what computes the whole job; auto: CUDA where it works")
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="auto",
        help="what renders: torch (the reference, slow), warp, gsplat (needs CUDA; its tiles for "
        "Gaussians, warp for the rest); default auto: the fastest that works (see radgsreg info)",
    )
    add_seed(parser)
    add_progress(parser)


def positive_minutes(text: str) -> float:
    """Read a number of minutes."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1e5:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of minutes")
    return value


def positive_mm(text: str) -> float:
    """Read a length of up to two metres."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= 2000.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a length in mm, above 0 and up to 2000")
    return value


def check_model(args: argparse.Namespace) -> None:
    """Raise InputError where ``--model`` names no file."""
    if args.model is not None and not args.model.is_file():
        raise InputError(args.model, "there is no such model")


def numbers(count: int) -> Callable[[str], tuple[float, ...]]:
    """Return what reads so many finite numbers with commas between them."""

    def read(text: str) -> tuple[float, ...]:
        try:
            values = tuple(float(part) for part in text.split(","))
        except ValueError:
            values = ()
        if len(values) != count or not all(map(math.isfinite, values)):
            raise argparse.ArgumentTypeError(f"{text!r} is not {count} numbers with commas between")
        return values

    return read


def whole(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """Return what reads a whole number from ``least`` to ``most``."""

    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            problem = f"{text!r} is not a whole number from {least} to {most}"
            raise argparse.ArgumentTypeError(problem)
        return int(text)

    return read


def add_standardize(parser: argparse._ActionsContainer, why: str) -> None:
    """Let X-rays be standardised first, by the program's weights or by others."""
    parser.add_argument(
        "--standardize",
        nargs="?",
        const=True,
        type=Path,
        metavar="M",
        help=f"{why}; with the weights that come with the program, or those of a file",
    )
