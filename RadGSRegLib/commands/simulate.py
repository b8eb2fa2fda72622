"""``radgsreg simulate``: X-rays with truth, from a CT and labels or from the built-in phantom."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import PATHS
from ..errors import InputError
from ..system import ExitStatus, Interrupt, Progress
from ..vertebrae import LABEL_SCHEMES
from .arguments import (
    add_device,
    add_out,
    add_path,
    add_progress,
    add_realism,
    add_seed,
    add_stack,
    positive_mm,
    stack_place,
    whole,
)
from .command import Command, Outcome
from .running import results_folder, torch_device
from .simulate_frames import add_frames, check_frames, simulate_frames

if TYPE_CHECKING:
    from ..calibration import Beads
    from ..cases import CtCase, View
    from ..simulation import BeadPhantom, SimulatedCase, SimulationParameters

# The folder of the grid's pictures.
GRIDS = "grid"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser, "--case", "CASE.json", "take CT, segmentation and label here")
    add_path(parser, "--ct", "CT", "a CT; without any, the built-in phantom")
    add_path(parser, "--segmentation", "SEG", "its label map")
    parser.add_argument(
        "--label",
        metavar="LABEL",
        help="number or name of the vertebra; the phantom has T12 to L5 (default L3)",
    )
    parser.add_argument(
        "--label-scheme",
        choices=tuple(LABEL_SCHEMES),
        help="what the numbers of a label map without names mean, so that --label can be a name",
    )
    add_out(parser)
    add_realism(parser)
    parser.add_argument(
        "--views",
        metavar="N",
        type=whole(2, 999),
        help="how many X-rays (default 2: AP and lateral)",
    )
    parser.add_argument(
        "--path",
        choices=[path for path in PATHS if path != "biplanar"],
        help="where --views are taken: circular (around the patient), arc (the orbit of 204 "
        "degrees) or arbitrary (drawn from orbit and tilt; the default)",
    )
    parser.add_argument(
        "--field-mm",
        metavar="MM",
        type=positive_mm,
        help="what the detector sees at the isocentre (default 199)",
    )
    parser.add_argument(
        "--pixels", metavar="P", type=whole(16, 4096), help="along its edges (default 488)"
    )
    parser.add_argument(
        "--trunk",
        action="store_true",
        help="the built-in phantom with the vertebrae around L3 whole, 250 mm wide, as several at "
        "once need",
    )
    _add_beads(parser)
    add_frames(parser)
    parser.add_argument("--count", type=whole(1), default=1, help="how many cases (default 1)")
    # Noise is drawn of what was rounded: a seed is to give the same case on every machine.
    add_device(parser, "what follows the rays; auto: CUDA where it works", default="cpu")
    add_seed(parser)
    add_progress(parser)
    add_stack(parser)


def _add_beads(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a phantom of beads, to calibrate the C-arm by")
    group.add_argument(
        "--beads",
        metavar="FILE_OR_NAME",
        help="steel beads near the isocentre: a phantom file, or two-plates or helix",
    )
    group.add_argument(
        "--no-patient", action="store_true", help="X-rays of --beads alone: views.json, no case"
    )
    group.add_argument(
        "--distortion-px",
        metavar="X",
        type=float,
        default=0.0,
        help="how far distortion moves the corners of a picture (default 0: none)",
    )
    group.add_argument(
        "--principal-px",
        metavar="X",
        type=float,
        help="how far each view's principal point may lie from the middle (default: 13 in 488 "
        "pixels, except clean; 0: all views have that of one C-arm)",
    )
    group.add_argument(
        "--grid",
        action="store_true",
        help="also a picture of a flat grid on the detector for each view, which shows its "
        "distortion (for calibrate --grid)",
    )


def check(args: argparse.Namespace) -> None:
    """Refuse half a source of anatomy, and two, and a path without a number of views."""
    check_frames(args)
    if args.path is not None and args.views is None:
        raise InputError("--path", "is of use only with --views")
    if args.no_patient and args.beads is None:
        raise InputError("--no-patient", "shows nothing without --beads")
    if args.no_patient and any((args.case, args.ct, args.segmentation, args.label)):
        raise InputError("--no-patient", "cannot go with --case, --ct, --segmentation or --label")
    if not 0.0 <= args.distortion_px < math.inf:
        raise InputError("--distortion-px", "must be 0 or more pixels")
    if args.principal_px is not None and not 0.0 <= args.principal_px < math.inf:
        raise InputError("--principal-px", "must be 0 or more pixels")
    volumes = {"--ct": args.ct, "--segmentation": args.segmentation}
    if args.case is not None and any((*volumes.values(), args.label, args.label_scheme)):
        raise InputError("--case", "cannot go with --ct, --segmentation, --label or --label-scheme")
    if args.trunk and (args.case is not None or any(volumes.values()) or args.no_patient):
        raise InputError("--trunk", "is of the built-in phantom", "leave it out")
    if args.label_scheme and args.segmentation is None:
        raise InputError("--label-scheme", "is of use only with --segmentation")
    if args.ct is None and (args.spacing or args.axes or args.rescale):
        raise InputError("--spacing, --axes, --rescale", "are of --ct, where it is a TIFF stack")
    given = [name for name, value in volumes.items() if value is not None]
    if len(given) == 1 or (given and args.label is None):
        raise InputError(given[0], "--ct, --segmentation and --label belong together")


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Simulate ``--count`` cases, each in a folder of its own where there are several."""
    beads = _read_beads(args)
    source = None if args.no_patient else _read_source(args)
    with results_folder(args.out, interrupt) as stage:
        from ..calibration import write_beads
        from ..simulation import simulate_beads, write_simulated_beads, write_simulated_case

        for number in range(args.count):
            seed = args.seed + number
            part = progress.part(number / args.count, (number + 1) / args.count)
            folder = stage if args.count == 1 else stage / f"{args.realism}-{seed}"
            if args.frames is not None:
                known = source or _phantom_ct(args, seed)
                simulate_frames(args, known, _parameters(args), seed, folder, part)
                continue
            phantom = _phantom_of(beads)
            if phantom is not None and args.no_patient:
                made = simulate_beads(
                    phantom,
                    _parameters(args),
                    seed,
                    distortion_px=args.distortion_px,
                    progress=part,
                )
                write_simulated_beads(made, folder)
                views, truth = made.views, made.truth
            else:
                case = _simulate(args, source, phantom, seed, part)
                write_simulated_case(case, folder)
                views, truth = case.case.views, case.truth
            if args.grid:
                _write_grids(args, views, truth, folder / GRIDS)
            if beads is not None:
                write_beads(folder / "beads.json", beads)
    each = "phantom" if args.no_patient else "case" if args.frames is None else "run"
    what = f"a {each}" if args.count == 1 else f"{args.count} {each}s"
    notes = source.notes if source is not None else ()
    lines = (f"simulated {what}: {args.out}", *(f"note: {note}" for note in notes))
    return Outcome(ExitStatus.OK, lines, {"out": str(args.out), "notes": list(notes)})


def _write_grids(
    args: argparse.Namespace, views: Sequence[View], truth: Mapping[str, Any], folder: Path
) -> None:
    """Write what a grid on the detector shows of each view's distortion."""
    from ..geometry import Distortion
    from ..simulation import simulate_grids, write_grids

    bent = {name: Distortion(**said) for name, said in truth.get("distortion", {}).items()}
    cameras = {view.name: view.camera for view in views}
    grids = simulate_grids(cameras, bent, _parameters(args), truth["seed"])
    write_grids(grids, views[0].pixel_spacing_mm, folder)


def _read_beads(args: argparse.Namespace) -> Beads | None:
    from ..calibration import read_beads

    return None if args.beads is None else read_beads(args.beads)


def _phantom_of(beads: Beads | None) -> BeadPhantom | None:
    """The beads, on their posts if no two stand over each other, and bare otherwise."""
    from ..calibration import posts_under
    from ..simulation import BeadPhantom

    if beads is None:
        return None
    posts, radii = posts_under(beads) or (None, None)
    return BeadPhantom(beads.name, beads.centres_mm, beads.diameters_mm, posts, radii)


def _simulate(
    args: argparse.Namespace,
    source: CtCase | None,
    phantom: BeadPhantom | None,
    seed: int,
    progress: Progress,
) -> SimulatedCase:
    from ..simulation import Prepared, simulate_case, simulate_phantom_case

    prepared = Prepared(
        device=torch_device(args.device), beads=phantom, distortion_px=args.distortion_px
    )
    parameters = _parameters(args)
    if source is None:
        return simulate_phantom_case(
            seed,
            parameters,
            _target(args),
            field=_field(args),
            progress=progress,
            prepared=prepared,
        )
    return simulate_case(
        source.ct,
        source.labels,
        source.label,
        parameters,
        seed,
        label_names=source.label_names,
        prepared=prepared,
        progress=progress,
    )


def _phantom_ct(args: argparse.Namespace, seed: int) -> CtCase:
    """The built-in phantom's CT and labels alone."""
    from ..simulation import SimulationParameters, simulate_phantom_case

    small = SimulationParameters.preset("clean").with_field(200.0, 16)
    return simulate_phantom_case(seed, small, _target(args), field=_field(args)).case


def _field(args: argparse.Namespace) -> str:
    """How much of the phantom there is."""
    return "trunk" if args.trunk else "crop"


def _target(args: argparse.Namespace) -> str:
    """The phantom's vertebra, by its name where a number names it."""
    from ..phantom import LABELS

    names = {str(number): name for name, number in LABELS.items()}
    return str(names.get(args.label, args.label or "L3"))


def _parameters(args: argparse.Namespace) -> SimulationParameters:
    """The preset that --realism names, with the views and the detector that were asked for."""
    from ..simulation import SimulationParameters

    parameters = SimulationParameters.preset(args.realism)
    if args.views is not None:
        path = args.path or "arbitrary"
        parameters = replace(parameters, path=path, views=args.views)
    if args.field_mm is not None or args.pixels is not None:
        seen_mm = parameters.size_px * parameters.pixel_mm
        seen_mm *= parameters.source_isocentre_mm / parameters.source_detector_mm
        size_px = args.pixels or parameters.size_px
        parameters = parameters.with_field(args.field_mm or seen_mm, size_px)
    if args.principal_px is not None:
        parameters = replace(parameters, principal_px=args.principal_px)
    return parameters


def _read_source(args: argparse.Namespace) -> CtCase | None:
    """Read CT and labels from --case, or --ct with its labels; None for the phantom."""
    from ..cases import (
        CtCase,
        Ledger,
        labels_on_ct,
        named_by_scheme,
        read_ct,
        read_ct_case,
        read_segmentation,
    )

    if args.case is not None:
        return read_ct_case(args.case)
    if args.ct is None:
        return None
    for path in (args.ct, args.segmentation):
        if not path.exists():
            raise InputError(path, "does not exist")
    label = int(args.label) if args.label.lstrip("+-").isdigit() else args.label
    ledger, stack = Ledger(), stack_place(args)
    ct = read_ct(args.ct, ledger, stack=stack)
    segmentation = read_segmentation(args.segmentation, ledger, ct if stack else None)
    if args.label_scheme is not None:
        segmentation = named_by_scheme(segmentation, args.label_scheme, args.segmentation)
    labels, value, names = labels_on_ct(segmentation, label, ct, args.segmentation, ledger)
    return CtCase(ct, labels, value, label_names=names, notes=tuple(ledger.notes))


COMMAND = Command("simulate", "realistic X-rays with truth", add_arguments, run, check)
