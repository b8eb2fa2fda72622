"""A camera from a 3x4 projection matrix."""

from pathlib import Path

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from ..errors import InputError
from ..geometry import Array, Camera, affine
from .json_input import existing_file


def camera_from_projection(projection: ArrayLike, columns: int, rows: int) -> Camera:
    """The camera of a matrix (3, 4), at any scale and sign, from world mm to homogeneous pixels.

    The matrix is decomposed (RQ) into an upper triangular intrinsic and a rotation, which is always
    right-handed; its sign puts the world's origin on the detector's side of the source. Where the
    image is mirrored (seen from the detector, or rows that run upwards, as in RTK), no right-handed
    camera has two positive focal lengths: then the first focal length is negative, and columns run
    against camera x.

    Raises ValueError for a matrix that is not finite or whose 3x3 part is singular (a parallel
    projection, or none).
    """
    p = np.asarray(projection, dtype=float)
    if p.shape != (3, 4) or not np.isfinite(p).all():
        raise ValueError("a projection matrix must hold 3 x 4 finite numbers")
    scale = np.linalg.norm(p[2, :3])
    if scale < 1e-12 * max(np.abs(p).max(), 1e-300):
        raise ValueError("the projection matrix has no source at a finite distance")
    p = p / scale
    singular = np.linalg.svd(
        p[:, :3] / np.linalg.norm(p[:, :3], axis=1, keepdims=True).clip(1e-300)
    )
    if singular[1][-1] < 1e-9:
        raise ValueError("the 3x3 part of the projection matrix is singular")
    depth = p[2, 3]  # of the world's origin
    if depth < -1e-9 or (abs(depth) <= 1e-9 and np.linalg.det(p[:, :3]) < 0):
        p = -p
    intrinsic, rotation = scipy.linalg.rq(p[:, :3])
    # RQ fixes neither the signs of the diagonal nor the handedness of the rotation.
    signs = np.sign(np.diag(intrinsic))
    intrinsic, rotation = intrinsic * signs, signs[:, None] * rotation
    if np.linalg.det(rotation) < 0:
        flip = np.array([-1.0, 1.0, 1.0])
        intrinsic, rotation = intrinsic * flip, flip[:, None] * rotation
    world_to_camera = affine(rotation, np.linalg.solve(intrinsic, p[:, 3]))
    intrinsic = intrinsic / intrinsic[2, 2]
    intrinsic[np.tril_indices(3, -1)] = 0.0
    return Camera(intrinsic, world_to_camera, columns, rows)


def read_projection_matrix(path: Path) -> Array:
    """A 3x4 matrix from a text file of 12 numbers (spaces, commas or lines between them)."""
    existing_file(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = [line.split("#", 1)[0] for line in text.splitlines()]
        words = " ".join(lines).translate(str.maketrans(",;[]", "    ")).split()
        numbers = np.array([float(word) for word in words])
    except (UnicodeDecodeError, ValueError) as error:
        raise InputError(path, "is not a text file of 12 numbers (a 3x4 matrix)") from error
    if numbers.size != 12 or not np.isfinite(numbers).all():
        raise InputError(
            path, f"must hold 12 finite numbers (a 3x4 matrix), but holds {numbers.size}"
        )
    return numbers.reshape(3, 4)
