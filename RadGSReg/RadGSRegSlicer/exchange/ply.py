"""Reading the Gaussians' file without the pipeline (binary little endian PLY, scalar vertices)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from RadGSRegLib.errors import InputError

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "<i2", "int16": "<i2", "ushort": "<u2", "uint16": "<u2",
    "int": "<i4", "int32": "<i4", "uint": "<u4", "uint32": "<u4",
    "float": "<f4", "float32": "<f4", "double": "<f8", "float64": "<f8",
}  # fmt: skip
_END = b"end_header\n"


def readVertices(path: str | os.PathLike[str]) -> dict[str, NDArray[np.float64]]:
    """The columns (N,) of the ``vertex`` element, by property name.

    Raises InputError where the file is not a binary little endian PLY that begins with vertices of
    scalar properties, or is cut short.
    """
    data = Path(path).read_bytes()
    end = data.find(_END)
    if not data.startswith(b"ply") or end < 0:
        raise InputError(path, "is not a PLY file")
    count = -1
    fields: list[tuple[str, str]] = []
    little = False
    inVertex = False
    for line in data[:end].decode("ascii", errors="replace").splitlines()[1:]:
        words = line.split()
        if words[:1] == ["format"]:
            little = words[1] == "binary_little_endian"
        elif words[:1] == ["element"]:
            inVertex = words[1] == "vertex" and count < 0
            if not inVertex and count < 0:
                raise InputError(path, f"its first element is '{words[1]}', not vertices")
            if inVertex:
                count = int(words[2])
        elif words[:1] == ["property"] and inVertex:
            if words[1] not in _TYPES:
                raise InputError(path, f"property '{words[-1]}' is not a number")
            fields.append((words[2], _TYPES[words[1]]))
    if not little or count < 0 or not fields:
        raise InputError(path, "is not a binary little endian PLY with vertices")
    kind: Any = np.dtype(fields)
    start = end + len(_END)
    if len(data) - start < count * kind.itemsize:
        raise InputError(path, "is cut short")
    rows = np.frombuffer(data, kind, count, start)
    return {name: rows[name].astype(float) for name, _ in fields}
