"""``radgsreg reconstruct``: X-rays, and on request the CT's Gaussians, to a cloud and a volume."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import RECONSTRUCTION_METHODS
from ..errors import InputError
from ..system import ExitStatus, Interrupt, Progress, device_name, peak_memory_mb
from .arguments import (
    add_common,
    add_out,
    add_path,
    add_standardize,
    check_model,
    explain_views,
    positive_minutes,
    positive_mm,
    whole,
)
from .command import Command, Outcome
from .previews import with_previews
from .running import (
    BONE_DENSITY,
    MASK,
    asked_standard,
    pipeline_options,
    reconstruction_options,
    registration_outcome,
    results_folder,
    torch_device,
    with_inputs,
)
from .surface import add_surface, check_surface, write_reconstructed

if TYPE_CHECKING:
    from ..cases import Case, View
    from ..geometry import Array, Volume
    from ..networks import Standardization
    from ..reconstruction import Reconstruction
    from ..registration import Registration
    from ..tomography import ShapeGuide


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
    where = "an approximate ct_to_world for --ct-prior or --shape"
    add_path(parser, "--start", "START.json", where)
    _add_without_ct(parser)
    add_surface(parser)
    add_common(parser)
    explain_views(parser)


def _add_without_ct(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("X-rays alone (--method optimize without --ct-prior)")
    group.add_argument(
        "--minutes",
        type=positive_minutes,
        metavar="M",
        help="stop after so long, with the best so far (see --hold-out)",
    )
    group.add_argument(
        "--hold-out",
        type=whole(0, 999),
        default=0,
        metavar="K",
        help="fit nothing to K X-rays; they choose the best and judge it (default 0)",
    )
    group.add_argument(
        "--box-mm", type=positive_mm, metavar="MM", help="edge of the cube in detail (default 112)"
    )
    group.add_argument(
        "--spacing", type=positive_mm, metavar="MM", help="voxels of the volume (default 1)"
    )
    group.add_argument(
        "--gaussians", type=whole(500, 10**7), metavar="N", help="at most (default 60000)"
    )
    group.add_argument("--steps", type=whole(1), metavar="N", help="of the fit (default 600)")
    add_path(group, "--work", "DIR", "what is kept here lets an interrupted run go on")
    group.add_argument(
        "--shape",
        metavar="CT",
        type=Path,
        help="the CT of another patient or a phantom, whose shape guides few X-rays",
    )
    add_standardize(
        group,
        "tell bone from soft tissue by what a network draws of each X-ray: bone_density.nii.gz",
    )


def check(args: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    check_model(args)
    check_surface(args)
    if (args.method == "learned") != (args.model is not None):
        raise InputError("--method learned", "and --model belong together")
    if args.method == "learned" and args.ct_prior:
        raise InputError("--ct-prior", "is of use only with --method optimize")
    if args.method == "learned" or args.ct_prior:
        for option, asked in (
            ("--standardize", args.standardize),
            ("--shape", args.shape),
            ("--work", args.work),
        ):
            if asked is not None:
                raise InputError(option, "is of use only with X-rays alone", "leave it out")
        for name, given in _without_ct(args).items():
            option = "--" + name.replace("_", "-").replace("spacing-mm", "spacing")
            raise InputError(option, f"is {given}, but is of use only with X-rays alone")
    if args.work is not None:
        work, out = args.work.resolve(), Path(args.out).resolve()
        if work.is_relative_to(out) or out.is_relative_to(work):
            raise InputError("--work", "and --out lie in each other", "name folders side by side")
    if args.shape is not None and args.work is not None:
        raise InputError("--work", "keeps nothing of a shape", "leave one out")
    if args.start and not args.ct_prior and args.shape is None:
        raise InputError("--start", "is of use only with --ct-prior or --shape")


def _without_ct(args: argparse.Namespace) -> dict[str, float]:
    """The options of X-rays alone that were given, as `tomography.BeamOptions` calls them."""
    values = {
        "minutes": args.minutes,
        "hold_out": args.hold_out or None,
        "box_mm": args.box_mm,
        "spacing_mm": args.spacing,
        "gaussians": args.gaussians,
        "steps": args.steps,
    }
    return {name: value for name, value in values.items() if value is not None}


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
    case, views, patient_axes, inputs, notes = _read_views_or_case(args.input)
    if args.ct_prior and case is None:
        raise InputError(args.input, "holds no CT, which --ct-prior needs", "give a case.json")
    start = None if args.start is None else read_start(args.start)
    standard = asked_standard(args.standardize)
    shape, more, remarks = _shape(args.shape, start, len(views))
    inputs, notes = {**inputs, **more}, [*notes, *remarks]
    inputs = with_inputs(inputs, args.start, args.model, standard)
    with results_folder(args.out, interrupt) as stage:
        from .. import pipeline
        from ..gaussians import write_ply

        registration: Registration | None = None
        inside: Volume | None = None
        shown: Volume | None = None
        ran_on = {"reconstruct": device_name(torch_device(args.device))}
        began = time.perf_counter()
        part = progress.part(0.05, 0.95)
        if case is not None and args.ct_prior:
            result = pipeline.run(case, start, pipeline_options(args), part)
            registration = result.registration
            patient_axes = registration.ct_to_world[:3, :3]
            inside = None if args.surface is None else _moved_label(case, registration)
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
            inside = learned.inside_world
            if inside is not None:
                mask = mask_like(inside, volume)
                quality["volume_ml"] = mask_ml(mask)
                write_segmentation(stage / MASK, mask)
        else:
            bones = _standardization(standard, views, torch_device(args.device))
            watched = with_previews(part, stage) if args.progress else part
            alone = _alone(args, views, (bones, shape), watched)
            cloud, volume = alone.cloud, alone.volume
            quality = _with_standard(alone.quality, bones)
            if alone.bone is not None:
                write_volume_nifti(alone.bone, stage / BONE_DENSITY)
                shown = alone.bone
        if registration is None:
            timing_s = dict.fromkeys(("reconstruct", "total"), time.perf_counter() - began)
        write_volume_nifti(volume, stage / "reconstruction.nii.gz")
        write_ply(stage / "gaussians.ply", cloud)
        bone, remarks = write_reconstructed(stage, args, shown or volume, inside, patient_axes)
        notes = [*notes, *remarks]
        status, reason = quality.pop("status", None), quality.pop("reason", None)
        if registration is not None:
            status, reason = registration.status, registration.reason
        record = {
            "schema": "radgsreg/reconstruction",
            "version": 1,
            "method": args.method,
            "prior": "ct" if args.ct_prior else quality.get("prior", "none"),
            "status": status,
            "reason": reason,
            "ct_to_world": None if registration is None else registration.ct_to_world,
            "quality": quality,
            **({} if bone is None else {"bone": bone}),
            "timing_s": timing_s,
            "ran_on": ran_on,
            "peak_memory_mb": peak_memory_mb(),
            "inputs": inputs,
            "software": software_versions(),
            "parameters": {
                "seed": args.seed,
                **_without_ct(args),
                **({"standardize": True} if standard is not None else {}),
                **({"shape": True} if args.shape is not None else {}),
                **({} if bone is None else {"surface": args.surface}),
                "views": [view.name for view in views],
                "notes": list(notes),
            },
        }
        write_json(record, stage / "reconstruction.json")
    first = f"reconstructed from {len(views)} views with {len(cloud)} Gaussians"
    if registration is None:
        said = [f"status: {status}: {reason}"] if status else []
        lines = (first, *said, *(f"note: {note}" for note in notes), f"results: {args.out}")
        facts = {"out": str(args.out)} | ({"status": status, "reason": reason} if status else {})
        trusted = status in (None, "ok")
        return Outcome(ExitStatus.OK if trusted else ExitStatus.NOT_TRUSTED, lines, facts)
    outcome = registration_outcome(registration, args.out, notes)
    return Outcome(outcome.exit_status, (first, *outcome.summary), outcome.facts)


def _moved_label(case: Case, registration: Registration) -> Volume:
    """The CT's vertebra where it was registered: 1 inside, else 0."""
    labels = case.labels
    return replace(
        labels,
        array=(labels.array == case.label).astype("float32"),
        index_to_physical=registration.ct_to_world @ labels.index_to_physical,
    )


def _alone(
    args: argparse.Namespace,
    views: tuple[View, ...],
    helped: tuple[Standardization | None, ShapeGuide | None],
    progress: Progress,
) -> Reconstruction:
    """Reconstruct X-rays without a CT, with status and reason in the quality.

    ``helped``: by what draws bones, and by the shape of another CT.
    """
    from .. import pipeline
    from ..tomography import BeamOptions, reconstruct_beam

    given = _without_ct(args)
    bones, shape = helped
    if len(views) > 2:
        plain = BeamOptions(seed=args.seed, device=torch_device(args.device))
        return reconstruct_beam(
            views,
            centre_world=pipeline.centre_of_views(views),
            options=BeamOptions(**{**asdict(plain), **given}),
            bones=bones,
            shape=shape,
            progress=progress,
            work=args.work,
        )
    if bones is not None:
        raise InputError("--standardize", "needs three X-rays or more", "leave it out")
    if args.work is not None:
        raise InputError("--work", "keeps nothing of two X-rays", "leave it out")
    if "hold_out" in given:
        raise InputError("--hold-out", "leaves nothing of two X-rays", "leave it out")
    options = reconstruction_options(args.device, args.seed)
    if "minutes" in given:
        options = replace(options, time_limit_s=60.0 * given["minutes"])
    if "gaussians" in given:
        most = int(given["gaussians"])
        options = replace(options, most=most, fresh_count=min(options.fresh_count, most))
    options = replace(
        options,
        box_mm=given.get("box_mm"),
        spacing_mm=given.get("spacing_mm", options.spacing_mm),
        fresh_steps=int(given.get("steps", options.fresh_steps)),
    )
    done = pipeline.reconstruct(views, options=options, progress=progress)
    reason = "2 X-rays do not show a volume; take more, or register a CT"
    quality = {**done.quality, "status": "uncertain", "reason": reason}
    return replace(done, quality=quality)


def _shape(
    path: Path | None, start: Array | None, views: int
) -> tuple[ShapeGuide | None, Mapping[str, str], Sequence[str]]:
    """Read the CT whose shape guides, if there is one; with digests and remarks."""
    if path is None:
        return None, {}, ()
    if views < 3:
        raise InputError("--shape", f"guides three X-rays or more, not {views}", "leave it out")
    from ..cases import Ledger, read_ct

    ledger = Ledger()
    ct = read_ct(path, ledger)
    from ..tomography import ShapeGuide

    return ShapeGuide(ct, start), ledger.inputs, ledger.notes


def _standardization(
    weights: Path | None, views: tuple[View, ...], device: str
) -> Standardization | None:
    """What draws the bones of X-rays, where that is asked for."""
    if weights is None:
        return None
    from .. import pipeline
    from ..networks import Standardization, load_standardizer

    return Standardization(load_standardizer(weights, device), pipeline.centre_of_views(views))


def _with_standard(quality: Mapping[str, Any], bones: Standardization | None) -> dict[str, Any]:
    """The quality with what is said of standardised X-rays."""
    if bones is None:
        return dict(quality)
    from ..networks import standard_record

    return {**quality, "standardised": standard_record(bones)}


def _read_views_or_case(
    path: Path,
) -> tuple[Case | None, tuple[View, ...], Array | None, Mapping[str, str], Sequence[str]]:
    """Read a case, if it is one, its views, how the patient lies, digests and remarks."""
    from ..cases import Ledger, is_views_file, read_case, read_views_with_axes

    if path.is_dir() or not is_views_file(path):
        case = read_case(path)
        return case, case.views, case.patient_axes, case.inputs, case.notes
    ledger = Ledger()
    ledger.add_file(path)
    views, patient_axes = read_views_with_axes(path, ledger)
    return None, views, patient_axes, ledger.inputs, ledger.notes


COMMAND = Command("reconstruct", "X-rays to Gaussians and volume only", add_arguments, run, check)
