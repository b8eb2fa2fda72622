"""What the commands do, once the arguments are known to be good.

Every command returns an `Outcome`; results appear through a `cases.OutputFolder`, whole or not at
all. Imports of torch wait until the input has been read, so that refusals come fast.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .cases import (
    Case,
    CtCase,
    OutputFolder,
    View,
    is_views_file,
    labels_on_ct,
    read_case,
    read_ct,
    read_ct_case,
    read_segmentation,
    read_start,
    read_views,
    software_versions,
    write_json,
    write_segmentation,
    write_volume_nifti,
)
from .errors import InputError
from .system.interrupt import Interrupt
from .system.progress import Progress

if TYPE_CHECKING:
    from .gaussians import GaussianCloud
    from .pipeline import PipelineOptions
    from .reconstruction import ReconstructionOptions
    from .registration.register import RegistrationOptions
    from .registration.search import Candidate
    from .registration.types import Registration

EXIT_OK = 0
EXIT_NOT_TRUSTED = 3


@dataclass(frozen=True)
class Outcome:
    """The exit status, what to tell a person (lines), and the same for a program (JSON values)."""

    exit_status: int
    summary: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Run the command that ``args.command`` names."""
    commands = {
        "demo": demo,
        "register": register,
        "reconstruct": reconstruct,
        "simulate": simulate,
        "segment": segment,
        "evaluate": evaluate,
        "pretrain": pretrain,
        "info": info,
    }
    return commands[args.command](args, progress, interrupt)


def register(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """The main job: a case to its result files."""
    progress(0.0, "reading the case")
    case = read_case(Path(args.case))
    start = None if args.start is None else read_start(Path(args.start))
    with _results(args.out, interrupt) as stage:
        from . import pipeline
        from .report.drawing import Drawing

        options = _options(args)
        learned, prior_ct, see_s = _learned(args, case, start, progress.part(0.05, 0.15))
        case = replace(case, inputs=_with_inputs(case.inputs, args.start, args.model))
        part = progress.part(0.15, 0.9)
        with Drawing(case) as drawing:
            result = pipeline.run(
                case, start, options, part, learned, prior_ct, on_registered=drawing.begin
            )
            views = drawing.pictures(part)
        if learned:
            total = see_s + result.timing_s["total"]
            result = replace(result, timing_s={"see": see_s, **result.timing_s, "total": total})
        # Not before: what draws takes a third of a second to import, which its thread has done.
        from .report.results import write_results

        write_results(stage, case, result, views=views, progress=progress.part(0.9, 1.0))
    return _outcome(result.registration, args.out)


def demo(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """A case of our own, registered, with the error against its truth."""
    with _results(args.out, interrupt) as stage:
        options = _options(args)
        from . import pipeline
        from .measures import pose as metrics
        from .report.drawing import Drawing
        from .simulation import simulate_phantom_case, write_simulated_case

        progress(0.0, "building a spine and its X-rays")
        simulated = simulate_phantom_case(args.seed, args.level, progress=progress.part(0.0, 0.3))
        path = write_simulated_case(simulated, stage / "case")
        case = replace(read_case(path), label_names=simulated.case.label_names)
        with Drawing(case) as drawing:
            part = progress.part(0.3, 0.9)
            result = pipeline.run(case, None, options, part, on_registered=drawing.begin)
            views = drawing.pictures(part)
        registration = result.registration
        error = metrics.mtre(
            simulated.truth["points_ct"],
            registration.ct_to_world,
            simulated.truth["ct_to_world"],
        )
        # As in `register`: not before.
        from .report.results import write_results

        truth, part = {"true error_mm": error}, progress.part(0.9, 1.0)
        write_results(stage, case, result, truth=truth, views=views, progress=part)
    outcome = _outcome(registration, args.out)
    first, *rest = outcome.summary
    said = (
        first,
        f"error against the truth (mTRE): {error:.2f} mm",
        *rest,
        f"the case itself: {Path(args.out) / 'case'}",
    )
    return Outcome(outcome.exit_status, said, {**outcome.facts, "mtre_mm": error})


def reconstruct(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """X-rays, and on request the CT's Gaussians, to a cloud and a volume."""
    progress(0.0, "reading the X-rays")
    path = Path(args.input)
    case, views, inputs = _read_views_or_case(path)
    if args.ct_prior and case is None:
        raise InputError(path, "holds no CT, which --ct-prior needs", "give a case.json")
    start = None if args.start is None else read_start(Path(args.start))
    inputs = _with_inputs(inputs, args.start, args.model)
    with _results(args.out, interrupt) as stage:
        from . import pipeline
        from .gaussians import write_ply

        registration: Registration | None = None
        if case is not None and args.ct_prior:
            result = pipeline.run(case, start, _options(args), progress.part(0.05, 0.95))
            registration = result.registration
            cloud, volume = result.cloud_world, result.volume_world
            quality, timing_s = result.reconstruction_quality, result.timing_s
        elif args.method == "learned":
            from .networks import load_model, see
            from .reconstruction.box import box_of_cloud

            model = load_model(Path(args.model), _device(args.device))
            seen = see(views, model, None, progress.part(0.05, 0.95))
            cloud = seen.cloud_world.to("cpu")
            volume = box_of_cloud(cloud, 1.0).voxelize(cloud)
            quality, timing_s = {"agreement": seen.score, "gaussians": len(cloud)}, {}
        else:
            done = pipeline.reconstruct(
                views, options=_reconstruction_options(args), progress=progress.part(0.05, 0.95)
            )
            cloud, volume, quality, timing_s = done.cloud, done.volume, done.quality, {}
        write_volume_nifti(volume, stage / "reconstruction.nii.gz")
        write_ply(stage / "gaussians.ply", cloud)
        record = {
            "schema": "radgsreg/reconstruction",
            "version": 1,
            "method": args.method,
            "prior": "ct" if args.ct_prior else "none",
            "status": registration.status if registration else None,
            "reason": registration.reason if registration else None,
            "ct_to_world": registration.ct_to_world if registration else None,
            "quality": quality,
            "timing_s": timing_s,
            "inputs": inputs,
            "software": software_versions(),
            "parameters": {"seed": args.seed, "views": [view.name for view in views]},
        }
        write_json(record, stage / "reconstruction.json")
    files = f"results: {args.out}"
    first = f"reconstructed from {len(views)} views with {len(cloud)} Gaussians"
    if registration is None:
        return Outcome(EXIT_OK, (first, files), {"out": str(args.out)})
    outcome = _outcome(registration, args.out)
    return Outcome(outcome.exit_status, (first, *outcome.summary), outcome.facts)


def simulate(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """X-rays with truth, from a CT and labels or from the built-in phantom."""
    source = _read_source(args)
    with _results(args.out, interrupt) as stage:
        from .simulation import simulate_case, simulate_phantom_case, write_simulated_case

        for number in range(args.count):
            seed = args.seed + number
            part = progress.part(number / args.count, (number + 1) / args.count)
            if source is None:
                simulated = simulate_phantom_case(seed, args.level, progress=part)
            else:
                simulated = simulate_case(
                    source.ct,
                    source.labels,
                    source.label,
                    args.level,
                    seed,
                    label_names=source.label_names,
                    progress=part,
                )
            folder = stage if args.count == 1 else stage / f"{args.level}-{seed}"
            write_simulated_case(simulated, folder)
    what = "a case" if args.count == 1 else f"{args.count} cases"
    return Outcome(EXIT_OK, (f"simulated {what}: {args.out}",), {"out": str(args.out)})


def segment(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """One vertebra of a CT, from a point inside its body, as a label map on the CT's grid."""
    try:
        point = [float(text) for text in args.point.split(",")]
    except ValueError:
        point = []
    if len(point) != 3 or not all(map(math.isfinite, point)):
        raise InputError("--point", f"'{args.point}' is not X,Y,Z", "give three numbers in mm, LPS")
    out = Path(args.out)
    with _result_file(out, interrupt) as part:
        progress(0.0, "reading the CT")
        ct = read_ct(Path(args.ct))
        from .segmentation import segment_vertebra

        found = segment_vertebra(ct, point, progress=progress.part(0.05, 0.98))
        labels = found.mask.with_array(found.mask.array * np.uint16(args.label))
        write_segmentation(part, labels, {args.label: "vertebra"})
    volume = float(found.mask.array.sum() * ct.spacing.prod() / 1000.0)
    first = "; ".join([f"segmented a vertebra of {volume:.0f} cm3", *found.notes])
    facts = {"status": found.status, "quality": found.quality, "notes": list(found.notes)}
    status = EXIT_OK if found.status == "ok" else EXIT_NOT_TRUSTED
    return Outcome(status, (first, f"result: {out}"), {**facts, "out": str(out)})


def evaluate(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Metrics over a folder of cases: tables, JSON and plots."""
    if args.protocol == "paper":
        return _evaluate_paper(args, progress, interrupt)
    from .evaluation import protocol

    protocol.find_cases(Path(args.cases))
    with _results(args.out, interrupt) as stage:
        from . import pipeline
        from .evaluation import plots, tables

        registering = _registration_options(args)
        reconstructing = _reconstruction_options(args) if args.reconstruct else None

        def registrar(case: Case, start: Any, part: Progress) -> Registration:
            return pipeline.register_case(case, start, registering, part)

        def reconstructor(case: Case, found: Registration, part: Progress) -> Any:
            return pipeline.reconstruct_registered(case, found, reconstructing, part).volume

        trials = protocol.evaluate(
            Path(args.cases),
            registrar,
            reconstruct=reconstructor if args.reconstruct else None,
            start=args.start,
            method=args.method,
            progress=progress.part(0.0, 0.98),
        )
        summary = protocol.summarize(trials)
        text = tables.markdown(trials, summary)
        (stage / "evaluation.md").write_text(text, encoding="utf-8")
        (stage / "evaluation.csv").write_text(tables.csv_text(trials), encoding="utf-8")
        content = tables.json_content(trials, summary)
        content["software"] = software_versions()
        content["parameters"] = {"seed": args.seed, "start": args.start, "method": args.method}
        write_json(content, stage / "evaluation.json")
        for name, png in plots.all_plots(trials).items():
            (stage / name).write_bytes(png)
    whole = summary["all"]
    said = (
        f"{whole['cases']} case{'' if whole['cases'] == 1 else 's'}: "
        f"mTRE median {whole['mtre_mm']['median']:.2f} mm, "
        f"SR {100 * whole['sr']:.0f} %, silent failures {whole['silent_failures']}",
        "",
        *text.splitlines(),
        "",
        f"results: {args.out}",
    )
    facts = {key: whole[key] for key in ("cases", "sr", "smsr", "silent_failures")}
    return Outcome(EXIT_OK, said, {"out": str(args.out), **facts})


def _evaluate_paper(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """The paper's tables for our methods, models and rivals."""
    from .evaluation.protocol import find_cases

    find_cases(Path(args.cases))
    device = _device(args.device)
    with _results(args.out, interrupt) as stage:
        from .evaluation.paper.protocol import PaperOptions, write_paper

        names = (args.methods or "").split(",")
        options = PaperOptions(
            methods=tuple(name.strip() for name in names if name.strip()),
            models=tuple(args.models or ()),
            start=args.start,
            draws=args.draws,
            effort=args.effort,
            seed=args.seed,
            device=device,
        )
        result = write_paper(Path(args.cases), stage, options, progress)
    cases = max(one.cases for one in result.summaries)
    count = f"{len(result.summaries)} methods on {cases} case{'' if cases == 1 else 's'}"
    said = (count, "", *result.text.splitlines(), "", f"results: {args.out}")
    facts = {"cases": cases, "reference": result.reference, "out": str(args.out)}
    return Outcome(EXIT_OK, said, facts)


def pretrain(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """One of the three stages of training; a model and its card."""
    device = _device(args.device)
    from .training.config import TrainingConfig, read_config
    from .training.pretrain import Pretraining, measured_on, pretrain
    from .training.stages import shipped_base

    def path(name: str) -> Path | None:
        value = getattr(args, name)
        return None if value is None else Path(value)

    config = replace(TrainingConfig(), seed=args.seed)
    if args.config is not None:
        config = read_config(Path(args.config), config)
    if args.minutes is not None and args.config is None:
        config = config.by_clock()
    base = None if args.base == "none" else path("base")
    if args.base is None and args.stage == 3:
        base = shipped_base(config)
    asked = Pretraining(
        stage=args.stage,
        out=Path(args.out),
        case=path("case"),
        phantoms=args.phantoms,
        cts=path("cts"),
        verse=path("verse"),
        cases=path("cases"),
        fold=args.fold,
        base=base,
        minutes=args.minutes,
        work=path("work"),
        stop=path("stop"),
        board=path("board"),
        device=device,
        anchors=args.anchors,
    )
    best = pretrain(asked, config, progress).best()
    summary = (
        f"trained for {best['minutes']:.1f} minutes, {best['step']:.0f} steps",
        f"error on {measured_on(asked)}: reconstruction {best['recm_mm']:.1f} mm, "
        f"registration {best['regm_mm']:.1f} mm (medians, before any refinement)",
        "began from scratch" if base is None else f"went on from: {base}",
        f"model: {args.out} (its card: {Path(args.out).with_suffix('.md')})",
    )
    return Outcome(EXIT_OK, summary, {"out": str(args.out), **best})


def info(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Versions, devices, and the backends with why not, where one does not work."""
    import os

    import torch

    from .gaussians import available_backends

    lines = [f"{name} {version}" for name, version in software_versions().items()]
    lines.append(f"device cpu: works ({os.cpu_count()} cores, {torch.get_num_threads()} threads)")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(number)
            memory = properties.total_memory / 2**30
            lines.append(f"device cuda:{number}: works ({properties.name}, {memory:.0f} GiB)")
    else:
        built = torch.version.cuda is not None
        why = "no CUDA device or driver found" if built else "this torch is built without CUDA"
        lines.append(f"device cuda: does not work ({why})")
    for name, problem in available_backends().items():
        state = f"does not work ({problem})" if problem else "works"
        lines.append(f"backend {name}: {state}")
    return Outcome(EXIT_OK, tuple(lines))


@contextlib.contextmanager
def _results(out: str, interrupt: Interrupt) -> Iterator[Path]:
    """The staging folder for ``out``; moving it into place in the end is not interrupted."""
    with OutputFolder(out) as stage:
        yield stage
        interrupt.hold()


@contextlib.contextmanager
def _result_file(out: Path, interrupt: Interrupt) -> Iterator[Path]:
    """A file beside ``out`` to write an image into; it takes its place once it is whole."""
    endings = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha")
    ending = next((e for e in endings if out.name.lower().endswith(e)), None)
    if ending is None:
        raise InputError(out, "has no ending of a label map", f"use {', '.join(endings)}")
    if out.is_dir():
        raise InputError(out, "is a folder", "name a file")
    if not out.parent.is_dir():
        raise InputError(out, "its folder does not exist", "make it first")
    try:
        folder = Path(tempfile.mkdtemp(prefix=".radgsreg-", dir=out.parent))
    except OSError as error:
        raise InputError(out, f"cannot be written to ({error.strerror})") from error
    try:
        part = folder / f"part{ending}"
        yield part
        interrupt.hold()
        part.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _with_inputs(inputs: Mapping[str, str], *paths: str | None) -> dict[str, str]:
    """The inputs with the hashes of further files, of those that were given."""
    from .cases import Ledger

    ledger = Ledger()
    for path in paths:
        if path is not None:
            ledger.add_file(Path(path))
    return {**inputs, **ledger.inputs}


def _learned(
    args: argparse.Namespace, case: Case, start: Any, progress: Progress
) -> tuple[Sequence[Candidate], GaussianCloud | None, float]:
    """Poses that the model of --model sees, the vertebra's Gaussians if it holds them, and how many
    seconds seeing took; nothing without a model.

    Raises InputError for a model of another patient or another of his vertebrae.
    """
    if args.model is None:
        return (), None, 0.0
    device = _device(args.device)
    from .networks import is_trained_for, learned_start, load_model, patient_cloud

    model = load_model(Path(args.model), device)
    if model.is_patient_specific and not is_trained_for(case, model):
        raise InputError(
            args.model,
            f"was trained for another CT, or for another vertebra than {case.label_name}",
            "train one for this CT and label (radgsreg pretrain --stage 3), or leave --model out",
        )
    began = time.perf_counter()
    seen = learned_start(case, model, start, progress)
    return seen.candidates, patient_cloud(case, model), time.perf_counter() - began


def _outcome(registration: Registration, out: str) -> Outcome:
    trusted = registration.status == "ok"
    summary = [f"status: {registration.status}: {registration.reason}"]
    expected = registration.quality.get("expected_error_mm")
    if expected is not None and math.isfinite(expected):
        summary.append(f"expected error: {float(expected):.2f} mm")
    summary.append(f"results: {out} (open {Path(out) / 'report.html'})")
    if not trusted:
        summary.append("do not rely on this result; look at the pictures")
    facts = {"status": registration.status, "reason": registration.reason, "out": str(out)}
    return Outcome(EXIT_OK if trusted else EXIT_NOT_TRUSTED, tuple(summary), facts)


def _registration_options(args: argparse.Namespace) -> RegistrationOptions:
    """What --device, --effort and --seed mean; InputError where there is no CUDA."""
    _device(args.device)
    from .registration.effort import registration_options

    return registration_options(getattr(args, "effort", "normal"), seed=args.seed)


def _reconstruction_options(args: argparse.Namespace) -> ReconstructionOptions:
    """What --device and --seed mean for a reconstruction; InputError where there is no CUDA."""
    device = _device(args.device)
    from .reconstruction import ReconstructionOptions

    return ReconstructionOptions(device=device, seed=args.seed)


def _options(args: argparse.Namespace) -> PipelineOptions:
    """Both, for the whole pipeline."""
    registration = _registration_options(args)
    from .pipeline import PipelineOptions

    return PipelineOptions(registration, _reconstruction_options(args))


def _device(asked: str) -> str:
    """The torch device to use; InputError where cuda was asked for and does not work."""
    import torch

    works = asked != "cpu" and torch.cuda.is_available()
    if asked == "cuda" and not works:
        raise InputError("--device cuda", "no CUDA device works here", "use --device cpu")
    return "cuda" if works else "cpu"


def _read_views_or_case(path: Path) -> tuple[Case | None, tuple[View, ...], Mapping[str, str]]:
    if path.is_dir() or not is_views_file(path):
        case = read_case(path)
        return case, case.views, case.inputs
    from .cases import Ledger

    ledger = Ledger()
    ledger.add_file(path)
    return None, read_views(path, ledger), ledger.inputs


def _read_source(args: argparse.Namespace) -> CtCase | None:
    """CT and labels from --case or from --ct, --segmentation, --label; None for the phantom."""
    if args.case is not None:
        return read_ct_case(Path(args.case))
    if args.ct is None:
        return None
    for path in (args.ct, args.segmentation):
        if not Path(path).exists():
            raise InputError(path, "does not exist")
    label = int(args.label) if args.label.lstrip("+-").isdigit() else args.label
    ct = read_ct(Path(args.ct))
    segmentation = Path(args.segmentation)
    labels, value, names = labels_on_ct(read_segmentation(segmentation), label, ct, segmentation)
    return CtCase(ct, labels, value, label_names=names)
