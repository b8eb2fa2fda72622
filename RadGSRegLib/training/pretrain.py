"""One command for the three stages: data in, a model and its card out."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ..cases import patient_of, read_ct_case, sha256_of_file
from ..errors import InputError
from ..networks import CENTRE
from ..networks.anchors import grid_cloud
from ..networks.model import RadGSReg, load_model, save_model
from ..networks.places import PLACES
from ..networks.shipped import shipped_name
from ..system.progress import Progress
from ..system.torch_threads import one_torch_thread
from .board import Board
from .config import TrainingConfig
from .detection import FOUND_MM, DetectorTrainer, whole_views
from .figures import reconstruction_figures
from .pool import SamplePool, Source
from .readers import ct_sources, folds, phantom_sources, real_sources, verse_sources
from .samples import SampleOptions
from .shapes import SHAPES, shape_facts, shapes_of
from .stages import finish_patient_model, patient_model, patient_source
from .template import find_axes, mean_vertebra, template_cloud
from .trainer import History, Trainer
from .work import claim

_AVERAGED = 20
_GRID_EDGE = 12
_UNSEEN = 2
_MEASURED = 12


@dataclass(frozen=True)
class Pretraining:
    """What `pretrain` is asked for.

    ``stage`` 1: ``phantoms`` (how many spines), ``cts`` (a folder), ``verse`` (VerSe'20's folder);
    2: ``cases``, a folder of X-ray cases with truth, of which fold ``fold`` of five is held out,
    for choosing the best weights and for the card (None: nothing is, and both know no X-rays but
    those trained on); 3: ``case``, a case.json. ``base``: a model to go on from. ``minutes``: the
    budget (None: all steps). ``work``: a folder for checkpoints and data, from which an interrupted
    run goes on (None: a temporary one). ``stop``: a file; once it is there, training ends as if the
    minutes were over. ``board``: a folder for TensorBoard.
    """

    stage: int
    out: Path
    case: Path | None = None
    phantoms: int = 0
    cts: Path | None = None
    verse: Path | None = None
    cases: Path | None = None
    fold: int | None = None
    base: Path | None = None
    minutes: float | None = None
    work: Path | None = None
    stop: Path | None = None
    board: Path | None = None
    device: str = "cpu"
    anchors: str = "template"


def pretrain(
    asked: Pretraining, config: TrainingConfig, progress: Progress | None = None
) -> History:
    """Train one stage and write the model; returns what was measured on the way.

    Raises InputError for data that is missing or unusable, and Cancelled when ``progress`` says so
    (nothing is written then, but a ``work`` folder keeps what is needed to go on).
    """
    report = progress or Progress()
    if asked.out.suffix != ".safetensors":
        raise InputError(asked.out, "is not a model's name", "let it end in .safetensors")
    if not asked.out.parent.is_dir():
        raise InputError(asked.out, "its folder does not exist")
    if not os.access(asked.out.parent, os.W_OK):
        raise InputError(asked.out, "its folder cannot be written to", "name another one")
    if asked.stop is not None and asked.stop.exists():
        raise InputError(asked.stop, "is there already and would end the training", "remove it")
    began = time.perf_counter()
    temporary = TemporaryDirectory(prefix="radgsreg-") if asked.work is None else nullcontext()
    with temporary as folder:
        work = Path(folder) if isinstance(folder, str) else asked.work
        assert work is not None
        base = None if asked.base is None else load_model(asked.base)
        torch.manual_seed(config.seed)
        report(0.0, "preparing the data")
        sources, held, what = _sources(asked, config, work)
        claim(work, _identity(asked, config, sources, what))
        if config.detection.share == 0.0:
            # One that was never trained must not be trusted: without it, crops are scanned.
            config = replace(config, model=replace(config.model, detector=None))
        with one_torch_thread():
            model = _model(asked, config, sources, held, base, work, report.part(0.0, 0.05))
        config = replace(config, model=model.config)
        pool = SamplePool(sources, config.samples, config.seed, work / "pairs", config.workers)
        spent = (time.perf_counter() - began) / 60.0
        minutes = None if asked.minutes is None else max(asked.minutes - spent, 0.02)
        with Board(asked.board) as board:
            trainer = Trainer(
                model,
                pool,
                config,
                device=asked.device,
                folder=work,
                log=board.write,
                unseen=_unseen(asked, held, config, config.samples, work / "unseen"),
            )
            enough = None if asked.stop is None else asked.stop.exists
            share = 0.0 if model.detector is None else config.detection.share
            parts = report.part(0.05, 0.05 + 0.93 * share), report.part(0.05 + 0.93 * share, 0.98)
            detection: list[dict[str, float]] = []
            try:
                if share > 0:
                    detector = _detector_trainer(asked, config, sources, held, trainer, work)
                    budget = None if minutes is None else share * minutes
                    detection = detector.run(parts[0], budget, enough)
                    spent = (time.perf_counter() - began) / 60.0
                    minutes = None if asked.minutes is None else max(asked.minutes - spent, 0.02)
                seen = model.detector
                found = None if seen is None else copy.deepcopy(seen.state_dict())
                history = trainer.run(parts[1], minutes, enough)
                if seen is not None and found is not None:
                    # A checkpoint of the rest may hold an earlier state of the detector.
                    seen.load_state_dict(found)
                history.detection = detection
            finally:
                pool.close()
        if asked.stage == 3:
            with one_torch_thread():
                finish_patient_model(model, sources[0].subject(), config)
        if trainer.rank == 0:
            minutes_taken = (time.perf_counter() - began) / 60.0
            report(0.98, "measuring reconstructions")
            with one_torch_thread():
                quality = reconstruction_figures(
                    model, trainer.unseen or pool, min(config.validate, _MEASURED)
                )
            card = _card(asked, base, config, what, history, quality, trainer.step, minutes_taken)
            if model.shapes is not None:
                kept = {} if base is None else base.card.get(SHAPES, {})
                card[SHAPES] = shape_facts(work) or kept
            save_model(asked.out, model, card)
    report(1.0, f"trained: {asked.out}")
    return history


def _sources(
    asked: Pretraining, config: TrainingConfig, work: Path
) -> tuple[list[Source], list[Source], dict[str, Any]]:
    """The sources of a stage, those held out, and what the card says of them (nobody's name)."""
    if asked.stage == 3:
        if asked.case is None:
            raise InputError("--stage 3", "needs a case", "name a case.json")
        case = read_ct_case(asked.case)
        source = patient_source(case)
        centre = [round(float(x), 2) for x in source.subject().centre_ct]
        data = {"patient": patient_of(case), "label": case.label_name, CENTRE: centre}
        return [source], [], data
    if asked.stage == 2:
        if asked.cases is None:
            raise InputError("--stage 2", "needs a folder of X-ray cases with truth", "--cases DIR")
        real: list[Source] = []
        held: list[Source] = []
        cases = real_sources(asked.cases)
        out: set[int] = set()
        if asked.fold is not None:
            out = set(folds([patient_of(one.case) for one in cases])[asked.fold])
        for number, one in enumerate(cases):
            (held if number in out else real).append(one)
        counts = {"X-ray cases": len(real), "X-ray cases held out": len(held)}
        return real, held, {**counts, "held-out fold": asked.fold}
    sources: list[Source] = []
    what: dict[str, Any] = {}
    if asked.phantoms:
        sources += phantom_sources(asked.phantoms, config.seed, folder=work / "phantoms")
        what["phantom spines"] = asked.phantoms
    if asked.cts is not None:
        found = ct_sources(asked.cts)
        sources += found
        what["CT vertebrae"] = len(found)
    if asked.verse is not None:
        found = verse_sources(asked.verse)
        sources += found
        what["VerSe'20 vertebrae"] = len(found)
    if not sources:
        raise InputError("--stage 1", "has no data", "give --phantoms, --cts or --verse")
    return sources, [], what


def _identity(
    asked: Pretraining, config: TrainingConfig, sources: Sequence[Source], what: dict[str, Any]
) -> dict[str, Any]:
    """What an interrupted training must have in common with the one that goes on."""
    fixed = ("model", "samples", "shapes", "gaussians", "seed", "batch")
    values = config.to_json()
    return {
        "data": [asked.stage, what, [source.name for source in sources]],
        "base": None if asked.base is None else sha256_of_file(asked.base),
        "options": [asked.anchors, {name: values[name] for name in fixed}],
    }


def _unseen(
    asked: Pretraining,
    held: list[Source],
    config: TrainingConfig,
    options: SampleOptions,
    folder: Path,
) -> SamplePool | None:
    """In stage 1, phantoms that are never trained on; in stage 2, the held-out fold."""
    sources = held
    if asked.stage == 1:
        phantoms = folder.with_name("phantoms")
        sources = phantom_sources(_UNSEEN, config.seed + 2 * 10**6, folder=phantoms)
    if not sources:
        return None
    return SamplePool(sources, options, config.seed + 1, folder)


def _detector_trainer(
    asked: Pretraining,
    config: TrainingConfig,
    sources: list[Source],
    held: list[Source],
    trainer: Trainer,
    work: Path,
) -> DetectorTrainer:
    """What trains the detector of the trainer's model, on whole views of the same sources."""
    detector = trainer.model.detector
    assert detector is not None
    options = whole_views(config.samples, detector.config)
    return DetectorTrainer(
        detector,
        SamplePool(sources, options, config.seed, work / "views"),
        config.detection,
        own=trainer.model.is_patient_specific,
        seed=config.seed,
        device=trainer.device,
        folder=work,
        writes=trainer.rank == 0,
        log=trainer.log,
        unseen=_unseen(asked, held, config, options, work / "unseen-views"),
    )


def _model(
    asked: Pretraining,
    config: TrainingConfig,
    sources: list[Source],
    held: list[Source],
    base: RadGSReg | None,
    work: Path,
    report: Progress,
) -> RadGSReg:
    """The model to train; in stage 1 and 2 all sources are given the anchors' axes."""
    if asked.stage == 3:
        return patient_model(sources[0].subject(), config, base)
    # A phantom's axes are known, so the mean is theirs; other vertebrae are compared with it.
    known = [s for s in sources if s.axes_known]
    if not known:
        known = phantom_sources(4, config.seed + 10**6, folder=work / "phantoms")
    chosen = known[:: max(len(known) // _AVERAGED, 1)][:_AVERAGED]
    mean = mean_vertebra([s.subject() for s in chosen], report.part(0.0, 0.1))
    for some in (sources, held):
        for n, source in enumerate(some):
            if not source.axes_known:
                some[n] = _with_axes(source, find_axes(source.subject(), mean))
    shapes = replace(config.model, modes=0)
    if base is None and asked.anchors == "grid":
        return RadGSReg(shapes, grid_cloud(_GRID_EDGE))
    if base is None:
        model = RadGSReg(shapes, template_cloud(mean, config.gaussians))
    else:
        model = base.with_detector(config.model.detector).train()
    # Modes are of vertebrae, not of a grid, and a patient's shape is known.
    bendable = _anchors(asked, base) != "grid" and not model.is_patient_specific
    if asked.stage == 1 and bendable and model.shapes is None:
        learned = shapes_of(
            model.recm.anchors,
            sources,
            config.shapes,
            seed=config.seed,
            folder=work,
            minutes=asked.minutes,
            progress=report.part(0.1, 1.0),
            enough=None if asked.stop is None else asked.stop.exists,
        )
        model = model if learned is None else model.with_shapes(learned)
    return model


def _anchors(asked: Pretraining, base: RadGSReg | None) -> str:
    """What a population's anchors are: those of the model that it goes on from, if there is one."""
    kept = {} if base is None else base.card.get("training", {})
    return str(kept.get("anchors", asked.anchors))


class _WithAxes:
    """A source whose subjects know the anchors' axes."""

    def __init__(self, inner: Source, axes: Any) -> None:
        self.inner, self.axes = inner, axes

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def axes_known(self) -> bool:
        return True

    def subject(self, wide: bool = False) -> Any:
        return self.inner.subject(wide).with_axes(self.axes)

    def sample(self, subject: Any, options: Any, seed: int) -> Any:
        return self.inner.sample(subject, options, seed)


def _with_axes(source: Source, axes: Any) -> Source:
    return _WithAxes(source, axes)


def _card(
    asked: Pretraining,
    base: RadGSReg | None,
    config: TrainingConfig,
    what: dict[str, Any],
    history: History,
    quality: dict[str, float],
    steps: int,
    minutes: float,
) -> dict[str, Any]:
    last = history.best()
    known = "Simulated X-rays (the library's own physics)"
    if asked.stage == 2:
        known = "The X-rays of the cases it was given, and what the model knew that it went on from"
    return {
        "what": f"RadGS-Reg, stage {asked.stage}, encoder {config.model.recm.encoder}",
        "use": "Research only, not for clinical decisions.",
        "date": date.today().isoformat(),
        "data": what,
        "training": {
            "minutes": round(minutes, 1),
            "steps": steps,
            "pairs": int(last.get("pairs", 0)),
            "device": asked.device,
            "seed": config.seed,
            "anchors": _anchors(asked, base) if asked.stage != 3 else "the patient's own",
            "went on from a model": _base_name(asked, base),
        },
        f"figures on {measured_on(asked)}": {
            "RecM, median distance of surface points (mm)": round(last.get("recm_mm", -1.0), 2),
            "RegM, the same (mm)": round(last.get("regm_mm", -1.0), 2),
            "RecM, SSIM on the vertebra's box": round(quality["ssim"], 3),
            "RecM, PSNR (dB)": round(quality["psnr_db"], 1),
        },
        **_detection_figures(history, asked),
        "limits": f"{known}; lumbar vertebrae; box within 13 "
        "mm of the vertebra's centre, the spine within 20 degrees about each axis.",
        "history": [
            {k: round(v, 3) for k, v in entry.items()} for entry in _thinned(history.entries)
        ],
    }


def _base_name(asked: Pretraining, base: RadGSReg | None) -> str | bool:
    """What the card says of the base: never a name that somebody typed, nor a path."""
    if asked.base is None or base is None:
        return False
    return shipped_name(asked.base, base.card) or True


def measured_on(asked: Pretraining) -> str:
    """What the figures of a training are about."""
    if asked.stage == 2 and asked.fold is None:
        return "other crops of the X-rays trained on"
    if asked.stage == 2:
        return "X-rays of the held-out fold"
    unseen = " of phantoms never trained on" if asked.stage == 1 else ""
    return f"held-out simulated pairs{unseen}"


def _detection_figures(history: History, asked: Pretraining) -> dict[str, Any]:
    """What the card says of the detector, if there is one."""
    if not history.detection:
        return {}
    last = history.detection[-1]
    views = "held-out simulated pairs of whole views"
    if asked.stage == 2:
        views = f"whole views, {measured_on(asked)}"
    return {
        f"detector on {views}": {
            "steps": int(last["step"]),
            "pairs": int(last["pairs"]),
            "first place, median distance from a wanted vertebra (mm)": round(last["first_mm"], 1),
            f"first place within {FOUND_MM:.0f} mm of the vertebra (share)": round(
                last["first"], 3
            ),
            f"one of the first {PLACES} is (share)": round(last["among"], 3),
        }
    }


def _thinned(entries: Sequence[dict[str, float]], most: int = 20) -> list[dict[str, float]]:
    step = max(1, -(-len(entries) // most))
    return list(entries[::step])
