"""Timers of a window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def makeTimer(milliseconds: int, slot: Callable[[], object]) -> Any:
    """A timer, not started, that calls ``slot`` again and again."""
    import qt  # only where there is a window

    timer = qt.QTimer()
    timer.setInterval(milliseconds)
    timer.connect("timeout()", slot)
    return timer
