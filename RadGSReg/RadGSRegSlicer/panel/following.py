"""The panel follows the scene: what arrives while it is open is taken up."""

from typing import Any

import slicer
import vtk

from ..process.timers import nextTurn
from ..review import views
from .step import PanelContext

_CONCERNS = ("vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode")


class SceneFollower:
    """Looks at the scene again when all that comes or goes in one turn of the event loop is there.

    ``isActive`` says whether the panel works on the scene now: not while one is being closed.
    """

    def __init__(self, context: PanelContext) -> None:
        self._context = context
        self.isActive = False
        self._looksAgain = False
        self._known: set[str] = set()
        scene = slicer.mrmlScene
        for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent):
            context.addObserver(scene, event, self._onNode)
        layout = views.layoutNode(scene)
        if layout is not None:
            event = vtk.vtkCommand.ModifiedEvent
            context.addObserver(layout, event, lambda *args: views.keepOutOfFiles(scene))

    def begin(self, isActive: bool) -> None:
        """Another scene, or none: what is there now has not just arrived."""
        self.isActive = isActive
        self._known = {node.GetID() for node in self._nodes()}

    def _nodes(self) -> list[Any]:
        return [node for kind in _CONCERNS for node in slicer.util.getNodesByClass(kind)]

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNode(self, caller: Any, event: Any, node: Any) -> None:
        concerned = any(node.IsA(kind) for kind in _CONCERNS)
        if self.isActive and not self._looksAgain and concerned and not node.GetHideFromEditors():
            self._looksAgain = True
            nextTurn(self._look)

    def _look(self) -> None:
        self._looksAgain = False
        if not self.isActive:
            return
        nodes = self._nodes()
        arrived = [node for node in nodes if node.GetID() not in self._known]
        self._known = {node.GetID() for node in nodes}
        with self._context.updates.collected():
            if arrived:
                for name in ("ct", "xray"):
                    self._context.steps[name].takeUp(arrived)
            self._context.update()
