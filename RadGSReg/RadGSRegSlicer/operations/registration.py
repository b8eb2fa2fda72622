"""Register one vertebra of a CT to X-rays."""

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from RadGSRegLib.choices import EFFORTS

from ..exchange.patients import otherPatients
from ..exchange.results import Loaded, RegistrationResult, loadRegistration, tell
from ..exchange.staging import CASE, stageCase
from ..process.jobs import Job
from ..process.runs import CommandRun, PoseCallback, WorkFolder
from .requests import Argument, CaseRequest, choice


@dataclass
class RegisterRequest(CaseRequest):
    """Register one vertebra of a CT to X-rays; the resulting transform is set on the CT.

    ``ctNode``: if it is under a transform, its own frame without that transform is registered, and
    the result replaces the transform (see ``notes`` of the result). ``segment``: the vertebra, by
    segment ID, name or level ("L3"). ``xrayNodes``: at least two X-rays with geometry. ``effort``:
    "fast", "normal" or "careful". ``clicks``: whether to begin at the centres said for the X-rays.
    ``poseCallback`` gets the best pose so far (4, 4), RAS, whenever there is a better one.
    """

    ctNode: Any
    segmentationNode: Any
    segment: str
    xrayNodes: Sequence[Any]
    _: KW_ONLY
    effort: str = choice("normal", EFFORTS)
    clicks: bool = True
    poseCallback: PoseCallback | None = None

    def toArguments(self, folder: WorkFolder) -> list[Argument]:
        effort = [] if self.effort == "normal" else ["--effort", self.effort]
        return ["register", folder.inputs / CASE, *self._caseArguments(folder, effort)]

    def driver(self) -> CommandRun[RegistrationResult]:
        run: Any = super().driver()
        run.poseCallback = self.poseCallback
        return run

    def _inputNodes(self) -> list[Any]:
        return [self.ctNode, *self.xrayNodes]

    def _stage(self, folder: WorkFolder) -> Iterator[None]:
        nodes = self.ctNode, self.segmentationNode, self.segment, self.xrayNodes
        return stageCase(*nodes, folder.inputs, self.start, self.clicks)

    def _load(self, path: Path, job: Job) -> RegistrationResult:
        nodes = self.ctNode, self.segmentationNode
        result = self._kept(loadRegistration(path, self.ctNode, self.outputs, nodes[1]))
        result.notes.extend(otherPatients(self.ctNode, list(self.xrayNodes)))
        tell(Loaded(result, *nodes, self.segment, tuple(self.xrayNodes)))
        return result
