"""Shapes as masks, and how well they agree with a label map's: the overlap."""

import numpy as np
from numpy.typing import ArrayLike

from ..geometry import Volume
from .volume import resample


def dice(a: ArrayLike, b: ArrayLike) -> float:
    """Return the Dice coefficient of two masks of one shape: 1 the same, 0 apart (and where both
    are empty). Raises ValueError where the shapes differ.

    Example:
        >>> from RadGSRegLib.measures import dice
        >>> dice([True, True, False], [True, False, False])
        0.6666666666666666
    """
    x, y = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if x.shape != y.shape:
        raise ValueError(f"masks differ in shape: {x.shape}, {y.shape}")
    return 2.0 * float((x & y).sum()) / max(float(x.sum() + y.sum()), 1.0)


def mask_like(inside: Volume, like: Volume) -> Volume:
    """Return 1 (uint8) where a voxel of ``like`` is inside of a shape, else 0; ``inside``: how much
    of each voxel is, [0, 1], both in one frame."""
    shown = resample(inside, like, np.eye(4))
    return like.with_array((shown > 0.5).astype(np.uint8))


def mask_ml(mask: Volume) -> float:
    """Return the volume of a mask, ml."""
    return (
        float(np.count_nonzero(mask.array))
        * abs(float(np.linalg.det(mask.index_to_physical)))
        / 1000.0
    )


def shape_dice(inside: Volume, labels: Volume, label: int, ct_to_world: ArrayLike) -> float:
    """Return the Dice coefficient of a shape and a CT's vertebra at its true pose, on the label's
    grid (the contract's).

    Args:
        inside: how much of each voxel is inside of the shape, [0, 1], world frame.
        labels: the CT's label map.
        label: the vertebra's value in it.
        ct_to_world: (4, 4), the true pose.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.measures import shape_dice
        >>> mask = (np.asarray(case.labels.array) == case.label).astype(np.float32)
        >>> shape_dice(case.labels.with_array(mask), case.labels, case.label, np.eye(4))
        1.0
    """
    shown = resample(inside, labels, np.asarray(ct_to_world, dtype=float))
    return dice(shown > 0.5, np.asarray(labels.array) == label)
