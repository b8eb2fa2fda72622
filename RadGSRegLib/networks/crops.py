"""The virtual cameras through which networks see X-rays (math.md section 3, "Decided").

Every view is resampled to a virtual camera that shares the view's source, looks at one point, the
middle of a cubic box, with pixels of one size there, and holds the box's z axis upright. The box's
axes follow the viewing directions. So a network never meets the absolute pose of a C-arm: frames
are named *box*, and `Frame.box_to_world` leads back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..geometry import Array, Camera, invert_rigid

SIZE_PX = 128
PIXEL_MM = 1.0
BOX_MM = 128.0

# A direction nearer than this to one of the reference's axes stands for that axis.
_SNAP_DEG = 40.0


@dataclass(frozen=True)
class Frame:
    """Where the box is, and the virtual cameras on it.

    ``box_to_world`` (4, 4) rigid, its origin the middle of the box; ``cameras`` map the box's frame
    to pixels (their ``world_to_camera`` is box_to_camera).
    """

    box_to_world: Array
    cameras: tuple[Camera, ...]

    def cameras_world(self) -> tuple[Camera, ...]:
        """Return the virtual cameras in the world, where they share the views' sources."""
        world_to_box = invert_rigid(self.box_to_world)
        return tuple(
            replace(camera, world_to_camera=camera.world_to_camera @ world_to_box)
            for camera in self.cameras
        )

    def intrinsics(self) -> Tensor:
        """Return them as (V, 3, 3) float32."""
        return torch.from_numpy(np.stack([c.intrinsic for c in self.cameras])).float()

    def extrinsics(self) -> Tensor:
        """Return box_to_camera (V, 4, 4) float32."""
        return torch.from_numpy(np.stack([c.world_to_camera for c in self.cameras])).float()


def box_axes(directions_world: ArrayLike, reference: ArrayLike | None = None) -> Array:
    """Return the rotation (3, 3) from box to world axes that the viewing directions (V, 3) give.

    ``reference`` (3, 3): a rough guess of that rotation, off by tens of degrees at most (world axes
    unless given). A view that looks nearly along one of its x or y axes is taken to look along
    exactly that axis of the box, any other view along its own direction there; the rotation nearest
    to all views is chosen (Kabsch). Raises ValueError for parallel views.
    """
    directions = np.asarray(directions_world, dtype=float)
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    if len(directions) < 2 or np.linalg.svd(directions)[1][1] < 1e-2:
        raise ValueError("the views are parallel")
    rough = np.eye(3) if reference is None else np.asarray(reference, dtype=float)
    wanted = directions @ rough
    for row in wanted:
        axis = int(np.argmax(np.abs(row[:2])))
        if abs(row[axis]) > np.cos(np.radians(_SNAP_DEG)):
            sign = np.sign(row[axis])
            row[:] = 0.0
            row[axis] = sign
    return np.asarray(Rotation.align_vectors(directions, wanted)[0].as_matrix())


def virtual_camera(
    camera: Camera,
    box_to_world: ArrayLike,
    *,
    size_px: int = SIZE_PX,
    pixel_mm: float = PIXEL_MM,
) -> Camera:
    """Make a camera in the box's frame with the same source that looks at the box's middle.

    Its image is upright (the box's z axis runs up) and ``pixel_mm`` wide per pixel at the middle.
    Raises ValueError where the source lies on the box's z axis, or in the middle.
    """
    source = invert_rigid(box_to_world) @ np.append(camera.source_world, 1.0)
    depth = float(np.linalg.norm(source[:3]))
    if depth < 1.0:
        raise ValueError("the X-ray source lies in the middle of the box")
    forward = -source[:3] / depth
    right = np.cross(forward, [0.0, 0.0, 1.0])
    if np.linalg.norm(right) < 0.1:
        raise ValueError("a view looks along the spine")
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    pose[2, 3] = depth
    middle = (size_px - 1) / 2.0
    focal = depth / pixel_mm
    intrinsic = np.array([[focal, 0.0, middle], [0.0, focal, middle], [0.0, 0.0, 1.0]])
    return Camera(intrinsic, pose, size_px, size_px)


def make_frame(
    cameras: Sequence[Camera],
    centre_world: ArrayLike,
    reference: ArrayLike | None = None,
    *,
    size_px: int = SIZE_PX,
    pixel_mm: float = PIXEL_MM,
) -> Frame:
    """Make the box around ``centre_world`` (3,) mm and its virtual cameras; see `box_axes`."""
    box_to_world = np.eye(4)
    centre = np.asarray(centre_world, dtype=float)
    directions = np.stack([centre - c.source_world for c in cameras])
    box_to_world[:3, :3] = box_axes(directions, reference)
    box_to_world[:3, 3] = centre
    return Frame(
        box_to_world,
        tuple(virtual_camera(c, box_to_world, size_px=size_px, pixel_mm=pixel_mm) for c in cameras),
    )
