"""Reconstruct Gaussians and a volume from X-rays."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import slicer
from RadGSRegLib.choices import RECONSTRUCTION_METHODS
from RadGSRegLib.errors import InputError

from ..exchange.early import EarlyReconstruction
from ..exchange.results import ReconstructionResult, loadReconstruction
from ..exchange.staging import CASE, VIEWS, XrayUse, stageCase, stageViews
from ..process.jobs import Job
from ..process.runs import CommandRun, WorkFolder
from .requests import Argument, CaseRequest, choice

LEAST_XRAYS = 3
"""How many X-rays show a volume without a CT."""


@dataclass
class ReconstructRequest(CaseRequest):
    """Reconstruct Gaussians and a volume from X-rays alone, or with the CT as a prior.

    ``ctNode``: with a segmentation and a segment: start from that vertebra of the CT. ``method``:
    "optimize" or "learned"; the latter needs a model and leaves the CT out. A start is of use only
    with a CT. ``clicks``: whether the clicks in the X-rays say where the vertebra is.

    From three X-rays or more alone: ``minutes`` ends the fit with the best so far, ``holdOut``
    X-rays are fitted to nothing and judge the rest, ``boxMm`` is the edge of the cube in detail,
    ``spacingMm`` its voxels, ``gaussians`` how many there are at most and ``steps`` how long the
    fit is; None: the default. ``standardize``: also tell bone from soft tissue, by what a network
    draws of each X-ray (`ReconstructionResult.boneNode`). ``previewCallback`` gets a
    `ReconstructionResult` whenever the volume has grown. A Cancel then keeps the last of them, as
    an uncertain result.
    """

    xrayNodes: Sequence[Any]
    _: KW_ONLY
    ctNode: Any = None
    segmentationNode: Any = None
    segment: str | None = None
    clicks: bool = True
    method: str = choice("optimize", RECONSTRUCTION_METHODS)
    minutes: float | None = None
    boxMm: float | None = None
    spacingMm: float | None = None
    gaussians: int | None = None
    steps: int | None = None
    holdOut: int = 0
    standardize: bool = False
    previewCallback: Callable[[ReconstructionResult], object] | None = None

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
        for name, (_, value) in self._sizes().items():
            if self.hasPrior or self.method == "learned":
                raise InputError(name, "is of use only with X-rays alone", "leave it out")
            if not value > 0:
                raise InputError(name, f"is {value}", "give a number above 0")
        if self.standardize and (self.hasPrior or self.method == "learned"):
            raise InputError("standardize", "is of use only with X-rays alone", "leave it out")
        if self.standardize and len(self.xrayNodes) < LEAST_XRAYS:
            raise InputError("standardize", "needs three X-rays or more", "leave it out")
        if self.holdOut and len(self.xrayNodes) - self.holdOut < LEAST_XRAYS:
            left = max(len(self.xrayNodes) - self.holdOut, 0)
            raise InputError("holdOut", f"leaves {left} X-rays to fit", "hold out fewer")

    def _sizes(self) -> dict[str, tuple[str, float]]:
        """What is given for X-rays alone: the option of the command line, and the value."""
        every = {
            "minutes": ("--minutes", self.minutes),
            "boxMm": ("--box-mm", self.boxMm),
            "spacingMm": ("--spacing", self.spacingMm),
            "gaussians": ("--gaussians", self.gaussians),
            "steps": ("--steps", self.steps),
            "holdOut": ("--hold-out", self.holdOut or None),
        }
        return {
            name: (option, value) for name, (option, value) in every.items() if value is not None
        }

    def toArguments(self, folder: WorkFolder) -> list[Argument]:
        options = ["--method", self.method, *(["--ct-prior"] if self.hasPrior else [])]
        for option, value in self._sizes().values():
            options += [option, f"{value:g}" if isinstance(value, float) else str(value)]
        options += ["--standardize"] if self.standardize else []
        file = folder.inputs / (CASE if self.hasPrior else VIEWS)
        return ["reconstruct", file, *self._caseArguments(folder, options)]

    def _inputNodes(self) -> list[Any]:
        return [self.ctNode, *self.xrayNodes]

    def _stage(self, folder: WorkFolder) -> Iterator[None]:
        if not self.hasPrior:
            return stageViews(self.xrayNodes, folder.inputs, XrayUse(self.clicks))
        nodes = self.ctNode, self.segmentationNode, self.segment or "", self.xrayNodes
        return stageCase(*nodes, folder.inputs, self.start, XrayUse(self.clicks))

    def driver(self) -> CommandRun[ReconstructionResult]:
        run: Any = super().driver()
        self._early = EarlyReconstruction(self._scene(), self.outputs)
        self._latest: ReconstructionResult | None = None
        run.reconstructionCallback = self._grown
        run.takeBackCallback = self._early.takeBack
        run.keepCallback = self._keep
        return run

    def _scene(self) -> slicer.vtkMRMLScene:
        return self.xrayNodes[0].GetScene() or slicer.mrmlScene  # an X-ray may have gone since

    def _grown(self, folder: Path) -> None:
        """Bring the volume so far in; one that cannot be read is followed by another."""
        try:
            self._latest = self._early.loadUnfinished(folder)
        except (InputError, OSError) as error:
            logging.info("RadGSReg: no preview (%s)", error)
            return
        if self.previewCallback is not None:
            self.previewCallback(self._latest)

    def _keep(self) -> ReconstructionResult | None:
        """The volume so far, after a Cancel; None where there is none."""
        node = None if self._latest is None else self._latest.reconstructionNode
        return None if node is None or node.GetScene() is None else self._latest

    def _completed(self, run: Any) -> None:
        if run.error is not None and not run.isDiscarded:
            self._early.takeBack()
        super()._completed(run)

    def _load(self, path: Path, job: Job) -> ReconstructionResult:
        return self._kept(loadReconstruction(path, self._scene(), self._early.outputs))
