"""Child processes: started in a group of their own, read without waiting, ended as a whole."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO


def startChild(
    arguments: Sequence[str],
    *,
    workingFolder: str | os.PathLike[str] | None,
    environment: Mapping[str, str],
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[str]:
    """Start a program whose output, text in UTF-8, is read through pipes as it comes.

    Raises OSError where it cannot be started.
    """
    flags = 0
    if os.name == "nt":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW  # type: ignore[attr-defined,unused-ignore]
    return subprocess.Popen(
        arguments,
        cwd=workingFolder,
        env={**environment, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        # A session of its own: every process of the tree can then be reached at once.
        start_new_session=os.name != "nt",
        creationflags=flags,
    )


def followLines(stream: IO[str] | None, take: Callable[[str], object]) -> threading.Thread:
    """Hand over every line of a stream from a thread of its own."""
    assert stream is not None

    def follow() -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in stream:
                take(line.rstrip("\r\n"))
            stream.close()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    return thread


def signalTree(process: subprocess.Popen[str], number: int) -> None:
    """Send a signal to a child and all below it (not on Windows)."""
    # The child leads its own group, and the group's number stays taken while any member lives.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def endTree(process: subprocess.Popen[str]) -> subprocess.Popen[bytes] | None:
    """End a child and all below it by force; returns what is still at that, or None.

    Does not wait: on Windows it takes a good part of a second, and a window may be looking on.
    """
    if os.name == "nt":
        return subprocess.Popen(
            ["taskkill", "/PID", str(process.pid), "/T", "/F"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            creationflags=subprocess.CREATE_NO_WINDOW,  # type: ignore[attr-defined,unused-ignore]
        )
    signalTree(process, signal.SIGKILL)
    return None
