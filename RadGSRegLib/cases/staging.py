"""Temporary folders beside a result: held by a lock while their process lives, else cleared."""

import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

PREFIX = ".radgsreg-"
_LOCK = "lock"
_STAGE = "stage"
_GRACE_S = 2.0
"""Between making a folder and locking it there may pass so much time."""

if sys.platform == "win32":
    import msvcrt

    def _lock(stream: IO[bytes]) -> None:
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(stream: IO[bytes]) -> None:
        fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_own(stream: IO[bytes]) -> None:
    """Lock a folder's own file, though another process may be trying just now whether it is left
    over."""
    for _ in range(100):
        try:
            _lock(stream)
        except (BlockingIOError, PermissionError):
            time.sleep(0.01)
        except OSError:  # a file system without locks
            return
        else:
            return


class StagingFolder:
    """A temporary folder in ``place``; ``path`` is a folder in it for what is written.

    The lock stands beside ``path``, so that ``path`` can be moved away whole. The system releases
    it when the process ends, however it ends. Raises OSError where ``place`` cannot be written.
    """

    def __init__(self, place: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        self._stream: IO[bytes] | None = None
        self.path = self._folder / _STAGE
        try:
            self._stream = (self._folder / _LOCK).open("wb")
            _lock_own(self._stream)
            self.path.mkdir()
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        if self._stream is not None:
            with suppress(OSError):
                self._stream.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def clear_left_over(place: Path) -> None:
    """Remove the temporary folders in ``place`` whose process was killed; others stay."""
    with suppress(OSError):
        for folder in sorted(place.glob(f"{PREFIX}*")):
            if folder.is_dir() and not folder.is_symlink() and _is_left_over(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_left_over(folder: Path) -> bool:
    lock = folder / _LOCK
    try:
        if lock.exists():
            with lock.open("r+b") as stream:
                _lock(stream)
        if not (folder / _STAGE).exists():  # its process may be about to lock it
            return time.time() - folder.stat().st_mtime > _GRACE_S
    except OSError:  # another process holds it, or it is another user's
        return False
    return True
