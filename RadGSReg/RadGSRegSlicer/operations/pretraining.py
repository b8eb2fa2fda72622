"""Train for one patient: CT, segmentation and label go to a child process, a model comes back."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import slicer
from RadGSRegLib.choices import DEVICES
from RadGSRegLib.errors import InputError

from ..exchange.modelcard import Card, knownCard
from ..exchange.staging import CASE, stageCase
from ..process.jobs import Job
from ..process.runs import CommandRun, WorkFolder
from ..scene.levels import segmentLevel
from ..scene.segments import findSegment
from .requests import Argument, Request, choice

SUFFIX = ".safetensors"
_STOP = "stop"


@dataclass(frozen=True)
class TrainedModel:
    """A model's file and what it says of itself (data, training, figures, limits)."""

    path: Path
    card: Card


class PretrainingRun(CommandRun[TrainedModel]):
    """A training; it can be ended before its time with the best so far."""

    def finish(self) -> None:
        """End now, with the best so far.

        Raises InputError before anything was measured (`figures`): then there is no best.
        """
        if not self.figures:
            raise InputError("training", "has measured nothing yet", "wait a little, or cancel it")
        # Where its folder is gone, the training has ended by itself a moment ago.
        with contextlib.suppress(FileNotFoundError):
            (self.folder.inputs / _STOP).touch()


@dataclass
class PretrainRequest(Request):
    """Train a model for one vertebra of one CT, before there are X-rays.

    ``segment``: the vertebra, by segment ID, name or level ("L3"). ``modelPath``: the file to write
    (``.safetensors`` is added where it is missing); its card goes beside it (``.md``). ``minutes``:
    stop then, with the best so far. ``device``: "auto", "cpu" or "cuda". ``base``: a model to go on
    from, as ``radgsreg pretrain --base``: if it is left out, the weights that come with the
    program; ``"none"`` for none. ``config``: a file of options, as ``radgsreg pretrain --config``.
    """

    ctNode: Any
    segmentationNode: Any
    segment: str
    modelPath: str | os.PathLike[str]
    _: KW_ONLY
    minutes: float = 20.0
    device: str = choice("auto", DEVICES)
    base: str | os.PathLike[str] | None = None
    config: str | os.PathLike[str] | None = None

    RUN = PretrainingRun

    @property
    def target(self) -> Path:
        """Where the model goes. Raises InputError where that is no place for a file."""
        return modelFile(self.modelPath)

    def check(self) -> None:
        super().check()
        if self.outputFolder is not None:
            raise InputError("outputFolder", "is of no use here", "the model goes to modelPath")
        if not 0.0 < self.minutes < 1e5:
            raise InputError("minutes", f"{self.minutes} is no positive number of minutes")
        target = self.target
        try:
            # Better refused now than after the training.
            with tempfile.NamedTemporaryFile(dir=target.parent, suffix=target.name):
                pass
        except OSError as error:
            raise InputError(target, f"cannot be written ({error.strerror})") from error

    def toArguments(self, folder: WorkFolder) -> list[Argument]:
        arguments: list[Argument] = ["pretrain", "--stage", "3", folder.inputs / CASE]
        arguments += ["--out", folder.outputs / self.target.name]
        arguments += ["--minutes", f"{self.minutes:g}", "--device", self.device]
        arguments += ["--work", folder.scratch, "--stop", folder.inputs / _STOP]
        if self.base is not None:
            arguments += ["--base", self.base if self.base == "none" else Path(self.base).resolve()]
        if self.config is not None:
            arguments += ["--config", Path(self.config).resolve()]
        return arguments

    def _workFolder(self) -> WorkFolder:
        return WorkFolder(self.target.parent, isShared=True)

    def _stage(self, folder: WorkFolder) -> Iterator[None]:
        name = vertebraName(self.segmentationNode, self.segment)
        nodes = self.ctNode, self.segmentationNode, self.segment, None
        prepare = stageCase(*nodes, folder.inputs, name=name)
        folder.outputs.mkdir()
        return prepare

    def _load(self, path: Path, job: Job) -> TrainedModel:
        return TrainedModel(self.target, knownCard(self.target))


def vertebraName(segmentationNode: slicer.vtkMRMLSegmentationNode | None, segment: str) -> str:
    """What the vertebra is called in the model: its level, never a name that somebody typed."""
    if segmentationNode is None:
        raise InputError("segmentation", "none is chosen")
    level = segmentLevel(segmentationNode, findSegment(segmentationNode, segment))
    return "vertebra" if level is None else level.level


def modelFile(path: str | os.PathLike[str]) -> Path:
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
    """Choose where a model of a vertebra goes: beside the scene, under a new name."""
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
