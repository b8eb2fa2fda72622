"""The whole review of one result: session, drawings, comparison and scores, without a widget."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import slicer
from RadGSRegLib.errors import InputError

from ..exchange import casefolder
from ..exchange.staging import CASE, XrayUse, stageCase
from ..process.client import Answer, ReviewClient, readRendering
from ..process.driver import TaskError
from ..scene import xray
from . import views
from .comparison import Comparison
from .display import (
    ReviewDisplay,
    setContrast,
    showGaussians,
    showVolumeRendering,
    tintReconstruction,
)
from .layout import BiplaneLayout
from .quality import Card, qualityCard
from .report import saveReport
from .session import ReviewSession


class Review:
    """Looks at one result and corrects it; `close` leaves the scene as it was.

    Everything is drawn at once; scores and renderings come from a child process that `startScoring`
    starts, and arrive in `poll`. ``updated`` is called whenever something new is to be shown.
    ``client`` is that process, None where there is none; ``comparisons`` holds what each X-ray view
    compares, by the view's name.
    """

    def __init__(
        self,
        ctNode: slicer.vtkMRMLScalarVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        segment: str,
        xrayNodes: list[slicer.vtkMRMLScalarVolumeNode],
        transformNode: slicer.vtkMRMLLinearTransformNode,
        reconstruction: slicer.vtkMRMLScalarVolumeNode | None = None,
        gaussians: slicer.vtkMRMLModelNode | None = None,
    ) -> None:
        """Raises InputError where segment, transform or X-rays cannot be used."""
        if len(xrayNodes) < 1:
            raise InputError("X-rays", "there is none to compare the result with")
        for node in xrayNodes:
            xray.getGeometry(node)
        self.session = ReviewSession(ctNode, segmentationNode, segment, transformNode)
        self.xrayNodes = list(xrayNodes)
        self.reconstruction, self.gaussians = reconstruction, gaussians
        self.layout = BiplaneLayout(self.session, self.xrayNodes)
        self.display = ReviewDisplay(self.session, self.xrayNodes)
        self.updated: list[Callable[[], object]] = []
        self.scores: Answer | None = None
        self.problem = ""
        self.mode, self.opacity, self.content, self.enhance = "xray", 0.5, "bones", True
        self._scene = ctNode.GetScene()
        self.client: ReviewClient | None = None
        self.comparisons: dict[str, Comparison] = {}
        self._hardened = self.session.isHardened
        self.session.changed.append(self._onPose)

    def close(self) -> None:
        """Take all drawings out, end the child process, and go back to the layout from before."""
        if self.client is not None:
            self.client.end()
            self.client = None
        for comparison in self.comparisons.values():
            comparison.close()
        self.comparisons = {}
        self.display.close()
        self.session.close()
        self.layout.leave()
        self.updated = []

    # Views

    def showLayout(self, chosen: list[slicer.vtkMRMLScalarVolumeNode] | None = None) -> None:
        """Switch to the biplane layout, with two of the X-rays (the first two unless given)."""
        for _ in self.showLayoutInParts(chosen):
            pass

    def showLayoutInParts(
        self, chosen: list[slicer.vtkMRMLScalarVolumeNode] | None = None
    ) -> Iterator[None]:
        """`showLayout`, a part at each step: the application draws a good deal in between."""
        yield from self.layout.showInParts(chosen)
        for name, node in self.layout.shown.items():
            yield
            camera = xray.getGeometry(node).camera
            outline = self.session.outline(node, folds=False)
            setContrast(node, outline)
            comparison = self.comparisons.get(name)
            if comparison is None or comparison.xrayNode is not node:
                if comparison is not None:
                    comparison.close()
                comparison = self.comparisons[name] = Comparison(node, name)
            comparison.about = outline.inside(camera.columns, camera.rows)
            comparison.setMode(self.mode, self.opacity, self.enhance)
        yield
        self.display.placeOutlines(self.layout.shown)
        yield
        tintReconstruction(self.reconstruction)
        views.showSlices(
            self._scene,
            self.reconstruction,
            self.session.ctNode,
            self.session.centreRas,
            width_mm=1.3 * self.session.surface.size_mm,
        )

    def show3d(self, before: bool, after: bool, volume: bool, gaussians: bool) -> None:
        """Choose what the 3-D view shows beside the X-rays."""
        self.display.showSurfaces(before, after)
        showVolumeRendering(self.reconstruction, volume)
        showGaussians(self.gaussians, gaussians)

    def setComparison(
        self, mode: str, opacity: float = 0.5, content: str = "bones", enhance: bool = True
    ) -> None:
        """Hold the X-rays against renderings (`COMPARISONS`) of all bone or the vertebra.

        ``content``: "bones" or "vertebra"; ``enhance``: soften wide shading.
        """
        fresh = content != self.content
        self.mode, self.opacity, self.content, self.enhance = mode, opacity, content, enhance
        for comparison in self.comparisons.values():
            comparison.setMode(mode, opacity, enhance)
            if comparison.mode != "xray" and (fresh or comparison.rendering is None):
                self._askRendering(comparison)

    def flick(self) -> None:
        """The other picture, in the mode "flicker"."""
        for comparison in self.comparisons.values():
            comparison.flick()

    # Corrections

    def nudge(self, axis: str, amount: float, xrayNode: slicer.vtkMRMLScalarVolumeNode) -> None:
        """Move by mm or degrees along or about an axis (`nudge.AXES`) of an X-ray's picture."""
        self.session.nudge(axis, amount, xrayNode)

    # Scores and renderings

    def startScoring(self, client: ReviewClient | None = None) -> ReviewClient:
        """Start the child process that scores and renders, unless it is there already.

        Nodes that cannot be written as a case become the client's ``error``, an InputError.
        """
        if self.client is None:
            self.client = client or ReviewClient()
            folder = self.client.folder / "case"
            folder.mkdir()
            pieces, registered = self._stage(folder), self.session.registeredLps()
            self.client.start(folder / CASE, self.session.poseLps, pieces, registered)
            self._askAll()
        return self.client

    def _stage(self, folder: Path) -> Iterator[None]:
        """Write the case; looking at the nodes is a part of its own, long for a whole CT."""
        session = self.session
        nodes = session.ctNode, session.segmentationNode, session.segment, self.xrayNodes
        yield from stageCase(*nodes, folder, use=XrayUse(least=1))

    def stopScoring(self) -> None:
        """End the child process, without waiting for it."""
        if self.client is not None:
            self.client.leave()
            self.client = None

    def poll(self) -> None:
        """Take in what the child process has answered. Never waits."""
        if self.client is not None:
            self.client.poll()
            if self.client is not None and self.client.error is not None:
                self.problem = str(self.client.error)
                self.stopScoring()
                self._tell()

    def refine(self, done: Callable[[], object] | None = None) -> None:
        """Let the registration's last stage begin at the present pose (can be undone).

        Raises InputError without a child process.
        """
        if self.client is None:
            raise InputError("review", "the scoring process is not running", "start it first")

        def take(answer: Answer) -> None:
            from RadGSRegLib.geometry import lps_to_ras

            with contextlib.suppress(InputError):
                self.session.setPose(lps_to_ras(answer["ct_to_world"]), "refine")

        self._ask(take, "refine", done)

    # Verdict

    def card(self) -> Card:
        """The quality card at the present pose."""
        return qualityCard(self.session, self.scores, self.client and self.client.registered)

    def saveReport(self, folder: str | os.PathLike[str], timeout_s: float = 60.0) -> Path:
        """Save the report with pictures of the present pose, where the child process is there.

        Waits for the pictures; `saveReportLater` does not. Raises InputError or TaskError.
        """
        saved: list[Path | Exception] = []
        self.saveReportLater(folder, saved.append)
        if not saved and self.client is not None:
            self.client.wait(timeout_s)
        if not saved:
            raise TaskError("the pictures of the report did not come in time")
        if isinstance(saved[0], Exception):
            raise saved[0]
        return saved[0]

    def saveReportLater(
        self, folder: str | os.PathLike[str], done: Callable[[Path | Exception], object]
    ) -> None:
        """Save the report as soon as its pictures are there; ``done`` gets its path or what failed.

        Without a child process it is saved at once, without pictures of the present pose.
        """

        def save(answer: Answer) -> None:
            try:
                if "error" in answer:
                    raise TaskError(str(answer["error"]))
                pictures = answer.get("files", [])
                done(saveReport(self.session, folder, self.scores, pictures))
            except Exception as error:
                done(error)

        if self.client is None:
            save({})
        else:
            self.client.ask(save, "pictures", self.session.poseLps)

    # Inside

    def _onPose(self) -> None:
        self.scores = None
        if self._hardened != self.session.isHardened:
            # The CT itself is now another: the process knows the old one.
            self._hardened = self.session.isHardened
            if self.client is not None:
                self.stopScoring()
                self.startScoring()
        else:
            self._askAll()
        self._tell()

    def _askAll(self) -> None:
        """Ask for what is to be shown of the present pose."""

        def take(answer: Answer) -> None:
            self.problem = ""
            self.scores = answer

        self._ask(take, "score")
        for comparison in self.comparisons.values():
            if comparison.mode != "xray":
                self._askRendering(comparison)

    def _askRendering(self, comparison: Comparison) -> None:
        def take(answer: Answer) -> None:
            if comparison in self.comparisons.values():
                comparison.setRendering(readRendering(answer))

        view = casefolder.viewName(comparison.xrayNode)
        self._ask(take, "render", view=view, content=self.content)

    def _ask(
        self,
        take: Callable[[Answer], object],
        do: str,
        done: Callable[[], object] | None = None,
        **fields: Any,
    ) -> None:
        """Ask the child process, if there is one, at the present pose; failures are `problem`."""

        def answered(answer: Answer) -> None:
            if "error" in answer:
                self.problem = str(answer["error"])
            else:
                take(answer)
            self._tell()
            if done is not None:
                done()

        if self.client is not None:
            self.client.ask(answered, do, self.session.poseLps, **fields)

    def _tell(self) -> None:
        for function in list(self.updated):
            function()
