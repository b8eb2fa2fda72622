"""``radgsreg beads``: a phantom's file and a holder to print; or the beads of a CT."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError
from ..system import ExitStatus, Interrupt, Progress
from .arguments import add_out, add_progress, positive_mm
from .command import Command, Outcome
from .running import results_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "beads",
        metavar="BEADS",
        help="a layout (two-plates, helix), a phantom file, or a CT that shows beads of metal",
    )
    add_out(parser)
    parser.add_argument(
        "--clearance-mm",
        type=positive_mm,
        metavar="MM",
        help="how much wider than its bead a printed bore is (default 0.2)",
    )
    add_progress(parser)


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Write ``beads.json``, and ``holder.stl`` for beads that are no CT's."""
    from ..calibration import LAYOUTS, find_ct_beads, holder, read_beads, write_beads, write_holder

    place = Path(args.beads)
    printed = args.beads in LAYOUTS or place.suffix.lower() == ".json"
    if not printed and args.clearance_mm is not None:
        raise InputError("--clearance-mm", "is of a holder to print, and this is a CT")
    if printed:
        beads = read_beads(args.beads)
    else:
        from ..cases import read_ct

        progress(0.1, "reading the CT")
        beads = find_ct_beads(read_ct(place), place.name.split(".")[0])
    with results_folder(args.out, interrupt) as stage:
        write_beads(stage / "beads.json", beads)
        lines = [f"{len(beads)} beads: {Path(args.out) / 'beads.json'}"]
        if printed:
            progress(0.3, "making a holder to print")
            made = holder(beads, **_clearance(args.clearance_mm))
            write_holder(stage / "holder.stl", made)
            lines.append(f"a holder to print: {Path(args.out) / 'holder.stl'}")
    facts = {"out": str(args.out), "beads": len(beads)}
    return Outcome(ExitStatus.OK, tuple(lines), facts)


def _clearance(given: float | None) -> dict[str, float]:
    return {} if given is None else {"clearance_mm": given}


COMMAND = Command(
    "beads",
    "a bead phantom's file and a holder to print, or a CT's beads",
    add_arguments,
    run,
)
