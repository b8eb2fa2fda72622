"""A command in a child process: progress lines in, and a Cancel that ends the whole process tree.

The owner polls from its own thread, so that MRML is touched on the main thread only.
`slicer.util.launchConsoleProcess` starts the child in Slicer's own process group, where the tree
below it (PythonSlicer is only a launcher) cannot be ended as a whole.
"""

import atexit
import contextlib
import enum
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from .processes import endTree, followLines, signalTree, startChild
from .timers import waitFor

ProgressCallback = Callable[[float, str], object]
Pose = list[list[float]]  # 4 x 4, as the child writes it: LPS

_GRACE_S = 0.8  # between the polite request to stop and the end by force
_STRAGGLER_S = 0.5  # how long output is awaited once the child itself has ended
_KEPT_LINES = 400


class JobState(enum.Enum):
    """Where a job stands."""

    READY = "ready"
    RUNNING = "running"
    CANCELLING = "cancelling"
    DONE = "done"
    CANCELLED = "cancelled"


class Job:
    """One run of one command.

    ``progressCallback`` gets (fraction in [0, 1], message) for every progress line of the child, a
    JSON object such as ``{"progress": 0.42, "message": "..."}``; if it returns False the job is
    cancelled. A line that also holds a ``ct_to_world`` sets `bestPose`, and ``poseCallback`` gets
    it; ``figures`` (numbers by name) of such a line are kept in `figures`, and a ``reconstruction``
    (a folder that holds one already) goes to ``reconstructionCallback``. Everything else that the
    child writes is kept in `outputLines` and `errorLines` (the last few hundred).

    With an ``answerCallback`` the child is a resident one: it is asked by `send`, every line of its
    output goes to that callback, and it has nothing to lose when it is ended.
    """

    def __init__(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        *,
        workingFolder: str | os.PathLike[str] | None = None,
        environment: Mapping[str, str] | None = None,
        progressCallback: ProgressCallback | None = None,
        poseCallback: Callable[[Pose], object] | None = None,
        reconstructionCallback: Callable[[str], object] | None = None,
        answerCallback: Callable[[str], object] | None = None,
    ) -> None:
        self._answerCallback = answerCallback
        self.bestPose: Pose | None = None
        self.figures: dict[str, float] = {}
        self._poseCallback = poseCallback
        self._reconstructionCallback = reconstructionCallback
        self.arguments = [os.fspath(argument) for argument in arguments]
        self.progress = 0.0
        self.message = ""
        self.returnCode: int | None = None
        self.state = JobState.READY
        self.outputLines: deque[str] = deque(maxlen=_KEPT_LINES)
        self.errorLines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._workingFolder = workingFolder
        self._environment = dict(os.environ if environment is None else environment)
        self._progressCallback = progressCallback
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[tuple[bool, str]] = queue.SimpleQueue()
        self._readers: list[threading.Thread] = []
        self._killAt: float | None = None
        self._killer: subprocess.Popen[bytes] | None = None
        self._endedAt: float | None = None

    @property
    def isRunning(self) -> bool:
        """Whether the child may still be at work."""
        return self.state in (JobState.RUNNING, JobState.CANCELLING)

    @property
    def processId(self) -> int | None:
        """The child's process number, None before `start`."""
        return None if self._process is None else self._process.pid

    @property
    def errorText(self) -> str:
        """The last line that the child wrote to standard error, or else to standard output."""
        for lines in (self.errorLines, self.outputLines):
            for line in reversed(lines):
                if line.strip():
                    return line.strip()
        return ""

    def start(self) -> None:
        """Start the child. Raises OSError where the program cannot be started."""
        if self.state is not JobState.READY:
            raise RuntimeError("a job runs only once")
        resident = self._answerCallback is not None
        self._process = startChild(
            self.arguments,
            workingFolder=self._workingFolder,
            environment=self._environment,
            stdin=subprocess.PIPE if resident else subprocess.DEVNULL,
        )
        self.state = JobState.RUNNING
        for stream, isError in ((self._process.stdout, False), (self._process.stderr, True)):
            take = partial(self._note, isError)
            self._readers.append(followLines(stream, take))
        atexit.register(self._kill)

    def poll(self) -> bool:
        """Take in what the child has written; returns whether the job has ended. Never waits."""
        if not self.isRunning:
            return True
        assert self._process is not None
        self._takeLines()
        if self._process.poll() is None:
            if self._killAt is not None and time.monotonic() >= self._killAt:
                self._kill()
            return False
        now = time.monotonic()
        if self._endedAt is None:
            self._endedAt = now
            if self.state is JobState.CANCELLING:
                self._kill()  # what the child may have left behind
        if (
            any(reader.is_alive() for reader in self._readers)
            and now - self._endedAt < _STRAGGLER_S
        ):
            return False  # its last lines are still in the pipe, or a grandchild holds that open
        self._takeLines()
        self.returnCode = self._process.returncode
        finished = self.state is JobState.RUNNING or self.returnCode == 0
        self.state = JobState.DONE if finished else JobState.CANCELLED
        atexit.unregister(self._kill)
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        return True

    def cancel(self) -> None:
        """Ask the whole process tree to stop, and end it by force soon after. Returns at once.

        `poll` (or `wait`) must go on being called until it says that the job has ended.
        """
        if self.state is not JobState.RUNNING:
            return
        self.state = JobState.CANCELLING
        self._killAt = time.monotonic() + _GRACE_S
        if os.name == "nt":
            self._kill()
        else:
            assert self._process is not None
            signalTree(self._process, signal.SIGINT)

    def send(self, line: str) -> None:
        """Write a line to a resident child. That it has gone is said by the next `poll`."""
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Poll until the job has ended; returns whether it has, False only after ``timeout_s``."""
        return waitFor(self.poll, timeout_s)

    def end(self) -> None:
        """`cancel`, and return when the child is gone, within two seconds."""
        self.cancel()
        if self._answerCallback is not None:
            self._kill()
        self.wait(2.0)

    def _note(self, isError: bool, line: str) -> None:
        self._lines.put((isError, line))

    def _takeLines(self) -> None:
        while True:
            try:
                isError, line = self._lines.get_nowait()
            except queue.Empty:
                return
            if self._answerCallback is not None and not isError:
                if self.state is JobState.RUNNING:
                    self._answerCallback(line)
                continue
            report = None if isError else parseProgress(line)
            if report is None:
                (self.errorLines if isError else self.outputLines).append(line)
                continue
            self.progress, self.message = report
            self.figures = parseFigures(line) or self.figures
            pose = parsePose(line)
            if pose is not None:
                self.bestPose = pose
                if self._poseCallback is not None and self.state is JobState.RUNNING:
                    self._poseCallback(pose)
            folder = parseReconstruction(line)
            if folder and self._reconstructionCallback and self.state is JobState.RUNNING:
                self._reconstructionCallback(folder)
            if (
                self._progressCallback is not None
                and self.state is JobState.RUNNING
                and self._progressCallback(self.progress, self.message) is False
            ):
                self.cancel()

    def _kill(self) -> None:
        if self._process is None or (self._killer is not None and self._killer.poll() is None):
            return
        self._killer = endTree(self._process)


def parseProgress(line: str) -> tuple[float, str] | None:
    """(fraction, message) of a progress line, or None for any other line."""
    if not line.lstrip().startswith("{"):
        return None
    try:
        report = json.loads(line)
        fraction = min(max(float(report["progress"]), 0.0), 1.0)
    except (ValueError, KeyError, TypeError):
        return None
    return fraction, str(report.get("message", ""))


def parsePose(line: str) -> Pose | None:
    """The best ct_to_world so far that a progress line tells of, or None."""
    try:
        rows = json.loads(line)["ct_to_world"]
        pose = [[float(value) for value in row] for row in rows]
    except (ValueError, KeyError, TypeError):
        return None
    return pose if [len(row) for row in pose] == [4, 4, 4, 4] else None


def parseReconstruction(line: str) -> str:
    """The folder of a reconstruction that a progress line tells of; empty if it tells of none."""
    try:
        folder = json.loads(line)["reconstruction"]
    except (ValueError, KeyError, TypeError):
        return ""
    return folder if isinstance(folder, str) else ""


def parseFigures(line: str) -> dict[str, float]:
    """What a progress line says was measured so far, by name; empty if it says nothing."""
    try:
        figures = json.loads(line)["figures"]
        return {str(name): float(value) for name, value in figures.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
