"""Arrow keys in the X-ray views."""

from collections.abc import Callable, Iterable
from typing import Any

import slicer

KEYS = {
    "Right": ("right", 1),
    "Left": ("right", -1),
    "Up": ("up", 1),
    "Down": ("up", -1),
    "Shift+Up": ("away", 1),
    "Shift+Down": ("away", -1),
    "Shift+Right": ("turn", 1),
    "Shift+Left": ("turn", -1),
    "Ctrl+Up": ("tilt", 1),
    "Ctrl+Down": ("tilt", -1),
    "Ctrl+Right": ("roll", 1),
    "Ctrl+Left": ("roll", -1),
}
"""What a key does: along or about which axis, and which way."""


class ArrowKeys:
    """Shortcuts of slice views; they count only while the mouse has made such a view active."""

    def __init__(self, pressed: Callable[[str, int, str], object]) -> None:
        """``pressed`` gets the axis, the sign and the name of the view."""
        self._pressed = pressed
        self._shortcuts: list[Any] = []

    @property
    def isInstalled(self) -> bool:
        """Whether the views listen."""
        return bool(self._shortcuts)

    def install(self, viewNames: Iterable[str], widgets: dict[str, Any] | None = None) -> None:
        """Listen in these views (``widgets``: view name to widget, else the layout manager's)."""
        import qt

        self.remove()
        for name in viewNames:
            widget = _sliceWidget(name) if widgets is None else widgets.get(name)
            if widget is None:
                continue
            for key, (axis, sign) in KEYS.items():
                shortcut = qt.QShortcut(qt.QKeySequence(key), widget)
                shortcut.setContext(qt.Qt.WidgetWithChildrenShortcut)
                shortcut.connect(
                    "activated()",
                    lambda axis=axis, sign=sign, name=name: self._pressed(axis, sign, name),
                )
                self._shortcuts.append(shortcut)

    def remove(self) -> None:
        """Listen no more."""
        for shortcut in self._shortcuts:
            shortcut.setEnabled(False)
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []


def _sliceWidget(name: str) -> Any:
    manager = slicer.app.layoutManager() if hasattr(slicer, "app") else None
    return None if manager is None else manager.sliceWidget(name)
