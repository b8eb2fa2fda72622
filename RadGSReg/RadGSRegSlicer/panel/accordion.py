"""One step of the panel open at a time, and the next one when the one before is complete."""

import itertools
from collections.abc import Callable
from typing import Any

ORDER = ("ct", "xray", "start", "register", "review")
"""The steps that follow on one another; training and installation stand beside them."""


class Accordion:
    """Folds the other steps away when one is opened; the whole panel fits on a small screen."""

    def __init__(self, ui: Any, steps: dict[str, Any]) -> None:
        self._steps = steps
        self._buttons = {name: getattr(ui, f"{name}CollapsibleButton") for name in steps}
        self._missing: dict[str, bool] = {}
        self._folding = False
        for name, button in self._buttons.items():
            button.connect("contentsCollapsed(bool)", self._handler(name))

    def open(self, name: str) -> None:
        """Open one step."""
        self._buttons[name].collapsed = False

    def forget(self) -> None:
        """Another scene: what is complete in it has not just become so."""
        self._missing = {}

    def update(self) -> None:
        """Open the next step if the open one was not complete at the last update and now is."""
        before, self._missing = self._missing, {n: bool(self._steps[n].missing()) for n in ORDER}
        for name, following in itertools.pairwise(ORDER):
            button = self._buttons[name]
            if before.get(name, False) and not self._missing[name] and not button.collapsed:
                # The registration is complete when it has run: it opens the review itself.
                if name != "register":
                    self.open(self._firstOpen(following))
                return

    def _firstOpen(self, name: str) -> str:
        """The first step from this one on that lacks something; the registration at the latest."""
        following = ORDER[ORDER.index(name) :]
        return next((n for n in following if self._missing[n] or n == "register"), name)

    def _handler(self, name: str) -> Callable[[bool], None]:
        return lambda collapsed: self._onCollapsed(name, collapsed)

    def _onCollapsed(self, name: str, collapsed: bool) -> None:
        if collapsed or self._folding:
            return
        self._folding = True
        try:
            for other, button in self._buttons.items():
                if other != name and not button.collapsed:
                    button.collapsed = True
        finally:
            self._folding = False
