"""``radgsreg calibrate``: cameras from X-rays of beads whose places are known."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import CAMERA_FORMATS
from ..errors import InputError
from ..system import ExitStatus, Interrupt, Progress
from .arguments import add_path, add_progress, positive_mm, whole
from .calibrate_grids import PICTURES, distortion_of_grids, distortion_used, picture, plain_name
from .calibrate_presets import (
    add_preset_arguments,
    check_record,
    known_device,
    preset_to_save,
    refuse_preset,
    refuse_unshared,
)
from .calibrate_shared import checked_sharing, sharing_record
from .calibrated_files import Pictures, beside, draw, view_entries, view_record, write_exports
from .calibration_drift import compared
from .command import Command, Outcome
from .running import results_folder

if TYPE_CHECKING:
    from ..calibration import Beads, Calibrating, Calibration, GivenPairs
    from ..cases import Ledger

# Of a calibration before, which this one may not have.
_EARLIER = re.compile(r"(beads|matrix|opencv|mayacam|corrected)_.+|rtk\.xml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images",
        metavar="IMAGES",
        nargs="+",
        type=Path,
        help="X-rays of the beads, or a folder",
    )
    parser.add_argument(
        "--beads",
        metavar="FILE",
        required=True,
        help="where the beads are: a phantom file, or a layout: two-plates, helix",
    )
    add_path(
        parser, "--pairs", "FILE", "which shadow is of which bead, as a calibration.json says it"
    )
    add_path(parser, "--out", "views.json", "the X-rays with their cameras; details beside it")
    parser.add_argument(
        "--pixel-mm", type=positive_mm, metavar="MM", help="of a pixel at the detector"
    )
    parser.add_argument(
        "--source-detector-mm",
        type=positive_mm,
        metavar="MM",
        help="about how far the detector is from the source (default: of the tags of DICOM)",
    )
    parser.add_argument(
        "--shared-intrinsics",
        action="store_true",
        help="all pictures have one focal length and principal point, which then is known better",
    )
    bent = parser.add_mutually_exclusive_group()
    bent.add_argument(
        "--fit-distortion", action="store_true", help="estimate the distortion from the beads"
    )
    add_path(
        bent,
        "--grid",
        "PICTURE",
        "a picture of a flat grid on the detector, for distortion; a folder: a picture for each, "
        "of its name",
    )
    add_preset_arguments(parser)
    parser.add_argument(
        "--metal", choices=("dark", "bright"), help="how metal is shown (default: find out)"
    )
    parser.add_argument(
        "--export",
        action="append",
        choices=CAMERA_FORMATS,
        default=[],
        help="write the cameras for other programs too; may be given several times",
    )
    parser.add_argument(
        "--frame", type=whole(0), metavar="N", help="of pictures that hold several, from 0"
    )
    add_path(parser, "--compare", "EARLIER", "an earlier run's views.json: say what has drifted")
    add_progress(parser)


def _check(args: argparse.Namespace) -> None:
    """InputError for what needs no look into any file."""
    if args.out is None:
        raise InputError("--out", "is missing", "name the views.json to write")
    if args.out.suffix.lower() != ".json":
        raise InputError(args.out, "is no .json file", "name the views.json to write")
    if args.compare is not None and not args.compare.is_file():
        raise InputError(args.compare, "does not exist", "name the views.json of an earlier run")
    if args.compare is not None and args.compare.resolve() == args.out.resolve():
        raise InputError(args.out, "is what is compared with", "name a new file")
    if args.out.exists() and not (beside(args.out) / "calibration.json").is_file():
        raise InputError(args.out, "is there already", "name a new file")
    refuse_preset(args)


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Find the beads, calibrate each view, and write cameras, pictures and a page."""
    from ..calibration import Calibrating, read_beads, save_preset, verdict
    from ..cases import Ledger, camera_sigma_mm, output_file, software_versions, write_json

    progress(0.0, "reading the X-rays")
    ledger = Ledger()
    beads = read_beads(args.beads)
    if Path(args.beads).is_file():
        ledger.add_file(Path(args.beads))
    read = _read(args, ledger)
    if len(read.exposures) == 1:
        ledger.note("one view is calibrated; a registration needs two of one world")
    began = time.perf_counter()
    polarity = {None: None, "dark": -1, "bright": 1}[args.metal]
    refuse_unshared(args, read)
    known = known_device(args, read, ledger)
    bent = None if args.grid is None else distortion_of_grids(args, read, ledger)
    options = Calibrating(args.shared_intrinsics, "fit" if args.fit_distortion else bent, polarity)
    options = options if known is None else known.into(options, read)
    done = _calibrated(args, read, beads, options, ledger, progress.part(0.05, 0.8))
    seconds = time.perf_counter() - began
    middle = beads.centres_mm.mean(axis=0)
    worst = {c.view.name: camera_sigma_mm(c.view.camera, c.view.covariance, middle) for c in done}
    check = None if known is None else known.checked(done, beads, options, ledger)
    shared = checked_sharing(done, beads, options, ledger)
    status, reason = verdict(done, worst, check, shared)
    drifted = compared(args.compare, done, beads, ledger)
    if drifted is not None:
        status, reason = drifted.verdict(status, reason)
    preset = preset_to_save(args, read, done) if status == "ok" else None
    if args.save_preset is not None and preset is None:
        ledger.note(f"{args.save_preset} is not written: only what is ok becomes a preset")
    with results_folder(str(beside(args.out)), interrupt) as stage:
        progress(0.85, "drawing and writing")
        entries = view_entries(args, stage, read, done, beads)
        write_exports(stage, args.export, done, read)
        record: dict[str, Any] = {
            "schema": "radgsreg/calibration",
            "version": 1,
            "status": status,
            "reason": reason,
            "beads": {"name": beads.name, "count": len(beads)},
            "views": [view_record(c, worst[c.view.name]) for c in done],
            **check_record(known, check),
            **sharing_record(options, shared),
            "timing_s": {"total": seconds},
            "inputs": ledger.inputs,
            "software": software_versions(),
            "parameters": {
                "shared_intrinsics": options.shared_intrinsics,
                "distortion": distortion_used(args, options),
                "pairs": "searched" if args.pairs is None else "given",
                "notes": list(ledger.notes),
            },
        }
        tables = []
        if drifted is not None:
            record["drift"], tables = drifted.record(), drifted.tables()
        draw(stage, done, read, worst, (status, reason, ledger.notes, tables))
        write_json(record, stage / "calibration.json")
        written = {path.name for path in stage.iterdir()}
    for path in beside(args.out).iterdir():
        if path.name not in written and _EARLIER.fullmatch(path.name):
            path.unlink()
    # The beads' frame is the world: nothing says how a patient lies in it.
    views = {"schema": "radgsreg/views", "version": 1, "patient_axes": "any", "views": entries}
    with output_file(args.out) as part:
        write_json(views, part)
    if preset is not None:
        save_preset(args.save_preset, preset)
    lines = [
        f"{c.view.name}: {len(c.view.pairs)} of {len(beads)} beads, {c.view.rms_px:.2f} px, "
        f"known to {worst[c.view.name]:.2f} mm at the beads"
        for c in done
    ]
    lines += [f"status: {status}: {reason}", *(f"note: {note}" for note in ledger.notes)]
    lines.append(f"results: {args.out} (open {beside(args.out) / 'report.html'})")
    facts = {"out": str(args.out), "status": status, "reason": reason}
    good = status == "ok"
    return Outcome(ExitStatus.OK if good else ExitStatus.NOT_TRUSTED, tuple(lines), facts)


def _files(images: Sequence[Path], but: Path | None) -> list[Path]:
    """The pictures, each once, those of folders in the order of their names; without the grid's."""
    listed: list[Path] = []
    for path in images:
        if not path.exists():
            raise InputError(path, "does not exist")
        if not path.is_dir():
            listed.append(path)
            continue
        within = [
            p
            for p in sorted(path.iterdir())
            if p.suffix.lower() in PICTURES and not p.name.startswith(".")
        ]
        if not within:
            raise InputError(path, "holds no pictures", "name the files")
        listed += within
    grid = None if but is None else but.resolve()
    return list({p.resolve(): p for p in listed if p.resolve() != grid}.values())


def _read(args: argparse.Namespace, ledger: Ledger) -> Pictures:
    from ..calibration import Exposure
    from ..cases import file_stem, view_name

    read, stems = Pictures([], [], []), set[str]()
    for path in _files(args.images, args.grid):
        image = picture(path, args.frame, ledger)
        base = view_name(plain_name(path)) or "view"
        name, number = base, 1
        while file_stem(name).lower() in stems:
            number += 1
            name = f"{base}-{number}"
        stems.add(file_stem(name).lower())
        tags = image.tags
        spacing = image.spacing_mm or (tags.spacing_mm if tags is not None else None)
        if args.pixel_mm is not None:
            if spacing is not None and max(abs(s - args.pixel_mm) for s in spacing) > 1e-3:
                said = " x ".join(f"{s:g}" for s in spacing)
                ledger.note(f"{path.name} says {said} mm a pixel; --pixel-mm is taken")
            spacing = (args.pixel_mm, args.pixel_mm)
        distance = args.source_detector_mm or (tags.source_detector_mm if tags else None)
        read.exposures.append(Exposure(name, image.pixels, spacing, distance))
        read.paths.append(path)
        read.intensities.append(image.intensity)
    return read


def _calibrated(
    args: argparse.Namespace,
    read: Pictures,
    beads: Beads,
    options: Calibrating,
    ledger: Ledger,
    progress: Progress,
) -> list[Calibration]:
    """What the pictures show, or by the pairs that are given."""
    from ..calibration import calibrate, calibrate_given, read_pairs

    if args.pairs is None:
        return calibrate(read.exposures, beads, options, progress)
    pairs = read_pairs(args.pairs, beads)
    ledger.add_file(args.pairs)
    _refuse_unmatched(args.pairs, read, pairs)
    return calibrate_given(read.exposures, beads, pairs, options, progress)


def _refuse_unmatched(path: Path, read: Pictures, pairs: Mapping[str, GivenPairs]) -> None:
    """InputError where a picture has no pairs, or has them outside itself."""
    for exposure in read.exposures:
        if exposure.name not in pairs:
            names = ", ".join(pairs) or "none"
            raise InputError(path, f"has no view '{exposure.name}'", f"its views: {names}")
        spots = pairs[exposure.name].spots_px
        if (spots < -0.5).any() or (spots - exposure.size > -0.5).any():
            raise InputError(path, f"has a spot outside the picture {exposure.name}")


COMMAND = Command(
    "calibrate", "cameras from X-rays of beads whose places are known", add_arguments, run, _check
)
