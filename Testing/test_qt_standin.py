"""The stand-in for PythonQt refuses what the real one lacks, so that tests can rely on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import qt_standin
import slicer_startup


@pytest.fixture
def qt() -> Iterator[Any]:
    slicer_startup.start_panel()
    yield sys.modules["qt"]
    slicer_startup.stop_panel()


def test_properties_are_attributes(qt: Any) -> None:
    box = qt.QCheckBox()
    box.text = "one"
    box.checked = True
    assert (box.text, box.checked, box.isChecked()) == ("one", True, True)
    box.name = "named"
    assert box.objectName == box.name == "named"


@pytest.mark.parametrize("name", ["nothing", "setNothing", "_object2", "text_"])
def test_what_is_not_there_is_refused(qt: Any, name: str) -> None:
    label = qt.QLabel()
    with pytest.raises(AttributeError, match=name):
        getattr(label, name)
    with pytest.raises(AttributeError, match=name):
        setattr(label, name, 1)


def test_a_value_of_another_type_is_refused(qt: Any) -> None:
    with pytest.raises(TypeError, match="value"):
        qt.QSpinBox().value = "certainly"


def test_a_property_is_no_method(qt: Any) -> None:
    with pytest.raises(TypeError):
        qt.QLabel().text()


def test_signals_by_signature_and_by_name(qt: Any) -> None:
    got: list[Any] = []
    button = qt.QPushButton()
    button.setCheckable(True)

    def take(checked: bool) -> None:
        got.append(checked)

    button.connect("clicked(bool)", take)
    button.toggled.connect(lambda: got.append("toggled"))
    button.click()
    assert got == ["toggled", True]
    button.disconnect("clicked(bool)", take)
    button.click()
    assert got == ["toggled", True, "toggled"]
    with pytest.raises(AttributeError, match="pressed2"):
        button.connect("pressed2()", take)


def test_a_handler_that_fails_is_noted(qt: Any) -> None:
    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()
    assert "ZeroDivisionError" in qt_standin.errors.pop()


def test_substitutes_show_only_what_the_real_ones_have(qt: Any) -> None:
    import qt_standin_widgets

    box = qt_standin.classFor(qt_standin_widgets.qMRMLNodeComboBox)()
    assert box.currentNode() is None
    box.noneEnabled = True
    for name in ("refresh", "watch", "setNoneEnabled", "nodeValid"):
        with pytest.raises(AttributeError, match=name):
            getattr(box, name)
    box.connect("currentNodeChanged(bool)", lambda: None)
    with pytest.raises(AttributeError, match="nodeValid"):
        box.connect("nodeValid(bool)", lambda: None)


def test_a_parameter_is_bound_only_to_what_slicer_can_bind(qt: Any) -> None:
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    @parameterNodeWrapper
    class Parameters:
        size: int = 3

    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    form = type("Form", (), {})()
    form.box = qt.QSpinBox()
    form.box.setProperty("SlicerParameterName", "size")
    parameters = Parameters(node)
    tag = parameters.connectGui(form)
    assert form.box.value == 3
    form.box.value = 5
    assert parameters.size == 5
    parameters.size = 7
    assert form.box.value == 7
    parameters.disconnectGui(tag)
    form.box.value = 9
    assert parameters.size == 7
    form.box = qt.QLabel()
    form.box.setProperty("SlicerParameterName", "size")
    with pytest.raises(RuntimeError, match="cannot be bound"):
        parameters.connectGui(form)


def test_binding_a_spin_box_sets_its_limits(qt: Any) -> None:
    """As Slicer's own binding does: what the form says of them is lost."""
    from typing import Annotated

    import slicer
    from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

    hints = {"free": float, "held": Annotated[float, WithinRange(0.5, 4.0)]}
    body = {"__annotations__": hints, "free": 1.0, "held": 1.0}
    wrapped = parameterNodeWrapper(type("Parameters", (), body))
    form = type("Form", (), {})()
    for name in ("free", "held"):
        box = qt.QDoubleSpinBox()
        box.maximum = 2.0
        box.setProperty("SlicerParameterName", name)
        setattr(form, name, box)
    parameters = wrapped(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))
    parameters.connectGui(form)
    form.free.value = form.held.value = 9.0
    assert (parameters.free, parameters.held) == (9.0, 4.0)
    with pytest.raises(ValueError, match="held"):
        parameters.held = 9.0


def test_a_path_that_is_cleared_is_told_otherwise(qt: Any) -> None:
    import qt_standin_widgets

    got: list[Any] = []
    line = qt_standin.classFor(qt_standin_widgets.ctkPathLineEdit)()
    line.connect("currentPathChanged(QString)", got.append)
    line.connect("validInputChanged(bool)", got.append)
    line.currentPath = "a"
    line.currentPath = "ab"
    line.currentPath = ""
    assert got == ["a", True, "ab", False]
