"""How much longer something takes, from how far it has come; progress in words."""

import time
from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _


class TimeLeft:
    """Estimates the rest from the time so far; says nothing before there is something to go by.

    ``total_s``: how long it takes altogether, where that is known.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, total_s: float | None = None
    ) -> None:
        self._clock = clock
        self._total_s = total_s
        self._began = clock()
        self._shown: float | None = None

    def seconds(self, fraction: float) -> float | None:
        """The seconds left; None while it is too early to say."""
        spent = self._clock() - self._began
        if self._total_s is not None:
            return max(self._total_s - spent, 0.0)
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


class ProgressDisplay:
    """A progress bar and a label that say what a run does, and how much longer."""

    def __init__(self, bar: Any, label: Any) -> None:
        self._bar, self._label = bar, label
        self._timeLeft = TimeLeft()

    def begin(self, text: str, total_s: float | None = None) -> None:
        """A run begins; it takes ``total_s``, if that is known."""
        self._timeLeft = TimeLeft(total_s=total_s)
        self.show(0.0, text)

    def show(self, fraction: float, message: str) -> None:
        """How far it is; for a run's ``progressCallback``."""
        self._bar.value = round(100 * fraction)
        left = self._timeLeft.text(fraction)
        text = message[:1].upper() + message[1:]
        self._label.text = f"{text} \N{MIDDLE DOT} {left}" if left else text

    def end(self, text: str = "") -> None:
        """It is over."""
        self._bar.value = 0
        self._label.text = text
