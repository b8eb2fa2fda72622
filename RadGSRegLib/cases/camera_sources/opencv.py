"""A calibration in a file of OpenCV's FileStorage: YAML or JSON.

OpenCV fixes how a matrix is stored (``!!opencv-matrix`` with rows, cols, dt and data), not what
programs call it: known here are the names of its samples and what people write. Its model is this
project's: x right, y down, z from the source to the picture, pixel centres at integers, (0, 0) the
first pixel, ``R`` and ``T`` from the world to the camera; ``R`` may be a rotation vector
(Rodrigues). FileStorage's first line, ``%YAML:1.0``, is none that YAML knows and is left out.

The ``R`` and ``T`` of a stereo calibration lead from the first camera to the second one, so files
with its other names are refused. The unit is that of the calibration's target.
"""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ...errors import InputError
from ...geometry import Array
from .. import bounds
from ..projection_matrix import camera_from_projection
from .calibration import DETAILS, Calibration, calibrated, calibration_text
from .door import SourcedCamera, ViewEntry

# By what is meant: names without case, "_" and "-".
_NAMES = {
    "camera matrix": ("cameramatrix", "k", "intrinsic", "intrinsics", "intrinsicmatrix", "mtx"),
    "distortion": ("distortioncoefficients", "distortion", "distcoeffs", "dist", "d"),
    "rotation": ("r", "rotation", "rotationmatrix", "rvec", "rotationvector"),
    "translation": ("t", "translation", "translationvector", "tvec"),
    "projection": ("p", "projection", "projectionmatrix"),
    "width": ("imagewidth", "width"),
    "height": ("imageheight", "height"),
}
_STEREO = {"m1", "m2", "d1", "d2", "r1", "r2", "p1", "p2", "q", "cameramatrix1", "cameramatrix2"}


def _nodes(text: str, path: Path) -> dict[str, Any]:
    """The top level of the file by plain names; every scalar is a text."""
    import yaml

    first, _, rest = text.partition("\n")
    try:
        nodes = yaml.load(rest if first.startswith("%YAML") else text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(path, "is no YAML or JSON of OpenCV's FileStorage") from error
    if not isinstance(nodes, dict):
        raise InputError(path, "is no YAML or JSON of OpenCV's FileStorage")
    out = {}
    for name, value in nodes.items():
        plain = str(name).lower().replace("_", "").replace("-", "")
        if plain in out:
            raise InputError(path, f'holds "{name}" twice')
        out[plain] = value
    return out


def _matrix(node: Any, path: Path, what: str) -> Array:
    """A matrix (rows, columns) of a node: OpenCV's, a nested list, or one number."""
    shape: tuple[int, ...] | None = None
    try:
        if isinstance(node, dict):
            shape = int(node["rows"]), int(node["cols"])
            node = node["data"]
        out = np.array(node, dtype=float)
        out = out.reshape(shape) if shape else np.atleast_2d(out)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(path, f"holds no matrix of numbers as {what}") from error
    if not np.isfinite(out).all():
        raise InputError(path, f"holds a number that is not finite in its {what}")
    return out


def read_opencv(text: str, path: Path) -> dict[str, Array]:
    """The matrices of a file by what they mean: those of `_NAMES` that it holds.

    Raises InputError where the file is of a stereo or a fisheye calibration, and for two names of
    one meaning.
    """
    nodes = _nodes(text, path)
    stereo = sorted(_STEREO & set(nodes))
    if stereo:
        raise InputError(
            path,
            f"is of a stereo calibration (it holds {', '.join(stereo).upper()})",
            "write one file per view, with R and T from the world to its camera",
        )
    if str(nodes.get("fisheyemodel", "0")) not in ("0", "false"):
        raise InputError(path, "is of a fisheye model, which no X-ray has")
    out = {}
    for what, names in _NAMES.items():
        named = [name for name in names if name in nodes]
        if len(named) > 1:
            raise InputError(path, f"holds the {what} twice ({' and '.join(named)})")
        if named:
            out[what] = _matrix(nodes[named[0]], path, what)
    if "extrinsicparameters" in nodes and "rotation" not in out and "projection" not in out:
        raise InputError(
            path,
            "holds the poses of a target in many pictures (extrinsic_parameters)",
            "write R and T of the one that is the world",
        )
    return out


def calibration_of(parts: dict[str, Array], size: tuple[int, int], path: Path) -> Calibration:
    """The calibration of a file's matrices, for pictures of ``size`` (columns, rows).

    K, R and T are taken where they are there, else the projection; both have to agree. Raises
    InputError where neither is whole.
    """
    distortion = tuple(parts.get("distortion", np.zeros(0)).ravel())
    if "width" in parts and "height" in parts:
        size = int(parts["width"].item(0)), int(parts["height"].item(0))
    projected = None
    if "projection" in parts:
        try:
            camera = camera_from_projection(parts["projection"], *size)
        except ValueError as error:
            raise InputError(path, str(error)) from error
        pose = camera.world_to_camera
        projected = Calibration(camera.intrinsic, pose[:3, :3], pose[:3, 3], size, distortion)
    whole = {"camera matrix", "rotation", "translation"}
    missing = sorted(whole - set(parts))
    if missing and projected is not None:
        k = parts.get("camera matrix")
        if k is not None and not _alike(k, projected.intrinsic):
            raise _contradiction(path)
        return projected
    if missing:
        raise InputError(
            path,
            f"holds no {' and no '.join(missing)}",
            "camera_matrix, R and T (world to camera), or a projection (3x4), are needed",
        )
    rotation = parts["rotation"]
    if rotation.size == 3:
        rotation = Rotation.from_rotvec(rotation.ravel()).as_matrix()
    k, translation = parts["camera matrix"], parts["translation"]
    if k.shape != (3, 3) or rotation.shape != (3, 3) or translation.size != 3:
        raise InputError(path, "must hold a camera matrix 3x3, R 3x3 or 3x1, and T 3x1")
    translation = translation.ravel()
    if projected is not None:
        given = np.column_stack([k @ rotation, k @ translation])
        if not _alike(given, parts["projection"]):
            raise _contradiction(path)
    return Calibration(k, rotation, translation, size, distortion)


def _alike(a: Array, b: Array) -> bool:
    """Whether two projective matrices are the same up to scale and sign."""
    if a.shape != b.shape or not (a[2, :3].any() and b[2, :3].any()):
        return False
    a, b = (m / np.linalg.norm(m[2, :3]) for m in (a, b))
    b = b * np.sign(a[2, :3] @ b[2, :3])
    parts = ((a[:, :3], b[:, :3]), (a[:, 3:], b[:, 3:]))
    return all(
        np.abs(x - y).max(initial=0) <= bounds.SKEW * np.abs(x).max(initial=0) for x, y in parts
    )


def _contradiction(path: Path) -> InputError:
    return InputError(
        path,
        "contradicts itself: its projection is not its camera matrix, R and T",
        "keep the one that is right",
    )


class OpenCv:
    """``opencv``: the path of a YAML or JSON file of OpenCV's FileStorage."""

    name = "opencv"
    keys: tuple[str, ...] = ("opencv",)
    details: tuple[str, ...] = DETAILS

    def camera(self, entry: ViewEntry) -> SourcedCamera:
        """Read the file's matrices."""
        path, text = calibration_text(entry, "opencv")
        parts = read_opencv(text, path)
        return calibrated(entry, calibration_of(parts, (entry.columns, entry.rows), path), path)
