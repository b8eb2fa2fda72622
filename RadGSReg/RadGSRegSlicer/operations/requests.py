"""What an operation is asked: a request that knows whether it is valid and which command it is."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import slicer
from RadGSRegLib.choices import DEVICES
from RadGSRegLib.errors import InputError

from ..exchange.results import OutputNodes
from ..process import environment
from ..process.driver import Driver
from ..process.jobs import Job, ProgressCallback
from ..process.runs import CommandRun, WorkFolder
from ..scene.frames import transformMatrix

Argument = str | os.PathLike[str]


def choice(default: str, choices: Sequence[str]) -> Any:
    """Declare a field of a request that takes one of these words."""
    return dataclasses.field(default=default, metadata={"choices": choices})


@dataclass(kw_only=True)
class Request:
    """A request of one operation, which runs in a child process. A subclass adds what it takes.

    ``waitForCompletion``: whether `run` returns the result when that is there, or the run at once,
    whose ``poll`` a timer calls inside Slicer and the caller elsewhere. ``progressCallback`` gets
    (fraction, message) and may return False to cancel; ``completedCallback`` gets the run.
    ``outputFolder``: keep the result files here; else they are temporary.
    """

    outputFolder: str | os.PathLike[str] | None = None
    waitForCompletion: bool = True
    progressCallback: ProgressCallback | None = None
    completedCallback: Callable[[Any], object] | None = None

    RUN: ClassVar[type[CommandRun[Any]]] = CommandRun

    @classmethod
    def of(cls, *inputs: Any, **options: Any) -> Self:
        """Make a request. Raises InputError for an option that it does not have."""
        names = [f.name for f in dataclasses.fields(cls)]
        for name in options:
            if name not in names:
                raise InputError(name, "is no option here", f"there are {', '.join(names)}")
        return cls(*inputs, **options)

    def check(self) -> None:
        """Raises InputError, one sentence, where the request cannot be met."""
        for f in dataclasses.fields(self):
            choices = f.metadata.get("choices")
            value = getattr(self, f.name)
            if choices is not None and value not in choices:
                raise InputError(f.name, f"'{value}' is unknown", f"use {', '.join(choices)}")

    def problem(self) -> str:
        """What keeps the request from being met, one sentence; empty if nothing does."""
        try:
            self.check()
        except InputError as error:
            return str(error)
        return ""

    def toArguments(self, folder: WorkFolder) -> list[Argument]:
        """The command line, after ``radgsreg``, with inputs and outputs in a folder."""
        raise NotImplementedError

    def driver(self) -> Driver[Any]:
        """The run, not started yet. Raises InputError, `MissingPackagesError` or RuntimeError."""
        environment.requirePackages()
        self.check()
        folder = self._workFolder()
        try:
            prepare = self._stage(folder)
        except BaseException:
            folder.remove()
            raise
        run = self.RUN(
            self.toArguments(folder),
            folder,
            lambda path: self._load(path, run.job),
            prepare=prepare,
            progressCallback=self.progressCallback,
            completedCallback=self._completed,
        )
        return run

    def run(self) -> Any:
        """Start the run; returns its result, or the run itself without `waitForCompletion`."""
        run = self.driver()
        run.start()
        if self.waitForCompletion:
            return run.wait()
        if hasattr(slicer, "app"):
            run.startTimer()
        return run

    # What a subclass adds

    def _workFolder(self) -> WorkFolder:
        return WorkFolder(self.outputFolder)

    def _stage(self, folder: WorkFolder) -> Iterator[object] | None:
        """Look at the nodes, and return what writes the inputs piece by piece."""
        raise NotImplementedError

    def _completed(self, run: Any) -> None:
        """Take note of the end, however that was, and tell who wants to know."""
        if self.completedCallback is not None:
            self.completedCallback(run)

    def _load(self, path: Path, job: Job) -> Any:
        """Bring the results (a folder) into the scene; ``job`` has ended."""
        raise NotImplementedError


@dataclass(kw_only=True)
class StartRequest(Request):
    """What begins at an approximate pose, where there is one.

    ``startNode``: that pose, CT to world, as a linear transform node; ``startTransform``: the same
    as a matrix (4, 4), RAS mm. ``device``: "auto", "cpu" or "cuda".
    """

    startNode: Any = None
    startTransform: Any = None
    device: str = choice("auto", DEVICES)

    @property
    def hasStart(self) -> bool:
        """Whether there is a start."""
        return self.startNode is not None or self.startTransform is not None

    @property
    def start(self) -> Any:
        """The start (4, 4), RAS, of the node or of the matrix; None of neither."""
        return self.startTransform if self.startNode is None else transformMatrix(self.startNode)

    def check(self) -> None:
        super().check()
        if self.startNode is not None and self.startTransform is not None:
            raise InputError("start", "is given both as a node and as a matrix")

    def _startArguments(self, folder: WorkFolder) -> list[Argument]:
        arguments: list[Argument] = ["--device", self.device]
        return [*arguments, "--start", folder.inputs / "start.json"] if self.hasStart else arguments


@dataclass(kw_only=True)
class CaseRequest(StartRequest):
    """What registration and reconstruction share.

    ``model``: the file of a model. ``outputs``: nodes to put the results into; else new nodes are
    made. The start and ``device`` are as in `StartRequest`.
    """

    model: str | os.PathLike[str] | None = None
    outputs: OutputNodes | None = None

    def check(self) -> None:
        super().check()
        outputs = self.outputs or OutputNodes()
        targets = {"reconstruction": outputs.reconstructionNode, "bone": outputs.boneNode}
        inputs = [node.GetID() for node in self._inputNodes() if node is not None]
        for name, node in targets.items():
            if node is not None and node.GetID() in inputs:
                raise InputError(node.GetName(), f"is an input and cannot take the {name}")
        bone = outputs.boneNode
        if bone is not None and bone is outputs.reconstructionNode:
            raise InputError(bone.GetName(), "cannot take reconstruction and bone both")

    def _inputNodes(self) -> list[Any]:
        raise NotImplementedError

    def _caseArguments(self, folder: WorkFolder, options: Sequence[str]) -> list[Argument]:
        arguments = ["--out", folder.outputs, *self._startArguments(folder), *options]
        if self.model is not None:
            # The child works in another folder.
            arguments += ["--model", Path(self.model).resolve()]
        return arguments

    def _kept(self, result: Any) -> Any:
        if self.outputFolder is None:
            result.outputFolder = None
        return result
