# ruff: noqa: N802, N801, N815 (names are those of the real widgets)
"""Substitutes for the widgets of CTK and of Slicer's MRML that the form uses.

Their names, properties, signals and invokable methods are those of the real ones (read from the
headers of CTK and of Slicer 5.12); how they look and work inside is not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import slicer
import vtk
from PySide6.QtCore import Property, Qt, Signal
from PySide6.QtWidgets import (
    QComboBox,
    QGroupBox,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)


def invokable(method: Callable[..., Any]) -> Callable[..., Any]:
    """A slot or Q_INVOKABLE of the real class."""
    method.invokable = True  # type: ignore[attr-defined]
    return method


def plain(kind: type, name: str, default: Any) -> Any:
    """A property that is kept, and after which the widget is filled anew."""
    key = f"_{name}"

    def read(self: Any) -> Any:
        return getattr(self, key, default)

    def write(self: Any, value: Any) -> None:
        setattr(self, key, value)
        refresh = getattr(self, "refresh", None)
        if refresh is not None:
            refresh()

    return Property(kind, read, write)


def _fold_children(box: QWidget, button: QWidget, collapsed: bool) -> None:
    """Hide what is in a box, or show again what was not hidden on its own account."""
    for child in box.children():
        if isinstance(child, QWidget) and child is not button:
            if collapsed and not child.isHidden():
                child.setProperty("hiddenByBox", True)
                child.hide()
            elif not collapsed and child.property("hiddenByBox"):
                child.setProperty("hiddenByBox", False)
                child.show()


def visible_in_box(child: Any, visible: bool) -> bool:
    """Whether to show a widget now: one in a folded box is only noted, and shown on unfolding."""
    folded = bool(getattr(child.parent(), "_collapsed", False))
    child.setProperty("hiddenByBox", visible and folded)
    return visible and not folded


class ctkCollapsibleButton(QWidget):
    """A button over contents that it shows and hides."""

    contentsCollapsed = Signal(bool)
    SIGNALS = {"contentsCollapsed(bool)": "contentsCollapsed"}  # noqa: RUF012

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bar = QPushButton(self)
        self._bar.setStyleSheet("text-align: left; font-weight: bold; padding: 3px 6px;")
        self._bar.setFixedHeight(26)
        self._bar.clicked.connect(lambda: self._collapse(not self._collapsed))
        self._collapsed, self._text, self._shown = False, "", True
        # As CTK's: unless told otherwise, what is inside sets the panel's least width.
        self.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Preferred)
        self.setContentsMargins(0, 28, 0, 0)

    def _collapse(self, collapsed: bool) -> None:
        changed, self._collapsed = collapsed != self._collapsed, collapsed
        _fold_children(self, self._bar, collapsed)
        self.setMaximumHeight(28 if collapsed else 16777215)
        self._label()
        if changed:
            self.contentsCollapsed.emit(collapsed)

    def _label(self) -> None:
        arrow = "\N{BLACK RIGHT-POINTING SMALL TRIANGLE}"
        if not self._collapsed:
            arrow = "\N{BLACK DOWN-POINTING SMALL TRIANGLE}"
        self._bar.setText(f"{arrow} {self._text}")

    def _setText(self, text: str) -> None:
        self._text = text
        self._label()

    def resizeEvent(self, event: Any) -> None:
        self._bar.setGeometry(0, 0, self.width(), 26)

    def showEvent(self, event: Any) -> None:
        if self._shown:
            self._shown = False
            if self._collapsed:
                self._collapse(True)

    text = Property(str, lambda self: self._text, _setText)
    collapsed = Property(bool, lambda self: self._collapsed, _collapse)


class ctkCollapsibleGroupBox(QGroupBox):
    """A group box that can be folded."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setStyleSheet("ctkCollapsibleGroupBox::title { left: 18px; }")
        self._arrow = QToolButton(self)
        self._arrow.setAutoRaise(True)
        self._arrow.setGeometry(0, 0, 16, 16)
        self._arrow.setArrowType(Qt.ArrowType.DownArrow)
        self._arrow.clicked.connect(lambda: self._fold(not self._collapsed))
        self._collapsed = False

    def _fold(self, collapsed: bool) -> None:
        changed, self._collapsed = collapsed != self._collapsed, collapsed
        arrow = Qt.ArrowType.RightArrow if collapsed else Qt.ArrowType.DownArrow
        self._arrow.setArrowType(arrow)
        _fold_children(self, self._arrow, collapsed)
        self.setMaximumHeight(20 if collapsed else 16777215)
        if changed:
            self.toggled.emit(not collapsed)  # as the real one, which is a box with a check mark

    def showEvent(self, event: Any) -> None:
        if self._collapsed:
            self._fold(True)

    collapsed = Property(bool, lambda self: self._collapsed, _fold)


class ctkPathLineEdit(QWidget):
    """A line for a path, with a button to browse.

    As the real one, without name filters it tells of a path only while there is one: that it was
    cleared is told by ``validInputChanged`` alone.
    """

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    SIGNALS = {  # noqa: RUF012
        "currentPathChanged(QString)": "currentPathChanged",
        "validInputChanged(bool)": "validInputChanged",
    }

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._line, browse = QLineEdit(self), QToolButton(self)
        browse.setText("...")
        row.addWidget(self._line)
        row.addWidget(browse)
        self._valid = False
        self._line.textChanged.connect(self._onText)

    def _onText(self, text: str) -> None:
        before, self._valid = self._valid, bool(text)
        if text:
            self.currentPathChanged.emit(text)
        if self._valid != before:
            self.validInputChanged.emit(self._valid)

    @invokable
    def setCurrentPath(self, path: str) -> None:
        self._line.setText(path)

    @invokable
    def addCurrentPathToHistory(self) -> None:
        """The stand-in keeps no history."""

    currentPath = Property(str, lambda self: self._line.text(), setCurrentPath)
    nameFilters = plain(list, "nameFilters", [])
    settingKey = plain(str, "settingKey", "")
    showBrowseButton = plain(bool, "showBrowseButton", True)
    showHistoryButton = plain(bool, "showHistoryButton", True)


class qMRMLWidget(QWidget):
    """A widget that knows a scene."""

    mrmlSceneChanged = Signal(object)
    SIGNALS = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}  # noqa: RUF012

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    @invokable
    def mrmlScene(self) -> Any:
        return self._scene

    @invokable
    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """What a scripted widget is put into; a test sets ``entered``."""

    entered = True
    isEntered = Property(bool, lambda self: self.entered)


class _SceneWatcher:
    """Calls `refresh` when nodes come, go or are renamed; shared by the selectors."""

    _observed: Any = None

    def watch(self, scene: Any) -> None:
        if self._observed is not None:
            for tag in self._tags:
                self._observed.RemoveObserver(tag)
        self._observed, self._tags = scene, []
        if scene is not None:
            kinds = (scene.NodeAddedEvent, scene.NodeRemovedEvent)
            self._tags = [scene.AddObserver(kind, self._onScene) for kind in kinds]
            tag = scene.AddObserver(scene.EndBatchProcessEvent, lambda *_: self._onScene(None, ""))
            self._tags.append(tag)

    def concerns(self, node: Any) -> bool:
        """Whether a node of this kind could be in the list."""
        return any(node.IsA(kind) for kind in self.nodeTypes)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onScene(self, caller: Any, event: Any, node: Any = None) -> None:
        if node is not None and not self.concerns(node):
            return
        with contextlib.suppress(RuntimeError):  # the widget is gone already
            self.refresh()


class qMRMLNodeComboBox(_SceneWatcher, QWidget):
    """A list of nodes of some types."""

    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeValid = Signal(bool)
    nodeActivated = Signal(object)
    nodeAddedByUser = Signal(object)
    SIGNALS = {  # noqa: RUF012
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": "nodeValid",
        "currentNodeIDChanged(QString)": "currentNodeIDChanged",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
    }

    def __init__(self, parent: QWidget | None = None) -> None:
        QWidget.__init__(self, parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._box = QComboBox(self)
        self._box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        row.addWidget(self._box)
        self._scene: Any = None
        self._ids: list[str] = []
        self._current: Any = None
        self._attributes: list[tuple[str, str, Any]] = []
        self._box.activated.connect(self._onActivated)

    nodeTypes = plain(list, "nodeTypes", [])
    noneEnabled = plain(bool, "noneEnabled", False)
    addEnabled = plain(bool, "addEnabled", True)
    removeEnabled = plain(bool, "removeEnabled", True)
    editEnabled = plain(bool, "editEnabled", False)
    renameEnabled = plain(bool, "renameEnabled", False)
    showHidden = plain(bool, "showHidden", False)
    showChildNodeTypes = plain(bool, "showChildNodeTypes", True)
    selectNodeUponCreation = plain(bool, "selectNodeUponCreation", True)
    baseName = plain(str, "baseName", "")
    noneDisplay = plain(str, "noneDisplay", "None")

    def _shown(self, node: Any) -> bool:
        kinds = self.nodeTypes
        fits = any(
            node.IsA(kind) if self.showChildNodeTypes else node.GetClassName() == kind
            for kind in kinds
        )
        has = all(
            not node.IsA(kind)
            or (node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name)))
            for kind, name, value in self._attributes
        )
        return fits and has and (self.showHidden or not node.GetHideFromEditors())

    def refresh(self) -> None:
        nodes = []
        if self._scene is not None:
            every = [self._scene.GetNthNode(n) for n in range(self._scene.GetNumberOfNodes())]
            nodes = [node for node in every if self._shown(node)]
        self._box.clear()
        self._ids = []
        if self.noneEnabled:
            self._box.addItem(self.noneDisplay)
            self._ids.append("")
        for node in nodes:
            self._box.addItem(node.GetName())
            self._ids.append(node.GetID())
        if self.addEnabled:
            self._box.addItem(f"Create new {self.baseName or 'node'}")
        current = self._current
        if current is None and not self.noneEnabled and nodes:
            current = nodes[0]
        self._show(current if current in nodes else None)

    def _show(self, node: Any) -> None:
        changed, self._current = node is not self._current, node
        id_ = "" if node is None else node.GetID()
        self._box.setCurrentIndex(self._ids.index(id_) if id_ in self._ids else -1)
        if changed:
            self.currentNodeChanged.emit(node)
            self.nodeValid.emit(node is not None)
            self.currentNodeIDChanged.emit(id_)

    def _onActivated(self, index: int) -> None:
        if index >= len(self._ids):
            self.addNode()
        else:
            self.setCurrentNodeID(self._ids[index])
        self.nodeActivated.emit(self._current)

    @invokable
    def mrmlScene(self) -> Any:
        return self._scene

    @invokable
    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self.watch(scene)
        self.refresh()

    @invokable
    def addAttribute(self, kind: str, name: str, value: Any = None) -> None:
        self._attributes.append((kind, name, value))
        self.refresh()

    @invokable
    def currentNode(self) -> Any:
        return self._current

    @invokable
    def setCurrentNode(self, node: Any) -> None:
        if isinstance(node, str):
            node = self._scene.GetNodeByID(node)
        self._show(node if node is not None and self._shown(node) else None)

    @invokable
    def setCurrentNodeID(self, id_: str | None) -> None:
        self.setCurrentNode(self._scene.GetNodeByID(id_) if id_ else None)

    @invokable
    def nodeCount(self) -> int:
        return len([id_ for id_ in self._ids if id_])

    @invokable
    def nodeFromIndex(self, index: int) -> Any:
        return self._scene.GetNodeByID([id_ for id_ in self._ids if id_][index])

    @invokable
    def addNode(self, kind: str | None = None) -> Any:
        kind = kind or self.nodeTypes[0]
        name = self._scene.GenerateUniqueName(self.baseName or kind.removeprefix("vtkMRML"))
        node = self._scene.AddNewNodeByClass(kind, name)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    currentNodeID = Property(
        str, lambda self: self._current.GetID() if self._current else "", setCurrentNodeID
    )


class qMRMLSegmentSelectorWidget(_SceneWatcher, qMRMLWidget):
    """A list of segmentations and one of the segments of the chosen one.

    As the real one, it keeps the segment's identifier while there is no segmentation, and takes the
    first segment by itself where the one it keeps is not there.
    """

    currentNodeChanged = Signal(object)
    nodeValid = Signal(bool)
    currentSegmentChanged = Signal(str)
    SIGNALS = {  # noqa: RUF012
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": "nodeValid",
        "currentSegmentChanged(QString)": "currentSegmentChanged",
    }

    def __init__(self, parent: QWidget | None = None) -> None:
        qMRMLWidget.__init__(self, parent)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        self._nodes, self._segments = qMRMLNodeComboBox(self), QComboBox(self)
        self._nodes.nodeTypes = ["vtkMRMLSegmentationNode"]
        self._nodes.addEnabled = False
        column.addWidget(self._nodes)
        column.addWidget(self._segments)
        self._ids: list[str] = []
        self._current = ""
        self._observedSegmentation: tuple[Any, list[int]] = (None, [])
        self._nodes.currentNodeChanged.connect(self._onNode)
        self._segments.currentIndexChanged.connect(self._onSegment)

    def _setNoneEnabled(self, on: bool) -> None:
        self._nodes.noneEnabled = on
        self.refresh()

    noneEnabled = Property(bool, lambda self: self._nodes.noneEnabled, _setNoneEnabled)
    editEnabled = plain(bool, "editEnabled", False)
    multiSelection = plain(bool, "multiSelection", False)
    horizontalLayout = plain(bool, "horizontalLayout", False)
    segmentationNodeSelectorVisible = plain(bool, "segmentationNodeSelectorVisible", True)
    selectNodeUponCreation = plain(bool, "selectNodeUponCreation", True)

    @invokable
    def setMRMLScene(self, scene: Any) -> None:
        self._nodes.setMRMLScene(scene)
        qMRMLWidget.setMRMLScene(self, scene)

    def _onNode(self, node: Any) -> None:
        segmentation, tags = self._observedSegmentation
        if segmentation is not None:
            for tag in tags:
                segmentation.RemoveObserver(tag)
        self._observedSegmentation = (None, [])
        if node is not None:
            segmentation = node.GetSegmentation()
            kinds = (
                slicer.vtkSegmentation.SegmentAdded,
                slicer.vtkSegmentation.SegmentRemoved,
                slicer.vtkSegmentation.SegmentModified,
            )
            tags = [segmentation.AddObserver(kind, lambda *_: self.refresh()) for kind in kinds]
            self._observedSegmentation = (segmentation, tags)
        self.refresh()
        self.currentNodeChanged.emit(node)
        self.nodeValid.emit(node is not None)

    def refresh(self) -> None:
        node, none = self._nodes.currentNode(), self._nodes.noneEnabled
        self._segments.blockSignals(True)
        self._segments.clear()
        self._ids = []
        segmentation = None if node is None else node.GetSegmentation()
        if segmentation is not None and segmentation.GetNumberOfSegments() > 0:
            if none:
                self._segments.addItem("None")
                self._ids.append("")
            for index in range(segmentation.GetNumberOfSegments()):
                self._segments.addItem(segmentation.GetNthSegment(index).GetName())
                self._ids.append(segmentation.GetNthSegmentID(index))
        kept = self._current in self._ids
        self._segments.setCurrentIndex(self._ids.index(self._current) if kept else -1)
        self._segments.blockSignals(False)
        if self._ids and not kept:
            self._segments.setCurrentIndex(1 if none else 0)

    def _onSegment(self, index: int) -> None:
        if self._nodes.currentNode() is not None and 0 <= index < len(self._ids):
            self._current = self._ids[index]
            self.currentSegmentChanged.emit(self._current)

    @invokable
    def currentNode(self) -> Any:
        return self._nodes.currentNode()

    @invokable
    def currentNodeID(self) -> str:
        return str(self._nodes.currentNodeID)

    @invokable
    def setCurrentNode(self, node: Any) -> None:
        self._nodes.setCurrentNode(node)

    @invokable
    def setCurrentNodeID(self, id_: str) -> None:
        self._nodes.setCurrentNodeID(id_)

    @invokable
    def currentSegmentID(self) -> str:
        return self._current

    @invokable
    def segmentIDs(self) -> list[str]:
        return [id_ for id_ in self._ids if id_]

    @invokable
    def setCurrentSegmentID(self, id_: str) -> None:
        if id_ in self._ids:
            self._segments.setCurrentIndex(self._ids.index(id_))


WIDGETS: tuple[type, ...] = (
    ctkCollapsibleButton,
    ctkCollapsibleGroupBox,
    ctkPathLineEdit,
    qMRMLWidget,
    qSlicerScriptedLoadableModuleWidget,
    qMRMLNodeComboBox,
    qMRMLSegmentSelectorWidget,
)
