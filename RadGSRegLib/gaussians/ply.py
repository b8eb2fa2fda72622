"""Clouds as PLY files: binary little endian, one vertex per Gaussian.

Properties, all float32: x y z (mm), scale_0..2 (standard deviations, mm), rot_0..3 (quaternion w,
x, y, z), density (1/mm). The frame is the caller's; results of this project are in world mm (LPS).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from .cloud import GaussianCloud

_NAMES = ("x", "y", "z", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3")
PROPERTIES = (*_NAMES, "density")
_TYPES = {
    "char": "i1",
    "int8": "i1",
    "uchar": "u1",
    "uint8": "u1",
    "short": "<i2",
    "int16": "<i2",
    "ushort": "<u2",
    "uint16": "<u2",
    "int": "<i4",
    "int32": "<i4",
    "uint": "<u4",
    "uint32": "<u4",
    "float": "<f4",
    "float32": "<f4",
    "double": "<f8",
    "float64": "<f8",
}
_LONGEST_HEADER = 65536


def write_ply(path: str | os.PathLike[str], cloud: GaussianCloud) -> None:
    """Write a cloud, whole or not at all. Raises InputError where the file cannot be written."""
    target = Path(path)
    columns = [tensor.detach().cpu().float().numpy() for tensor in cloud.tensors]
    table = np.column_stack(columns).astype("<f4")
    header = ["ply", "format binary_little_endian 1.0", "comment radiative Gaussians, mm and 1/mm"]
    header += [f"element vertex {len(cloud)}"]
    header += [f"property float {name}" for name in PROPERTIES]
    header += ["end_header", ""]
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes("\n".join(header).encode("ascii") + table.tobytes())
        temporary.replace(target)
    except OSError as error:
        problem = f"cannot be written ({error.strerror or error})"
        raise InputError(target, problem, "choose another folder") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_ply(path: str | os.PathLike[str]) -> GaussianCloud:
    """Read a cloud (float32, CPU); properties may come in any order and beside others.

    Raises InputError for a file that is missing, not binary little-endian PLY, too short, lacks a
    property, or holds numbers no Gaussian can have.
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
    missing = [name for name in PROPERTIES if name not in (layout.names or ())]
    if missing:
        raise InputError(source, f"has no property {missing[0]}", "it is not a Gaussian cloud")
    values = np.column_stack([table[name].astype(np.float32) for name in PROPERTIES])
    if not np.isfinite(values).all():
        raise InputError(source, "holds numbers that are not finite")
    if (values[:, 3:6] <= 0).any():
        raise InputError(source, "holds a Gaussian without extent", "scales are mm above 0")
    if (values[:, 10] < 0).any():
        raise InputError(source, "holds a negative density", "densities are 1/mm, at least 0")
    if (np.abs(values[:, 6:10]).max(1, initial=0.0) == 0).any():
        raise InputError(source, "holds a quaternion of zeros")
    tensor = torch.from_numpy(values)
    parts = (tensor[:, :3], tensor[:, 3:6], tensor[:, 6:10], tensor[:, 10])
    return GaussianCloud(*(part.contiguous() for part in parts))


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
