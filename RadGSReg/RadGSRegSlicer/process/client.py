"""The resident child process that scores and renders poses; nothing here waits.

Of requests that only the newest pose makes useful, one is under way and one waits; what came
between is dropped without a call.
"""

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import environment
from .driver import Driver, TaskError
from .jobs import Job
from .timers import waitFor

Answer = dict[str, Any]
Callback = Callable[[Answer], object]

_NEWEST_ONLY = ("score", "render")


class ReviewClient(Driver[None]):
    """Starts the process for one case folder, and owns it and that folder's place."""

    def __init__(self, command: list[str] | None = None) -> None:
        """``command``: in place of the library's server, for tests."""
        super().__init__()
        self._command = command
        self._temporary = tempfile.TemporaryDirectory(
            prefix="radgsreg-review-", ignore_cleanup_errors=True
        )
        self.folder = Path(self._temporary.name)
        self.isReady = False
        self.views: list[str] = []
        self.registered: Answer | None = None
        """What "score" says of the registered pose, by the same measure."""
        self._doing = ""
        self._case = Path()
        self._isStarted = False
        self._callbacks: dict[int, tuple[Any, Callback]] = {}
        self._waiting: dict[Any, tuple[Answer, Callback]] = {}
        self._number = 0

    @property
    def message(self) -> str:
        """What the process is doing before it is ready."""
        return self._doing

    @property
    def isRunning(self) -> bool:
        """Whether the process is there (it may still be loading)."""
        return self._isStarted and not self.isFinished and self.error is None

    @property
    def processId(self) -> int | None:
        """The process's number, None before it is started."""
        return None if self.job is None else self.job.processId

    def start(
        self,
        casePath: os.PathLike[str],
        poseLps: ArrayLike,
        prepare: Iterator[object] | None = None,
        registered: dict[str, Any] | None = None,
    ) -> None:
        """Start the process on a case (case.json) and the pose (4, 4), LPS, to begin with.

        ``registered``: where a registration left everything, as `RadGSRegLib.review.server` reads.

        ``prepare`` writes the case, a piece at each step; `poll` takes the steps, and the process
        starts when they are done. What goes wrong there becomes `error`.
        """
        self._isStarted = True
        self._case, self._prepare = Path(casePath), prepare
        self._doing = "writing the case" if prepare is not None else ""
        pose = self.folder / "pose.json"
        content: dict[str, Any] = {"ct_to_world": np.asarray(poseLps, dtype=float).tolist()}
        if registered is not None:
            content["registered"] = registered
        pose.write_text(json.dumps(content), encoding="utf-8")
        super().start()

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

    def leave(self) -> None:
        """`end` without waiting: a process that holds a CT in memory takes a while to be gone."""
        self._forget()
        self.discard()
        self._prepare = None
        self.isFinished = True
        threading.Thread(target=self.end).start()

    def wait(self, timeout_s: float = 60.0) -> bool:
        """Poll until the process is ready and nothing is under way; False after ``timeout_s``."""

        def settled() -> bool:
            if not self._isStarted or self.poll():
                return True
            return self.isReady and not self._callbacks and not self._waiting

        return waitFor(settled, timeout_s) and self.isReady and self.error is None

    def _launch(self) -> None:
        command = self._command or [
            environment.pythonExecutable(),
            "-m",
            "RadGSRegLib",
            "review-server",
        ]
        self.job = Job(
            [*command, self._case, self.folder / "pose.json", self.folder],
            workingFolder=environment.libraryFolder(),
            environment=environment.childEnvironment(),
            answerCallback=self._take,
        )
        self.job.start()

    def _advance(self) -> bool:
        if self.job is None and self.error is None:
            return False  # not started yet
        if not super()._advance():
            self._send()
            return False
        if self.error is None:
            reason = "the scoring process ended"
            self.error = TaskError(": ".join(filter(None, (reason, self.job.errorText))))
        waiting = [*self._callbacks.values(), *self._waiting.values()]
        self._forget()
        for _, callback in waiting:
            callback({"error": str(self.error)})
        return True

    def _clean(self) -> None:
        self._forget()
        self._temporary.cleanup()

    def _forget(self) -> None:
        self._callbacks.clear()
        self._waiting.clear()

    def _send(self) -> None:
        if not self.isReady or not self.isRunning:
            return
        busy = {key for key, _ in self._callbacks.values()}
        for key in [key for key in self._waiting if key not in busy]:
            request, callback = self._waiting.pop(key)
            self._callbacks[request["id"]] = (key, callback)
            self.job.send(json.dumps(request))

    def _take(self, line: str) -> None:
        try:
            answer = json.loads(line)
        except ValueError:
            return
        if "id" in answer:
            _, callback = self._callbacks.pop(int(answer["id"]), (None, None))
            if callback is not None and not answer.get("stale"):
                callback(answer)
        elif "ready" in answer:
            self.isReady, self._doing = True, ""
            self.views = [str(name) for name in answer.get("views", [])]
            self.registered = answer.get("registered")
        elif "progress" in answer:
            self._doing = str(answer.get("message", ""))
        elif "error" in answer:
            self.error = TaskError(str(answer["error"]))


def readRendering(answer: Answer) -> NDArray[np.float32]:
    """The picture (rows, columns) that an answer to "render" names; its file is removed."""
    path = Path(answer["file"])
    image = np.load(path, allow_pickle=False)
    path.unlink()
    return np.asarray(image, dtype=np.float32)
