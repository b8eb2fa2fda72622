"""Results appear whole or not at all."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from ..errors import InputError
from ..inputs import input_within, is_input
from . import bounds
from .staging import StagingFolder, clear_left_over


class OutputFolder:
    """A context manager: write into the staging folder it yields; leaving it moves all into place.

    The staging folder stands beside ``folder``, so that a new result appears by one rename. Where
    ``folder`` is there already, the staging folder stands inside it (it may be a mount, whose
    parent is another file system), its other files stay, files of the same name are replaced, and
    if that fails half-way the old ones are put back. On any exception, Ctrl-C
    included, nothing is left behind; what a killed process has left there is cleared. Raises
    InputError where the folder has no name, cannot be written, holds what the command has read,
    or where writing into it fails (a full disk).
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._named = bool(os.fspath(folder).strip())
        self.folder = Path(folder)
        self._staging: StagingFolder | None = None
        self._made: list[Path] = []

    def __enter__(self) -> Path:
        if not self._named:
            raise InputError("the output folder", "has an empty name", "name a folder")
        target = self.folder.absolute()
        if target.exists() and not target.is_dir():
            raise InputError(self.folder, "is a file, so results cannot be written into it")
        if target.is_dir() and not os.access(target, os.W_OK | os.X_OK):
            raise InputError(self.folder, "cannot be written to")
        read = input_within(target)
        if read is not None:
            what = "is an input too" if read == target.resolve() else f"holds the input {read.name}"
            raise InputError(self.folder, what, "name another folder for the results")
        try:
            missing = [p for p in (target.parent, *target.parent.parents) if not p.exists()]
            for parent in reversed(missing):
                parent.mkdir()
                self._made.append(parent)
            place = target if target.is_dir() else target.parent
            clear_left_over(place)
            clear_left_over(target.parent)
            self._staging = StagingFolder(place)
        except OSError as error:
            self._remove_made()
            raise InputError(
                self.folder, f"cannot be written to ({error.strerror or 'no such place'})"
            ) from error
        return self._staging.path

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, _: object
    ) -> None:
        staging = self._staging
        if staging is None:
            return
        try:
            if problem is not None and _is_of_writing(problem, staging.path):
                self._refuse(problem)
            if kind is None:
                try:
                    self._commit(staging.path)
                except OSError as failure:
                    self._refuse(failure)
                self._made.clear()
        finally:
            staging.remove()
            self._remove_made()

    def _refuse(self, failure: BaseException) -> NoReturn:
        raise InputError(self.folder, f"cannot be written to ({_said(failure)})") from failure

    def _commit(self, stage: Path) -> None:
        target = self.folder.absolute()
        if not target.exists():
            umask = os.umask(0)
            os.umask(umask)
            stage.chmod(0o777 & ~umask)
            stage.rename(target)
            return
        items = sorted(p for p in stage.rglob("*") if p.is_file())
        places = [target / item.relative_to(stage) for item in items]
        for place in places:
            in_the_way = [p for p in place.parents if p.is_file()]
            if is_input(place):
                raise InputError(place, "was read, so it is not written over")
            if place.is_dir() or in_the_way:
                what = (in_the_way or [place])[0]
                raise InputError(what, "is in the way of a result file; move it away")
        self._replace(items, places, stage.with_name("old"))

    @staticmethod
    def _replace(items: list[Path], places: list[Path], backup: Path) -> None:
        """Move every item to its place; if that fails half-way, put everything back."""
        backup.mkdir()
        done: list[tuple[Path, Path, bool]] = []
        made: list[Path] = []
        try:
            for number, (item, place) in enumerate(zip(items, places, strict=True)):
                for parent in reversed([p for p in place.parents if not p.exists()]):
                    made.append(parent)
                    parent.mkdir()
                saved = backup / str(number)
                done.append((place, saved, place.exists()))  # noted first: Ctrl-C may come any time
                if place.exists():
                    place.replace(saved)
                item.replace(place)
        except BaseException:
            for place, saved, was_there in reversed(done):
                if saved.exists():
                    saved.replace(place)
                elif not was_there:
                    place.unlink(missing_ok=True)
            for parent in reversed(made):
                with suppress(OSError):
                    parent.rmdir()
            backup.rmdir()
            raise
        shutil.rmtree(backup, ignore_errors=True)

    def _remove_made(self) -> None:
        for parent in reversed(self._made):
            with suppress(OSError):
                parent.rmdir()
        self._made.clear()


@contextmanager
def output_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Where to write a file that takes its place at ``path`` once it is whole.

    On any exception nothing is left behind. Raises InputError where the file cannot be written, or
    is one that the command has read.
    """
    path = Path(path)
    if is_input(path):
        raise InputError(path, "was read, so it is not written over", "name another file")
    staging: StagingFolder | None = None
    try:
        clear_left_over(path.parent)
        staging = StagingFolder(path.parent)
        part = staging.path / path.name
        yield part
        part.replace(path)
    except InputError:
        raise
    except Exception as failure:
        if isinstance(failure, OSError) or (
            staging is not None and _is_of_writing(failure, staging.path)
        ):
            raise InputError(path, f"cannot be written ({_said(failure)})") from failure
        raise
    finally:
        if staging is not None:
            staging.remove()


def _is_of_writing(problem: BaseException, stage: Path) -> bool:
    """Whether an exception comes from writing into ``stage``; libraries hide a full disk."""
    if isinstance(problem, InputError) or not isinstance(problem, Exception):
        return False
    if isinstance(problem, OSError):
        if problem.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO):
            return True
        return problem.filename is None or stage in Path(os.fsdecode(problem.filename)).parents
    try:
        return shutil.disk_usage(stage).free < bounds.FULL_DISK_BYTES
    except OSError:
        return True


def _said(failure: BaseException) -> str:
    if isinstance(failure, OSError):
        return failure.strerror or str(failure)
    return "the disk is full"
