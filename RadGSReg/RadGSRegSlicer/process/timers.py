"""Waiting: timers of a window, and the loop of a script."""

import time
from collections.abc import Callable, Iterator
from typing import Any

_PAUSE_S = 0.02


def makeTimer(milliseconds: int, slot: Callable[[], object]) -> Any:
    """Make a timer, not started, that calls ``slot`` again and again."""
    import qt  # only where there is a window

    timer = qt.QTimer()
    timer.setInterval(milliseconds)
    timer.connect("timeout()", slot)
    return timer


def nextTurn(slot: Callable[[], object]) -> None:
    """Call ``slot`` in the next turn of the event loop; not at all where there is no window."""
    try:
        import qt
    except ImportError:
        return
    qt.QTimer.singleShot(0, slot)


def inTurns(parts: Iterator[object]) -> None:
    """Take one part of a piece of work in every turn of the event loop, so that a window lives on.

    All at once where there is no window.
    """
    try:
        import qt
    except ImportError:
        for _ in parts:
            pass
        return

    def turn() -> None:
        try:
            next(parts)
        except StopIteration:
            return
        qt.QTimer.singleShot(0, turn)

    qt.QTimer.singleShot(0, turn)


def rest() -> None:
    """Sleep for a moment."""
    time.sleep(_PAUSE_S)


def keepWindowAlive() -> None:
    """Let the events of a window happen, where there is a window."""
    try:
        from slicer import app
    except ImportError:
        return
    app.processEvents()


def waitFor(
    done: Callable[[], bool],
    timeout_s: float | None = None,
    between: Callable[[], object] = rest,
) -> bool:
    """Call ``done`` until it says True, and ``between`` in between; False after ``timeout_s``."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while not done():
        if deadline is not None and time.monotonic() > deadline:
            return False
        between()
    return True
