"""What was read for a case: SHA-256 of every file, and remarks for the user."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..inputs import note_input

if TYPE_CHECKING:
    from .patients import Patient


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits. InputError if it cannot be read."""
    note_input(path)
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from error


@dataclass
class Ledger:
    """Collects the hashes and remarks while a case is read.

    Keys are file names without folders: a folder may carry a patient's name. ``patients`` are those
    of DICOM files, to be compared only (`patients`).
    """

    inputs: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    patients: "dict[str, Patient]" = field(default_factory=dict, repr=False)

    def _enter(self, name: str, digest: str) -> None:
        key, number = name, 1
        while key in self.inputs and self.inputs[key] != digest:
            number += 1
            key = f"{name} ({number})"
        self.inputs[key] = digest

    def add_file(self, path: Path) -> None:
        """Record one file under its name; a second, different one of that name gets a number."""
        self._enter(path.name, sha256_of_file(path))

    def add_series(self, name: str, files: Iterable[Path]) -> None:
        """Record many files as one: the hash of their sorted hashes, whatever their names."""
        digests = sorted(sha256_of_file(path) for path in files)
        self._enter(name, hashlib.sha256("".join(digests).encode()).hexdigest())

    def note(self, text: str) -> None:
        """A remark that the result should carry."""
        if text not in self.notes:
            self.notes.append(text)
