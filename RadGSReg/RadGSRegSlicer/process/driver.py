"""What runs for long, as its owner sees it: started, polled, cancelled, ended, waited for."""

import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from RadGSRegLib.errors import Cancelled

from .timers import keepWindowAlive, makeTimer, rest, waitFor

Result = TypeVar("Result")

_TICK_S = 0.03  # how long one poll may prepare: a window is to stay alive


class TaskError(RuntimeError):
    """A command that did not give a result; the text is its own one-line reason."""


class Driver(Generic[Result]):
    """Drives a job to its end, once its inputs are written.

    ``job`` is what runs (a `Job`, or another driver); a subclass may make it in `_launch`.
    ``prepare`` writes the inputs, a little at each step; the job starts when it is through.
    ``completedCallback`` gets the driver at the end, however that was; then `error` says what went
    wrong, if anything did, and `result` holds what came of it, if anything did.
    """

    def __init__(
        self,
        job: Any = None,
        prepare: Iterator[object] | None = None,
        completedCallback: Callable[[Any], object] | None = None,
    ) -> None:
        self.job = job
        self.result: Result | None = None
        self.error: Exception | None = None
        self.isFinished = False
        self.isDiscarded = False
        self._isCancelled = False
        self._prepare = prepare
        self._completedCallback = completedCallback
        self._timer: Any = None

    @property
    def progress(self) -> float:
        """How far the job is, in [0, 1]."""
        return float(self.job.progress)

    @property
    def message(self) -> str:
        """What the job is doing."""
        return str(self.job.message)

    def start(self) -> None:
        """Start to prepare, and then the job; returns at once."""
        if self._prepare is None:
            self._launch()

    def startTimer(self, interval_ms: int = 50) -> None:
        """Let a Qt timer call `poll` until the end (inside Slicer only)."""
        self._timer = makeTimer(interval_ms, self.poll)
        self._timer.start()

    def cancel(self) -> None:
        """Ask the whole process tree to end; it does so within two seconds."""
        self._isCancelled = True
        if self.job is not None:
            self.job.cancel()

    def discard(self) -> None:
        """`cancel`, and load nothing even if the results are there: the scene is closing."""
        self.isDiscarded = True
        self.cancel()

    def end(self) -> None:
        """`discard`, and return when the child is gone and no file is left, within two seconds.

        For when polling has ended, as when the application closes; calls no callback.
        """
        self.discard()
        self._stopTimer()
        self._prepare = None  # closes what it was writing
        if self.job is not None:
            self.job.end()
        self._clean()
        if self.result is None and self.error is None:
            self.error = Cancelled("discarded")
        self.isFinished = True

    def poll(self) -> bool:
        """Prepare for a moment, or take in what the job says. Returns whether all is finished."""
        if self.isFinished:
            return True
        if self._prepare is not None:
            self._preparePart(self._prepare)
            return False
        if not self._advance():
            return False
        self.isFinished = True
        self._stopTimer()
        if self._completedCallback is not None:
            self._completedCallback(self)
        return True

    def wait(self) -> Result:
        """Wait for the end, with a window kept alive, and return the result.

        Raises `Cancelled`, `TaskError`, or whatever else went wrong.
        """
        try:
            waitFor(self.poll, between=self._idle)
        except BaseException:
            # Ctrl-C in a console: the child must not stay behind.
            self.end()
            raise
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result

    # What a subclass adds

    def _launch(self) -> None:
        """Start the job: the inputs are written."""
        self.job.start()

    def _advance(self) -> bool:
        """Take in what there is; returns whether all is finished. An `error` ends the preparing."""
        return self.error is not None or bool(self.job.poll())

    def _clean(self) -> None:
        """Remove what is temporary."""

    def _preparePart(self, prepare: Iterator[object]) -> None:
        """Prepare for a moment; start the job when that is done."""
        until = time.monotonic() + _TICK_S
        try:
            while time.monotonic() < until:
                if self._isCancelled:
                    raise Cancelled("cancelled")
                next(prepare)
        except StopIteration:
            self._prepare = None
            try:
                self._launch()
            except Exception as error:
                self.error = error
        except Exception as error:
            self._prepare = None
            self.error = error

    def _idle(self) -> None:
        keepWindowAlive()
        if self._prepare is None:
            rest()

    def _stopTimer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
