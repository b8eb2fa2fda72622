"""Reconstruct Gaussians and a volume from X-rays."""

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import slicer
from RadGSRegLib.choices import RECONSTRUCTION_METHODS
from RadGSRegLib.errors import InputError

from ..exchange.casefolder import writeViews
from ..exchange.results import ReconstructionResult, loadReconstruction
from ..exchange.staging import CASE, stageCase
from ..process.jobs import Job
from ..process.runs import WorkFolder
from .requests import Argument, CaseRequest, choice


@dataclass
class ReconstructRequest(CaseRequest):
    """Reconstruct Gaussians and a volume from X-rays alone, or with the CT as a prior.

    ``ctNode``: with a segmentation and a segment: start from that vertebra of the CT. ``method``:
    "optimize" or "learned"; the latter needs a model and leaves the CT out. A start is of use only
    with a CT.
    """

    xrayNodes: Sequence[Any]
    _: KW_ONLY
    ctNode: Any = None
    segmentationNode: Any = None
    segment: str | None = None
    method: str = choice("optimize", RECONSTRUCTION_METHODS)

    @property
    def hasPrior(self) -> bool:
        """Whether the CT takes part; a learned reconstruction sees the X-rays alone."""
        return self.ctNode is not None and self.method != "learned"

    def check(self) -> None:
        super().check()
        if self.method == "learned" and self.model is None:
            raise InputError("method", "'learned' needs a model", "say which")
        if self.method != "learned" and self.model is not None:
            raise InputError("model", "is of use only with the method 'learned'", "leave it out")
        if self.start is not None and not self.hasPrior:
            raise InputError("start", "is of use only with the CT as a prior", "leave it out")

    def toArguments(self, folder: WorkFolder) -> list[Argument]:
        options = ["--method", self.method, *(["--ct-prior"] if self.hasPrior else [])]
        file = folder.inputs / (CASE if self.hasPrior else "views.json")
        return ["reconstruct", file, *self._caseArguments(folder, options)]

    def _inputNodes(self) -> list[Any]:
        return [self.ctNode, *self.xrayNodes]

    def _stage(self, folder: WorkFolder) -> Iterator[None] | None:
        if not self.hasPrior:
            writeViews(self.xrayNodes, folder.inputs)
            return None
        nodes = self.ctNode, self.segmentationNode, self.segment or "", self.xrayNodes
        return stageCase(*nodes, folder.inputs, self.start)

    def _load(self, path: Path, job: Job) -> ReconstructionResult:
        scene = self.xrayNodes[0].GetScene() or slicer.mrmlScene  # an X-ray may have gone since
        return self._kept(loadReconstruction(path, scene, self.outputs))
