"""The biplane layout of one review: which X-ray each view shows, and how far it is drawn in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import vtk
from slicer import vtkMRMLScalarVolumeNode

from ..process.timers import nextTurn
from ..scene.drawing import lookAlongBeam
from . import views
from .display import framed

if TYPE_CHECKING:
    from .session import ReviewSession


class BiplaneLayout:
    """Two X-rays side by side, fitted to the vertebra, and the camera of the 3-D view.

    ``before`` is the layout to go back to, ``whole`` whether whole X-rays are shown,
    ``shown`` which X-ray each X-ray view shows, by the view's name.
    """

    def __init__(self, session: ReviewSession, xrayNodes: list[vtkMRMLScalarVolumeNode]) -> None:
        self.before: int | None = None
        self.whole = False
        self._session = session
        self._xrayNodes = xrayNodes
        self._scene = session.ctNode.GetScene()
        self.shown: dict[str, vtkMRMLScalarVolumeNode] = {}
        self._sizes: dict[str, tuple[int, ...]] = {}
        self._watched: list[tuple[Any, int]] = []

    @property
    def isShown(self) -> bool:
        """Whether the biplane layout is the present one."""
        node = views.layoutNode(self._scene)
        return node is not None and node.GetViewArrangement() == views.LAYOUT_ID

    def show(self, chosen: list[vtkMRMLScalarVolumeNode] | None = None) -> None:
        """Switch to the layout, with two of the X-rays (the first two unless given)."""
        for _ in self.showInParts(chosen):
            nextTurn(self._fitNew)

    def showInParts(self, chosen: list[vtkMRMLScalarVolumeNode] | None = None) -> Iterator[None]:
        """`show`; the views are made in the first part and filled in the second."""
        before = views.showLayout(self._scene)
        if before is not None:
            self.before = before
            yield
        kept = list(self.shown.values()) if self.isShown else []
        nodes = chosen or kept or self._xrayNodes[:2]
        self.shown = dict(zip(views.XRAY_VIEWS, nodes, strict=False))
        for name, node in self.shown.items():
            views.showXray(self._scene, name, node)
        self.fit()
        self._watchSizes()
        if before is not None:
            # Slice widgets that the layout has just made reset their offset in their first turn.
            nextTurn(self._fitNew)

    def _fitNew(self) -> None:
        if self.isShown and self._watched:
            self.fit()

    def leave(self) -> None:
        """Go back to the layout from before."""
        self._unwatch()
        views.restoreLayout(self._scene, self.before)
        self.before = None

    def fit(self, whole: bool | None = None) -> None:
        """Fit the X-ray views to the vertebra, or to the whole X-rays."""
        self.whole = self.whole if whole is None else whole
        for name, node in self.shown.items():
            view = views.sliceNode(self._scene, name)
            if view is not None:
                self._sizes[name] = tuple(view.GetDimensions())
                part = None if self.whole else framed(self._session.outline(node, False))
                views.fitXray(view, node, part)

    @property
    def camera(self) -> Any:
        """The camera of the 3-D view, or None."""
        return views.cameraNode(self._scene)

    def lookAlong(self, node: vtkMRMLScalarVolumeNode, aspect: float | None = None) -> bool:
        """Put the 3-D view's camera at an X-ray's source; returns whether there is a camera.

        ``aspect``: the view's width over its height; None: as it is on the screen.
        """
        if self.camera is not None:
            lookAlongBeam(self.camera, node, aspect or views.aspectOf3d())
        return self.camera is not None

    def overview(self, aspect: float | None = None) -> bool:
        """Look at the vertebra and the X-rays behind it, from between the sources.

        Returns whether there is a camera.
        """
        if self.camera is not None:
            centre = self._session.centreRas
            wide = aspect or views.aspectOf3d()
            views.lookFromBetween(self.camera, self._xrayNodes, centre, wide)
        return self.camera is not None

    def _watchSizes(self) -> None:
        """Fit again when a view gets its size, which is only after the layout has been made."""
        self._unwatch()
        for name in self.shown:
            view = views.sliceNode(self._scene, name)
            if view is not None:
                tag = view.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onSliceView)
                self._watched.append((view, tag))

    def _unwatch(self) -> None:
        for view, tag in self._watched:
            view.RemoveObserver(tag)
        self._watched = []

    def _onSliceView(self, caller: Any, event: str) -> None:
        name = caller.GetLayoutName()
        if name in self._sizes and tuple(caller.GetDimensions()) != self._sizes[name]:
            self.fit()
