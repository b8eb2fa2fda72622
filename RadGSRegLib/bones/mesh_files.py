"""Surfaces as files: STL, PLY and OBJ.

Slicer's models know their frame by ``SPACE=LPS`` in the header of an STL file and in a comment of
a PLY or OBJ file (vtkMRMLModelStorageNode); without it the user's choice decides.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..cases import output_file
from ..choices import MESH_FORMATS
from ..errors import InputError
from .surface import Mesh

_SAYS = "SPACE=LPS UNIT=mm, radgsreg"


def write_mesh(path: str | os.PathLike[str], mesh: Mesh) -> None:
    """Write a surface, whole or not at all; the suffix says how.

    ``.stl`` is binary, ``.ply`` binary little endian, ``.obj`` text; coordinates are mm in LPS, and
    each file says so where Slicer looks for it.

    Args:
        path: ends in .stl, .ply or .obj.
        mesh: the surface, in the frame that the file is to have.

    Raises:
        InputError: for another suffix, and where the file cannot be written.

    Returns:
        None.

    Example:
        >>> import numpy as np
        >>> from pathlib import Path
        >>> from RadGSRegLib.bones import Mesh, write_mesh
        >>> corner = Mesh(np.eye(3), np.array([[0, 1, 2]]))
        >>> write_mesh(Path(folder) / "corner.stl", corner)
    """
    target = Path(path)
    kind = target.suffix.lower().removeprefix(".")
    if kind not in MESH_FORMATS:
        raise InputError(target, "is no .stl, .ply or .obj", "choose one of these suffixes")
    content = {"stl": _stl, "ply": _ply, "obj": _obj}[kind](mesh)
    with output_file(target) as part:
        part.write_bytes(content)


def _stl(mesh: Mesh) -> bytes:
    corners = mesh.points_world[mesh.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    layout = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("rest", "<u2")])
    table = np.zeros(len(corners), layout)
    table["normal"], table["corners"] = normals, corners
    # Not "solid": a header that begins so is taken for that of a text file.
    header = _SAYS.encode("ascii").ljust(80)
    return header + len(table).to_bytes(4, "little") + table.tobytes()


def _ply(mesh: Mesh) -> bytes:
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment {_SAYS}",
        f"element vertex {len(mesh.points_world)}",
        *(f"property float {axis}" for axis in "xyz"),
        f"element face {len(mesh.triangles)}",
        "property list uchar int vertex_indices",
        "end_header",
        "",
    ]
    faces = np.zeros(len(mesh.triangles), np.dtype([("count", "u1"), ("points", "<i4", 3)]))
    faces["count"], faces["points"] = 3, mesh.triangles
    points = mesh.points_world.astype("<f4")
    return "\n".join(lines).encode("ascii") + points.tobytes() + faces.tobytes()


def _obj(mesh: Mesh) -> bytes:
    lines = [f"# {_SAYS}"]
    lines += [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in mesh.points_world]
    lines += [f"f {a} {b} {c}" for a, b, c in mesh.triangles + 1]
    return ("\n".join(lines) + "\n").encode("ascii")
