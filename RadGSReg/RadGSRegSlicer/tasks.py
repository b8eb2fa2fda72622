"""A command of the library, from its input folder to nodes in the scene.

A `Task` runs the command in a child process and, when that has ended, lets the owner load the
results on the main thread. Scripts call `Task.wait`; in a window a timer calls `Task.poll`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from RadGSRegLib.errors import Cancelled

from .environment import childEnvironment, libraryFolder, pythonExecutable
from .jobs import Job, JobState, ProgressCallback

Result = TypeVar("Result")

# Exit statuses of the command line, as promised in the outside contract.
EXIT_OK = 0
EXIT_BAD_INPUT = 2
EXIT_NOT_TRUSTED = 3
EXIT_CANCELLED = 130


class TaskError(RuntimeError):
    """A command that did not give a result; the text is its own one-line reason."""


class WorkFolder:
    """Where a task keeps its files: temporary, and results moved to a folder of the user's choice.

    The child never writes into the user's folder itself: one that is ended by force leaves nothing.
    """

    def __init__(self, outputFolder: str | os.PathLike[str] | None = None) -> None:
        self._temporary = Path(tempfile.mkdtemp(prefix="radgsreg-"))
        self._target = None if outputFolder is None else Path(outputFolder).resolve()
        self.inputs = self._temporary / "case"
        self.outputs = self._temporary / "results"
        self.inputs.mkdir()

    @property
    def keep(self) -> bool:
        """Whether the user wants the result files."""
        return self._target is not None

    def publish(self) -> Path:
        """Put the results where the user wants them, all or none; returns where they are now."""
        if self._target is None:
            return self.outputs
        from RadGSRegLib.cases import OutputFolder

        with OutputFolder(self._target) as stage:
            shutil.copytree(self.outputs, stage, dirs_exist_ok=True)
        return self._target

    def remove(self) -> None:
        """Remove everything temporary."""
        shutil.rmtree(self._temporary, ignore_errors=True)


class Task(Generic[Result]):
    """One command of the library.

    ``arguments`` follow ``python -m RadGSRegLib``; ``load`` turns the results into nodes and runs
    on the thread that polls. ``completedCallback`` gets the task when it has ended, however that
    was. After the end exactly one of `result` and `error` is set.
    """

    def __init__(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        folder: WorkFolder,
        load: Callable[[Path], Result],
        *,
        progressCallback: ProgressCallback | None = None,
        completedCallback: Callable[[Task[Result]], object] | None = None,
    ) -> None:
        self.result: Result | None = None
        self.error: Exception | None = None
        self.isFinished = False
        self._folder = folder
        self._load = load
        self._completedCallback = completedCallback
        self._timer: Any = None
        self.job = Job(
            [pythonExecutable(), "-m", "RadGSRegLib", *arguments, "--progress"],
            workingFolder=libraryFolder(),
            environment=childEnvironment(),
            progressCallback=progressCallback,
        )

    @property
    def progress(self) -> float:
        """How far the command is, in [0, 1]."""
        return self.job.progress

    @property
    def message(self) -> str:
        """What the command is doing."""
        return self.job.message

    def start(self) -> None:
        """Start the child process; returns at once."""
        try:
            self.job.start()
        except Exception:
            self._folder.remove()
            raise

    def startTimer(self, interval_ms: int = 50) -> None:
        """Let a Qt timer call `poll` until the end (inside Slicer only)."""
        import qt

        self._timer = qt.QTimer()
        self._timer.setInterval(interval_ms)
        self._timer.connect("timeout()", self.poll)
        self._timer.start()

    def cancel(self) -> None:
        """Ask the whole process tree to end; it does so within two seconds."""
        self.job.cancel()

    def poll(self) -> bool:
        """Take in progress and, at the end, load the results. Returns whether all is finished."""
        if self.isFinished or not self.job.poll():
            return self.isFinished
        self.isFinished = True
        if self._timer is not None:
            self._timer.stop()
        try:
            self.error = self._failure()
            if self.error is None:
                self.result = self._load(self._folder.publish())
        except Exception as error:
            self.error = error
        finally:
            self._folder.remove()
        if self._completedCallback is not None:
            self._completedCallback(self)
        return True

    def wait(self) -> Result:
        """Wait for the end, with a window kept alive, and return the result.

        Raises `Cancelled`, `TaskError`, or what loading the results raised.
        """
        idle = _processEvents()
        try:
            while not self.poll():
                self.job.wait(0.2, idle)
        except BaseException:
            # Ctrl-C in a console: the child must not stay behind.
            self.cancel()
            self.job.wait(3.0)
            self._folder.remove()
            raise
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result

    def _failure(self) -> Exception | None:
        code = self.job.returnCode
        if self.job.state is JobState.CANCELLED or code == EXIT_CANCELLED:
            return Cancelled(self.job.message or "cancelled")
        if code in (EXIT_OK, EXIT_NOT_TRUSTED):
            return None
        reason = self.job.errorText.removeprefix("radgsreg: ") or "it gave no reason"
        if code == EXIT_BAD_INPUT:
            return TaskError(reason)
        return TaskError(f"the computation ended unexpectedly (exit status {code}): {reason}")


def _processEvents() -> Callable[[], object] | None:
    try:
        from slicer import app
    except ImportError:
        return None
    process: Callable[[], object] = app.processEvents
    return process
