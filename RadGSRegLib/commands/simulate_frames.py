"""``radgsreg simulate --frames``: a run of X-rays in which the patient moves."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..system import Progress
from .arguments import whole

if TYPE_CHECKING:
    from ..cases import CtCase
    from ..simulation import SimulationParameters

_OTHERS = ("beads", "no_patient", "grid", "distortion_px")


def add_frames(parser: argparse.ArgumentParser) -> None:
    """Add ``--frames`` and what goes with it."""
    group = parser.add_argument_group("a run of X-rays, in which the patient moves")
    group.add_argument(
        "--frames",
        metavar="N",
        type=whole(2, 9999),
        help="so many X-rays of each view, in a folder for each, with the pose in every frame in "
        "truth.json (for radgsreg track)",
    )
    group.add_argument(
        "--motion-mm",
        metavar="MM",
        type=float,
        help="how far the vertebra moves from one frame to the next, at most (default 5)",
    )
    group.add_argument(
        "--motion-deg",
        metavar="DEG",
        type=float,
        help="how far it turns, at most (default 3)",
    )
    group.add_argument(
        "--blank",
        metavar="A:B",
        type=_range,
        help="frames A to B - 1 are taken without the beam",
    )


def _range(text: str) -> tuple[int, int]:
    first, _, end = text.partition(":")
    if not (first.isdecimal() and end.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not A:B, two frames from 0")
    return int(first), int(end)


def check_frames(args: argparse.Namespace) -> None:
    """Refuse what does not go with a run, and what is of a run alone."""
    if args.frames is None:
        for name in ("motion_mm", "motion_deg", "blank"):
            if getattr(args, name) is not None:
                raise InputError(f"--{name.replace('_', '-')}", "is of use only with --frames")
        return
    for name in _OTHERS:
        if getattr(args, name):
            option = f"--{name.replace('_', '-')}"
            raise InputError("--frames", f"cannot go with {option}", "leave one of them out")
    for name in ("motion_mm", "motion_deg"):
        value = getattr(args, name)
        if value is not None and not 0.0 <= value < math.inf:
            raise InputError(f"--{name.replace('_', '-')}", "must be 0 or more")


def simulate_frames(
    args: argparse.Namespace,
    source: CtCase,
    parameters: SimulationParameters,
    seed: int,
    folder: Path,
    progress: Progress,
) -> None:
    """Simulate a run of a CT and write it."""
    from ..simulation import Motion, simulate_run, write_simulated_run
    from .running import torch_device

    motion = Motion(
        args.frames,
        5.0 if args.motion_mm is None else args.motion_mm,
        3.0 if args.motion_deg is None else args.motion_deg,
        args.blank or (0, 0),
    )
    run = simulate_run(
        source.ct,
        source.labels,
        source.label,
        motion,
        parameters,
        seed,
        label_names=source.label_names,
        device=torch_device(args.device),
    )
    write_simulated_run(run, folder, progress)
