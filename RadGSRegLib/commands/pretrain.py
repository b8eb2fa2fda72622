"""``radgsreg pretrain``: one of the three stages of training; a model and its card."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..choices import ANCHORS, ENCODERS
from ..errors import InputError
from ..system import ExitStatus, Interrupt, Progress
from .arguments import add_common, add_path, positive_minutes, whole
from .command import Command, Outcome
from .running import torch_device

if TYPE_CHECKING:
    from ..training import Pretraining
    from ..training.loop import History


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stage",
        type=int,
        choices=(1, 2, 3),
        required=True,
        help="1: many CTs, simulated X-rays; 2: X-rays with known poses; 3: one patient's CT",
    )
    parser.add_argument(
        "case", metavar="CASE.json", type=Path, nargs="?", help="the patient, for --stage 3"
    )
    parser.add_argument("--out", metavar="MODEL.safetensors", type=Path, required=True)
    parser.add_argument("--minutes", type=positive_minutes, help="stop then, with the best so far")
    parser.add_argument(
        "--paper",
        action="store_true",
        help="the settings of the published method, sized for a GPU (docs/learning.md); --config "
        "changes single ones",
    )
    parser.add_argument(
        "--encoder",
        choices=ENCODERS,
        help="of both networks, with --paper (default: resnet50); all but small need MONAI",
    )
    parser.add_argument(
        "--landmarks",
        action=argparse.BooleanOptionalAction,
        help="let the reconstruction read its pose from landmarks, in several passes (default for "
        "--stage 3, but with --paper or a --base that does not); in stages 1 and 2 it is told "
        "every vertebra's shape, and in stage 1 half of the time goes to a decoder, which shows "
        "vertebrae whose shapes it is not told (docs/learning.md)",
    )
    parser.add_argument(
        "--levels",
        action="store_true",
        help="train the network that names levels in whole X-rays, and nothing else, for "
        "--stage 1 with --phantoms (docs/learning.md)",
    )
    parser.add_argument(
        "--standard",
        action="store_true",
        help="train the standardisation of X-rays, and nothing else, for --stage 1 with --phantoms "
        "(docs/learning.md)",
    )
    add_path(parser, "--config", "FILE", "options as JSON or YAML")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="networks through torch.compile, which needs a compiler and time of its own; where it "
        "fails, training says so and goes on without",
    )
    parser.add_argument(
        "--base",
        metavar="MODEL",
        help="go on from this model; none: from scratch (default: the weights that come with the "
        "program for --stage 3 with their networks, else none)",
    )
    parser.add_argument("--phantoms", type=whole(0), default=0, help="spines, for --stage 1")
    add_path(parser, "--cts", "DIR", "CTs with label maps, for --stage 1")
    add_path(parser, "--verse", "DIR", "VerSe'20, for --stage 1")
    add_path(parser, "--totalsegmentator", "DIR", "TotalSegmentator's data set, for --stage 1")
    add_path(parser, "--ctspine1k", "DIR", "CTSpine1K, for --stage 1")
    parser.add_argument(
        "--deformed",
        metavar="N",
        type=whole(0),
        default=0,
        help="so many copies of each vertebra of a CT, bent smoothly at random; in --stage 3 "
        "of the patient's (docs/learning.md)",
    )
    add_path(parser, "--cases", "DIR", "cases with truth.json, for --stage 2")
    parser.add_argument("--fold", type=int, choices=range(5), help="held out of --cases")
    parser.add_argument(
        "--anchors",
        choices=ANCHORS,
        help="of stages 1 and 2: a mean vertebra (default), or a grid (default with --paper)",
    )
    add_path(parser, "--work", "DIR", "checkpoints; an interrupted run goes on")
    add_path(parser, "--stop", "FILE", "end with the best so far as soon as this file appears")
    add_path(parser, "--board", "DIR", "logs for TensorBoard")
    add_common(parser)


def check(args: argparse.Namespace) -> None:
    """Refuse options of another stage, which would be left out unsaid."""
    given = {
        "--phantoms": (1, args.phantoms or None),
        "--cts": (1, args.cts),
        "--verse": (1, args.verse),
        "--totalsegmentator": (1, args.totalsegmentator),
        "--ctspine1k": (1, args.ctspine1k),
        "--cases": (2, args.cases),
        "--fold": (2, args.fold),
        "CASE.json": (3, args.case),
    }
    for name, (stage, value) in given.items():
        if value is not None and args.stage != stage:
            raise InputError(name, f"is of use only with --stage {stage}", "leave it out")
    if args.deformed and (args.stage == 2 or (args.stage == 3 and args.paper)):
        raise InputError("--deformed", "is of use only with --stage 1, or 3 without --paper")
    if args.anchors is not None and (args.stage == 3 or args.base not in (None, "none")):
        raise InputError("--anchors", "is of use only with --stage 1 or 2 and without --base")
    for option in ("levels", "standard"):
        if getattr(args, option):
            _check_alone(args, f"--{option}")
    if args.levels and args.standard:
        raise InputError("--levels", "is a training of its own", "leave --standard out")
    if args.landmarks and args.paper:
        raise InputError("--landmarks", "is not of the published method", "leave --paper out")
    if args.landmarks and args.anchors == "grid":
        raise InputError("--landmarks", "are of a vertebra, not of a grid", "leave --anchors out")
    if args.encoder is not None and not args.paper:
        raise InputError(
            "--encoder", "is of use only with --paper", "set it in --config (model.recm.encoder)"
        )


def _check_alone(args: argparse.Namespace, option: str) -> None:
    """Refuse what a training on phantoms alone, named by its ``option``, does not ask for."""
    if args.stage != 1:
        raise InputError(option, "is of use only with --stage 1")
    given = {
        "--cts": args.cts,
        "--verse": args.verse,
        "--totalsegmentator": args.totalsegmentator,
        "--ctspine1k": args.ctspine1k,
        "--deformed": args.deformed or None,
        "--anchors": args.anchors,
        "--base": args.base,
        "--encoder": args.encoder,
        "--paper": args.paper or None,
        "--compile": args.compile or None,
        "--landmarks": args.landmarks,
    }
    for name, value in given.items():
        if value is not None:
            raise InputError(name, f"is of no use with {option}", "leave it out")


def _asked_alone(args: argparse.Namespace, device: str) -> Pretraining:
    from ..training import Pretraining

    return Pretraining(
        stage=1,
        out=args.out,
        phantoms=args.phantoms,
        minutes=args.minutes,
        work=args.work,
        stop=args.stop,
        board=args.board,
        device=device,
    )


def _run_levels(args: argparse.Namespace, device: str, progress: Progress) -> Outcome:
    """Train the network of levels, and say how good it is on phantoms it was not trained on."""
    from ..training import levels_config, pretrain_levels, read_config

    config = replace(levels_config(), seed=args.seed)
    if args.config is not None:
        config = read_config(args.config, config)
    history = pretrain_levels(_asked_alone(args, device), config, progress)
    last = history.entries[-1]
    good = (
        f"on single views of phantoms never trained on: {100.0 * last['right']:.0f} % of the "
        f"levels right where the view tells them, {100.0 * last['untold']:.0f} % said to be "
        "untold where it does not"
    )
    return _trained(args, history, good)


def _run_standard(args: argparse.Namespace, device: str, progress: Progress) -> Outcome:
    """Train the standardisation, and say how good it is on phantoms it was not trained on."""
    from ..training import pretrain_standard, read_config, standard_config

    config = replace(standard_config(), seed=args.seed)
    if args.config is not None:
        config = read_config(args.config, config)
    history = pretrain_standard(_asked_alone(args, device), config, progress)
    last = history.entries[-1]
    good = (
        "on single views of phantoms never trained on: the bones' line integrals are off by "
        f"{last['l1']:.3f} (mean), {last['psnr_db']:.1f} dB, correlation "
        f"{last['correlation']:.2f} (medians)"
    )
    return _trained(args, history, good)


def _trained(args: argparse.Namespace, history: History, good: str) -> Outcome:
    last = history.entries[-1]
    summary = (
        f"trained for {last['step']:.0f} steps",
        good,
        f"model: {args.out} (its card: {args.out.with_suffix('.md')})",
        *(f"note: {note}" for note in history.notes),
    )
    return Outcome(ExitStatus.OK, summary, {"out": str(args.out), "notes": history.notes, **last})


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Train, and say how good the model is on what was held out."""
    device = torch_device(args.device)
    if args.levels:
        return _run_levels(args, device, progress)
    if args.standard:
        return _run_standard(args, device, progress)
    from ..training import (
        Pretraining,
        TrainingConfig,
        check_base,
        measured_on,
        pretrain,
        read_config,
        shipped_base,
    )

    config = TrainingConfig()
    landmarks = _looks_for_landmarks(args)
    if args.paper:
        config = TrainingConfig.paper(args.encoder or "resnet50")
    elif args.stage == 3 or landmarks:
        config = config.for_patient()
    if landmarks:
        # What else they need depends on what a configuration opens.
        asked_for = config if args.config is None else read_config(args.config, config)
        config = config.with_landmarks(beside=asked_for.model.recm)
        if args.stage == 1:
            config = config.with_decoder()
    config = replace(config, seed=args.seed)
    if args.anchors is not None:
        config = replace(config, model=replace(config.model, anchors=args.anchors))
    if args.config is not None:
        config = read_config(args.config, config)
    if args.compile:
        config = replace(config, compile=True)
    if args.minutes is not None and args.config is None:
        config = config.by_clock()
    base = None if args.base in (None, "none") else Path(args.base)
    if args.base is None and args.stage == 3:
        base = shipped_base(config)
    elif base is not None and (args.paper or landmarks):
        check_base(base, config)
    given = {field.name: getattr(args, field.name) for field in fields(Pretraining)}
    asked = Pretraining(**given | {"base": base, "device": device})
    history = pretrain(asked, config, progress)
    best = history.best()
    summary = (
        f"trained for {best['minutes']:.1f} minutes, {best['step']:.0f} steps",
        f"error on {measured_on(asked)}: reconstruction {_reconstruction(best)}, "
        f"registration {best['regm_mm']:.1f} mm (medians, before any refinement)",
        *_of_decoder(history),
        "began from scratch" if base is None else f"went on from: {base}",
        f"model: {args.out} (its card: {args.out.with_suffix('.md')})",
        *(f"note: {note}" for note in history.notes),
    )
    return Outcome(ExitStatus.OK, summary, {"out": str(args.out), "notes": history.notes, **best})


def _of_decoder(history: History) -> list[str]:
    """One line on the decoder, where one was trained."""
    if not history.decoding:
        return []
    last = history.decoding[-1]
    return [
        f"decoder: {last['step']:.0f} steps, Dice {last['dice']:.2f} on held-out simulated pairs, "
        "told a pose beside the true one"
    ]


def _looks_for_landmarks(args: argparse.Namespace) -> bool:
    """Whether RecM reads its pose from landmarks: as asked, else as what it goes on from does, and
    for a patient. Raises InputError where a base is asked to unlearn them."""
    if args.paper or args.base in (None, "none"):
        usual = args.stage == 3 and not args.paper
        return usual if args.landmarks is None else bool(args.landmarks)
    from ..networks import load_model

    known = load_model(Path(args.base)).config.recm.landmarks > 0
    if known and args.landmarks is False:
        raise InputError(
            "--no-landmarks",
            "goes on from a model that looks for them",
            "leave it out, or name another --base",
        )
    return known if args.landmarks is None else bool(args.landmarks)


def _reconstruction(best: Mapping[str, float]) -> str:
    """How far off RecM is: its anchors' pose, or where they have none its volume."""
    if "recm_mm" in best:
        return f"{best['recm_mm']:.1f} mm"
    return f"{100.0 * best['recm_volume']:.0f} % of the volume"


COMMAND = Command("pretrain", "train a model: the three stages", add_arguments, run, check)
