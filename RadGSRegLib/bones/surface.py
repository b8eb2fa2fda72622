"""The surface of a bone as triangles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import InputError
from ..geometry import Array, Volume


@dataclass(frozen=True)
class Mesh:
    """Hold a surface of triangles.

    Args:
        points_world: (N, 3) mm.
        triangles: (M, 3), three points each, counter-clockwise as seen from outside.
    """

    points_world: Array
    triangles: NDArray[np.int64]

    @property
    def enclosed_ml(self) -> float:
        """The volume inside, ml, where the surface is closed (divergence theorem)."""
        a, b, c = np.moveaxis(self.points_world[self.triangles], 1, 0)
        return float(np.einsum("ij,ij->", a, np.cross(b, c))) / 6000.0


def bone_surface(volume: Volume, threshold: float, mask: Volume | None = None) -> Mesh:
    """Find the surface on which a volume has the value of a threshold: marching cubes (Lewiner's).

    It is closed also where the bone goes on beyond the grid or the box of the mask.

    Args:
        volume: bright inside, world frame.
        threshold: in the volume's unit.
        mask: on the same grid, not 0 in the piece that is wanted, as `bone_mask` gives it; what is
            bright elsewhere is left out.

    Returns:
        The surface, its triangles counter-clockwise as seen from outside.

    Raises:
        InputError: where nothing is above the threshold, the mask is on another grid, or
            scikit-image is not installed.

    Example:
        >>> from RadGSRegLib.bones import bone_mask, bone_surface
        >>> bone = bone_mask(case.ct, threshold=200.0)
        >>> mesh = bone_surface(case.ct, bone.threshold, bone.mask)
        >>> bool(abs(mesh.enclosed_ml / bone.volume_ml - 1.0) < 0.1)
        True
    """
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise InputError("a surface", "needs the package scikit-image", "install it") from error

    values = np.asarray(volume.array, dtype=np.float32)
    lowest = min(float(values.min()), 2.0 * threshold - float(values.max()))
    if mask is not None:
        if mask.array.shape != values.shape or not np.allclose(
            mask.index_to_physical, volume.index_to_physical, atol=1e-4
        ):
            raise InputError("the mask", "is not on the grid of the volume")
        chosen = np.asarray(mask.array) != 0
        values = np.where((values > threshold) & ~chosen, np.float32(lowest), values)
    bright = values > threshold
    if not bright.any():
        raise InputError(
            "the volume", f"has no surface at {threshold:.4g}", "choose a lower threshold"
        )
    box = ndimage.find_objects(bright.astype(np.uint8))[0]
    start = np.array([max(0, s.start - 1) for s in box])
    part = values[tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)]
    # A voxel of nothing around it closes the surface where bone goes on.
    part = np.pad(part, 1, constant_values=lowest)
    kji, triangles, _, _ = marching_cubes(part, threshold, allow_degenerate=False)
    ijk = (kji.astype(float) + start - 1.0)[:, ::-1]
    triangles = triangles.astype(np.int64)
    # In (i, j, k) they face outwards; a mirrored grid turns them round.
    if np.linalg.det(volume.index_to_physical[:3, :3]) < 0:
        triangles = triangles[:, ::-1]
    return Mesh(volume.physical_points(ijk), np.ascontiguousarray(triangles))
