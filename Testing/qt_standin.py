# ruff: noqa: N802 (names are those of PythonQt)
"""A stand-in for PythonQt, the Python binding of Qt inside 3D Slicer, over PySide6.

PythonQt shows Qt's properties as attributes (``w.text``, ``w.enabled = True``) and connects by a
signal's signature (``w.connect("clicked(bool)", f)``). `start` puts modules ``qt`` and ``ctk`` and
the widgets of `qt_standin_widgets` in place, so that Slicer's own ``slicer.util.loadUI`` and the
module's real form and widget run without the application. It refuses what the real binding lacks:
an unknown property, signal or method raises AttributeError. It is none of Slicer's own code.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import sys
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import qt_standin_widgets
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

errors: list[str] = []
"""Tracebacks of handlers that failed: PythonQt prints them and goes on, tests look here."""

_MODULES = (QtWidgets, QtGui, QtCore, QtUiTools)
_classes: dict[type, type] = {}


def unwrap(value: Any) -> Any:
    """What PySide6 gets for a value of the stand-in."""
    if isinstance(value, Wrapped):
        return value._object
    if isinstance(value, (list, tuple)):
        return type(value)(unwrap(item) for item in value)
    return value


def wrap(value: Any) -> Any:
    """What the stand-in shows for a value of PySide6."""
    if isinstance(value, QtCore.QObject):
        known = next(kind for kind in type(value).__mro__ if kind in _classes or _isQt(kind))
        wrapper = object.__new__(classFor(known))
        object.__setattr__(wrapper, "_object", value)
        return wrapper
    if isinstance(value, (list, tuple)):
        return type(value)(wrap(item) for item in value)
    return value


def _isQt(kind: type) -> bool:
    return kind.__module__.startswith("PySide6.")


class _Meta(type):
    """Enumerations and static functions of a class, as ``qt.QFile.ReadOnly``."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _call(getattr(cls._kind, name)) if hasattr(cls._kind, name) else _missing(cls, name)


class Wrapped(metaclass=_Meta):
    """A QObject as PythonQt shows it."""

    _kind: type = QtCore.QObject

    def __init__(self, *arguments: Any) -> None:
        object.__setattr__(self, "_object", self._kind(*unwrap(arguments)))

    def __getattr__(self, name: str) -> Any:
        thing = self._object
        if name == "name":
            return thing.objectName()
        meta = thing.metaObject()
        if meta.indexOfProperty(name) >= 0:
            return wrap(thing.property(name))
        signal = _signalNamed(thing, name)
        if signal is not None:
            return _Signal(self, signal)
        if name.startswith("_") or not _allowed(type(thing), name):
            _missing(type(thing), name)
        return _call(getattr(thing, name))

    def __setattr__(self, name: str, value: Any) -> None:
        thing = self._object
        name = "objectName" if name == "name" else name
        index = thing.metaObject().indexOfProperty(name)
        if index < 0 or not thing.metaObject().property(index).isWritable():
            _missing(type(thing), name)
        if name == "visible":
            value = qt_standin_widgets.visible_in_box(thing, bool(value))
        if isinstance(value, tuple):
            value = list(value)
        if not thing.setProperty(name, unwrap(value)):
            raise TypeError(f"{type(thing).__name__}.{name} cannot be {value!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wrapped) and other._object is self._object

    def __hash__(self) -> int:
        return id(self._object)

    def connect(self, signal: str, slot: Callable[..., Any]) -> bool:
        """Connect a signal, given by its signature, to a callable."""
        _SignalOf(self._object, signal).connect(slot)
        return True

    def disconnect(self, signal: str, slot: Callable[..., Any]) -> bool:
        """Undo `connect`."""
        _SignalOf(self._object, signal).disconnect(slot)
        return True


def classFor(kind: type) -> type:
    """The stand-in's class for a class of PySide6."""
    if kind not in _classes:
        _classes[kind] = _Meta(kind.__name__, (Wrapped,), {"_kind": kind})
    return _classes[kind]


def _missing(kind: type, name: str) -> Any:
    raise AttributeError(f"{kind.__name__} has no '{name}' in PythonQt")


def _allowed(kind: type, name: str) -> bool:
    """Whether a method may be called: any of Qt's own, and what a substitute declares."""
    for one in kind.__mro__:
        if name in vars(one):
            return _isQt(one) or getattr(vars(one)[name], "invokable", False)
    return False


def _call(method: Any) -> Any:
    if not callable(method) or isinstance(method, type):
        return method
    return lambda *a, **k: wrap(method(*unwrap(a), **{n: unwrap(v) for n, v in k.items()}))


def _isOwnSignal(kind: type, name: str) -> bool:
    """Whether a signal is a substitute's own, known only by the signature in its ``SIGNALS``."""
    return any(name in vars(one) and not _isQt(one) for one in kind.__mro__)


def _signatures(kind: type) -> dict[str, str]:
    """Signature to attribute, of the signals of a substitute's class."""
    out: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        out.update(vars(one).get("SIGNALS", {}))
    return out


def _signalNamed(thing: Any, name: str) -> str | None:
    """The signature of the signal of that name, or None."""
    for signature in _signatures(type(thing)):
        if signature.split("(")[0] == name:
            return signature
    if _isOwnSignal(type(thing), name):
        return None
    meta = thing.metaObject()
    for index in range(meta.methodCount()):
        method = meta.method(index)
        if method.methodType() == QtCore.QMetaMethod.MethodType.Signal and (
            bytes(method.name().data()).decode() == name
        ):
            return bytes(method.methodSignature().data()).decode()
    return None


class _SignalOf:
    """One signal of one object."""

    _connected: dict[tuple[int, str, Any], Any] = {}  # noqa: RUF012

    def __init__(self, thing: Any, signature: str) -> None:
        self._thing, self._signature = thing, signature
        self._attribute = _signatures(type(thing)).get(signature)
        if self._attribute is None:
            normal = QtCore.QMetaObject.normalizedSignature(signature)
            self._normal = bytes(normal.data()).decode()
            own = _isOwnSignal(type(thing), signature.split("(")[0])
            if own or thing.metaObject().indexOfSignal(self._normal) < 0:
                _missing(type(thing), signature)

    def connect(self, slot: Callable[..., Any]) -> None:
        def call(*arguments: Any) -> None:
            try:
                slot(*[wrap(a) for a in arguments][: _count(slot)])
            except Exception:
                errors.append(traceback.format_exc())

        self._connected[(id(self._thing), self._signature, slot)] = call
        if self._attribute is not None:
            getattr(self._thing, self._attribute).connect(call)
        else:
            QtCore.QObject.connect(self._thing, QtCore.SIGNAL(self._normal), call)

    def disconnect(self, slot: Callable[..., Any]) -> None:
        call = self._connected.pop((id(self._thing), self._signature, slot))
        if self._attribute is not None:
            getattr(self._thing, self._attribute).disconnect(call)
        else:
            QtCore.QObject.disconnect(self._thing, QtCore.SIGNAL(self._normal), call)


class _Signal:
    """A signal as an attribute: ``w.clicked.connect(f)``."""

    def __init__(self, owner: Wrapped, signature: str) -> None:
        self._owner, self._signature = owner, signature

    def connect(self, slot: Callable[..., Any]) -> None:
        self._owner.connect(self._signature, slot)

    def disconnect(self, slot: Callable[..., Any]) -> None:
        self._owner.disconnect(self._signature, slot)


def _count(slot: Callable[..., Any]) -> int | None:
    """How many arguments a callable takes; None for any number."""
    try:
        parameters = inspect.signature(slot).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


class StandInUiLoader(Wrapped):
    """For ``QUiLoader``: knows the substitutes, and makes the form's connections itself."""

    def __init__(self) -> None:
        loader = QtUiTools.QUiLoader()
        for kind in qt_standin_widgets.WIDGETS:
            loader.registerCustomWidget(kind)
        object.__setattr__(self, "_object", loader)

    def load(self, file: Any, parent: Any = None) -> Any:
        """The widget that a .ui file describes."""
        path = Path(unwrap(file).fileName())
        root = ET.parse(path).getroot()
        connections = root.find("connections")
        if connections is not None:
            root.remove(connections)
        for widget in root.iter("widget"):
            for prop in list(widget.findall("property")):
                # Enumerations of the substitutes are unknown to Qt's loader.
                value = prop.find("set")
                if value is not None and (value.text or "").startswith("ctk"):
                    widget.remove(prop)
        buffer = QtCore.QBuffer()
        buffer.setData(ET.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        form = self._object.load(buffer, unwrap(parent))
        for link in [] if connections is None else connections:
            names = {part.tag: part.text or "" for part in link}
            sender = _named(form, names["sender"])
            slot = getattr(_named(form, names["receiver"]), names["slot"].split("(")[0])
            getattr(sender, _signatures(type(sender))[names["signal"]]).connect(slot)
        return wrap(form)


def _named(form: Any, name: str) -> Any:
    found = form if form.objectName() == name else form.findChild(QtCore.QObject, name)
    if found is None:
        raise ValueError(f"the form has no '{name}'")
    return found


class _QtModule(types.ModuleType):
    """``import qt``."""

    def __getattr__(self, name: str) -> Any:
        if name == "QUiLoader":
            return StandInUiLoader
        for module in _MODULES:
            kind = getattr(module, name, None)
            if kind is not None:
                isObject = isinstance(kind, type) and issubclass(kind, QtCore.QObject)
                return classFor(kind) if isObject else kind
        raise AttributeError(f"qt has no '{name}'")


def start() -> Any:
    """Put ``qt`` and ``ctk`` in place and return the QApplication (offscreen unless set)."""
    application = QtWidgets.QApplication.instance()
    if application is None:
        application = QtWidgets.QApplication([])
        if sys.version_info < (3, 12):
            # Built for Pythons where None is immortal, PySide6 gives away references to it; before
            # 3.12 the process would end in a fatal error.
            ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40
    ctk = types.ModuleType("ctk")
    for kind in qt_standin_widgets.WIDGETS:
        shown = classFor(kind)
        if kind.__name__.startswith("ctk"):
            setattr(ctk, kind.__name__, shown)
    sys.modules["qt"] = _QtModule("qt")
    sys.modules["ctk"] = ctk
    errors.clear()
    return application


def processEvents(milliseconds: int = 0) -> None:
    """Let the event loop run for a while."""
    QtWidgets.QApplication.processEvents()
    if milliseconds:
        loop = QtCore.QEventLoop()
        QtCore.QTimer.singleShot(milliseconds, loop.quit)
        loop.exec()


def screenshot(widget: Any, path: str | Path) -> None:
    """A picture of a widget, as a PNG."""
    processEvents()
    if not unwrap(widget).grab().save(str(path)):
        raise OSError(f"{path} cannot be written")
