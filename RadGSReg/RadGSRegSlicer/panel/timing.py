"""How much longer something takes, from how far it has come."""

from __future__ import annotations

import time
from collections.abc import Callable

from slicer.i18n import tr as _


class TimeLeft:
    """Estimates the rest from the time so far; says nothing before there is something to go by."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._shown: float | None = None

    def seconds(self, fraction: float) -> float | None:
        """The seconds left; None while it is too early to say."""
        spent = self._clock() - self._began
        if fraction < 0.05 or spent < 1.0:
            return None
        left = spent * (1.0 - fraction) / fraction
        # Smoothed: a figure that jumps about is of no use.
        self._shown = left if self._shown is None else 0.7 * self._shown + 0.3 * left
        return self._shown

    def text(self, fraction: float) -> str:
        """The same in words, or nothing."""
        seconds = self.seconds(fraction)
        if seconds is None:
            return ""
        if seconds < 1.5:
            return _("almost done")
        if seconds < 90:
            return _("about {seconds:.0f} s left").format(seconds=seconds)
        return _("about {minutes:.0f} min left").format(minutes=seconds / 60)
