"""Results appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ..errors import InputError


class OutputFolder:
    """A context manager: write into the staging folder it yields; leaving it moves all into place.

    The staging folder stands beside ``folder`` (the same file system), so that a new result appears
    by one rename. Where ``folder`` is there already, its other files stay, files of the same name
    are replaced, and if that fails half-way the old ones are put back. On any exception, Ctrl-C
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
            self._stage = Path(tempfile.mkdtemp(prefix=".radgsreg-", dir=target.parent))
        except OSError as error:
            self._remove_made()
            raise InputError(
                self.folder, f"cannot be written to ({error.strerror or 'no such place'})"
            ) from error
        return self._stage

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stage = self._stage
        if stage is None:
            return
        try:
            if kind is None:
                self._commit(stage)
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
        backup = Path(tempfile.mkdtemp(prefix=".radgsreg-", dir=target.parent))
        moved: list[tuple[Path, Path | None]] = []
        try:
            for item in sorted(p for p in stage.rglob("*") if p.is_file()):
                name = item.relative_to(stage)
                place, old = target / name, backup / name
                place.parent.mkdir(parents=True, exist_ok=True)
                if place.exists():
                    old.parent.mkdir(parents=True, exist_ok=True)
                    place.replace(old)
                    moved.append((place, old))
                else:
                    moved.append((place, None))
                item.replace(place)
        except BaseException:
            for place, saved in reversed(moved):
                with suppress(OSError):
                    if saved is None:
                        place.unlink(missing_ok=True)
                    else:
                        saved.replace(place)
            raise
        finally:
            shutil.rmtree(backup, ignore_errors=True)

    def _remove_made(self) -> None:
        for parent in reversed(self._made):
            with suppress(OSError):
                parent.rmdir()
        self._made.clear()
