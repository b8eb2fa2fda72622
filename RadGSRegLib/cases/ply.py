"""The vertices of a PLY file (binary little endian), read without torch."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "<i2", "int16": "<i2", "ushort": "<u2", "uint16": "<u2",
    "int": "<i4", "int32": "<i4", "uint": "<u4", "uint32": "<u4",
    "float": "<f4", "float32": "<f4", "double": "<f8", "float64": "<f8",
}  # fmt: skip
_LONGEST_HEADER = 65536


def read_vertices(path: str | os.PathLike[str], names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Read the columns (N,) of these properties of the vertices, each in its own type.

    Properties may come in any order and beside others. Raises InputError for a file that is
    missing, not binary little-endian PLY that begins with vertices, too short, or lacks a property.
    """
    source = Path(path)
    try:
        content = source.read_bytes()
    except OSError as error:
        raise InputError(source, f"cannot be read ({error.strerror or error})") from error
    count, fields, start = _header(source, content)
    layout = np.dtype(fields)
    if len(content) - start < count * layout.itemsize:
        raise InputError(source, f"ends before its {count} Gaussians", "write the file again")
    table = np.frombuffer(content, layout, count, start)
    missing = [name for name in names if name not in (layout.names or ())]
    if missing:
        raise InputError(source, f"has no property {missing[0]}", "it is not a Gaussian cloud")
    return {name: table[name] for name in names}


def _header(source: Path, content: bytes) -> tuple[int, list[tuple[str, str]], int]:
    """The number of vertices, their fields, and where the data begin."""
    marker = content.find(b"end_header", 0, _LONGEST_HEADER)
    line_end = content.find(b"\n", marker)
    if not content.startswith(b"ply") or marker < 0 or line_end < 0:
        raise InputError(source, "is not a PLY file")
    lines = content[:marker].decode("ascii", "replace").splitlines()
    if "format binary_little_endian 1.0" not in [line.strip() for line in lines]:
        raise InputError(source, "is not a binary little-endian PLY", "convert it")
    count = -1
    fields: list[tuple[str, str]] = []
    for words in (line.split() for line in lines):
        if words[:1] == ["element"]:
            if count >= 0:
                break  # the vertices come first; faces and the like do not matter
            if words[1:2] != ["vertex"] or len(words) != 3 or not words[2].isdigit():
                raise InputError(source, "does not begin with an element vertex")
            count = int(words[2])
        elif words[:1] == ["property"]:
            if len(words) != 3 or words[1] not in _TYPES:
                raise InputError(source, f"has a property of unknown type: {' '.join(words[1:])}")
            fields.append((words[2], _TYPES[words[1]]))
    if count < 0 or len({name for name, _ in fields}) != len(fields):
        raise InputError(source, "has no vertices, or two properties of one name")
    return count, fields, line_end + 1
