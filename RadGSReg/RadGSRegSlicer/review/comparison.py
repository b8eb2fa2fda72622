"""The X-ray held against a rendering of the CT: blended, as a checkerboard, or one after the other.

The rendering stands in a volume node of its own at the detector, shown over the X-ray in its slice
view with the X-ray's own window; it stays out of saved scenes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
from numpy.typing import ArrayLike, NDArray

from .. import xray
from ..drawing import DRAWING, XRAY_ROLE
from .views import compositeNode

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode

MODES = ("xray", "blend", "checkerboard", "flicker", "rendering")
TILE_MM = 10.0


class Comparison:
    """One X-ray and its rendering in one slice view."""

    def __init__(self, xrayNode: vtkMRMLScalarVolumeNode, viewName: str) -> None:
        self.xrayNode = xrayNode
        self.viewName = viewName
        self.mode = "xray"
        self.opacity = 0.5
        self._scene = xrayNode.GetScene()
        self._rendering: NDArray[np.float32] | None = None
        self._volume: Any = None
        self._flickerOn = True

    @property
    def needsRendering(self) -> bool:
        """Whether the present mode shows a rendering."""
        return self.mode != "xray"

    @property
    def volume(self) -> Any:
        """The volume node that is shown over the X-ray, None before there is a rendering."""
        return self._volume

    def setRendering(self, image: ArrayLike) -> None:
        """Take a new rendering (rows, columns) in the X-ray's grey values."""
        self._rendering = np.asarray(image, dtype=np.float32)
        self.show()

    def setMode(self, mode: str, opacity: float) -> None:
        """Choose one of `MODES`; ``opacity`` of the rendering counts in "blend"."""
        self.mode, self.opacity = mode, opacity
        self.show()

    def flick(self) -> None:
        """The other picture of the two (in "flicker"; a timer calls this)."""
        if self.mode == "flicker":
            self._flickerOn = not self._flickerOn
            self._setOpacity(1.0 if self._flickerOn else 0.0)

    def show(self) -> None:
        """Put the present mode on the screen."""
        if self._rendering is None or self.mode == "xray":
            self._setOpacity(0.0)
            return
        image = self._rendering
        if self.mode == "checkerboard":
            image = checkerboard(xray.getPixels(self.xrayNode), image, self._tile())
        self._fill(image)
        layers = compositeNode(self._scene, self.viewName)
        if layers is not None:
            layers.SetForegroundVolumeID(self._volume.GetID())
        if self.mode == "blend":
            self._setOpacity(self.opacity)
        else:
            self._setOpacity(1.0 if self.mode != "flicker" or self._flickerOn else 0.0)

    def close(self) -> None:
        """Take the rendering out of the scene."""
        self._setOpacity(0.0)
        layers = compositeNode(self._scene, self.viewName)
        if self._volume is not None:
            if layers is not None and layers.GetForegroundVolumeID() == self._volume.GetID():
                layers.SetForegroundVolumeID(None)
            display = self._volume.GetDisplayNode()
            self._scene.RemoveNode(self._volume)
            if display is not None:
                self._scene.RemoveNode(display)
            self._volume = None

    def _tile(self) -> int:
        """A tile's pixels: `TILE_MM` at the isocentre, which is about two thirds of the way."""
        spacing = xray.getGeometry(self.xrayNode).pixelSpacing[0]
        return max(round(1.5 * TILE_MM / spacing), 2)

    def _fill(self, image: NDArray[Any]) -> None:
        if self._volume is None:
            self._volume = self._scene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
            display = self._scene.CreateNodeByClass("vtkMRMLScalarVolumeDisplayNode")
            for node in (self._volume, display):
                node.UnRegister(None)
                node.SetSaveWithScene(False)
                node.SetHideFromEditors(True)
            self._volume.SetName(f"{self.xrayNode.GetName()} rendering")
            self._volume.SetAttribute(DRAWING, "rendering")
            self._scene.AddNode(display)
            self._scene.AddNode(self._volume)
            display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
            self._volume.SetAndObserveDisplayNodeID(display.GetID())
            self._volume.SetNodeReferenceID(XRAY_ROLE, self.xrayNode.GetID())
        self._volume.CopyOrientation(self.xrayNode)
        slicer.util.updateVolumeFromArray(self._volume, np.ascontiguousarray(image[None]))
        shown, display = self.xrayNode.GetDisplayNode(), self._volume.GetDisplayNode()
        if shown is not None:
            display.SetAutoWindowLevel(False)
            display.SetWindowLevel(shown.GetWindow(), shown.GetLevel())
            display.SetAndObserveColorNodeID(shown.GetColorNodeID())

    def _setOpacity(self, opacity: float) -> None:
        layers = compositeNode(self._scene, self.viewName)
        if layers is not None:
            layers.SetForegroundOpacity(opacity)


def checkerboard(first: ArrayLike, second: ArrayLike, tile: int) -> NDArray[np.float32]:
    """Tiles of ``tile`` pixels of two pictures (rows, columns) in turn, ``first`` at the corner."""
    one, other = np.asarray(first, dtype=np.float32), np.asarray(second, dtype=np.float32)
    rows, columns = np.indices(one.shape) // tile
    return np.where((rows + columns) % 2 == 0, one, other)
