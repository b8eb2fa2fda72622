"""Ctrl-C and termination as a clean way out."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

_PATIENCE_S = 3.0


class Interrupted(KeyboardInterrupt):
    """What a signal raises.

    A class of its own: CPython notes a plain KeyboardInterrupt that passes through ``exec`` (as in
    an import) and then ends the process by the signal, whatever exit status was asked for.
    """


class Interrupt:
    """While entered, SIGINT and SIGTERM raise Interrupted once and set a flag.

    The flag is what progress hooks ask: an exception raised inside a finaliser or a callback from
    C is swallowed by Python, the flag is not. Further signals within three seconds are ignored, so
    that an impatient second Ctrl-C does not break off the cleaning up.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._holds = False
        self._last = float("-inf")
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
                number = getattr(signal, name, None)
                if number is not None:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def hold(self) -> None:
        """From here on nothing interrupts: for the moment in which results move into place.

        Raises Interrupted if a signal has come before.
        """
        self._holds = True
        if self.is_set:
            raise Interrupted

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._holds:
            return
        self.is_set = True
        now = time.monotonic()
        if now - self._last > _PATIENCE_S:
            self._last = now
            raise Interrupted
