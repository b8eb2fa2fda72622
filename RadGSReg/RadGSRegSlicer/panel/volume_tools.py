"""The tools after a reconstruction: surface, box, the bone's axes, rendering, cuts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk
from RadGSRegLib.errors import InputError
from slicer.i18n import tr as _

from ..exchange.casefolder import patientAxes
from ..process.timers import makeTimer
from ..review import rendering
from ..review.views import showVolumeAlone, sliceNode
from ..scene import axes, bonesurface, box
from .step import Following, onPath

if TYPE_CHECKING:
    from .volume_step import VolumeStep

_PAUSE_MS = 300
"""How long nothing must change before the surface is made anew."""
_LIVE_VOXELS = 3_000_000
"""Of how many voxels the surface follows by itself: 1.4 million take 0.4 s, 8 million 2.4 s, where
the volume is full of noise (one core of a Xeon)."""
_CUTS = {"Red": "volumeCutRed", "Yellow": "volumeCutYellow", "Green": "volumeCutGreen"}


class VolumeTools:
    """What can be done with the volume of the parameter node; follows it, its box and the form."""

    def __init__(self, step: VolumeStep) -> None:
        self._step, self._ui, ui = step, step.ui, step.ui
        self._timer = makeTimer(_PAUSE_MS, self._follow)
        self._isNew = True
        self._linked: bool | None = None
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

    def begin(self) -> None:
        """The panel begins to work on a scene, or is opened again: what is there stays as it is."""
        self._isNew = True

    def forget(self) -> None:
        """Another scene: nothing of it is known."""
        self._timer.stop()
        self._made = self._rendered = self._cut = self._threshold = ()
        self._linked = None
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
        self._link()
        self.render()
        if self._step.context.busy:
            return
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
            value = self._value(volume)
            if value is not None:
                text = _("{text} ({value:.4f} / mm)").format(text=text, value=value)
        self._ui.volumeThresholdLabel.text = text

    def _value(self, volume: Any, *, now: bool = False) -> float | None:
        """The threshold: of a large volume not before the slider has come to rest, or ``now``.

        None where it is not known, or a saved scene holds a percentile that is none.
        """
        image, percentile = volume.GetImageData(), self._parameters.volumePercentile
        key = (volume.GetID(), image.GetMTime(), percentile)
        if self._threshold[:-1] != key:
            if not now and image.GetNumberOfPoints() > _LIVE_VOXELS:
                self._later()
                return None
            try:
                self._threshold = (*key, bonesurface.boneThreshold(volume, percentile))
            except InputError:
                self._threshold = (*key, None)
        return self._threshold[-1]

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
        """Make the surface anew when nothing has changed for a while."""
        self._timer.stop()
        self._timer.start()

    def _follow(self) -> None:
        self._timer.stop()
        parameters = self._parameters
        if parameters is None or self._step.context.busy or self._volume is None:
            return
        self._value(self._volume, now=True)
        self._showThreshold()
        if parameters.volumeSurface is not None and self._made != self._state():
            if self._counted() <= _LIVE_VOXELS:
                self._onSurface()
            else:
                text = _("This is large: press Make the surface to have it follow the choices.")
                self._ui.aloneLabel.text = text
                self._made = self._state()

    def _counted(self) -> int:
        """How many voxels a surface is made of."""
        if self._box is not None:
            return int(box.boxBlock(self._volume, self._box)[1].size)
        return int(self._volume.GetImageData().GetNumberOfPoints())

    def _onSurface(self, *args: Any) -> None:
        with self._step.attempt():
            parameters = self._parameters
            self._made = self._state()
            parameters.volumeSurface = bonesurface.boneSurface(
                self._volume,
                parameters.volumePercentile,
                threshold=self._value(self._volume, now=True),
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
                parameters.volumeBox = box.boxAround(self._volume, bounds, parameters.volumeBox)
                parameters.volumeInBox = True

    def _onCrop(self, *args: Any) -> None:
        with self._step.attempt():
            node = box.croppedVolume(self._volume, self._parameters.volumeBox)
            showVolumeAlone(node.GetScene(), node)
            text = _("{name} is in the slice views; to work on it choose it as the volume.")
            self._ui.aloneLabel.text = text.format(name=node.GetName())

    def _onSave(self, *args: Any) -> None:
        with self._step.attempt():
            path = self._ui.volumeSavePathLineEdit.currentPath
            saved = bonesurface.saveSurface(self._parameters.volumeSurface, path)
            self._ui.aloneLabel.text = _("Saved: {path}").format(path=saved)

    # The bone's own axes

    def _onAxes(self, *args: Any) -> None:
        with self._step.attempt():
            parameters, node, remarks = self._parameters, self._parameters.volumeAxes, []
            if parameters.volumeAxesFrom == "segment":
                where = parameters.segmentation, parameters.segmentId, parameters.ctVolume
                parameters.volumeAxes = axes.axesOfSegment(*where, transformNode=node)
            else:
                patient = patientAxes([n for n in parameters.xrays if n is not None])
                parameters.volumeAxes = axes.axesOfVolume(
                    self._volume, parameters.volumePercentile, self._box, patient, node
                )
                remarks.append(axes.remarkOn(parameters.volumeAxes))
                if patient is None:
                    text = _("the X-rays do not say how the patient lies: axes may be exchanged")
                    remarks.append(text)
            self._ui.aloneLabel.text = "\n".join(
                _("Look closely: {remark}.").format(remark=remark) for remark in remarks if remark
            )
            if not axes.sliceAlong(slicer.mrmlScene, parameters.volumeAxes):
                raise InputError(_("slice views"), _("are not there"), _("choose another layout"))

    def _onUpright(self, *args: Any) -> None:
        with self._step.attempt():
            axes.sliceUpright(slicer.mrmlScene)

    # Rendering and cuts

    def _link(self) -> None:
        """Of a registration's volume step 5 has a checkbox too: both say the same."""
        parameters = self._parameters
        if self._volume is None or parameters.reconstruction is not self._volume:
            self._linked = None
            return
        wanted = parameters.reviewVolume
        if self._linked is not None and parameters.volumeRendered != self._linked:
            wanted = parameters.volumeRendered  # this is what was changed
        self._linked = wanted
        if parameters.volumeRendered != wanted or parameters.reviewVolume != wanted:
            with slicer.util.NodeModify(parameters):
                parameters.volumeRendered = parameters.reviewVolume = wanted

    def render(self) -> None:
        """Render the volume that is growing, or else the chosen one, or hide it.

        Whoever has hidden it elsewhere has unticked the box; what he changed of its looks stays
        until the volume, the preset or the box is another one.
        """
        parameters, volume = self._parameters, self._step.growing or self._volume
        isNew, self._isNew = self._isNew, False
        before, id_ = self._rendered, None if volume is None else volume.GetID()
        if before and (id_ != before[0] or not parameters.volumeRendered):
            self._hide(before[0])
            before = self._rendered = ()
        if volume is None or not parameters.volumeRendered:
            return
        inBox, display = self._box, rendering.renderingOf(volume)
        isVisible = display is not None and display.GetVisibility()
        look = volume.GetImageData().GetMTime(), parameters.volumePreset
        wanted = id_, look, None if inBox is None else inBox.GetID()
        self._rendered = wanted
        if not before and isNew and isVisible:
            return  # as it was saved
        if before == wanted:
            if display is not None and not isVisible:
                self._rendered = ()
                parameters.volumeRendered = False
            return
        if before[:2] != wanted[:2]:
            rendering.render(volume, parameters.volumePreset)
        if inBox is not None or before[2:] not in ((), (None,)):
            rendering.cropRendering(volume, inBox)

    def _hide(self, id_: str) -> None:
        """Hide the rendering of a volume, unless step 5 shows it."""
        node, parameters = slicer.mrmlScene.GetNodeByID(id_), self._parameters
        isOther = node is not None and node is not self._volume
        if not (isOther and node is parameters.reconstruction and parameters.reviewVolume):
            rendering.hideRendering(node)

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
