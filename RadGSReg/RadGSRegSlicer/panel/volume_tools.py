"""The tools after a reconstruction: surface, box, the bone's axes, rendering, cuts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk
from RadGSRegLib.errors import InputError
from slicer.i18n import tr as _

from ..exchange.casefolder import patientAxes
from ..process.timers import nextTurn
from ..review import rendering
from ..review.views import sliceNode
from ..scene import axes, bonesurface, box
from .step import Following, onPath

if TYPE_CHECKING:
    from .volume_step import VolumeStep

_CUTS = {"Red": "volumeCutRed", "Yellow": "volumeCutYellow", "Green": "volumeCutGreen"}


class VolumeTools:
    """What can be done with the volume of the parameter node; follows it, its box and the form."""

    def __init__(self, step: VolumeStep) -> None:
        self._step, self._ui, ui = step, step.ui, step.ui
        self._isWaiting = False
        self._made: tuple[Any, ...] = ()
        self._rendered: tuple[Any, ...] = ()
        self._cut: tuple[Any, ...] = ()
        self._threshold: tuple[Any, ...] = ()
        self._changed = Following(
            step.context,
            self._later,
            [vtk.vtkCommand.ModifiedEvent, slicer.vtkMRMLTransformableNode.TransformModifiedEvent],
        )
        presets = {
            "bone": _("bone"),
            "CT-Bone": _("CT-Bone, as Slicer's"),
            "CT-Bones": _("CT-Bones, as Slicer's"),
            "CT-Soft-Tissue": _("CT-Soft-Tissue, as Slicer's"),
        }
        step.offer(ui.volumePresetComboBox, "volumePreset", presets, "bone")
        sources = {"volume": _("the volume's bone"), "segment": _("the CT's chosen vertebra")}
        step.offer(ui.volumeAxesComboBox, "volumeAxesFrom", sources, "volume")
        ui.volumePercentileSlider.connect("valueChanged(int)", self._onPercentile)
        ui.volumeSurfaceButton.connect("clicked(bool)", self._onSurface)
        ui.volumeBoxButton.connect("clicked(bool)", self._onBox)
        ui.volumeCropButton.connect("clicked(bool)", self._onCrop)
        ui.volumeSaveButton.connect("clicked(bool)", self._onSave)
        onPath(ui.volumeSavePathLineEdit, self._updateButtons)
        ui.volumeAxesButton.connect("clicked(bool)", self._onAxes)
        ui.volumeUprightButton.connect("clicked(bool)", self._onUpright)

    @property
    def _parameters(self) -> Any:
        return self._step.parameters

    @property
    def _volume(self) -> Any:
        """The volume, if it holds an image."""
        node = None if self._parameters is None else self._parameters.volumeNode
        return None if node is None or node.GetImageData() is None else node

    @property
    def _box(self) -> Any:
        """The box, where only what lies in it counts."""
        return self._parameters.volumeBox if self._parameters.volumeInBox else None

    def forget(self) -> None:
        """Another scene: nothing of it is known."""
        self._made = self._rendered = self._cut = self._threshold = ()
        self._changed.follow()

    def update(self) -> None:
        """Show what the parameter node says."""
        ui, parameters = self._ui, self._parameters
        blocked = ui.volumePercentileSlider.blockSignals(True)
        ui.volumePercentileSlider.value = round(10 * parameters.volumePercentile)
        ui.volumePercentileSlider.blockSignals(blocked)
        self._showThreshold()
        self._changed.follow(parameters.volumeBox)
        self._updateButtons()
        if self._step.context.busy:
            return
        self._render()
        self._cutOpen()
        if parameters.volumeSurface is not None and self._volume is not None:
            if not self._made:
                self._made = self._state()  # as it was saved
            elif self._made != self._state():
                self._later()

    def _showThreshold(self) -> None:
        volume, percentile = self._volume, self._parameters.volumePercentile
        text = _("{percentile:.1f} %").format(percentile=percentile)
        if volume is not None and volume.GetImageData().GetNumberOfPoints():
            key = (volume.GetID(), volume.GetImageData().GetMTime(), percentile)
            if self._threshold[:-1] != key:
                self._threshold = (*key, bonesurface.boneThreshold(volume, percentile))
            text = _("{text} ({value:.4f} / mm)").format(text=text, value=self._threshold[-1])
        self._ui.volumeThresholdLabel.text = text

    def _updateButtons(self, *args: Any) -> None:
        ui, parameters = self._ui, self._parameters
        if parameters is None:
            return
        isThere = self._volume is not None and not self._step.context.busy
        hasBox = parameters.volumeBox is not None
        ui.volumeSurfaceButton.enabled = isThere
        ui.volumeBoxButton.enabled = isThere
        ui.volumeInBoxCheckBox.enabled = hasBox
        ui.volumeCropButton.enabled = isThere and hasBox
        ui.volumeSaveButton.enabled = bool(
            parameters.volumeSurface is not None and ui.volumeSavePathLineEdit.currentPath
        )
        ui.volumeAxesButton.enabled = isThere or parameters.volumeAxesFrom == "segment"

    # Surface and box

    def _state(self) -> tuple[Any, ...]:
        """What the surface depends on, to be compared."""
        parameters, volume, inBox = self._parameters, self._volume, self._box
        place: tuple[Any, ...] = ()
        if inBox is not None:
            matrix = slicer.util.arrayFromVTKMatrix(inBox.GetObjectToWorldMatrix())
            place = (*matrix.ravel().tolist(), *inBox.GetSize())
        image = (volume.GetID(), volume.GetImageData().GetMTime())
        return (*image, parameters.volumePercentile, parameters.volumeLargest, place)

    def _onPercentile(self, *args: Any) -> None:
        if self._parameters is not None:
            self._parameters.volumePercentile = self._ui.volumePercentileSlider.value / 10.0

    def _later(self, *args: Any) -> None:
        """Make the surface anew in the next turn, once for all that changes until then."""
        if not self._isWaiting:
            self._isWaiting = True
            nextTurn(self._follow)

    def _follow(self) -> None:
        self._isWaiting = False
        parameters = self._parameters
        if parameters is None or self._step.context.busy or self._volume is None:
            return
        if parameters.volumeSurface is not None and self._made != self._state():
            self._onSurface()

    def _onSurface(self, *args: Any) -> None:
        with self._step.attempt():
            parameters = self._parameters
            self._made = self._state()
            parameters.volumeSurface = bonesurface.boneSurface(
                self._volume,
                parameters.volumePercentile,
                largest=parameters.volumeLargest,
                roiNode=self._box,
                modelNode=parameters.volumeSurface,
            )

    def _onBox(self, *args: Any) -> None:
        with self._step.attempt():
            parameters, bounds = self._parameters, None
            if parameters.volumeSurface is not None:
                bounds = np.zeros(6)
                parameters.volumeSurface.GetRASBounds(bounds)
            with slicer.util.NodeModify(parameters):
                parameters.volumeBox = box.boxAround(self._volume, bounds)
                parameters.volumeInBox = True

    def _onCrop(self, *args: Any) -> None:
        with self._step.attempt():
            box.croppedVolume(self._volume, self._parameters.volumeBox)

    def _onSave(self, *args: Any) -> None:
        with self._step.attempt():
            path = self._ui.volumeSavePathLineEdit.currentPath
            saved = bonesurface.saveSurface(self._parameters.volumeSurface, path)
            self._ui.aloneLabel.text = _("Saved: {path}").format(path=saved)

    # The bone's own axes

    def _onAxes(self, *args: Any) -> None:
        with self._step.attempt():
            parameters, node = self._parameters, self._parameters.volumeAxes
            if parameters.volumeAxesFrom == "segment":
                where = parameters.segmentation, parameters.segmentId, parameters.ctVolume
                parameters.volumeAxes = axes.axesOfSegment(*where, transformNode=node)
            else:
                patient = patientAxes([n for n in parameters.xrays if n is not None])
                parameters.volumeAxes = axes.axesOfVolume(
                    self._volume, parameters.volumePercentile, self._box, patient, node
                )
            if not axes.sliceAlong(slicer.mrmlScene, parameters.volumeAxes):
                raise InputError(_("slice views"), _("are not there"), _("choose another layout"))

    def _onUpright(self, *args: Any) -> None:
        with self._step.attempt():
            axes.sliceUpright(slicer.mrmlScene)

    # Rendering and cuts

    def _render(self) -> None:
        parameters, volume = self._parameters, self._volume
        shown = volume is not None and parameters.volumeRendered
        inBox = self._box
        wanted: tuple[Any, ...] = ()
        if shown:
            image = (volume.GetID(), volume.GetImageData().GetMTime())
            wanted = (*image, parameters.volumePreset, None if inBox is None else inBox.GetID())
        if wanted == self._rendered:
            return
        self._rendered = wanted
        if shown:
            rendering.render(volume, parameters.volumePreset)
            rendering.cropRendering(volume, inBox)
        else:
            rendering.hideRendering(volume)

    def _cutOpen(self) -> None:
        parameters, scene = self._parameters, slicer.mrmlScene
        names = [name for name, parameter in _CUTS.items() if getattr(parameters, parameter)]
        cutters = [view for view in (sliceNode(scene, name) for name in names) if view is not None]
        surface = parameters.volumeSurface
        displays = [
            None if surface is None else surface.GetDisplayNode(),
            rendering.renderingOf(self._volume),
        ]
        ids = [node.GetID() for node in (*cutters, *displays) if node is not None]
        if tuple(ids) != self._cut and (cutters or self._cut):
            rendering.clip(displays, cutters)
            self._cut = tuple(ids) if cutters else ()
