"""A calibrated X-ray view as a pinhole camera.

Camera axes are OpenCV's: x right (columns), y down (rows), z from the X-ray source through the
detector. Pixel centres lie at integers, (0, 0) is the first pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array
from .pose import invert_rigid, transform_points


def inverse_intrinsic(intrinsic: ArrayLike) -> Array:
    """K^-1 (3, 3), float64, for K scaled to K[2, 2] = 1.

    Raises ValueError unless K is a finite (3, 3) with the last row (0, 0, K22) and invertible.
    """
    k = np.asarray(intrinsic, dtype=np.float64)
    if k.shape != (3, 3) or not np.isfinite(k).all():
        raise ValueError("an intrinsic is a finite 3x3 matrix")
    if k[2, 0] != 0.0 or k[2, 1] != 0.0 or k[2, 2] == 0.0 or np.linalg.det(k) == 0.0:
        raise ValueError("an intrinsic is invertible and has the last row (0, 0, 1)")
    inverse = np.linalg.inv(k / k[2, 2])
    inverse[2] = (0.0, 0.0, 1.0)
    return np.asarray(inverse)


def pinhole(focal_px: tuple[float, float], principal_point: ArrayLike) -> Array:
    """The intrinsic (3, 3) of straight pixels; both (column, row) in pixels."""
    (fx, fy), (cx, cy) = focal_px, np.asarray(principal_point, dtype=float)
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def intrinsic_problem(intrinsic: ArrayLike) -> str:
    """Say what keeps a matrix from being an intrinsic (3, 3); empty if nothing does."""
    k = np.asarray(intrinsic, dtype=float)
    if k.shape != (3, 3) or not np.isfinite(k).all():
        return "must be a finite 3 x 3 matrix"
    if np.abs(k[[1, 2, 2], [0, 0, 1]]).max() > 1e-9 or abs(k[2, 2] - 1) > 1e-9:
        return "must be upper triangular with the last row 0 0 1"
    if min(abs(k[0, 0]), abs(k[1, 1])) < 1e-6:
        return "is singular: a focal length is zero"
    return ""


@dataclass(frozen=True)
class Camera:
    """Describe a calibrated X-ray view as a pinhole camera, in the convention of this module.

    Args:
        intrinsic: (3, 3) in pixels; a mirrored image has a negative first focal length.
        world_to_camera: (4, 4) rigid, mm.
        columns: of the image.
        rows: of the image.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.geometry import Camera
        >>> intrinsic = [[2000.0, 0.0, 127.5], [0.0, 2000.0, 127.5], [0.0, 0.0, 1.0]]
        >>> to_camera = np.eye(4)
        >>> to_camera[2, 3] = 700.0  # the world's origin lies 700 mm from the source
        >>> camera = Camera(intrinsic, to_camera, 256, 256)
        >>> camera.project([[0.0, 0.0, 0.0], [7.0, 0.0, 0.0]])
        array([[127.5, 127.5],
               [147.5, 127.5]])
        >>> camera.source_world
        array([   0.,    0., -700.])
    """

    intrinsic: Array
    world_to_camera: Array
    columns: int
    rows: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "intrinsic", np.asarray(self.intrinsic, dtype=float))
        object.__setattr__(self, "world_to_camera", np.asarray(self.world_to_camera, dtype=float))

    @property
    def size(self) -> tuple[int, int]:
        """(columns, rows)."""
        return self.columns, self.rows

    @property
    def focal_px(self) -> float:
        """The focal length in pixels, the geometric mean of the two axes'."""
        return float(np.sqrt(abs(np.linalg.det(self.intrinsic[:2, :2]))))

    @property
    def camera_to_world(self) -> Array:
        """The inverse of ``world_to_camera`` (4, 4)."""
        return invert_rigid(self.world_to_camera)

    @property
    def projection(self) -> Array:
        """The projection matrix (3, 4): world mm to homogeneous pixels."""
        return np.asarray(self.intrinsic @ self.world_to_camera[:3])

    @property
    def source_world(self) -> Array:
        """Where the X-ray source is, world mm (3,)."""
        return np.asarray(self.camera_to_world[:3, 3])

    @property
    def view_direction_world(self) -> Array:
        """Unit vector (3,) along the camera's z axis, from the source to the detector."""
        return np.asarray(self.world_to_camera[2, :3])

    def project(self, points_world: ArrayLike) -> Array:
        """Pixels (N, 2) = (column, row) of points (N, 3) in world mm."""
        in_camera = transform_points(self.world_to_camera, points_world)
        homogeneous = in_camera @ self.intrinsic.T
        return np.asarray(homogeneous[:, :2] / homogeneous[:, 2:3])

    def ray_directions(self, pixels: ArrayLike) -> Array:
        """Unit directions (N, 3), world, of the rays from the source through pixels (N, 2)."""
        uv = np.asarray(pixels, dtype=float)
        in_camera = np.linalg.solve(self.intrinsic, np.column_stack([uv, np.ones(len(uv))]).T).T
        in_camera /= np.linalg.norm(in_camera, axis=1, keepdims=True)
        return np.asarray(in_camera @ self.world_to_camera[:3, :3])

    def window(
        self, column: float, row: float, columns: int, rows: int, step: float = 1.0
    ) -> Camera:
        """The camera of a resampled window of this image.

        The window's pixel (0, 0) lies at (``column``, ``row``) of this image, and each of its
        pixels is ``step`` pixels of this image wide.
        """
        to_window = np.array(
            [[1.0 / step, 0.0, -column / step], [0.0, 1.0 / step, -row / step], [0.0, 0.0, 1.0]]
        )
        return Camera(to_window @ self.intrinsic, self.world_to_camera, columns, rows)


def triangulate(cameras: list[Camera], pixels: ArrayLike) -> tuple[Array, float]:
    """The world point (3,) mm nearest to the rays through one pixel per camera.

    ``pixels`` (N, 2), one row per camera. Returns the point and the root mean square of its
    distances to the rays (mm). Raises ValueError for fewer than two cameras or parallel rays.
    """
    uv = np.asarray(pixels, dtype=float)
    if len(cameras) < 2 or len(cameras) != len(uv):
        raise ValueError("triangulation needs one pixel in each of at least two views")
    normal = np.zeros((3, 3))
    right = np.zeros(3)
    projectors = []
    for camera, pixel in zip(cameras, uv, strict=True):
        direction = camera.ray_directions(pixel[None])[0]
        projector = np.eye(3) - np.outer(direction, direction)
        projectors.append((projector, camera.source_world))
        normal += projector
        right += projector @ camera.source_world
    if np.linalg.cond(normal) > 1e6:
        raise ValueError("the views are parallel: their rays fix no point")
    point = np.linalg.solve(normal, right)
    distances = [np.linalg.norm(p @ (point - source)) for p, source in projectors]
    return np.asarray(point, dtype=float), float(np.sqrt(np.mean(np.square(distances))))
