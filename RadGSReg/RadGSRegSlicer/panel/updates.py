"""When the panel shows anew what there is: at once, once for many changes, or a turn later."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from ..process.timers import nextTurn


class Updates:
    """Calls ``refresh``, which takes a good part of a tenth of a second in the application."""

    def __init__(self, refresh: Callable[[], object]) -> None:
        self._refresh = refresh
        self._depth = 0
        self._isWanted = False
        self._isWaiting = False

    def now(self, *args: Any) -> None:
        """Refresh, within `collected` at its end. Takes the arguments of an observer."""
        if self._depth:
            self._isWanted = True
        else:
            self._refresh()

    def later(self, *args: Any) -> None:
        """Refresh in the next turn of the event loop, once however often this is called."""
        if not self._isWaiting:
            self._isWaiting = True
            nextTurn(self._inTurn)

    @contextlib.contextmanager
    def collected(self) -> Iterator[None]:
        """Refresh once for all that changes meanwhile, if anything does."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth and self._isWanted:
                self._isWanted = False
                self._refresh()

    def _inTurn(self) -> None:
        self._isWaiting = False
        self.now()
