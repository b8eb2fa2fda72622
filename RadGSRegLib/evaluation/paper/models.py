"""Trained models as methods: the networks alone, fitted to the X-rays, and refined."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ...reconstruction.box import box_of_cloud
from ...system.progress import Progress
from .answers import Answer, Attention, Method, Solver, Task
from .methods import BUILT_IN, optimize

if TYPE_CHECKING:
    from ...cases import Case
    from ...networks.model import RadGSReg
    from ...networks.start import LearnedStart

SUFFIX = ".safetensors"
FITTED = "+fitted"
REFINED = "+refined"
_SPACING_MM = 1.0


@dataclass(frozen=True)
class ModelSource:
    """A name for the tables, and a model's file, or a folder with CASE.safetensors for every case
    (patient-specific models, or those of five folds)."""

    name: str
    path: Path

    def file(self, case: str) -> Path:
        """The model for a case."""
        return self.path / f"{case}{SUFFIX}" if self.path.is_dir() else self.path


def model_sources(texts: list[str]) -> list[ModelSource]:
    """What ``--model NAME=PATH`` or ``--model PATH`` (named after the file) ask for.

    Raises InputError for a name that is empty, given twice, taken or unfit for a table, and for a
    path that does not exist.
    """
    sources: list[ModelSource] = []
    taken = set(BUILT_IN)
    for text in texts:
        name, equals, path = text.partition("=")
        found = Path(path if equals else text)
        name = name if equals else found.name.removesuffix(SUFFIX)
        if not name or set(name) & set("|,\n+*") or name.strip() != name:
            raise InputError("--model", f"'{text}' has no usable name", "write NAME=PATH")
        if name in taken:
            raise InputError("--model", f"the name '{name}' is taken", "write NAME=PATH")
        if not found.exists():
            raise InputError(found, "does not exist")
        taken |= {name}
        sources.append(ModelSource(name, found))
    return sources


def check_models(sources: list[ModelSource], cases: list[str], device: str) -> None:
    """Every case has its model and the first of each source can be read; InputError otherwise."""
    for source in sources:
        for case in cases:
            if not source.file(case).is_file():
                raise InputError(source.file(case), "does not exist", "each case needs its model")
        _load(source.file(cases[0]), device)


def model_methods(source: ModelSource, effort: str, device: str) -> list[Method]:
    """The networks alone ("NAME"), their Gaussians moved as one piece to fit the X-rays
    ("NAME+fitted"), and our refinement and, at need, search from there ("NAME+refined")."""
    facts = {} if source.path.is_dir() else _facts(_load(source.path, device))
    solvers: dict[str, Solver] = {
        "": partial(_networks, source, device, fit=False),
        FITTED: partial(_networks, source, device, fit=True),
        REFINED: partial(_refined, source, effort, device),
    }
    return [
        Method(
            source.name + kind,
            source.name + kind.replace("+", ", "),
            "model",
            registers=True,
            reconstructs=True,
            solve=solve,
            needs_start=False,
            facts=facts,
        )
        for kind, solve in solvers.items()
    ]


@lru_cache(maxsize=4)
def _load(path: Path, device: str) -> RadGSReg:
    from ...networks import load_model

    return load_model(path, device)


def _facts(model: RadGSReg) -> dict[str, Any]:
    recm = model.config.recm
    return {
        "encoder": recm.encoder,
        "counterfactual": recm.counterfactual,
        "patient_specific": model.is_patient_specific,
        "card": model.card,
    }


def own_name(key: str) -> str:
    """The model's name in a method's key."""
    return key.removesuffix(REFINED).removesuffix(FITTED)


def _look(
    task: Task, source: ModelSource, device: str, progress: Progress, *, fit: bool
) -> tuple[Any, float]:
    """What the networks see, and the seconds that took (the model being in memory)."""
    from ...networks import learned_start

    model = _load(source.file(task.name), device)
    began = time.perf_counter()
    seen = learned_start(task.case, model, task.given, progress, fit=fit)
    return seen, time.perf_counter() - began


def _networks(
    source: ModelSource, device: str, task: Task, progress: Progress, *, fit: bool
) -> Answer:
    seen, seconds = _look(task, source, device, progress, fit=fit)
    progress.pose(seen.candidates[0].ct_to_world)
    answer = Answer(seen.candidates[0].ct_to_world, seconds)
    if not task.wants_volume:
        return answer
    began = time.perf_counter()
    volume = box_of_cloud(seen.cloud, _SPACING_MM).voxelize(seen.cloud)
    drawn = time.perf_counter() - began
    maps = attention_of(task.case, seen)
    return replace(answer, volume=volume, reconstruction_s=drawn, attention=maps)


def _refined(
    source: ModelSource, effort: str, device: str, task: Task, progress: Progress
) -> Answer:
    seen, seconds = _look(task, source, device, progress.part(0.0, 0.1), fit=True)
    return optimize(task, effort, device, progress.part(0.1, 1.0), seen.candidates, seconds)


def attention_of(case: Case, seen: LearnedStart) -> Attention:
    """The maps of a learned start over the crops they are about."""
    from ...networks.crops import resample
    from ...views.prepare import prepare_view

    crops, maps = [], []
    signs = seen.candidates[0].signs
    for number, view in enumerate(case.views):
        ready = prepare_view(view)
        virtual = seen.frame.cameras[number]
        box_to_world = seen.frame.box_to_world
        image, valid = resample(ready.pixels, ready.valid, view.camera, box_to_world, virtual)
        crops.append(np.where(valid > 0, signs[number] * image, np.nan).astype(np.float32))
        maps.append(seen.attention[number].mean(0).float().cpu().numpy())
    return Attention(tuple(view.name for view in case.views), tuple(crops), tuple(maps))
