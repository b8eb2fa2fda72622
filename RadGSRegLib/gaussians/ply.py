"""Clouds as PLY files: binary little endian, one vertex per Gaussian.

Properties, all float32: x y z (mm), scale_0..2 (standard deviations, mm), rot_0..3 (quaternion w,
x, y, z), density (1/mm). The frame is the caller's; results of this project are in world mm (LPS).
"""

import contextlib
import os
from pathlib import Path

import numpy as np
import torch

from ..cases import read_vertices
from ..errors import InputError
from .cloud import GaussianCloud

_NAMES = ("x", "y", "z", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3")
PROPERTIES = (*_NAMES, "density")


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
    columns = read_vertices(source, PROPERTIES)
    values = np.column_stack([columns[name].astype(np.float32) for name in PROPERTIES])
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
