"""Which files a command has read, so that none of them is written over."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_noted: set[Path] | None = None


@contextmanager
def guarded_inputs(paths: Iterable[Path] = ()) -> Iterator[None]:
    """Note what is read while this is entered, beginning with ``paths``.

    Outside of it nothing is noted: a program that lives on may write a file that it once read.
    """
    global _noted
    before, _noted = _noted, set()
    try:
        for path in paths:
            note_input(path)
        yield
    finally:
        _noted = before


def note_input(path: str | os.PathLike[str]) -> None:
    """Remember a file or folder as an input, where inputs are guarded."""
    if _noted is not None:
        _noted.add(_real(path))


def is_input(path: str | os.PathLike[str]) -> bool:
    """Whether a path is an input that was noted, also by another name (links, letters' case)."""
    real = _real(path)
    return any(real == noted or _same(real, noted) for noted in _noted or ())


def input_within(folder: str | os.PathLike[str]) -> Path | None:
    """Return an input that lies in a folder, at any depth, or is the folder itself."""
    real = _real(folder)
    for noted in sorted(_noted or ()):
        if real == noted or real in noted.parents or _same(real, noted):
            return noted
    return None


def _real(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.realpath(path))


def _same(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b)
    except (OSError, ValueError):
        return False
