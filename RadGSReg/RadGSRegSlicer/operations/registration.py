"""Register one vertebra of a CT to X-rays."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from RadGSRegLib.choices import EFFORTS, REGISTRATION_METHODS
from RadGSRegLib.errors import InputError

from ..exchange.early import EarlyReconstruction
from ..exchange.patients import otherPatients
from ..exchange.refinedviews import (
    RefinedCamera,
    forgetCameras,
    keepPictures,
    keptPictures,
    readCameras,
    useCameras,
)
from ..exchange.results import (
    Loaded,
    ReconstructionResult,
    RegistrationResult,
    loadRegistration,
    tell,
)
from ..exchange.staging import CASE, XrayUse, stageCase
from ..process.jobs import Job
from ..process.runs import CommandRun, PoseCallback, WorkFolder
from ..scene import levels
from ..scene.refinedcameras import isRefined, restoreNominal
from ..scene.segments import findSegment
from ..scene.xray import NOMINAL
from .requests import Argument, CaseRequest, choice

LEAST_VERTEBRAE = 3
"""Cameras are refined with no fewer (the library's `FEWEST_VERTEBRAE`)."""


def refinementProblem(segmentationNode: Any, segment: str, xrayNodes: Sequence[Any]) -> str:
    """Why no cameras can be refined with the vertebrae of a segmentation; empty if they can.

    ``segment`` is the vertebra to register. An X-ray that was refined before counts as nominal: it
    is refined anew from there.
    """
    if len(xrayNodes) < 2:
        return "it needs two X-rays or more: one alone does not tell its camera from the bone"
    nominal = [n for n in xrayNodes if n.GetAttribute(NOMINAL) == "true" or isRefined(n)]
    if not nominal:
        return "the geometry of no X-ray in use is nominal, so there is nothing to refine"
    vertebrae: set[str] = set()
    if segmentationNode is not None:
        known = levels.vertebrae(segmentationNode).items()
        vertebrae = {id_ for id_, level in known if level != "S1"}
        with contextlib.suppress(InputError):
            vertebrae.add(findSegment(segmentationNode, segment))
    if len(vertebrae) < LEAST_VERTEBRAE:
        count = f"{LEAST_VERTEBRAE} vertebrae or more"
        return f"it needs {count} in the segmentation, and there are {len(vertebrae)}"
    return ""


@dataclass
class RegisterRequest(CaseRequest):
    """Register one vertebra of a CT to X-rays; the resulting transform is set on the CT.

    ``ctNode``: if it is under a transform, its own frame without that transform is registered, and
    the result replaces the transform (see ``notes`` of the result). ``segment``: the vertebra, by
    segment ID, name or level ("L3"). ``xrayNodes``: X-rays with geometry; one alone needs a start,
    shows the pose well sideways and leaves it uncertain how far away the vertebra is. ``effort``:
    "fast", "normal" or "careful". ``clicks``: whether to begin at the centres said for the X-rays.
    ``poseCallback`` gets the best pose so far (4, 4), RAS, whenever there is a better one.
    ``method``: "ours", or "published": networks make a volume of the X-rays, which comes into the
    scene before the registration begins (``reconstructedCallback`` gets a `ReconstructionResult`),
    and a pose, which is refined unless ``refine`` is False. It takes the weights that come with the
    program where no ``model`` is given. ``refineCameras``: refine the cameras of X-rays whose
    geometry is only nominal with all vertebrae of the segmentation, and put them on the X-rays,
    which keep the nominal ones; a second time begins with these again.
    """

    ctNode: Any
    segmentationNode: Any
    segment: str
    xrayNodes: Sequence[Any]
    _: KW_ONLY
    effort: str = choice("normal", EFFORTS)
    clicks: bool = True
    poseCallback: PoseCallback | None = None
    method: str = choice("ours", REGISTRATION_METHODS)
    refine: bool = True
    refineCameras: bool = False
    reconstructedCallback: Callable[[ReconstructionResult], object] | None = None

    def check(self) -> None:
        super().check()
        if self.method == "ours" and not self.refine:
            raise InputError("refine", "can be left out only with the method 'published'")
        if len(self.xrayNodes) == 1:
            self._checkOneXray()
        if self.refineCameras:
            problem = refinementProblem(self.segmentationNode, self.segment, self.xrayNodes)
            if self.method != "ours":
                problem = "is of use only with the method 'ours'"
            if problem:
                raise InputError("refineCameras", problem)

    def _checkOneXray(self) -> None:
        networks = {"method 'published'": self.method != "ours", "model": self.model is not None}
        for name, asked in networks.items():
            if asked:
                raise InputError(name, "needs two X-rays or more", "add one, or leave it out")

    def toArguments(self, folder: WorkFolder) -> list[Argument]:
        options = [] if self.effort == "normal" else ["--effort", self.effort]
        if self.method != "ours":
            options += ["--method", self.method, "--refine" if self.refine else "--no-refine"]
        options += ["--refine-cameras"] if self.refineCameras else []
        return ["register", folder.inputs / CASE, *self._caseArguments(folder, options)]

    def driver(self) -> CommandRun[RegistrationResult]:
        run: Any = super().driver()
        run.poseCallback = self.poseCallback
        self._early = EarlyReconstruction(self.ctNode.GetScene(), self.outputs)
        run.reconstructionCallback = self._reconstructed
        run.takeBackCallback = self._early.takeBack
        return run

    def _reconstructed(self, folder: Path) -> None:
        """Bring the reconstruction in; what cannot be read now comes with the result."""
        try:
            result = self._early.load(folder)
        except (InputError, OSError) as error:
            logging.info("RadGSReg: no reconstruction yet (%s)", error)
            return
        if self.reconstructedCallback is not None:
            self.reconstructedCallback(result)

    def _completed(self, run: Any) -> None:
        if run.error is not None and not run.isDiscarded:
            self._early.takeBack()
        super()._completed(run)

    def _inputNodes(self) -> list[Any]:
        return [self.ctNode, *self.xrayNodes]

    def _stage(self, folder: WorkFolder) -> Iterator[None]:
        nodes = self.ctNode, self.segmentationNode, self.segment, self.xrayNodes
        # The program removes the record that names them.
        self._earlierPictures = keptPictures(self.outputFolder)
        if len(self.xrayNodes) == 1 and self.start is None:
            problem = "there is one alone, and a click in it does not say how far away the bone is"
            raise InputError("X-rays", problem, "give a start, or another X-ray")
        use = XrayUse(self.clicks, nominal=self.refineCameras, least=1)
        return stageCase(*nodes, folder.inputs, self.start, use)

    def _load(self, path: Path, job: Job) -> Any:
        nodes = self.ctNode, self.segmentationNode
        cameras = self._cameras(path) if self.refineCameras else []
        result = self._kept(self._brought(path))
        if self.outputFolder is not None:
            result.notes.extend(self._keepCameras(path, cameras))
        if self.refineCameras:
            result.notes.append(self._takeCameras(cameras, result))
        result.notes.extend(otherPatients(self.ctNode, list(self.xrayNodes)))
        xrays = tuple(self.xrayNodes)
        tell(Loaded(result, *nodes, self.segment, xrays, self._segments(result)))
        return result

    # What several vertebrae do otherwise

    def _cameras(self, path: Path) -> list[RefinedCamera]:
        return readCameras(path, len(self.xrayNodes))

    def _brought(self, path: Path) -> Any:
        return loadRegistration(path, self.ctNode, self._early.outputs, self.segmentationNode)

    def _segments(self, result: Any) -> tuple[str, ...]:
        return ()

    def _keepCameras(self, folder: Path, cameras: Sequence[RefinedCamera]) -> list[str]:
        """Leave refined cameras with their pictures in the kept folder, or neither; notes on what
        could not be done. The registration itself is finished."""
        notes = []
        if cameras:
            try:
                keepPictures(folder, self.xrayNodes)
            except (InputError, OSError) as error:
                notes.append(str(error))
            else:
                return []
        try:
            forgetCameras(folder, self._earlierPictures)
        except OSError as error:
            notes.append(f"refined cameras that do not count are still in {folder} ({error})")
        return notes

    def _takeCameras(self, cameras: Sequence[RefinedCamera], result: Any) -> str:
        """Give the X-rays the cameras that the result was made with; a note on that."""
        if result.status == "failed":
            return "no refined camera is used: the X-rays stay as they are"
        if not cameras:
            restoreNominal([node for node in self.xrayNodes if node.GetScene() is not None])
            return "no camera was refined: the X-rays have their nominal ones"
        names = ", ".join(useCameras(cameras, self.xrayNodes))
        done = f"the cameras of {names} are refined; step 2 can undo that"
        if not any(camera.isRefined and camera.isNominal for camera in cameras):
            return done
        doubt = result.quality["cameras"].get("doubt") or "they are not to be trusted"
        return f"{done}; they still count as nominal: {doubt}"
