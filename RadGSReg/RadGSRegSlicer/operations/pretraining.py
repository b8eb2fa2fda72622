"""Train for one patient: CT, segmentation and label go to a child process, a model comes back."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from RadGSRegLib.errors import InputError

from ..exchange.modelcard import Card, knownCard
from ..exchange.staging import CASE, stageCase
from ..process import environment
from ..process.tasks import Task, WorkFolder
from ..scene.levels import segmentLevel
from ..scene.segments import findSegment
from .compute import checkDevice

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode

SUFFIX = ".safetensors"
_STOP = "stop"


@dataclass(frozen=True)
class TrainedModel:
    """A model's file and what it says of itself (data, training, figures, limits)."""

    path: Path
    card: Card


class PretrainingTask(Task[TrainedModel]):
    """A training; it can be ended before its time with the best so far."""

    stopFile: Path

    def finish(self) -> None:
        """End now, with the best so far.

        Raises InputError before anything was measured (`figures`): then there is no best.
        """
        if not self.figures:
            raise InputError("training", "has measured nothing yet", "wait a little, or cancel it")
        # Where its folder is gone, the training has ended by itself a moment ago.
        with contextlib.suppress(FileNotFoundError):
            self.stopFile.touch()


def pretrain(
    ctNode: vtkMRMLScalarVolumeNode | None,
    segmentationNode: vtkMRMLSegmentationNode | None,
    segment: str,
    path: str | os.PathLike[str],
    *,
    minutes: float = 20.0,
    device: str = "auto",
    base: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    progressCallback: Callable[[float, str], object] | None = None,
    completedCallback: Callable[[Task[TrainedModel]], object] | None = None,
) -> PretrainingTask:
    """The task, not started yet. Arguments as in ``RadGSRegLogic.pretrain``."""
    environment.requirePackages()
    checkDevice(device)
    if not 0.0 < minutes < 1e5:
        raise InputError("minutes", f"{minutes} is no positive number of minutes")
    target = modelPath(path)
    try:
        # Better refused now than after the training.
        with tempfile.NamedTemporaryFile(dir=target.parent, suffix=target.name):
            pass
    except OSError as error:
        raise InputError(target, f"cannot be written ({error.strerror})") from error
    folder = WorkFolder(target.parent)
    try:
        name = vertebraName(segmentationNode, segment)
        prepare = stageCase(ctNode, segmentationNode, segment, None, folder.inputs, name=name)
    except BaseException:
        folder.remove()
        raise
    folder.outputs.mkdir()
    arguments: list[Any] = ["pretrain", "--stage", "3", folder.inputs / CASE]
    arguments += ["--out", folder.outputs / target.name, "--minutes", f"{minutes:g}"]
    arguments += ["--device", device, "--work", folder.scratch, "--stop", folder.inputs / _STOP]
    if base is not None:
        arguments += ["--base", base if base == "none" else Path(base).resolve()]
    if config is not None:
        arguments += ["--config", Path(config).resolve()]
    task = PretrainingTask(
        arguments,
        folder,
        lambda _: TrainedModel(target, knownCard(target)),
        prepare=prepare,
        progressCallback=progressCallback,
        completedCallback=completedCallback,
    )
    task.stopFile = folder.inputs / _STOP
    return task


def vertebraName(segmentationNode: vtkMRMLSegmentationNode | None, segment: str) -> str:
    """What the vertebra is called in the model: its level, never a name that somebody typed."""
    if segmentationNode is None:
        raise InputError("segmentation", "none is chosen")
    level = segmentLevel(segmentationNode, findSegment(segmentationNode, segment))
    return "vertebra" if level is None else level.level


def modelPath(path: str | os.PathLike[str]) -> Path:
    """Where a model goes that is to be at ``path``; the ending is added where it is missing.

    Raises InputError where that is no place for a file.
    """
    try:
        target = Path(path).expanduser().resolve()
        if target.is_dir():
            raise InputError(target, "is a folder", "name a file")
        if target.suffix != SUFFIX:
            target = target.with_name(target.name + SUFFIX)
        if not target.parent.is_dir():
            raise InputError(target, "its folder does not exist", "make it first")
        for file in filesOf(target):
            file.exists()
    except (OSError, RuntimeError, ValueError) as error:
        # Names that are too long, folders that may not be looked into, "~somebody", ...
        raise InputError(path, f"cannot be used ({getattr(error, 'strerror', error)})") from error
    return target


def defaultPath(name: str) -> Path:
    """Where a model of a vertebra goes if nobody says: beside the scene, under a new name."""
    folder = Path(slicer.mrmlScene.GetRootDirectory() or Path.home())
    if not os.access(folder, os.W_OK | os.X_OK):
        folder = Path.home()
    number = 1
    while True:
        ending = SUFFIX if number == 1 else f"-{number}{SUFFIX}"
        path = folder / f"radgsreg-{name}{ending}"
        if not any(file.exists() for file in filesOf(path)):
            return path
        number += 1


def filesOf(path: Path) -> tuple[Path, Path]:
    """The files that a model at ``path`` consists of: itself, and its card as text."""
    return path, path.with_suffix(".md")
