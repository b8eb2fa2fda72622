"""Circles around beads, over the X-rays that show them: green where a shadow was met."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
from RadGSRegLib.geometry import Array
from slicer import vtkMRMLScene

from .drawing import lineModel, pixelsToRas, removeHelper, showBesideXray
from .meshes import polyLines

MET, MISSING = "bead met", "bead missing"
"""What the models are marked as (`drawing.DRAWING`)."""
_COLORS = {MET: (0.29, 0.87, 0.5), MISSING: (1.0, 0.6, 0.1)}
_CORNERS = 32
_OUTSIDE = 1.5  # radii: the shadow itself is to be seen
CLICK_RADII = 3.0
"""A click further than so many radii from a bead's middle, twice its circle's, is not of it."""


@dataclass(frozen=True)
class BeadCircle:
    """A bead in an X-ray, pixels: where the camera shows it, and the shadow that it has, if any."""

    column: float
    row: float
    radius: float
    spot: tuple[float, float] | None = None

    @classmethod
    def of(cls, shadow: Array, spot: Array | None) -> "BeadCircle":
        """Of where a camera shows a bead, (column, row, radius), and its shadow (column, row)."""
        column, row, radius = (float(x) for x in shadow)
        at = None if spot is None else (float(spot[0]), float(spot[1]))
        return cls(column, row, radius, at)

    def lines(self) -> list[Array]:
        """The circle, and a line from the shadow to its middle."""
        middle = np.array([self.column, self.row])
        turn = np.linspace(0.0, 2.0 * np.pi, _CORNERS + 1)
        edge = _OUTSIDE * self.radius * np.column_stack([np.cos(turn), np.sin(turn)])
        out = [middle + edge]
        if self.spot is not None:
            out.append(np.array([middle, self.spot]))
        return out


class BeadCircles:
    """Draws circles in the pictures of X-rays, of which `show` says which."""

    def __init__(self, scene: vtkMRMLScene | None = None) -> None:
        self._scene = slicer.mrmlScene if scene is None else scene
        self._models: dict[tuple[str, str], Any] = {}

    def show(self, circles: Sequence[tuple[Any, Sequence[BeadCircle]]]) -> None:
        """Draw these over their X-rays, and no others."""
        wanted = {(node.GetID(), kind) for node, _ in circles for kind in (MET, MISSING)}
        for key in [key for key in self._models if key not in wanted]:
            removeHelper(self._models.pop(key))
        for node, every in circles:
            for kind in (MET, MISSING):
                own = [c for c in every if (c.spot is not None) == (kind == MET)]
                lines = _inScene(node, [line for c in own for line in c.lines()])
                model = self._models.get((node.GetID(), kind))
                if model is None or model.GetScene() is None:
                    name = f"{node.GetName()} {kind}"
                    model = lineModel(self._scene, kind, name, node, _COLORS[kind], 2)
                    self._models[node.GetID(), kind] = model
                model.SetAndObservePolyData(polyLines(lines))
                showBesideXray(model.GetDisplayNode(), node)

    def clear(self) -> None:
        """Take the circles out of the scene."""
        self.show([])


def _inScene(node: Any, lines: Sequence[Array]) -> list[Array]:
    """Lines of pixels (N, 2) as lines in the scene (N, 3)."""
    if not lines:
        return []
    places = pixelsToRas(node, np.concatenate(lines))
    return np.split(places, np.cumsum([len(line) for line in lines])[:-1])
