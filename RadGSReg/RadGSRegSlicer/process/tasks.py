"""A command of the library, from its input folder to nodes in the scene.

A `Task` runs the command in a child process and, when that has ended, lets the owner load the
results on the main thread. Scripts call `Task.wait`; in a window a timer calls `Task.poll`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from RadGSRegLib.errors import Cancelled
from RadGSRegLib.geometry import is_rigid, lps_to_ras

from .environment import childEnvironment, libraryFolder, pythonExecutable
from .jobs import Job, JobState, Pose, ProgressCallback
from .timers import makeTimer

Result = TypeVar("Result")

# Exit statuses of the command line, as promised in the outside contract.
EXIT_OK = 0
EXIT_BAD_INPUT = 2
EXIT_NOT_TRUSTED = 3
EXIT_CANCELLED = 130

PoseCallback = Callable[[NDArray[np.float64]], object]

_TICK_S = 0.03  # how long one poll may prepare: a window is to stay alive


class TaskError(RuntimeError):
    """A command that did not give a result; the text is its own one-line reason."""


class WorkFolder:
    """Where a task keeps its files: temporary, and results moved to a folder of the user's choice.

    The child never writes into the user's folder itself: one that is ended by force leaves nothing.
    ``scratch``, which is not made here, is for what the child itself keeps on the way.
    """

    def __init__(self, outputFolder: str | os.PathLike[str] | None = None) -> None:
        self._temporary = Path(tempfile.mkdtemp(prefix="radgsreg-"))
        self._target = None if outputFolder is None else Path(outputFolder).resolve()
        self.inputs = self._temporary / "case"
        self.outputs = self._temporary / "results"
        self.scratch = self._temporary / "scratch"
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
    on the thread that polls. ``prepare`` writes the inputs, a little at each step; the command
    starts when it is through. ``poseCallback`` gets the best pose so far (4, 4), RAS, whenever the
    command tells of one. ``completedCallback`` gets the task when it has ended, however that was.
    After the end exactly one of `result` and `error` is set. The folder is the task's own: it is
    removed at the end, and where the task cannot be made (RuntimeError, no Python is found).
    """

    def __init__(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        folder: WorkFolder,
        load: Callable[[Path], Result],
        *,
        prepare: Iterator[None] | None = None,
        progressCallback: ProgressCallback | None = None,
        poseCallback: PoseCallback | None = None,
        completedCallback: Callable[[Task[Result]], object] | None = None,
    ) -> None:
        self.result: Result | None = None
        self.error: Exception | None = None
        self.isFinished = False
        self._folder = folder
        self._load = load
        self._completedCallback = completedCallback
        self._prepare = prepare
        self._poseCallback = poseCallback
        self._cancelled = False
        self.isDiscarded = False
        self._isLoaded = False
        self._timer: Any = None
        self._removal: threading.Thread | None = None
        try:
            python = pythonExecutable()
        except RuntimeError:
            folder.remove()
            raise
        self.job = Job(
            [python, "-m", "RadGSRegLib", *arguments, "--progress"],
            workingFolder=libraryFolder(),
            environment=childEnvironment(),
            progressCallback=progressCallback,
            poseCallback=self._onPose,
        )

    @property
    def bestPose(self) -> NDArray[np.float64] | None:
        """The best pose (4, 4) that the command has told of, CT to world, RAS; or None."""
        if self.job.bestPose is None:
            return None
        pose = np.array(self.job.bestPose)
        return lps_to_ras(pose) if is_rigid(pose) else None

    @property
    def progress(self) -> float:
        """How far the command is, in [0, 1]."""
        return self.job.progress

    @property
    def message(self) -> str:
        """What the command is doing."""
        return self.job.message

    @property
    def figures(self) -> dict[str, float]:
        """What the command has measured so far, by name (a training's errors, mm)."""
        return self.job.figures

    def start(self) -> None:
        """Start to prepare, and then the child process; returns at once."""
        if self._prepare is None:
            self._startJob()

    def startTimer(self, interval_ms: int = 50) -> None:
        """Let a Qt timer call `poll` until the end (inside Slicer only)."""
        self._timer = makeTimer(interval_ms, self.poll)
        self._timer.start()

    def cancel(self) -> None:
        """Ask the whole process tree to end; it does so within two seconds."""
        self._cancelled = True
        self.job.cancel()

    def discard(self) -> None:
        """`cancel`, and load nothing even if the results are there: the scene is closing."""
        self.isDiscarded = True
        self.cancel()

    def end(self) -> None:
        """`discard`, and return when the child is gone and no file is left, within two seconds.

        For when nobody polls any more, as when the application closes; tells nobody.
        """
        self.discard()
        if self._timer is not None:
            self._timer.stop()
        self._prepare = None  # closes what it was writing
        self.job.wait(2.0)
        self._folder.remove()
        if self.result is None and self.error is None:
            self.error = Cancelled("discarded")
        self.isFinished = True

    def poll(self) -> bool:
        """Take in progress and, at the end, load the results. Returns whether all is finished."""
        if self.isFinished:
            return True
        if self._prepare is not None:
            self._preparePart()
            if self.error is None:
                return False
        elif not self.job.poll():
            return False
        if not self._isLoaded:
            # The end is told at the next poll: loading alone takes as long as a window may wait.
            self._isLoaded = True
            self._takeResults()
            return False
        self.isFinished = True
        if self._timer is not None:
            self._timer.stop()
        if self._completedCallback is not None:
            self._completedCallback(self)
        return True

    def _takeResults(self) -> None:
        try:
            self.error = self.error or self._failure()
            if self.error is None:
                self.result = self._load(self._folder.publish())
        except Exception as error:
            self.error = error
        finally:
            self._removeFolder()

    def wait(self) -> Result:
        """Wait for the end, with a window kept alive, and return the result.

        Raises `Cancelled`, `TaskError`, or what loading the results raised.
        """
        idle = processEvents()
        try:
            while not self.poll():
                if self._prepare is None:
                    self.job.wait(0.2, idle)
                elif idle is not None:
                    idle()
        except BaseException:
            # Ctrl-C in a console: the child must not stay behind.
            self.end()
            raise
        if self._removal is not None:
            self._removal.join()
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result

    def _startJob(self) -> None:
        try:
            self.job.start()
        except Exception:
            self._folder.remove()
            raise

    def _preparePart(self) -> None:
        """Prepare for a moment; start the command when that is done."""
        assert self._prepare is not None
        until = time.monotonic() + _TICK_S
        try:
            while time.monotonic() < until:
                if self._cancelled:
                    raise Cancelled("cancelled")
                next(self._prepare)
        except StopIteration:
            self._prepare = None
            try:
                self._startJob()
            except Exception as error:
                self.error = error
        except Exception as error:
            self.error = error

    def _onPose(self, pose: Pose) -> None:
        if self._poseCallback is not None and self.bestPose is not None:
            self._poseCallback(self.bestPose)

    def _removeFolder(self) -> None:
        if self._timer is None:
            self._folder.remove()
        else:
            # A CT's worth of files takes a slow disk longer than a window may wait.
            self._removal = threading.Thread(target=self._folder.remove)
            self._removal.start()

    def _failure(self) -> Exception | None:
        if self.isDiscarded:
            return Cancelled("discarded")
        code = self.job.returnCode
        if self.job.state is JobState.CANCELLED or code == EXIT_CANCELLED:
            return Cancelled(self.job.message or "cancelled")
        if code in (EXIT_OK, EXIT_NOT_TRUSTED):
            return None
        reason = self.job.errorText.removeprefix("radgsreg: ") or "it gave no reason"
        if code == EXIT_BAD_INPUT:
            return TaskError(reason)
        return TaskError(f"the computation ended unexpectedly (exit status {code}): {reason}")


def processEvents() -> Callable[[], object] | None:
    """What keeps a window alive while a script waits; None without a window."""
    try:
        from slicer import app
    except ImportError:
        return None
    process: Callable[[], object] = app.processEvents
    return process
