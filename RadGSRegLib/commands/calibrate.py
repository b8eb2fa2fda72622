"""``radgsreg calibrate``: cameras from X-rays of beads whose places are known."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..choices import CAMERA_FORMATS, Intensity
from ..errors import InputError
from ..system import ExitStatus, Interrupt, Progress
from .arguments import add_path, add_progress, positive_mm
from .command import Command, Outcome
from .running import results_folder

if TYPE_CHECKING:
    from ..calibration import Calibration, Exposure
    from ..cases import Ledger
    from ..geometry import Distortion

_PICTURES = {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".dcm", ".mha", ".nrrd", ".nii", ".gz", ""}


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
    add_path(bent, "--grid", "PICTURE", "a picture of a flat grid on the detector, for distortion")
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
    add_progress(parser)


def _check(args: argparse.Namespace) -> None:
    """InputError for what needs no look into any file."""
    if args.out is None:
        raise InputError("--out", "is missing", "name the views.json to write")
    if args.out.suffix.lower() != ".json":
        raise InputError(args.out, "is no .json file", "name the views.json to write")
    if args.out.exists() and not (_beside(args.out) / "calibration.json").is_file():
        raise InputError(args.out, "is there already", "name a new file")


def _beside(out: Path) -> Path:
    """The folder of what comes with a ``views.json``."""
    return out.with_name(f"{out.stem}_calibration")


@dataclass(frozen=True)
class _Read:
    """Exposures, the files that they are from, and what they are shown as."""

    exposures: list[Exposure]
    paths: list[Path]
    intensities: list[Intensity | None]


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Find the beads, calibrate each view, and write cameras, pictures and a page."""
    from ..calibration import Calibrating, calibrate, read_beads, verdict
    from ..cases import Ledger, camera_sigma_mm, output_file, software_versions, write_json

    progress(0.0, "reading the X-rays")
    ledger = Ledger()
    beads = read_beads(args.beads)
    if Path(args.beads).is_file():
        ledger.add_file(Path(args.beads))
    read = _read(args, ledger)
    began = time.perf_counter()
    polarity = {None: None, "dark": -1, "bright": 1}[args.metal]
    bent = _of_grid(args.grid, ledger)
    options = Calibrating(args.shared_intrinsics, "fit" if args.fit_distortion else bent, polarity)
    done = calibrate(read.exposures, beads, options, progress.part(0.05, 0.8))
    seconds = time.perf_counter() - began
    middle = beads.centres_mm.mean(axis=0)
    worst = {c.view.name: camera_sigma_mm(c.view.camera, c.view.covariance, middle) for c in done}
    status, reason = verdict(done, worst)
    with results_folder(str(_beside(args.out)), interrupt) as stage:
        progress(0.85, "drawing and writing")
        entries = _entries(args.out, stage, read, done)
        _write_exports(stage, args.export, done, read.exposures[0].spacing_mm or (1.0, 1.0))
        record: dict[str, Any] = {
            "schema": "radgsreg/calibration",
            "version": 1,
            "status": status,
            "reason": reason,
            "beads": {"name": beads.name, "count": len(beads)},
            "views": [_to_json(c, worst[c.view.name]) for c in done],
            "timing_s": {"total": seconds},
            "inputs": ledger.inputs,
            "software": software_versions(),
            "parameters": {
                "shared_intrinsics": args.shared_intrinsics,
                "distortion": "fit" if args.fit_distortion else "grid" if args.grid else "none",
                "notes": list(ledger.notes),
            },
        }
        _draw(stage, done, read, worst, (status, reason, ledger.notes))
        write_json(record, stage / "calibration.json")
    # The beads' frame is the world: nothing says how a patient lies in it.
    views = {"schema": "radgsreg/views", "version": 1, "patient_axes": "any", "views": entries}
    with output_file(args.out) as part:
        write_json(views, part)
    lines = [
        f"{c.view.name}: {len(c.view.pairs)} of {len(beads)} beads, {c.view.rms_px:.2f} px, "
        f"known to {worst[c.view.name]:.2f} mm at the beads"
        for c in done
    ]
    lines += [f"status: {status}: {reason}", *(f"note: {note}" for note in ledger.notes)]
    lines.append(f"results: {args.out} (open {_beside(args.out) / 'report.html'})")
    facts = {"out": str(args.out), "status": status, "reason": reason}
    good = status == "ok"
    return Outcome(ExitStatus.OK if good else ExitStatus.NOT_TRUSTED, tuple(lines), facts)


def _files(images: Sequence[Path]) -> list[Path]:
    """The pictures, those of folders in the order of their names."""
    out: list[Path] = []
    for path in images:
        if not path.exists():
            raise InputError(path, "does not exist")
        if path.is_dir():
            within = sorted(
                p
                for p in path.iterdir()
                if p.is_file() and not p.name.startswith(".") and p.suffix.lower() in _PICTURES
            )
            if not within:
                raise InputError(path, "holds no pictures")
            out += within
        else:
            out.append(path)
    return out


def _read(args: argparse.Namespace, ledger: Ledger) -> _Read:
    from ..calibration import Exposure
    from ..cases import read_xray, view_name

    read, names = _Read([], [], []), set[str]()
    for path in _files(args.images):
        image = read_xray(path)
        ledger.add_file(path)
        for note in image.notes:
            ledger.note(f"{path.name} {note}")
        name = view_name(path.name.split(".")[0]) or "view"
        while name.lower() in names:
            name += "_"
        names.add(name.lower())
        tags = image.tags
        spacing = image.spacing_mm or (tags.spacing_mm if tags is not None else None)
        if args.pixel_mm is not None:
            spacing = (args.pixel_mm, args.pixel_mm)
        distance = args.source_detector_mm or (tags.source_detector_mm if tags else None)
        read.exposures.append(Exposure(name, image.pixels, spacing, distance))
        read.paths.append(path)
        read.intensities.append(image.intensity)
    return read


def _of_grid(path: Path | None, ledger: Ledger) -> Distortion | None:
    """The distortion that a picture of a grid shows."""
    if path is None:
        return None
    from ..calibration import find_spots, grid_distortion
    from ..cases import read_xray

    image = read_xray(path)
    ledger.add_file(path)
    side = max(image.pixels.shape)
    spots, _ = find_spots(image.pixels, (0.002 * side + 1.0, 0.02 * side), most=2000)
    distortion, left_px = grid_distortion(path.name, spots, image.pixels.shape[::-1])
    ledger.note(f"{path.name}: the grid's nodes lie within {left_px:.2f} px of the distortion")
    return distortion


def _entries(out: Path, stage: Path, read: _Read, done: Sequence[Calibration]) -> list[Any]:
    """The entries of ``views.json``; corrected pictures are written where there is distortion."""
    from ..calibration import corrected
    from ..cases import View, file_stem, view_to_json, write_tiff

    entries = []
    for exposure, path, intensity, c in zip(
        read.exposures, read.paths, read.intensities, done, strict=True
    ):
        camera, spacing = c.view.camera, exposure.spacing_mm
        image = os.path.relpath(path.resolve(), out.absolute().parent.resolve())
        if c.view.distortion is not None:
            name = f"corrected_{file_stem(exposure.name)}.tif"
            straight = corrected(exposure.pixels, c.view.distortion)
            write_tiff(straight, spacing or (1.0, 1.0), stage / name)
            image = f"{_beside(out).name}/{name}"
        view = View(
            exposure.name, exposure.pixels, camera, spacing or (1.0, 1.0),
            intensity=intensity or "display",
            metal_px=_shadows(c), camera_covariance=c.view.covariance,
        )  # fmt: skip
        entry = view_to_json(view, image)
        if spacing is None:
            del entry["pixel_spacing_mm"]
        entries.append(entry)
    return entries


def _shadows(c: Calibration) -> tuple[tuple[float, float, float], ...]:
    """The beads' shadows in the picture that ``views.json`` names: without distortion."""
    from ..geometry import undistort

    middle, bent = c.shadows_px[:, :2], c.view.distortion
    middle = middle if bent is None else undistort(middle, bent)
    rounded = np.round(np.column_stack([middle, c.shadows_px[:, 2]]), 3)
    return tuple((float(u), float(v), float(radius)) for u, v, radius in rounded)


def _to_json(c: Calibration, known_mm: float) -> dict[str, Any]:
    view, bent = c.view, c.view.distortion
    return {
        "name": view.name,
        "rms_px": view.rms_px,
        "beads": view.pairs[:, 0].tolist(),
        "spots_px": c.spots.centres_px[view.pairs[:, 1]].tolist(),
        "residuals_px": view.residuals_px.tolist(),
        "source_world_mm": view.camera.source_world.tolist(),
        "focal_px": view.camera.focal_px,
        "sigma": np.sqrt(np.diag(view.covariance)).tolist(),
        "known_mm": known_mm,
        "distortion": None if bent is None else asdict(bent),
    }


def _draw(
    stage: Path,
    done: Sequence[Calibration],
    read: _Read,
    known_mm: Mapping[str, float],
    said: tuple[str, str, Sequence[str]],
) -> None:
    """The beads over each picture, and the page."""
    from ..cases import file_stem
    from ..report import BeadPicture, beads_png, calibration_html

    drawn = []
    for exposure, c in zip(read.exposures, done, strict=True):
        view, sigma = c.view, np.sqrt(np.diag(c.view.covariance))
        taken = view.pairs[:, 1]
        facts = [
            ("beads", f"{len(view.pairs)}"),
            ("between beads and shadows, px", f"{view.rms_px:.2f}"),
            ("known at the beads' middle, mm", f"{known_mm[view.name]:.2f}"),
            ("source, mm", ", ".join(f"{x:.1f}" for x in view.camera.source_world)),
            ("source, one standard deviation, mm", f"{np.linalg.norm(sigma[3:6]):.2f}"),
            ("focal length, px", f"{view.camera.focal_px:.1f} ± {sigma[6]:.1f}"),
        ]
        others = np.delete(c.spots.centres_px, taken, axis=0)[: len(c.shadows_px)]
        picture = BeadPicture(
            view.name, exposure.pixels, c.shadows_px, c.missing, others,
            c.spots.centres_px[taken], view.residuals_px, facts,
        )  # fmt: skip
        png = beads_png(picture)
        (stage / f"beads_{file_stem(view.name)}.png").write_bytes(png)
        drawn.append((picture, png))
    page = calibration_html(drawn, *said)
    (stage / "report.html").write_text(page, encoding="utf-8")


def _write_exports(
    stage: Path,
    formats: Sequence[str],
    done: Sequence[Calibration],
    spacing_mm: tuple[float, float],
) -> None:
    """The cameras for other programs; pictures with distortion are written corrected."""
    from ..calibration import write_matrix, write_mayacam, write_opencv, write_rtk
    from ..cases import DetectorGrid, file_stem

    views = [c.view for c in done]
    each = {
        "matrix": (write_matrix, "matrix_{}.txt"),
        "opencv": (write_opencv, "opencv_{}.yml"),
        "mayacam": (write_mayacam, "mayacam_{}.txt"),
    }
    for name in dict.fromkeys(formats):
        if name == "rtk":
            # Its v axis runs upwards: rows of a picture that is not mirrored run against it.
            up = np.sign(np.linalg.det(views[0].camera.intrinsic[:2, :2]))
            middle = (np.array(views[0].camera.size) - 1) / 2.0
            axes = np.diag([spacing_mm[0], -up * spacing_mm[1]])
            grid = DetectorGrid(-axes @ middle, axes)
            write_rtk(stage / "rtk.xml", views, grid, undistorted=True)
            continue
        write, place = each[name]
        for view in views:
            write(stage / place.format(file_stem(view.name)), view, undistorted=True)


COMMAND = Command(
    "calibrate", "cameras from X-rays of beads whose places are known", add_arguments, run, _check
)
