"""Arrays kept from one run to the next in ``.npz`` files, whole or not at all (no pickle)."""

import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cases import make_folder, output_file
from ..errors import InputError

Arrays = dict[str, NDArray[Any]]

# What numpy raises for damaged files: it parses an array's header as Python.
_BROKEN = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def keep(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays by name, compressed; the folder is made where it is missing.

    Raises InputError where the file cannot be written.
    """
    make_folder(path.parent)
    with output_file(path) as part:
        np.savez_compressed(part, **arrays)  # type: ignore[arg-type]


def read_kept(path: Path) -> Arrays | None:
    """Read what `keep` wrote; None where nothing is. Raises InputError for a damaged file."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except _BROKEN as error:
        raise InputError(path, f"is damaged ({error})", "delete it") from None
