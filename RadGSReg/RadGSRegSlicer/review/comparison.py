"""The X-ray held against a rendering of the CT: blended, as a checkerboard, or in turn."""

from typing import Any

import numpy as np
import slicer
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from slicer.i18n import tr as _

from ..scene import xray
from ..scene.drawing import helperNode, removeHelper
from .views import compositeNode

TILE_MM = 10.0
SHADING_MM = 20.0


class Comparison:
    """One X-ray and its rendering in one slice view.

    With ``enhance`` both are shown with their wide shading softened, so that bone stands out; else
    the X-ray is shown as it is. ``about`` (rows, columns) marks the vertebra, on which brightness
    and contrast are set. ``volume`` is the node shown over the X-ray, None before there is one.
    """

    def __init__(self, xrayNode: slicer.vtkMRMLScalarVolumeNode, viewName: str) -> None:
        self.xrayNode = xrayNode
        self.viewName = viewName
        self.mode = "xray"
        self.opacity = 0.5
        self.enhance = False
        self.about: NDArray[np.bool_] | None = None
        self._scene = xrayNode.GetScene()
        self.rendering: NDArray[np.float32] | None = None
        self.volume: Any = None
        self._flickerOn = True
        self._kept: tuple[int, NDArray[np.float32]] | None = None

    def setRendering(self, image: ArrayLike) -> None:
        """Take a new rendering (rows, columns) in the X-ray's grey values, NaN where there is none.

        There the X-ray itself is shown.
        """
        self.rendering = np.asarray(image, dtype=np.float32)
        self.show()

    def setMode(self, mode: str, opacity: float, enhance: bool) -> None:
        """Choose one of `COMPARISONS`; ``opacity`` of the rendering counts in "blend"."""
        self.mode, self.opacity, self.enhance = mode, opacity, enhance
        self.show()

    def flick(self) -> None:
        """The other picture of the two (in "flicker"; a timer calls this)."""
        if self.mode == "flicker":
            self._flickerOn = not self._flickerOn
            self.show()

    def show(self) -> None:
        """Put the present mode on the screen."""
        image = self._picture()
        if image is None:
            self._hide()
            return
        self._fill(image)
        self.volume.SetName(f"{self.xrayNode.GetName()} ({self._said()})")
        layers = compositeNode(self._scene, self.viewName)
        if layers is not None:
            layers.SetForegroundVolumeID(self.volume.GetID())
        self._setOpacity(1.0)

    def _said(self) -> str:
        """What is seen, for the view's corner."""
        mode = self.mode if self.rendering is not None else "xray"
        if mode == "flicker":
            mode = "rendering" if self._flickerOn else "xray"
        return {
            "xray": _("bone brought out"),
            "blend": _("blended with the CT"),
            "checkerboard": _("checkerboard with the CT"),
            "rendering": _("rendering of the CT"),
        }[mode]

    def _hide(self) -> None:
        """Show the X-ray alone; a view's corner does not name what is not seen."""
        layers = compositeNode(self._scene, self.viewName)
        if layers is None:
            return
        layers.SetForegroundOpacity(0.0)
        if self.volume is not None and layers.GetForegroundVolumeID() == self.volume.GetID():
            layers.SetForegroundVolumeID(None)

    def _picture(self) -> NDArray[np.float32] | None:
        """What is to be seen over the X-ray (rows, columns); None for the X-ray as it is."""
        pixels = np.asarray(xray.getPixels(self.xrayNode), dtype=np.float32)
        mode = self.mode if self.rendering is not None else "xray"
        if mode == "flicker":
            mode = "rendering" if self._flickerOn else "xray"
        if mode == "xray":
            return self._enhancedXray() if self.enhance else None
        assert self.rendering is not None
        there = np.isfinite(self.rendering)
        rendering = np.where(there, self.rendering, pixels)
        if self.enhance:
            if there.any():
                # A flat surrounding, so that the CT's edge does not shine.
                flat = np.where(there, self.rendering, self.rendering[there].mean())
                rendering = self._enhanced(flat)
            pixels = self._enhancedXray()
            rendering = np.where(there, self._matched(rendering, pixels), pixels)
        if mode == "blend":
            return np.asarray((1.0 - self.opacity) * pixels + self.opacity * rendering)
        if mode == "checkerboard":
            return checkerboard(pixels, rendering, self._tile())
        return rendering

    def _enhancedXray(self) -> NDArray[np.float32]:
        """The X-ray itself with its shading softened, which is filtered anew only if it changes."""
        when = self.xrayNode.GetImageData().GetMTime()
        if self._kept is None or self._kept[0] != when:
            pixels = np.asarray(xray.getPixels(self.xrayNode), dtype=np.float32)
            self._kept = (when, self._enhanced(pixels))
        return self._kept[1]

    def _enhanced(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        spacing = xray.getGeometry(self.xrayNode).pixelSpacing[0]
        return withoutShading(image, 1.5 * SHADING_MM / spacing)

    def _matched(
        self, rendering: NDArray[np.float32], seen: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The rendering with the X-ray's mean and spread at the vertebra."""
        if self.about is None or not self.about.any():
            return rendering
        inside, wanted = rendering[self.about], seen[self.about]
        gain = float(wanted.std()) / max(float(inside.std()), 1e-9)
        return np.asarray(float(wanted.mean()) + gain * (rendering - float(inside.mean())))

    def close(self) -> None:
        """Take the rendering out of the scene."""
        self._hide()
        if self.volume is not None:
            removeHelper(self.volume)
            self.volume = None

    def _tile(self) -> int:
        """A tile's pixels: `TILE_MM` at the isocentre, which is about two thirds of the way."""
        spacing = xray.getGeometry(self.xrayNode).pixelSpacing[0]
        return max(round(1.5 * TILE_MM / spacing), 2)

    def _fill(self, image: NDArray[Any]) -> None:
        if self.volume is None:
            name, xrayNode = f"{self.xrayNode.GetName()} rendering", self.xrayNode
            self.volume = helperNode(self._scene, "rendering", name, xrayNode, "ScalarVolume")
            display = self.volume.GetDisplayNode()
            display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
        self.volume.CopyOrientation(self.xrayNode)
        slicer.util.updateVolumeFromArray(self.volume, np.ascontiguousarray(image[None]))
        self._window(image)

    def _window(self, image: NDArray[Any]) -> None:
        shown, display = self.xrayNode.GetDisplayNode(), self.volume.GetDisplayNode()
        display.SetAutoWindowLevel(False)
        if self.enhance:
            reference = self._enhancedXray()
            inside = image if self.about is None or not self.about.any() else reference[self.about]
            low, high = (float(x) for x in np.percentile(inside, [1.0, 99.7]))
            spare = 0.25 * (high - low)
            if high > low:
                display.SetWindowLevelMinMax(low - spare, high + 0.2 * spare)
        elif shown is not None:
            display.SetWindowLevel(shown.GetWindow(), shown.GetLevel())
        if shown is not None:
            display.SetAndObserveColorNodeID(shown.GetColorNodeID())

    def _setOpacity(self, opacity: float) -> None:
        layers = compositeNode(self._scene, self.viewName)
        if layers is not None:
            layers.SetForegroundOpacity(opacity)


def withoutShading(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """A picture with most of its shading wider than ``sigma`` pixels taken away."""
    # Three boxes are a Gaussian for this purpose, at a cost that does not grow with its width.
    width = max(round(2.0 * sigma), 1)
    shading = image
    for _round in range(3):
        shading = ndimage.uniform_filter(shading, width, mode="nearest")
    return np.asarray(image - 0.75 * (shading - float(shading.mean())), dtype=np.float32)


def checkerboard(first: ArrayLike, second: ArrayLike, tile: int) -> NDArray[np.float32]:
    """Tiles of ``tile`` pixels of two pictures (rows, columns) in turn, ``first`` at the corner."""
    one, other = np.asarray(first, dtype=np.float32), np.asarray(second, dtype=np.float32)
    rows, columns = np.indices(one.shape) // tile
    return np.where((rows + columns) % 2 == 0, one, other)
