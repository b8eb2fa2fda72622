"""What the steps of the panel share."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from RadGSRegLib.errors import Cancelled, InputError
from slicer.i18n import tr as _

from ..process import environment
from ..process.driver import TaskError
from ..process.environment import MissingPackagesError
from .updates import Updates

if TYPE_CHECKING:
    from ..process.driver import Driver

_READY = "\N{CHECK MARK}"
_OPEN = "\N{WHITE CIRCLE}"
_PROBLEM = "\N{WARNING SIGN}"

# What went wrong through no fault of the program: the sentence says all there is to say.
_EXPECTED = (InputError, TaskError, MissingPackagesError, Cancelled)


@dataclass
class PanelContext:
    """What a step knows of the panel around it.

    ``updates`` refreshes every step; ``addObserver`` and ``removeObserver`` are the widget's: all
    observers go with it. ``isShown`` says whether the panel is on the screen. ``steps`` holds the
    steps by name, ``run`` what is being computed, or None, ``missingPackages`` what
    `lookForPackages` last found to be missing.
    """

    updates: Updates
    addObserver: Callable[..., Any]
    removeObserver: Callable[..., Any]
    isShown: Callable[[], bool] = lambda: True
    steps: dict[str, Any] = field(default_factory=dict)
    run: Driver[Any] | None = None
    missingPackages: list[str] = field(default_factory=list)

    @property
    def busy(self) -> bool:
        """Whether something is being computed: then nothing else is started."""
        return self.run is not None

    def update(self) -> None:
        """Refresh every step."""
        self.updates.now()

    def lookForPackages(self) -> list[str]:
        """See which Python packages are missing; takes too long to be done at every update."""
        self.missingPackages = environment.missingPackages()
        return self.missingPackages


class Step:
    """One step of the panel.

    A subclass sets `name`, the prefix of its widgets in the form (``ctCollapsibleButton``,
    ``ctStatusLabel``), connects its widgets in ``__init__`` and overrides what it needs. One that
    computes keeps its run in ``_run`` as long as that runs.
    """

    name = ""

    def __init__(self, ui: Any, logic: Any, context: PanelContext) -> None:
        self.ui = ui
        self.logic = logic
        self.context = context
        self.parameters: Any = None
        self.problem = ""
        self._run: Any = None
        self._updating = False
        self._offered: list[tuple[Any, str]] = []
        self._title = str(self._button.text)

    def setParameterNode(self, parameters: Any) -> None:
        """Work on this parameter node from now on (None while a scene is being closed)."""
        self.parameters = parameters
        self.problem = ""

    def update(self) -> None:
        """Show what the parameter node and the scene hold. Called after every change of either."""

    def missing(self) -> str:
        """What is still missing in this step, one sentence; empty if nothing is."""
        return ""

    def ready(self) -> str:
        """What to show when nothing is missing."""
        return _("Ready")

    def isDoubtful(self) -> bool:
        """Whether what is ready is to be looked at with care."""
        return False

    def showOwed(self) -> None:
        """Show what could not be shown while another module was open."""

    def discard(self) -> None:
        """Stop what is being computed here and forget it: the scene is closing."""
        if self._run is not None:
            self._run.discard()

    def cleanup(self) -> None:
        """The panel goes away; no process may stay behind, and no copy of the patient's CT."""
        if self._run is not None:
            self._run.end()

    def showStatus(self) -> None:
        """Say in the step's title and label what is missing, or what went wrong last."""
        missing = self.missing() if self.parameters is not None else ""
        mark = _OPEN if missing else _READY
        if self.parameters is not None and not missing and self.isDoubtful():
            mark = _PROBLEM
        self._button.text = f"{self._title}  {mark}" if self.parameters is not None else self._title
        text = f"{mark} {missing or self.ready()}" if self.parameters is not None else ""
        if self.problem:
            text = f"{text}\n{_PROBLEM} {self.problem}"
        label = getattr(self.ui, f"{self.name}StatusLabel")
        if label.text != text:
            label.text = text

    def offer(self, comboBox: Any, name: str, choices: dict[str, str], first: str) -> None:
        """Fill a combo box whose choice the parameter node keeps under ``name``."""
        fillChoices(comboBox, choices, first)

        def store(*args: Any) -> None:
            if self.parameters is not None:
                setattr(self.parameters, name, str(comboBox.currentData))

        comboBox.connect("currentIndexChanged(int)", store)
        self._offered.append((comboBox, name))

    def showChoices(self) -> None:
        """Select in every box of `offer` what the parameter node says."""
        for comboBox, name in self._offered:
            selectChoice(comboBox, getattr(self.parameters, name))

    @contextlib.contextmanager
    def updating(self) -> Iterator[None]:
        """Say in ``_updating`` that signals of the widgets are not the user's doing."""
        self._updating = True
        try:
            yield
        finally:
            self._updating = False

    def showRunButton(
        self, button: Any, problem: str, start: tuple[str, str], cancelTip: str
    ) -> None:
        """Show a button that starts this step's run, or cancels it.

        ``start`` is its text and tool tip where no ``problem`` keeps it from starting.
        """
        running = self._run is not None
        if not problem and self.context.busy:
            problem = _("Wait until the present computation is done")
        button.text = _("Cancel") if running else start[0]
        button.enabled = running or not problem
        button.toolTip = cancelTip if running else problem or start[1]

    def installMissing(self) -> None:
        """Install, after asking, the packages that a computation lacks."""
        if self.context.lookForPackages():
            self.logic.installDependencies()
            self.context.lookForPackages()

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """For handlers: what goes wrong is shown in the step, in one sentence, with no popup."""
        self.problem = ""
        with self.context.updates.collected():
            try:
                yield
            except _EXPECTED as error:
                self.problem = str(error)
            except ImportError as error:
                self.problem = str(environment.explained(error))
            except Exception as error:
                self.problem = _("Unexpected: {error}").format(error=error)
                logging.exception("RadGSReg: %s", self.name)
            self.context.update()

    @property
    def _button(self) -> Any:
        return getattr(self.ui, f"{self.name}CollapsibleButton")


class Following:
    """Observes events of nodes that change: those of `follow` and no others."""

    def __init__(
        self, context: PanelContext, handler: Callable[..., object], events: list[Any]
    ) -> None:
        self._context, self._handler, self._events = context, handler, events
        self._subjects: list[Any] = []

    def follow(self, *subjects: Any) -> None:
        """Observe these from now on; None is left out."""
        wanted = [subject for subject in subjects if subject]
        for subject in [subject for subject in self._subjects if subject not in wanted]:
            for event in self._events:
                self._context.removeObserver(subject, event, self._handler)
        for subject in [subject for subject in wanted if subject not in self._subjects]:
            for event in self._events:
                self._context.addObserver(subject, event, self._handler)
        self._subjects = wanted


def onPath(pathLineEdit: Any, handler: Callable[..., object]) -> None:
    """Call a handler whenever the path in a ctkPathLineEdit is changed or cleared."""
    # Of an empty line the first signal says nothing.
    pathLineEdit.connect("currentPathChanged(QString)", handler)
    pathLineEdit.connect("validInputChanged(bool)", handler)


def fillChoices(comboBox: Any, choices: dict[str, str], current: str) -> None:
    """Fill a combo box with texts whose data are the keys, and select one; emits no signal."""
    blocked = comboBox.blockSignals(True)
    try:
        comboBox.clear()
        for key, text in choices.items():
            comboBox.addItem(text, key)
        comboBox.setCurrentIndex(comboBox.findData(current))
    finally:
        comboBox.blockSignals(blocked)


def fillTable(table: Any, rows: list[tuple[str, ...]], current: int | None) -> None:
    """Put texts into a table's cells, and make row ``current`` the current one if it is given."""
    import qt

    table.setRowCount(len(rows))
    for row, texts in enumerate(rows):
        for column, text in enumerate(texts):
            item = table.item(row, column)
            if item is None:
                item = qt.QTableWidgetItem()
                table.setItem(row, column, item)
            item.setText(text)
    if current is not None and table.currentRow() != current:
        table.setCurrentCell(current, 0)


def selectChoice(comboBox: Any, current: str) -> None:
    """Select the entry whose data is ``current`` (none if there is none); emits no signal."""
    index = comboBox.findData(current)
    if index != comboBox.currentIndex:
        blocked = comboBox.blockSignals(True)
        comboBox.setCurrentIndex(index)
        comboBox.blockSignals(blocked)


def setValue(spinBox: Any, value: float) -> None:
    """Set a spin box to a value; emits no signal, and leaves what is being typed alone."""
    if abs(spinBox.value - value) > 10.0 ** -(spinBox.decimals + 1):
        blocked = spinBox.blockSignals(True)
        spinBox.value = value
        spinBox.blockSignals(blocked)
