"""Results appear whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InputError


class OutputFolder:
    """A context manager: write into the staging folder it yields; leaving it moves all into place.

    The staging folder stands beside ``folder``, so that a new result appears by one rename. Where
    ``folder`` is there already, the staging folder stands inside it (it may be a mount, whose
    parent is another file system), its other files stay, files of the same name are replaced, and
    if that fails half-way the old ones are put back. On any exception, Ctrl-C
    included, nothing is left behind. Raises InputError where the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._stage: Path | None = None
        self._made: list[Path] = []

    def __enter__(self) -> Path:
        target = self.folder.absolute()
        if target.exists() and not target.is_dir():
            raise InputError(self.folder, "is a file, so results cannot be written into it")
        if target.is_dir() and not os.access(target, os.W_OK | os.X_OK):
            raise InputError(self.folder, "cannot be written to")
        try:
            missing = [p for p in (target.parent, *target.parent.parents) if not p.exists()]
            for parent in reversed(missing):
                parent.mkdir()
                self._made.append(parent)
            place = target if target.is_dir() else target.parent
            self._stage = Path(tempfile.mkdtemp(prefix=".radgsreg-", dir=place))
        except OSError as error:
            self._remove_made()
            raise InputError(
                self.folder, f"cannot be written to ({error.strerror or 'no such place'})"
            ) from error
        return self._stage

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        stage = self._stage
        if stage is None:
            return
        try:
            if kind is None:
                try:
                    self._commit(stage)
                except OSError as problem:
                    raise InputError(
                        self.folder, f"cannot be written to ({problem.strerror or problem})"
                    ) from problem
                self._made.clear()
        finally:
            shutil.rmtree(stage, ignore_errors=True)
            self._remove_made()

    def _commit(self, stage: Path) -> None:
        target = self.folder.absolute()
        if not target.exists():
            umask = os.umask(0)
            os.umask(umask)
            stage.chmod(0o777 & ~umask)  # mkdtemp makes it private
            stage.rename(target)
            return
        items = sorted(p for p in stage.rglob("*") if p.is_file())
        places = [target / item.relative_to(stage) for item in items]
        for place in places:
            in_the_way = [p for p in place.parents if p.is_file()]
            if place.is_dir() or in_the_way:
                what = (in_the_way or [place])[0]
                raise InputError(what, "is in the way of a result file; move it away")
        self._replace(items, places, target)

    @staticmethod
    def _replace(items: list[Path], places: list[Path], beside: Path) -> None:
        """Move every item to its place; if that fails half-way, put everything back."""
        backup = Path(tempfile.mkdtemp(prefix=".radgsreg-", dir=beside))
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

    On any exception nothing is left behind. Raises InputError where the file cannot be written.
    """
    path = Path(path)
    folder: Path | None = None
    try:
        folder = Path(tempfile.mkdtemp(prefix=".radgsreg-", dir=path.parent))
        part = folder / path.name
        yield part
        part.replace(path)
    except OSError as error:
        raise InputError(path, f"cannot be written ({error.strerror or error})") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
