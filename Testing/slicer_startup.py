# ruff: noqa: N802
"""A stand-in for the start of 3D Slicer, for tests on slicer-core.

slicer-core brings the real scene, nodes, storage and logics, but not the application. `start` makes
a a scene and supplies what a scripted module takes for granted: the four ``ScriptedLoadableModule``
classes, ``parameterNodeWrapper``, ``slicer.i18n`` and the logics under ``slicer.modules``.
`start_panel` supplies a window system too, through `qt_standin`. These substitutes are small, and
none of them is Slicer's own.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import sys
import tempfile
import types
import typing
import unittest
from pathlib import Path
from typing import Any

import slicer
import vtk

MODULE_FOLDER = Path(__file__).resolve().parent.parent / "RadGSReg"


class StandInModule:
    """For ``ScriptedLoadableModule``."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__


class StandInWidget:
    """For ``ScriptedLoadableModuleWidget``; after `start_panel` it can be set up."""

    def __init__(self, parent: Any = None) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__.removesuffix("Widget")
        if parent is not None:
            self.layout = parent.layout()

    def setup(self) -> None:
        """Nothing: the developer section needs Qt."""

    def resourcePath(self, name: str) -> str:
        """A file of the module's ``Resources`` folder."""
        return str(MODULE_FOLDER / "Resources" / name)


class StandInLogic:
    """For ``ScriptedLoadableModuleLogic``: a singleton parameter node in the scene."""

    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        """The module's node, made at the first call."""
        scene = slicer.mrmlScene
        node = scene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node.SetAttribute("ModuleName", self.moduleName)
            node.SetName(scene.GenerateUniqueName(self.moduleName))
            node = scene.AddNode(node)
        return node


class StandInTest(unittest.TestCase):
    """For ``ScriptedLoadableModuleTest``."""

    def delayDisplay(self, message: str, msec: int = 0) -> None:
        """Print instead of showing."""
        print(message)


class Choice:
    """The annotation of Slicer's, kept for reading only."""

    def __init__(self, choices: list[str]) -> None:
        self.choices = choices


class WithinRange:
    """The annotation of Slicer's: a value outside is refused, and limits a bound spin box."""

    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum


def _read(node: Any, name: str, kind: Any) -> Any:
    if typing.get_origin(kind) is list:
        count = int(node.GetParameter(f"{name}.len") or 0)
        if typing.get_args(kind)[0] is str:
            return [node.GetParameter(f"{name}.{index}") for index in range(count)]
        return [node.GetNodeReference(f"{name}.{index}") for index in range(count)]
    if isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        return node.GetNodeReference(name)
    text = node.GetParameter(name)
    return text == "True" if kind is bool else kind(text)


def _write(node: Any, name: str, kind: Any, value: Any) -> None:
    if typing.get_origin(kind) is list and typing.get_args(kind)[0] is str:
        for index, item in enumerate(value):
            node.SetParameter(f"{name}.{index}", item)
        for index in range(len(value), int(node.GetParameter(f"{name}.len") or 0)):
            node.UnsetParameter(f"{name}.{index}")
        node.SetParameter(f"{name}.len", str(len(value)))
    elif typing.get_origin(kind) is list:
        for index, item in enumerate(value):
            node.SetNodeReferenceID(f"{name}.{index}", None if item is None else item.GetID())
        for index in range(len(value), int(node.GetParameter(f"{name}.len") or 0)):
            node.SetNodeReferenceID(f"{name}.{index}", None)
        node.SetParameter(f"{name}.len", str(len(value)))
    elif isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{name} must be a {kind.__name__}")
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, None if value is None else value.GetID())
    else:
        node.SetParameter(name, str(value))


def parameterNodeWrapper(cls: type) -> type:
    """Typed properties over a parameter node: node, str, lists of either, float, int and bool.

    Bound to widgets by ``connectGui`` as Slicer's is; what that cannot bind is refused here too.
    """
    fields = {}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        kind = typing.get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
        fields[name] = (kind, hint, getattr(cls, name, None))

    def init(self: Any, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self.showing = False
        for name, (kind, _, default) in fields.items():
            stored = f"{name}.len" if typing.get_origin(kind) is list else name
            if not parameterNode.HasParameter(stored):
                empty = [] if typing.get_origin(kind) is list else None
                _write(parameterNode, name, kind, empty if default is None else default)

    def makeProperty(name: str, kind: Any, hint: Any) -> property:
        notes = getattr(hint, "__metadata__", ())
        choices = [a.choices for a in notes if isinstance(a, Choice)]
        limits = [a for a in notes if isinstance(a, WithinRange)]

        def setter(self: Any, value: Any) -> None:
            if choices and value not in choices[0]:
                raise ValueError(f"{name} must be one of {choices[0]}")
            if limits and not limits[0].minimum <= value <= limits[0].maximum:
                raise ValueError(f"{name} must be in {limits[0].minimum} to {limits[0].maximum}")
            with slicer.util.NodeModify(self.parameterNode):
                _write(self.parameterNode, name, kind, value)

        return property(lambda self: _read(self.parameterNode, name, kind), setter)

    for name, (kind, hint, _) in fields.items():
        setattr(cls, name, makeProperty(name, kind, hint))
    cls.__init__ = init  # type: ignore[misc]
    cls.allParameters = fields  # type: ignore[attr-defined]
    for name, method in (
        ("connectGui", _connectGui),
        ("disconnectGui", _disconnectGui),
        ("AddObserver", lambda self, *how: self.parameterNode.AddObserver(*how)),
        ("RemoveObserver", lambda self, tag: self.parameterNode.RemoveObserver(tag)),
        ("StartModify", lambda self: self.parameterNode.StartModify()),
        ("EndModify", lambda self, was: self.parameterNode.EndModify(was)),
        ("Modified", lambda self: self.parameterNode.Modified()),
    ):
        setattr(cls, name, method)
    return cls


# How a widget shows a parameter: class, type of the parameter, signal, property or pair of methods.
_BINDINGS = {
    "QCheckBox": (bool, "toggled(bool)", "checked"),
    "QPushButton": (bool, "toggled(bool)", "checked"),
    "QLineEdit": (str, "textChanged(QString)", "text"),
    "QSpinBox": (int, "valueChanged(int)", "value"),
    "QDoubleSpinBox": (float, "valueChanged(double)", "value"),
    "ctkSliderWidget": (float, "valueChanged(double)", "value"),
    "QComboBox": (str, "currentIndexChanged(int)", None),
    "qMRMLNodeComboBox": (object, "currentNodeChanged(vtkMRMLNode*)", None),
}


class _Binding:
    """One widget bound to one parameter."""

    def __init__(self, wrapper: Any, name: str, widget: Any) -> None:
        kind, hint, _ = wrapper.allParameters[name]
        self.wrapper, self.name, self.widget = wrapper, name, widget
        self.className = type(widget).__name__
        self.choices = next(
            (a.choices for a in getattr(hint, "__metadata__", ()) if isinstance(a, Choice)), None
        )
        wanted, self.signal, self.property = _BINDINGS.get(self.className, (None, "", None))
        isNode = isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)
        if wanted is not kind and not (wanted is object and isNode):
            raise RuntimeError(f"{name} ({kind}) cannot be bound to a {self.className}")
        if self.className == "QComboBox":
            if self.choices is None:
                raise RuntimeError(f"{name} has no Choice and cannot be bound to a QComboBox")
            widget.clear()
            for choice in self.choices:
                widget.addItem(str(choice))
        if self.className in ("QSpinBox", "QDoubleSpinBox"):
            # As Slicer's: whatever limits the form gave are gone.
            notes = getattr(hint, "__metadata__", ())
            limits = next((a for a in notes if isinstance(a, WithinRange)), None)
            most = 2**31 - 1 if kind is int else 1e300
            widget.minimum = -most if limits is None else limits.minimum
            widget.maximum = most if limits is None else limits.maximum
        self.show()
        widget.connect(self.signal, self.changed)

    def show(self) -> None:
        value = getattr(self.wrapper, self.name)
        if self.className == "qMRMLNodeComboBox":
            self.widget.setCurrentNode(value)
        elif self.className == "QComboBox":
            self.widget.currentIndex = self.choices.index(value)
        elif getattr(self.widget, self.property) != value:
            setattr(self.widget, self.property, value)

    def changed(self) -> None:
        if self.wrapper.showing:
            return
        if self.className == "qMRMLNodeComboBox":
            value = self.widget.currentNode()
        elif self.className == "QComboBox":
            value = self.choices[self.widget.currentIndex]
        else:
            value = getattr(self.widget, self.property)
        setattr(self.wrapper, self.name, value)

    def close(self) -> None:
        self.widget.disconnect(self.signal, self.changed)


def _connectGui(self: Any, gui: Any) -> int:
    self.showing = True
    bindings = []
    for widget in list(vars(gui).values()):
        name = widget.property("SlicerParameterName")
        if name:
            bindings.append(_Binding(self, name, widget))
    self.showing = False

    def show(caller: Any, event: Any) -> None:
        if self.showing:
            return
        self.showing = True
        try:
            for binding in bindings:
                binding.show()
        finally:
            self.showing = False

    tag = self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, show)
    self.guiBindings = {**getattr(self, "guiBindings", {}), tag: bindings}
    return int(tag)


def _disconnectGui(self: Any, tag: int | None) -> None:
    for binding in getattr(self, "guiBindings", {}).pop(tag, []):
        binding.close()
        self.parameterNode.RemoveObserver(tag)


def _module(name: str, **content: Any) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(content)
    sys.modules[name] = module
    setattr(slicer, name.split(".", 1)[1], module)


@functools.cache
def _cacheFolder() -> str:
    folder = tempfile.mkdtemp(prefix="radgsreg-cache-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def start() -> Any:
    """A new, empty scene as ``slicer.mrmlScene``, with logics and the substitutes; returns it."""
    scene = slicer.vtkMRMLScene()
    slicer.mrmlScene = scene
    application = slicer.vtkMRMLApplicationLogic()
    application.SetMRMLScene(scene)
    colors = slicer.vtkMRMLColorLogic()
    colors.SetMRMLScene(scene)
    for node in (slicer.vtkMRMLSelectionNode(), slicer.vtkMRMLInteractionNode()):
        node.SetSingletonTag("Singleton")
        scene.AddNode(node)
    # A scene bundle (.mrb) is unpacked in the cache folder of these.
    files, cache = slicer.vtkDataIOManager(), slicer.vtkCacheManager()
    cache.SetRemoteCacheDirectory(_cacheFolder())
    cache.SetMRMLScene(scene)
    files.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(files)
    slicer.modules = types.SimpleNamespace()
    for name, kind in (
        ("volumes", slicer.vtkSlicerVolumesLogic),
        ("volumerendering", slicer.vtkSlicerVolumeRenderingLogic),
        ("segmentations", slicer.vtkSlicerSegmentationsModuleLogic),
        ("markups", slicer.vtkSlicerMarkupsLogic),
        ("sequences", slicer.vtkSlicerSequencesLogic),
    ):
        logic = kind()
        logic.SetMRMLScene(scene)
        setattr(slicer.modules, name, types.SimpleNamespace(logic=lambda logic=logic: logic))
    # Kept alive by the scene's namespace: the logics observe the scene.
    slicer.modules.kept = (application, colors, files, cache)
    _module("slicer.i18n", tr=lambda text: text, translate=lambda context, text: text)
    _module(
        "slicer.parameterNodeWrapper",
        parameterNodeWrapper=parameterNodeWrapper,
        Choice=Choice,
        WithinRange=WithinRange,
    )
    _module(
        "slicer.ScriptedLoadableModule",
        ScriptedLoadableModule=StandInModule,
        ScriptedLoadableModuleWidget=StandInWidget,
        ScriptedLoadableModuleLogic=StandInLogic,
        ScriptedLoadableModuleTest=StandInTest,
    )
    if str(MODULE_FOLDER) not in sys.path:
        sys.path.append(str(MODULE_FOLDER))
    return scene


class StandInApplication:
    """For ``slicer.app``: a window system, but no main window, so no layout either."""

    slicerUserSettingsFilePath = "/nowhere/Slicer.ini"  # noqa: N815

    def processEvents(self) -> None:
        """Let waiting events happen."""
        import qt_standin

        qt_standin.processEvents()

    def layoutManager(self) -> None:
        """None, as in an application that runs without its main window."""


def start_panel() -> Any:
    """`start`, and with it a window system and ``slicer.app``; returns the scene.

    PythonSlicer, which the application looks for on the path, is a launcher here as it is there.
    """
    import qt_standin

    qt_standin.start()
    scene = start()
    slicer.app = StandInApplication()
    folder = Path(tempfile.gettempdir()) / f"radgsreg-standin-{os.getpid()}"
    launcher = folder / "PythonSlicer"
    if not launcher.is_file():
        folder.mkdir(exist_ok=True)
        launcher.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\n')
        launcher.chmod(0o755)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    paths = os.environ["PATH"].split(os.pathsep)
    if str(folder) not in paths:
        os.environ["PATH"] = os.pathsep.join([str(folder), *paths])
    return scene


def stop_panel() -> None:
    """Take away what `start_panel` added, for tests without a window."""
    if hasattr(slicer, "app"):
        del slicer.app
    sys.modules.pop("qt", None)
    sys.modules.pop("ctk", None)


def make_widget() -> Any:
    """The module's widget, set up in a window of the stand-in."""
    import qt_standin
    import qt_standin_widgets

    import RadGSReg

    qt = sys.modules["qt"]
    parent = qt_standin.classFor(qt_standin_widgets.qSlicerScriptedLoadableModuleWidget)()
    parent.setLayout(qt.QVBoxLayout())
    parent.setMRMLScene(slicer.mrmlScene)
    widget = RadGSReg.RadGSRegWidget(parent)
    widget.setup()
    return widget


def choose_label(widget: Any, segmentation: Any, label: int) -> None:
    """Choose the segment with a label value in the form of `make_widget`."""
    segments = segmentation.GetSegmentation()
    (own,) = [
        segments.GetNthSegmentID(index)
        for index in range(segments.GetNumberOfSegments())
        if segments.GetNthSegment(index).GetLabelValue() == label
    ]
    widget.ui.segmentSelector.setCurrentSegmentID(own)


def load_volume(path: str | Path, kind: str = "vtkMRMLScalarVolumeNode") -> Any:
    """A volume node from a file, through Slicer's own storage node."""
    node = slicer.mrmlScene.AddNewNodeByClass(kind, Path(path).name.split(".")[0])
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        raise RuntimeError(f"{path} cannot be read")
    return node


def load_segmentation(path: str | Path, names: dict[int, str] | None = None) -> Any:
    """A segmentation node from a label map file; segments keep the labels as their values."""
    labels = load_volume(path, "vtkMRMLLabelMapVolumeNode")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "segmentation")
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    if not logic.ImportLabelmapToSegmentationNode(labels, node):
        raise RuntimeError(f"{path} cannot be imported")
    slicer.mrmlScene.RemoveNode(labels)
    segmentation = node.GetSegmentation()
    for index in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(index)
        segment.SetName((names or {}).get(segment.GetLabelValue(), segment.GetName()))
    return node


def transform_point(node: Any, point_ras: Any) -> list[float]:
    """A point under a transform node, in the world (RAS)."""
    out = [0.0, 0.0, 0.0]
    general = vtk.vtkGeneralTransform()
    node.GetTransformToWorld(general)
    general.TransformPoint(list(point_ras), out)
    return out
