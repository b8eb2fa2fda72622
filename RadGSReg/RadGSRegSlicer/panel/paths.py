"""Lines that hold a path: kept in the parameter node, and filled in with a folder."""

from __future__ import annotations

from typing import Any

from .step import onPath


def keepPath(step: Any, line: Any, name: str) -> None:
    """Keep the path of a ctkPathLineEdit in the parameter node of a step, under ``name``."""

    def store(*args: Any) -> None:
        if step.parameters is not None:
            setattr(step.parameters, name, str(line.currentPath or ""))

    onPath(line, store)


class FolderButton:
    """A button that asks for a folder: what a ctkPathLineEdit opens takes files alone where it
    takes both."""

    def __init__(self, button: Any, line: Any, title: str) -> None:
        self._button, self._line, self._title = button, line, title
        button.connect("clicked(bool)", self.choose)

    def choose(self, checked: bool = False) -> None:
        """Ask for a folder and put its path in the line; cancelled, the line stays as it is."""
        import qt

        path = qt.QFileDialog.getExistingDirectory(
            self._button.window(), self._title, self._line.currentPath
        )
        if path:
            self._line.currentPath = path
