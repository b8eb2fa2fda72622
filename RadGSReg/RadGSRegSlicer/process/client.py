"""The resident child process that scores and renders poses, seen from the window.

Nothing here waits: requests are written as lines, answers are taken in `poll` (from a timer in a
window, from a loop in a script) and handed to the caller's function on the caller's thread. Of
requests that only the newest pose makes useful, one is under way and one waits; what came between
is dropped without a call.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from RadGSRegLib.errors import InputError

from . import environment
from .processes import endTree, followLines, startChild

Answer = dict[str, Any]
Callback = Callable[[Answer], object]

_TICK_S = 0.02
_NEWEST_ONLY = ("score", "render")


class ReviewClient:
    """Starts the process for one case folder, and owns it and that folder's place."""

    def __init__(self, command: list[str] | None = None) -> None:
        """``command``: in place of the library's server, for tests."""
        self._command = command
        self._temporary = tempfile.TemporaryDirectory(
            prefix="radgsreg-review-", ignore_cleanup_errors=True
        )
        self.folder = Path(self._temporary.name)
        self.message = ""
        self.error = ""
        self.isReady = False
        self.views: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._prepare: Iterator[object] | None = None
        self._case = Path()
        self._started = False
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._errors: deque[str] = deque(maxlen=50)
        self._callbacks: dict[int, tuple[Any, Callback]] = {}
        self._waiting: dict[Any, tuple[Answer, Callback]] = {}
        self._number = 0
        self._stopped = False

    @property
    def isRunning(self) -> bool:
        """Whether the process is there (it may still be loading)."""
        return self._started and not self.error and not self._stopped

    @property
    def isBusy(self) -> bool:
        """Whether an answer is still to come."""
        return bool(self._callbacks or self._waiting)

    @property
    def processId(self) -> int | None:
        """The process's number, None before `start`."""
        return None if self._process is None else self._process.pid

    def start(
        self,
        casePath: os.PathLike[str],
        poseLps: ArrayLike,
        prepare: Iterator[object] | None = None,
    ) -> None:
        """Start the process on a case (case.json) and the pose (4, 4), LPS, to begin with.

        ``prepare`` writes the case, a piece at each step; `poll` takes the steps, and the process
        starts when they are done. What goes wrong there becomes `error`.
        """
        self._started = True
        self._case, self._prepare = Path(casePath), prepare
        pose = self.folder / "pose.json"
        content = {"ct_to_world": np.asarray(poseLps, dtype=float).tolist()}
        pose.write_text(json.dumps(content), encoding="utf-8")
        if prepare is None:
            self._launch()
        else:
            self.message = "writing the case"

    def _launch(self) -> None:
        command = self._command or [
            environment.pythonExecutable(),
            "-m",
            "RadGSRegLib",
            "review-server",
        ]
        self._process = startChild(
            [*command, str(self._case), str(self.folder / "pose.json"), str(self.folder)],
            workingFolder=environment.libraryFolder(),
            environment=environment.childEnvironment(),
            stdin=subprocess.PIPE,
        )
        followLines(self._process.stdout, self._lines.put, lambda: self._lines.put(None))
        followLines(self._process.stderr, self._errors.append)
        atexit.register(self.stop)

    def ask(self, callback: Callback, do: str, poseLps: ArrayLike, **fields: Any) -> None:
        """Ask for ``do`` ("score", "render", "refine", "pictures") at a pose (4, 4), LPS.

        ``callback`` gets the answer in a later `poll`: what `RadGSRegLib.review.server` says, or
        ``{"error": ...}``.
        """
        self._number += 1
        pose = np.asarray(poseLps, dtype=float).tolist()
        request = {"id": self._number, "do": do, "ct_to_world": pose, **fields}
        key = (do, fields.get("view")) if do in _NEWEST_ONLY else self._number
        self._waiting[key] = (request, callback)
        self._send()

    def poll(self) -> None:
        """Take in answers and call their callbacks. Never waits."""
        if self._prepare is not None:
            self._preparePart(self._prepare)
            return
        while True:
            try:
                line = self._lines.get_nowait()
            except queue.Empty:
                break
            if line is None:
                self._ended()
                return
            with contextlib.suppress(ValueError):
                self._take(json.loads(line))
        self._send()

    def wait(self, timeout_s: float = 60.0, idle: Callable[[], object] | None = None) -> bool:
        """Poll until the process is ready and nothing is under way; False after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while self.isRunning and (not self.isReady or self.isBusy):
            self.poll()
            if idle is not None:
                idle()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return self.isReady and not self.error

    def stop(self) -> None:
        """End the process and all below it, and remove its folder. Returns within 2 s."""
        if self._stopped:
            return
        self._stopped = True
        atexit.unregister(self.stop)
        self._callbacks.clear()
        self._waiting.clear()
        self._prepare = None  # closes what it was writing
        process = self._process
        if process is not None:
            with contextlib.suppress(OSError):
                if process.stdin is not None:
                    process.stdin.close()
            for ending in (endTree(process), process):
                if ending is not None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        ending.wait(1.0)
        self._temporary.cleanup()

    def _preparePart(self, prepare: Iterator[object]) -> None:
        """Prepare for a moment; start the process when that is done."""
        until = time.monotonic() + _TICK_S
        try:
            while time.monotonic() < until:
                next(prepare)
        except StopIteration:
            self._prepare = None
            try:
                self._launch()
            except (OSError, RuntimeError) as error:
                self._fail(str(error))
        except (OSError, InputError) as error:
            self._prepare = None
            self._fail(str(error))

    def _fail(self, reason: str) -> None:
        self.error = reason
        waiting = [*self._callbacks.values(), *self._waiting.values()]
        self._callbacks.clear()
        self._waiting.clear()
        for _, callback in waiting:
            callback({"error": reason})

    def _send(self) -> None:
        if not self.isReady or not self.isRunning:
            return
        busy = {key for key, _ in self._callbacks.values()}
        for key in [key for key in self._waiting if key not in busy]:
            request, callback = self._waiting.pop(key)
            self._callbacks[request["id"]] = (key, callback)
            assert self._process is not None
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
            except OSError:
                self._ended()
                return

    def _take(self, answer: Answer) -> None:
        if "id" in answer:
            _, callback = self._callbacks.pop(int(answer["id"]), (None, None))
            if callback is not None and not answer.get("stale"):
                callback(answer)
        elif "ready" in answer:
            self.isReady, self.message = True, ""
            self.views = [str(name) for name in answer.get("views", [])]
        elif "progress" in answer:
            self.message = str(answer.get("message", ""))
        elif "error" in answer:
            self.error = str(answer["error"])

    def _ended(self) -> None:
        """The process has gone by itself."""
        reason = self.error
        if not reason and not self._stopped:
            last = next((line for line in reversed(self._errors) if line.strip()), "")
            reason = "the scoring process ended" + (f": {last.strip()}" if last else "")
        self._fail(reason)


def readRendering(answer: Answer) -> NDArray[np.float32]:
    """The picture (rows, columns) that an answer to "render" names; its file is removed."""
    path = Path(answer["file"])
    image = np.load(path, allow_pickle=False)
    path.unlink()
    return np.asarray(image, dtype=np.float32)
