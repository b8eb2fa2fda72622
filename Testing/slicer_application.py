# ruff: noqa: N802
"""What Slicer's application does around the scene, as a real one was seen to do it.

slicer-core has the scene and its nodes, not the application. `StandInLayoutManager` makes views of
a layout and, in their first turn of the event loop, resets their offset, as new slice widgets do.
`takeDisplaysAlong` removes display nodes with what they display, and notes in `errors` what is
removed twice. `logged` collects what Slicer writes to its log, `Turns` measures how long each turn
of the event loop takes, and `drawSegments` draws segmentations as its views do.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import slicer
import slicer_pictures
import vtk
from slicer_pictures import Stage

UNSET = 14
SIZES = {"RadGSRegA": (320, 240), "RadGSRegB": (320, 240), "Red": (200, 200), "Yellow": (200, 200)}
"""Of the views, pixels."""
errors: list[str] = []
"""What the application would have written to its log as an error."""


class StandInLayoutManager:
    """Views for every layout of a scene that is known; none for one that is not."""

    def __init__(self, scene: Any, sizes: dict[str, tuple[int, int]] | None = None) -> None:
        self.stage = Stage(scene)
        self.sizes = sizes or {}
        self.views: list[str] = []
        self.resets = 0
        self._isPainted = False
        (self.node,) = slicer.util.getNodesByClass("vtkMRMLLayoutNode", scene)
        self.node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onLayout)
        self._onLayout(self.node, "")

    def _onLayout(self, caller: Any, event: str) -> None:
        """The views of the present layout; an unknown one is an empty window, and a log entry."""
        import qt

        known = bool(caller.GetCurrentLayoutDescription())
        text = caller.GetCurrentLayoutDescription() or ""
        self.views = re.findall(r'class="vtkMRMLSliceNode" singletontag="([^"]+)"', text)
        if not known:
            # A new or emptied layout node says 14, until the application asks for its own.
            if caller.GetViewArrangement() != UNSET:
                errors.append(f"Can't find layout:{caller.GetViewArrangement()}")
            return
        before = set(self.stage.sliceLogics)
        self.stage.build(self.sizes)
        fresh = [name for name in self.stage.sliceLogics if name not in before]
        for name in fresh:
            logic = self.stage.sliceLogics[name]
            logic.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onLogic)
        qt.QTimer.singleShot(0, lambda: self._reset(fresh))

    def paintAlways(self) -> Any:
        """Let every slice view draw itself in every turn, as the application does; keep it."""
        import qt

        timer = qt.QTimer()
        timer.setInterval(0)
        timer.connect("timeout()", self.paint)
        timer.start()
        self._isPainted = True
        return timer

    def _onLogic(self, caller: Any, event: str) -> None:
        """A view that has changed asks for its picture at once."""
        if self._isPainted:
            self._isPainted = False  # painting changes it, too
            self.paint()
            self._isPainted = True

    def paint(self) -> None:
        """Compute the picture of every slice view, without a window."""
        for logic in self.stage.sliceLogics.values():
            node = logic.GetSliceNode()
            if node is None or node.GetScene() is not slicer.mrmlScene:
                continue
            logic.UpdatePipeline()
            for layer in (
                logic.GetBackgroundLayer(),
                logic.GetForegroundLayer(),
                logic.GetLabelLayer(),
            ):
                if layer is not None and layer.GetVolumeNode() is not None:
                    layer.GetReslice().Update()
            connection = logic.GetImageDataConnection()
            if connection is not None:
                connection.GetProducer().Update()

    def _reset(self, names: list[str]) -> None:
        """A new widget's slider knows its range only now, and clamps the offset to it."""
        self.resets += len(names)
        for name in names:
            node = self.stage.sliceLogics[name].GetSliceNode()
            if node is not None and node.GetScene() is slicer.mrmlScene:
                node.SetSliceOffset(node.GetSliceOffset() + 1.0)


def drawSegments(scene: Any) -> list[Any]:
    """Slicer's own drawing of segmentations in every view of a scene; keep what it returns."""
    kept = []
    for kind, dimension in (("Slice", "2D"), ("View", "3D")):
        for node in slicer.util.getNodesByClass(f"vtkMRML{kind}Node", scene):
            window, renderer = slicer_pictures._window((200, 200))
            manager = f"vtkMRMLSegmentationsDisplayableManager{dimension}"
            group = slicer_pictures._group([manager], renderer, node, slicer.modules.kept[0])
            kept.append((window, renderer, group))
    return kept


def takeDisplaysAlong(scene: Any) -> None:
    """Let display nodes go with their node; whoever removes them once more makes an error."""

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def removed(caller: Any, event: Any, node: Any) -> None:
        if not node.IsA("vtkMRMLDisplayableNode"):
            return
        for index in range(node.GetNumberOfDisplayNodes()):
            display = node.GetNthDisplayNode(index)
            if display is not None and display.GetScene() is not None:
                remove(display)

    remove = scene.RemoveNode

    def once(node: Any) -> None:
        if node.GetScene() is None:
            errors.append(f"RemoveNode: {node.GetName()} is not in the scene")
        remove(node)

    scene.AddObserver(scene.NodeAboutToBeRemovedEvent, removed)
    scene.RemoveNode = once


class Turns:
    """The turns of the event loop while it is in use: how long each one computed, in seconds.

    A timer ticks after every turn; what the thread computed between two ticks is a turn. A turn
    that a busy computer holds up is not counted as long.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __enter__(self) -> Turns:
        import qt

        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._tick)
        self._timer.start()
        self._last = time.thread_time()
        return self

    def _tick(self) -> None:
        now = time.thread_time()
        self.seconds.append(now - self._last)
        self._last = now

    def __exit__(self, *failure: object) -> None:
        self._tick()
        self._timer.stop()


@contextlib.contextmanager
def logged(folder: Path) -> Iterator[list[str]]:
    """The errors and warnings that VTK and MRML write meanwhile, filled in at the end."""
    lines: list[str] = []
    path = folder / "vtk.log"
    vtk.vtkLogger.LogToFile(str(path), vtk.vtkLogger.TRUNCATE, vtk.vtkLogger.VERBOSITY_WARNING)
    try:
        yield lines
    finally:
        vtk.vtkLogger.EndLogToFile(str(path))
        lines += [
            line for line in path.read_text().splitlines() if re.search(r"(ERR|WARN)\|", line)
        ]
