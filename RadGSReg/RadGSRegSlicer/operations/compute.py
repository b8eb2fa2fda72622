"""The computations of the module: nodes to a case folder, a command on it, its results to nodes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import slicer
from RadGSRegLib.errors import InputError

from ..exchange import casefolder, results
from ..exchange.results import OutputNodes, ReconstructionResult, RegistrationResult
from ..exchange.staging import CASE, stageCase
from ..process import environment
from ..process.tasks import PoseCallback, Task, WorkFolder
from ..scene import frames

ProgressCallback = Callable[[float, str], object]

_Result = TypeVar("_Result", RegistrationResult, ReconstructionResult)

EFFORTS = ("fast", "normal", "careful")


def register(
    ctNode: Any,
    segmentationNode: Any,
    segment: str,
    xrayNodes: Sequence[Any],
    *,
    startNode: Any = None,
    startTransform: Any = None,
    device: str = "auto",
    model: str | os.PathLike[str] | None = None,
    effort: str = "normal",
    clicks: bool = True,
    outputFolder: str | os.PathLike[str] | None = None,
    outputs: OutputNodes | None = None,
    progressCallback: ProgressCallback | None = None,
    poseCallback: PoseCallback | None = None,
    completedCallback: Callable[[Task[RegistrationResult]], object] | None = None,
) -> Task[RegistrationResult]:
    """A registration, not started yet. Arguments as in ``RadGSRegLogic.register``."""
    environment.requirePackages()
    checkDevice(device)
    if effort not in EFFORTS:
        raise InputError("effort", f"'{effort}' is unknown", f"use {', '.join(EFFORTS)}")
    checkOutputs(outputs, [ctNode, *xrayNodes])
    startTransform = _start(startNode, startTransform)
    folder = WorkFolder(outputFolder)
    try:
        prepare = stageCase(
            ctNode, segmentationNode, segment, xrayNodes, folder.inputs, startTransform, clicks
        )
    except BaseException:
        folder.remove()
        raise
    return _task(
        ["register", folder.inputs / CASE],
        folder,
        lambda path: results.loadRegistration(path, ctNode, outputs, segmentationNode),
        device=device,
        model=model,
        hasStart=startTransform is not None,
        options=[] if effort == "normal" else ["--effort", effort],
        prepare=prepare,
        progressCallback=progressCallback,
        poseCallback=poseCallback,
        completedCallback=completedCallback,
    )


def reconstruct(
    xrayNodes: Sequence[Any],
    *,
    ctNode: Any = None,
    segmentationNode: Any = None,
    segment: str | None = None,
    method: str = "optimize",
    startNode: Any = None,
    startTransform: Any = None,
    device: str = "auto",
    model: str | os.PathLike[str] | None = None,
    outputFolder: str | os.PathLike[str] | None = None,
    outputs: OutputNodes | None = None,
    progressCallback: ProgressCallback | None = None,
    completedCallback: Callable[[Task[ReconstructionResult]], object] | None = None,
) -> Task[ReconstructionResult]:
    """A reconstruction, not started yet. Arguments as in ``RadGSRegLogic.reconstruct``."""
    environment.requirePackages()
    if method not in ("optimize", "learned"):
        raise InputError("method", f"'{method}' is unknown", "use optimize or learned")
    if method == "learned" and model is None:
        raise InputError("method", "'learned' needs a model", "say which")
    if method != "learned" and model is not None:
        raise InputError("model", "is of use only with the method 'learned'", "leave it out")
    checkDevice(device)
    checkOutputs(outputs, [ctNode, *xrayNodes])
    startTransform = _start(startNode, startTransform)
    # A learned reconstruction sees the X-rays alone; a CT and a start are of no use to it.
    prior = ctNode is not None and method != "learned"
    if startTransform is not None and not prior:
        raise InputError("start", "is of use only with the CT as a prior", "leave it out")
    folder = WorkFolder(outputFolder)
    prepare = None
    try:
        if prior:
            case = folder.inputs / CASE
            prepare = stageCase(
                ctNode, segmentationNode, segment or "", xrayNodes, folder.inputs, startTransform
            )
        else:
            case = casefolder.writeViews(xrayNodes, folder.inputs)
    except BaseException:
        folder.remove()
        raise
    scene = xrayNodes[0].GetScene()
    return _task(
        ["reconstruct", case],
        folder,
        lambda path: results.loadReconstruction(path, scene, outputs),
        device=device,
        model=model,
        hasStart=startTransform is not None,
        options=["--method", method, *(["--ct-prior"] if prior else [])],
        prepare=prepare,
        progressCallback=progressCallback,
        completedCallback=completedCallback,
    )


def _task(
    command: Sequence[str | os.PathLike[str]],
    folder: WorkFolder,
    load: Callable[[Path], _Result],
    *,
    device: str,
    model: str | os.PathLike[str] | None,
    hasStart: bool,
    options: Sequence[str],
    prepare: Iterator[None] | None,
    progressCallback: ProgressCallback | None,
    poseCallback: PoseCallback | None = None,
    completedCallback: Callable[[Task[_Result]], object] | None,
) -> Task[_Result]:
    """A command on a case, with what registration and reconstruction share."""
    arguments = [*command, "--out", folder.outputs, "--device", device, *options]
    if hasStart:
        arguments += ["--start", folder.inputs / "start.json"]
    if model is not None:
        arguments += ["--model", Path(model).resolve()]  # the child works in another folder

    def loadKept(path: Path) -> _Result:
        result = load(path)
        if not folder.keep:
            result.outputFolder = None
        return result

    return Task(
        arguments,
        folder,
        loadKept,
        prepare=prepare,
        progressCallback=progressCallback,
        poseCallback=poseCallback,
        completedCallback=completedCallback,
    )


def _start(node: Any, matrix: Any) -> Any:
    """The start (4, 4), RAS, of a node or of a matrix; None of neither."""
    if node is None:
        return matrix
    if matrix is not None:
        raise InputError("start", "is given both as a node and as a matrix")
    return frames.transformMatrix(node)


def run(task: Task[Any], waitForCompletion: bool) -> Any:
    """Start a task; returns its result, or the task itself at once, with a timer inside Slicer."""
    task.start()
    if waitForCompletion:
        return task.wait()
    if hasattr(slicer, "app"):
        task.startTimer()
    return task


def checkDevice(device: str) -> None:
    """Raises InputError unless the device is one that the command line knows."""
    if device not in ("auto", "cpu", "cuda"):
        raise InputError("device", f"'{device}' is unknown", "use auto, cpu or cuda")


def checkOutputs(outputs: OutputNodes | None, inputNodes: Sequence[Any]) -> None:
    """Raises InputError where a result would go into one of the inputs."""
    if outputs is not None and outputs.reconstructionNode is not None:
        for node in inputNodes:
            if node is not None and node.GetID() == outputs.reconstructionNode.GetID():
                raise InputError(node.GetName(), "is an input and cannot take the reconstruction")
