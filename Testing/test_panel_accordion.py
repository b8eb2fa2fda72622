# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""One step open at a time, and everything in reach on a small screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("vtk")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import qt_standin
import slicer_startup

slicer_startup.start_panel()

from panel_scene import load_nodes, wait_until, write_files
from PySide6.QtCore import QPoint
from PySide6.QtWidgets import QSizePolicy
from RadGSRegSlicer.panel.accordion import ORDER
from RadGSRegSlicer.process import environment
from RadGSRegSlicer.review.review import Review
from RadGSRegSlicer.scene import xray
from review_scene import ball_nodes

STEPS = ("ct", "train", "xray", "start", "register", "review", "volume", "about")
WIDTH, HEIGHT = 400, 600
"""What a module gets of 1366 x 768: menus, tool bars and the data probe take the rest."""


@pytest.fixture(autouse=True)
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(environment, "missingPackages", list)
    monkeypatch.setattr(Review, "startScoring", lambda self: None)
    yield slicer_startup.start_panel()
    qt_standin.processEvents()
    assert qt_standin.errors == []


@pytest.fixture
def panel(scene: Any) -> Iterator[Any]:
    widget = slicer_startup.make_widget()
    yield widget
    widget.cleanup()


def _button(panel: Any, name: str) -> Any:
    return getattr(panel.ui, f"{name}CollapsibleButton")


def _open(panel: Any) -> list[str]:
    return [name for name in STEPS if not _button(panel, name).collapsed]


def test_one_step_is_open_at_the_start(panel: Any) -> None:
    assert _open(panel) == ["ct"]


def test_opening_one_step_folds_the_others(panel: Any) -> None:
    for name in STEPS:
        _button(panel, name).collapsed = False
        assert _open(panel) == [name]
    _button(panel, "about").collapsed = True
    assert _open(panel) == []


def test_the_next_step_opens_when_the_one_before_is_complete(
    panel: Any, library: Any, tmp_path: Path
) -> None:
    ui = panel.ui
    files = write_files(tmp_path / "case")
    load_nodes(files)
    qt_standin.processEvents(20)
    assert _open(panel) == ["xray"]
    ui.viewsPathLineEdit.currentPath = str(files / "views.json")
    ui.importButton.click()
    # The file has clicks too: what is complete already is passed over.
    assert _open(panel) == ["register"]
    ui.startCollapsibleButton.collapsed = False
    first, second = panel._parameterNode.xrays
    xray.setCenterPx(first, None)
    panel.update()
    assert _open(panel) == ["start"]
    xray.setCenterPx(first, (160.0, 150.0))
    panel.update()
    assert _open(panel) == ["register"]
    assert second is not first
    ui.applyButton.click()
    wait_until(lambda: not panel.steps["register"].context.busy)
    assert _open(panel) == ["review"]


def test_what_a_user_has_open_is_left_alone(panel: Any, tmp_path: Path) -> None:
    panel.ui.aboutCollapsibleButton.collapsed = False
    load_nodes(write_files(tmp_path / "case"))
    qt_standin.processEvents(20)
    assert panel.steps["ct"].missing() == ""
    assert _open(panel) == ["about"]


def test_a_step_that_was_complete_stays_open_when_it_is_looked_at_again(
    panel: Any, tmp_path: Path
) -> None:
    load_nodes(write_files(tmp_path / "case"))
    qt_standin.processEvents(20)
    panel.ui.ctCollapsibleButton.collapsed = False
    for _ in range(2):
        panel.update()
        assert _open(panel) == ["ct"]


def test_another_scene_that_is_complete_opens_nothing(panel: Any) -> None:
    panel.ui.ctCollapsibleButton.collapsed = False
    panel.setParameterNode(None)
    ball_nodes()
    panel.initializeParameterNode()
    assert panel.steps["ct"].missing() == ""
    assert _open(panel) == ["ct"]
    assert set(ORDER) < set(STEPS)


# A small screen


def _unfold(panel: Any) -> None:
    for name in dir(panel.ui):
        if name.endswith("GroupBox"):
            getattr(panel.ui, name).collapsed = False


def _filled() -> list[str]:
    """The labels of the form that the program writes in: those that are empty in it."""
    form = ET.parse(Path(slicer_startup.MODULE_FOLDER, "Resources", "UI", "RadGSReg.ui"))
    labels = form.findall(".//widget[@class='QLabel']")
    return [
        label.get("name", "")
        for label in labels
        if not label.findtext("property[@name='text']/string")
    ]


@pytest.mark.parametrize("step", STEPS)
def test_no_step_forces_the_panel_wide(panel: Any, step: str, tmp_path: Path) -> None:
    nodes = ball_nodes()
    parameters = panel._parameterNode
    parameters.ctToWorld = nodes["transform"]
    named = [nodes["ct"], *nodes["xrays"], nodes["segmentation"], nodes["transform"]]
    for number, node in enumerate(named):
        node.SetName(f"{number} {'a name that goes on and on ' * 8}")
        slicer.mrmlScene.AddNewNodeByClass(node.GetClassName(), node.GetName())
    parameters.method = "learned"
    panel.update()
    qt_standin.processEvents(20)  # what has arrived opens the next step
    assert _button(panel, step).sizePolicy.horizontalPolicy() == QSizePolicy.Policy.Preferred
    _button(panel, step).collapsed = False
    _unfold(panel)
    whole = qt_standin.unwrap(panel.parent)
    whole.show()
    qt_standin.processEvents(20)
    for name in _filled():  # whatever has to be said in it, as a refusal with names of files
        label = getattr(panel.ui, name)
        label.text, label.visible = "words that go on and on " * 12, True
    qt_standin.processEvents(20)
    assert _open(panel) == [step]
    whole.layout().activate()
    assert whole.minimumSizeHint().width() <= WIDTH
    whole.resize(WIDTH, 2 * HEIGHT)
    qt_standin.processEvents(20)
    for name in dir(panel.ui):  # what is not asked how wide it is gets what there is
        selector = qt_standin.unwrap(getattr(panel.ui, name))
        if name.endswith("Selector") and selector.isVisible():
            assert selector.width() >= 150, name
    scrolled = qt_standin.unwrap(panel.ui.reviewScrollArea).widget()
    assert scrolled.minimumSizeHint().width() <= WIDTH
    whole.hide()


def test_verdict_and_decisions_stay_in_sight(panel: Any) -> None:
    nodes = ball_nodes()
    panel._parameterNode.ctToWorld = nodes["transform"]
    ui = panel.ui
    ui.reviewCollapsibleButton.collapsed = False
    _unfold(panel)  # with all that can be unfolded in the review
    whole = qt_standin.unwrap(panel.parent)
    whole.show()
    whole.resize(WIDTH, HEIGHT)
    qt_standin.processEvents(50)
    assert whole.height() == HEIGHT  # all fits, nothing pushes the panel beyond the screen
    scroll = qt_standin.unwrap(ui.reviewScrollArea)
    scroll.verticalScrollBar().setValue(scroll.verticalScrollBar().maximum())
    qt_standin.processEvents(20)
    names = ("reviewAcceptButton", "reviewHardenButton", "reviewSaveButton", "reviewCardLabel")
    for name in names:
        widget = qt_standin.unwrap(getattr(ui, name))
        corner = widget.mapTo(whole, QPoint(widget.width(), widget.height()))
        assert widget.isVisible(), name
        assert 0 < corner.x() <= WIDTH, name
        assert 0 < corner.y() <= HEIGHT, name
    card = qt_standin.unwrap(ui.reviewCardLabel)
    assert card.height() >= card.heightForWidth(card.width())  # to its last line
    # What is below can be reached.
    refine = qt_standin.unwrap(ui.reviewRefineButton)
    scroll.ensureWidgetVisible(refine)
    qt_standin.processEvents(20)
    assert not refine.visibleRegion().isEmpty()
    whole.hide()
