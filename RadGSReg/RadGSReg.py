import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import slicer
import vtk
from slicer import (
    vtkMRMLLinearTransformNode,
    vtkMRMLModelNode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

try:
    import RadGSRegLib  # noqa: F401
except ImportError:
    # Run from a checkout: there the library stands beside this folder, not in it.
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from RadGSRegSlicer.exchange import casefolder, results, spineresults, trackresults
from RadGSRegSlicer.exchange.results import OutputNodes, ReconstructionResult, RegistrationResult
from RadGSRegSlicer.operations import sampledata, tracking
from RadGSRegSlicer.operations.batch import Batch, BatchRequest
from RadGSRegSlicer.operations.calibration import CalibrateRequest, CalibrationResult
from RadGSRegSlicer.operations.clicked import ClickedSegment, ClickRequest
from RadGSRegSlicer.operations.pretraining import PretrainingRun, PretrainRequest, TrainedModel
from RadGSRegSlicer.operations.reconstruction import ReconstructRequest
from RadGSRegSlicer.operations.severalregistration import registrationRequest
from RadGSRegSlicer.operations.simulated import SimulatedNodes, SimulateRequest, errorAgainstTruth
from RadGSRegSlicer.operations.spinelevels import LevelsRequest, SpineLevels
from RadGSRegSlicer.panel import STEPS
from RadGSRegSlicer.panel.accordion import Accordion
from RadGSRegSlicer.panel.following import SceneFollower
from RadGSRegSlicer.panel.step import PanelContext
from RadGSRegSlicer.panel.updates import Updates
from RadGSRegSlicer.process import environment
from RadGSRegSlicer.process.runs import CommandRun
from RadGSRegSlicer.review import views
from RadGSRegSlicer.review.review import Review
from RadGSRegSlicer.scene import axes, bonesurface, levels, refinedcameras, segments, xray
from RadGSRegSlicer.scene.parameters import RadGSRegParameterNode
from RadGSRegSlicer.selftest import RadGSRegTest  # noqa: F401 (Slicer looks for it here)


class RadGSReg(ScriptedLoadableModule):
    """Registers a vertebra of a CT to calibrated X-rays through radiative Gaussians."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("RadGSReg")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        self.parent.dependencies = []
        self.parent.contributors = ["The RadGSReg contributors"]
        self.parent.helpText = _("""
Registers vertebrae of a preoperative CT to calibrated X-rays, best two or more: the X-rays become a
cloud of radiative Gaussians, from which the pose of a vertebra is found and then refined.
The result is a transform on the CT, a reconstructed volume and the Gaussians.<br>
<b>For research use only. Not a medical device, not approved for clinical use.</b><br>
See the <a href="https://github.com/RadGSReg/SlicerRadGSReg">documentation</a>.
""")
        self.parent.acknowledgementText = _("""
The method follows RadGS-Reg (2025) and Gaussian splatting for X-rays; this is an independent
implementation under the Apache License 2.0.
""")
        # Sample data can be offered once all modules are there; tests on slicer-core have no app.
        if hasattr(slicer, "app"):
            slicer.app.connect("startupCompleted()", registerSampleData)
            slicer.app.connect("startupCompleted()", registerLayout)


def registerSampleData():
    """Offer the phantom in the Sample Data module."""
    icon = Path(__file__).resolve().parent / "Resources" / "Icons" / "RadGSReg.png"
    sampledata.register("RadGSReg", icon)


def registerLayout():
    """Make the biplane layout known, so that a scene that was saved in it opens well."""
    views.addLayout(slicer.mrmlScene)


class RadGSRegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel; each of its steps is a class of ``RadGSRegSlicer.panel``."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.steps = {}
        self._parameterNode = None
        self._parameterNodeGuiTag = None

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/RadGSReg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = RadGSRegLogic()

        self.updates = Updates(self.refresh)
        context = PanelContext(
            updates=self.updates,
            addObserver=self.addObserver,
            removeObserver=self.removeObserver,
            isShown=lambda: bool(self.parent.isEntered),
            steps=self.steps,
        )
        for kind in STEPS:
            self.steps[kind.name] = kind(self.ui, self.logic, context)
        self.accordion = Accordion(self.ui, self.steps)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        for event in (scene.EndCloseEvent, scene.EndImportEvent):
            self.addObserver(scene, event, self.onSceneEnd)
        self.follower = SceneFollower(context)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Called when the application closes: no child process may stay behind."""
        self.setParameterNode(None)
        for step in self.steps.values():
            step.cleanup()
        self.removeObservers()

    def enter(self) -> None:
        self.initializeParameterNode()
        for step in self.steps.values():
            step.showOwed()

    def exit(self) -> None:
        """Another module is opened: the form rests, a computation goes on."""
        self._disconnectParameterNode()

    def onSceneStartClose(self, caller, event) -> None:
        for step in self.steps.values():
            step.discard()
        self.setParameterNode(None)
        views.closeLayout(slicer.mrmlScene)

    def onSceneEnd(self, caller, event) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, inputParameterNode) -> None:
        self._disconnectParameterNode()
        self._parameterNode = inputParameterNode
        self.accordion.forget()
        self.follower.begin(bool(inputParameterNode))
        for step in self.steps.values():
            step.setParameterNode(inputParameterNode)
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.updates.now)
        self.updates.now()

    def _disconnectParameterNode(self) -> None:
        if self._parameterNode and self._parameterNodeGuiTag is not None:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self._parameterNodeGuiTag = None
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.updates.now)

    def update(self) -> None:
        """Show anew what there is."""
        self.updates.now()

    def refresh(self) -> None:
        """Let every step show what there is, what is missing, and what can be done."""
        for step in self.steps.values():
            if self._parameterNode:
                step.update()
            step.showStatus()
        if self._parameterNode:
            self.accordion.update()


class RadGSRegLogic(ScriptedLoadableModuleLogic):
    """All that the module does, without a window.

    Every call that computes makes a request and runs the library in a child process; its options
    are the fields of that request, and those of `Request`, which every one has. With
    ``waitForCompletion`` (the default) the call returns the result when that is done; without, it
    returns a `CommandRun` at once.

    Nodes, files or options that cannot be used raise `InputError`, one sentence; a computation that
    fails raises `TaskError`, one that was cancelled `Cancelled`.
    """

    def getParameterNode(self):
        return RadGSRegParameterNode(super().getParameterNode())

    def register(
        self,
        ctNode: vtkMRMLScalarVolumeNode,
        segmentationNode: vtkMRMLSegmentationNode,
        segment: str | Sequence[str],
        xrayNodes: Sequence[vtkMRMLScalarVolumeNode],
        **options: Any,
    ) -> RegistrationResult | spineresults.SpineResult | CommandRun:
        """Register a vertebra to X-rays, or several; the resulting transform is set on the CT.

        :param segment: its ID, name or level ("L3"). Clicks and start are of the first of a list,
          and the CT's transform is then one that bends it by all.
        :param xrayNodes: X-rays with geometry (see `importXray`), best two or more; one needs a
          start, and leaves the depth uncertain.
        :param options: those of `RegisterRequest`.
        """
        return registrationRequest(ctNode, segmentationNode, segment, xrayNodes, **options).run()

    def reconstruct(
        self, xrayNodes: Sequence[vtkMRMLScalarVolumeNode], **options: Any
    ) -> ReconstructionResult | CommandRun:
        """Reconstruct Gaussians and a volume from X-rays alone, or with the CT as a prior.

        :param xrayNodes: X-rays with geometry; of three or more a Cancel keeps what there is.
        :param options: those of `ReconstructRequest`.
        """
        return ReconstructRequest.of(xrayNodes, **options).run()

    # The tools after it: a model, and a transform of the bone's right, front and top to RAS.
    boneSurface = staticmethod(bonesurface.boneSurface)
    boneAxes = staticmethod(axes.axesOfVolume)

    def calibrate(
        self,
        xrayNodes: Sequence[vtkMRMLScalarVolumeNode],
        beads: str | os.PathLike[str],
        **options: Any,
    ) -> CalibrationResult | CommandRun:
        """Calibrate X-rays by the beads that they show, and put the cameras on them.

        Correct which shadow is of which bead with the result's ``editing()``; give its ``pairs()``
        as ``pairs`` to another call.

        :param beads: a phantom file, or a layout: "two-plates", "helix".
        :param options: those of `CalibrateRequest`.
        """
        return CalibrateRequest.of(xrayNodes, beads, **options).run()

    # Take back what register(..., refineCameras=True) has refined; returns those X-rays.
    restoreNominalCameras = staticmethod(refinedcameras.restoreNominal)

    def levelsInXrays(
        self, xrayNodes: Sequence[vtkMRMLScalarVolumeNode], **options: Any
    ) -> SpineLevels | CommandRun:
        """Say which vertebrae X-rays show and of which level each is; draws the names over them.

        :param options: those of `LevelsRequest`.
        """
        return LevelsRequest.of(xrayNodes, **options).run()

    def segmentFromClick(
        self,
        ctNode: vtkMRMLScalarVolumeNode,
        pointRas: Sequence[float],
        level: str | None = None,
        segmentationNode: vtkMRMLSegmentationNode | None = None,
        **options: Any,
    ) -> ClickedSegment | CommandRun:
        """Segment the vertebra around a point (`ClickRequest`): (segmentationNode, segmentId)."""
        return ClickRequest.of(ctNode, pointRas, level, segmentationNode, **options).run()

    def pretrain(
        self,
        ctNode: vtkMRMLScalarVolumeNode,
        segmentationNode: vtkMRMLSegmentationNode,
        segment: str,
        modelPath: str | os.PathLike,
        **options: Any,
    ) -> TrainedModel | PretrainingRun:
        """Train a model for one vertebra of one CT, before there are X-rays.

        Returns its path and its card; the path is what `register` takes as ``model``. The run's
        ``finish`` ends the training with the best so far.

        :param modelPath: the file to write; its card goes beside it (``.md``).
        :param options: those of `PretrainRequest`.
        """
        inputs = ctNode, segmentationNode, segment, modelPath
        return PretrainRequest.of(*inputs, **options).run()

    def simulate(
        self,
        ctNode: vtkMRMLScalarVolumeNode | None = None,
        segmentationNode: vtkMRMLSegmentationNode | None = None,
        segment: str | None = None,
        **options: Any,
    ) -> SimulatedNodes | CommandRun:
        """Two X-rays of a moved spine, of a CT or of the built-in phantom, with the truth.

        :param options: those of `SimulateRequest`.
        """
        return SimulateRequest.of(ctNode, segmentationNode, segment, **options).run()

    def batch(
        self,
        cases: Sequence[str | os.PathLike],
        outputFolder: str | os.PathLike,
        **options: Any,
    ) -> list[dict[str, Any]] | Batch:
        """Register many cases one after the other; returns a row (dict) per case.

        :param cases: ``case.json`` files or their folders (`exportCase` writes such).
        :param outputFolder: gets ``batch.csv`` and a folder per case.
        :param options: those of `BatchRequest`.
        """
        return BatchRequest.of(cases, outputFolder=outputFolder, **options).run()

    # The error (mTRE, mm) of a transform against the truth that the scene holds for a CT.
    errorAgainstTruth = staticmethod(errorAgainstTruth)

    def importXray(
        self,
        path: str | os.PathLike,
        geometry: xray.XrayGeometry | None = None,
        frame: int | None = None,
    ) -> list[vtkMRMLScalarVolumeNode]:
        """X-ray nodes from a ``views.json``, or one from an image file.

        :param geometry: where the image was taken from; without it, it is read from DICOM tags
          and marked as nominal.
        :param frame: which frame of a DICOM file with several, from 0.
        """
        environment.requirePackages()
        if Path(path).suffix.lower() == ".json":
            return casefolder.importViews(path)
        return [casefolder.importImage(path, geometry, frame)]

    def exportCase(
        self,
        ctNode: vtkMRMLScalarVolumeNode,
        segmentationNode: vtkMRMLSegmentationNode,
        segment: str,
        xrayNodes: Sequence[vtkMRMLScalarVolumeNode],
        folder: str | os.PathLike,
    ) -> Path:
        """Write nodes as a case folder for the command line; returns the path of case.json."""
        return casefolder.writeCase(ctNode, segmentationNode, segment, xrayNodes, folder)

    def loadResult(
        self,
        folder: str | os.PathLike,
        ctNode: vtkMRMLScalarVolumeNode,
        segmentationNode: vtkMRMLSegmentationNode | None = None,
        outputs: OutputNodes | None = None,
    ) -> RegistrationResult | spineresults.SpineResult:
        """Load a folder of results and set the transform on the CT."""
        environment.requirePackages()
        result = spineresults.loadAny(folder, ctNode, outputs, segmentationNode)
        results.tell(results.Loaded(result, ctNode, segmentationNode))
        return result

    # Follow a vertebra through runs of X-rays, and load a folder of that: the CT goes along.
    track = staticmethod(tracking.track)
    loadTrack = staticmethod(trackresults.loadTrack)

    def review(
        self,
        ctNode: vtkMRMLScalarVolumeNode,
        segmentationNode: vtkMRMLSegmentationNode,
        segment: str,
        xrayNodes: Sequence[vtkMRMLScalarVolumeNode],
        transformNode: vtkMRMLLinearTransformNode,
        reconstruction: vtkMRMLScalarVolumeNode | None = None,
        gaussians: vtkMRMLModelNode | None = None,
    ) -> Review:
        """Look at a vertebra's result and correct it: outlines, scores, undo, accept, report.

        Nothing waits for a window: ``review.startScoring().wait()`` and then
        ``review.nudge("right", 1.0, xrayNode)``, ``review.client.wait()``, ``review.scores``;
        ``review.close()`` takes all drawings out of the scene.
        """
        nodes = ctNode, segmentationNode, segment, list(xrayNodes), transformNode
        return Review(*nodes, reconstruction, gaussians)

    # The ID of a segment by ID, name or vertebra ("L3"); names by a scheme of label numbers.
    findSegment = staticmethod(segments.findSegment)
    nameLevels = staticmethod(levels.nameLevels)

    def installDependencies(self) -> None:
        """Install the Python packages that are missing, after asking (inside Slicer only)."""
        environment.installMissing()
