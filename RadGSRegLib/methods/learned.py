"""Trained models as methods: the networks alone, fitted to the X-rays, and refined."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..pipeline import PipelineOptions
from ..reconstruction import ReconstructionOptions
from ..registration import registration_options
from ..system import Progress
from .contract import About, Answer, Attention, FunctionMethod, Method, Task
from .ours import optimize
from .published import reconstruction_of, register_published
from .settings import Settings

if TYPE_CHECKING:
    from ..networks import LearnedStart, RadGSReg, Seen

SUFFIX = ".safetensors"
FITTED = "+fitted"
REFINED = "+refined"
PUBLISHED = "+published"


@dataclass(frozen=True)
class ModelSource:
    """A name for the tables, and a model's file, or a folder with CASE.safetensors for every case
    (patient-specific models, or those of five folds)."""

    name: str
    path: Path

    def file(self, case: str) -> Path:
        """Return the model's file for a case."""
        return self.path / f"{case}{SUFFIX}" if self.path.is_dir() else self.path


def model_entries(
    texts: Sequence[str], cases: Sequence[str], settings: Settings, taken: Container[str]
) -> dict[str, Callable[[Settings], Method]]:
    """Make four entries for every model of the command line (see `model_sources`).

    Raises InputError where `model_sources` does, where one of ``cases`` lacks its model, and where
    the first of a source cannot be read.
    """
    entries: dict[str, Callable[[Settings], Method]] = {}
    for source in model_sources(texts, taken):
        for case in cases:
            if not source.file(case).is_file():
                raise InputError(source.file(case), "does not exist", "each case needs its model")
        if cases:
            _load(source.file(cases[0]), settings.device)
        for kind in ("", FITTED, REFINED, PUBLISHED):
            entries[source.name + kind] = partial(_method, source, kind)
    return entries


def model_sources(texts: Sequence[str], taken: Container[str]) -> list[ModelSource]:
    """Read what ``--model NAME=PATH`` or ``--model PATH`` (named after the file) ask for.

    Raises InputError for a name that is empty, given twice, ``taken`` or unfit for a table, and for
    a path that does not exist.
    """
    sources: dict[str, ModelSource] = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        path = Path(rest if equals else text)
        name = name if equals else path.name.removesuffix(SUFFIX)
        if not name or set(name) & set("|,\n+*") or name.strip() != name:
            raise InputError("--model", f"'{text}' has no usable name", "write NAME=PATH")
        if name in taken or name in sources:
            raise InputError("--model", f"the name '{name}' is taken", "write NAME=PATH")
        if not path.exists():
            raise InputError(path, "does not exist")
        sources[name] = ModelSource(name, path)
    return list(sources.values())


def own_name(key: str) -> str:
    """Return the model's name in a method's key."""
    for kind in (FITTED, REFINED, PUBLISHED):
        key = key.removesuffix(kind)
    return key


def _method(source: ModelSource, kind: str, settings: Settings) -> Method:
    """The networks alone ("NAME"), their Gaussians moved as one piece to fit the X-rays
    ("NAME+fitted"), our refinement and, at need, search from there ("NAME+refined"), or from the
    networks alone with their agreement as evidence ("NAME+published")."""
    key = source.name + kind
    facts = {} if source.path.is_dir() else _facts(_load(source.path, settings.device))
    about = About(key, key.replace("+", ", "), "model", needs_start=False, facts=facts)
    if kind == REFINED:
        return FunctionMethod(about, partial(_refined, source, settings))
    if kind == PUBLISHED:
        return FunctionMethod(about, partial(_published, source, settings))
    return FunctionMethod(about, partial(_networks, source, settings, kind == FITTED))


@lru_cache(maxsize=4)
def _load(path: Path, device: str) -> RadGSReg:
    from ..networks import load_model

    return load_model(path, device)


def _facts(model: RadGSReg) -> dict[str, Any]:
    recm = model.config.recm
    return {
        "encoder": recm.encoder,
        "counterfactual": recm.counterfactual,
        "patient_specific": model.is_patient_specific,
        "card": model.card,
    }


def _look(
    task: Task, source: ModelSource, device: str, progress: Progress, fit: bool
) -> tuple[LearnedStart, float]:
    """What the networks see, and the seconds that took (the model being in memory)."""
    from ..networks import learned_start

    model = _load(source.file(task.name), device)
    began = time.perf_counter()
    start = learned_start(task.needed_case(), model, task.given, progress, fit=fit)
    return start, time.perf_counter() - began


def _networks(source: ModelSource, settings: Settings, fit: bool, task: Task) -> Answer:
    start, seconds = _look(task, source, settings.device, task.progress, fit)
    pose = start.candidates[0].ct_to_world
    task.progress.pose(pose)
    answer = Answer(pose, seconds)
    if not task.wants_volume:
        return answer
    began = time.perf_counter()
    made = reconstruction_of(start.seen)
    drawn = time.perf_counter() - began
    maps = _attention(task, start.seen)
    return replace(
        answer, volume=made.volume, cloud=made.cloud, reconstruction_s=drawn, attention=maps
    )


def _refined(source: ModelSource, settings: Settings, task: Task) -> Answer:
    progress = task.progress
    start, seconds = _look(task, source, settings.device, progress.part(0.0, 0.1), True)
    rest = replace(task, progress=progress.part(0.1, 1.0))
    return optimize(settings, rest, [start.proposer()], seconds)


def _published(source: ModelSource, settings: Settings, task: Task) -> Answer:
    """X-rays to volume to pose, refined; the reconstruction is RecM's, made on the way."""
    options = PipelineOptions(
        registration_options(settings.effort, seed=task.seed),
        ReconstructionOptions(device=settings.device, seed=task.seed),
    )
    model = _load(source.file(task.name), settings.device)
    done = register_published(task.needed_case(), model, task.given, options, task.progress)
    registration = done.registration
    answer = Answer(
        registration.ct_to_world,
        done.timing_s["total"],
        status=registration.status,
        reason=registration.reason,
        quality=registration.quality,
    )
    if not task.wants_volume:
        return answer
    seconds = done.timing_s["reconstruct"]
    return replace(
        answer, volume=done.volume_world, cloud=done.cloud_world, reconstruction_s=seconds
    )


def _attention(task: Task, seen: Seen) -> Attention:
    """The maps of what a model sees over the crops they are about."""
    from ..networks import resample_views
    from ..views import prepare_views

    images, valid = (
        part[0].numpy() for part in resample_views(prepare_views(task.views), [seen.frame])
    )
    signs = np.array(seen.signs)[:, None, None]
    crops = np.where(valid > 0, signs * images, np.nan).astype(np.float32)
    maps = tuple(part.mean(0).float().cpu().numpy() for part in seen.prediction.attention[0])
    return Attention(tuple(view.name for view in task.views), tuple(crops), maps)
