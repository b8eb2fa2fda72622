"""``radgsreg reconstruct``: X-rays, and on request the CT's Gaussians, to a cloud and a volume."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..choices import RECONSTRUCTION_METHODS
from ..errors import InputError
from ..system import ExitStatus, Interrupt, Progress, device_name
from .arguments import add_common, add_out, add_path, check_model, explain_views
from .command import Command, Outcome
from .running import (
    MASK,
    pipeline_options,
    reconstruction_options,
    registration_outcome,
    results_folder,
    torch_device,
    with_inputs,
)

if TYPE_CHECKING:
    from ..cases import Case, View
    from ..registration import Registration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser, "input", "CASE_OR_VIEWS.json", "a case, or X-rays alone")
    add_out(parser)
    parser.add_argument(
        "--method",
        choices=RECONSTRUCTION_METHODS,
        default="optimize",
        help="default optimize; learned needs --model",
    )
    add_path(parser, "--model", "M", "trained weights, for --method learned")
    parser.add_argument(
        "--ct-prior", action="store_true", help="register first, start from the CT's Gaussians"
    )
    add_path(parser, "--start", "START.json", "an approximate ct_to_world for --ct-prior")
    add_common(parser)
    explain_views(parser)


def check(args: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    check_model(args)
    if (args.method == "learned") != (args.model is not None):
        raise InputError("--method learned", "and --model belong together")
    if args.method == "learned" and args.ct_prior:
        raise InputError("--ct-prior", "is of use only with --method optimize")
    if args.start and not args.ct_prior:
        raise InputError("--start", "is of use only with --ct-prior")


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Reconstruct, and write the cloud, the volume and a record."""
    from ..cases import (
        read_start,
        software_versions,
        write_json,
        write_segmentation,
        write_volume_nifti,
    )

    progress(0.0, "reading the X-rays")
    case, views, inputs, notes = _read_views_or_case(args.input)
    if args.ct_prior and case is None:
        raise InputError(args.input, "holds no CT, which --ct-prior needs", "give a case.json")
    start = None if args.start is None else read_start(args.start)
    inputs = with_inputs(inputs, args.start, args.model)
    with results_folder(args.out, interrupt) as stage:
        from .. import pipeline
        from ..gaussians import write_ply

        registration: Registration | None = None
        ran_on = {"reconstruct": device_name(torch_device(args.device))}
        began = time.perf_counter()
        part = progress.part(0.05, 0.95)
        if case is not None and args.ct_prior:
            result = pipeline.run(case, start, pipeline_options(args), part)
            registration = result.registration
            cloud, volume = result.cloud_world, result.volume_world
            quality = result.reconstruction_quality
            timing_s, ran_on = result.timing_s, result.ran_on
        elif args.method == "learned":
            from ..measures import mask_like, mask_ml
            from ..networks import load_model, see
            from ..reconstruction import box_of_cloud

            model = load_model(args.model, torch_device(args.device))
            began = time.perf_counter()
            learned = see(views, model, None, part)
            cloud = learned.cloud_world
            volume = box_of_cloud(cloud, 1.0).voxelize(cloud)
            quality = {"agreement": learned.score, "gaussians": len(cloud)}
            if learned.change_mm is not None:
                quality["change_mm"] = learned.change_mm
            if learned.changed:
                notes = [*notes, learned.changed]
            if learned.inside_world is not None:
                mask = mask_like(learned.inside_world, volume)
                quality["volume_ml"] = mask_ml(mask)
                write_segmentation(stage / MASK, mask)
        else:
            options = reconstruction_options(args.device, args.seed)
            done = pipeline.reconstruct(views, options=options, progress=part)
            cloud, volume, quality = done.cloud, done.volume, done.quality
        if registration is None:
            timing_s = dict.fromkeys(("reconstruct", "total"), time.perf_counter() - began)
        write_volume_nifti(volume, stage / "reconstruction.nii.gz")
        write_ply(stage / "gaussians.ply", cloud)
        record = {
            "schema": "radgsreg/reconstruction",
            "version": 1,
            "method": args.method,
            "prior": "ct" if args.ct_prior else "none",
            "status": registration and registration.status,
            "reason": registration and registration.reason,
            "ct_to_world": None if registration is None else registration.ct_to_world,
            "quality": quality,
            "timing_s": timing_s,
            "ran_on": ran_on,
            "inputs": inputs,
            "software": software_versions(),
            "parameters": {
                "seed": args.seed,
                "views": [view.name for view in views],
                "notes": list(notes),
            },
        }
        write_json(record, stage / "reconstruction.json")
    first = f"reconstructed from {len(views)} views with {len(cloud)} Gaussians"
    if registration is None:
        lines = (first, *(f"note: {note}" for note in notes), f"results: {args.out}")
        return Outcome(ExitStatus.OK, lines, {"out": str(args.out)})
    outcome = registration_outcome(registration, args.out, notes)
    return Outcome(outcome.exit_status, (first, *outcome.summary), outcome.facts)


def _read_views_or_case(
    path: Path,
) -> tuple[Case | None, tuple[View, ...], Mapping[str, str], Sequence[str]]:
    """Read a case, if it is one, its views, the files' digests and the remarks."""
    from ..cases import Ledger, is_views_file, read_case, read_views

    if path.is_dir() or not is_views_file(path):
        case = read_case(path)
        return case, case.views, case.inputs, case.notes
    ledger = Ledger()
    ledger.add_file(path)
    return None, read_views(path, ledger), ledger.inputs, ledger.notes


COMMAND = Command("reconstruct", "X-rays to Gaussians and volume only", add_arguments, run, check)
