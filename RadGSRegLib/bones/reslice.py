"""A volume on a grid along a bone's own axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from ..errors import InputError
from ..geometry import Volume, is_rigid


def resliced(
    volume: Volume,
    axes_to_world: ArrayLike,
    size_mm: ArrayLike,
    spacing_mm: ArrayLike,
    *,
    outside: float = 0.0,
) -> Volume:
    """Resample a volume on a grid along a bone's axes, so that its slices are the bone's own.

    Args:
        volume: world frame.
        axes_to_world: (4, 4) rigid, as `bone_axes` gives it; its origin becomes the grid's middle.
        size_mm: the grid's edges, one number or (3,) mm along the axes (left, back, up).
        spacing_mm: its voxels, one number or (3,) mm.
        outside: the value beyond the volume.

    Returns:
        float32, trilinear, where it is in the world: axial slices along k, coronal ones along j,
        sagittal ones along i.

    Raises:
        InputError: for a matrix that is not rigid and for sizes that are not above 0.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.bones import bone_axes, resliced
        >>> target = case.labels.with_array(case.labels.array == case.label)
        >>> slices = resliced(case.ct, bone_axes(target), 100.0, 1.0, outside=-1024.0)
        >>> slices.size
        (100, 100, 100)
    """
    matrix = np.asarray(axes_to_world, dtype=float)
    if not is_rigid(matrix):
        raise InputError("the axes", "are not a rigid transform")
    size = np.broadcast_to(np.asarray(size_mm, dtype=float), (3,))
    spacing = np.broadcast_to(np.asarray(spacing_mm, dtype=float), (3,))
    for what, values in (("size", size), ("spacing", spacing)):
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise InputError(f"a {what}", f"of {values.tolist()} mm is not above 0")
    count = np.maximum(np.rint(size / spacing).astype(int), 1)
    grid_to_axes = np.diag([*spacing, 1.0])
    grid_to_axes[:3, 3] = -0.5 * (count - 1) * spacing
    index_to_world = matrix @ grid_to_axes
    index_to_index = volume.physical_to_index @ index_to_world
    array = ndimage.affine_transform(
        np.asarray(volume.array, dtype=np.float32),
        index_to_index[:3, :3][::-1, ::-1],
        offset=index_to_index[:3, 3][::-1],
        output_shape=tuple(int(n) for n in count[::-1]),
        order=1,
        mode="constant",
        cval=outside,
    )
    return Volume(array, index_to_world)
