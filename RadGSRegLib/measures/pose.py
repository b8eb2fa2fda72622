"""How good poses are: mTRE, success rates, capture range, silent failures and false alarms.

The definitions are those of the outside contract, section "Metrics".
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..geometry import (
    Array,
    Volume,
    invert_rigid,
    rotation_angle_deg,
    surface_points,
    transform_points,
)

SUCCESS_MM = 2.0
SUBMILLIMETRE_MM = 1.0
CAPTURE_BIN_MM = 5.0
CAPTURE_SHARE = 0.95
# So many poses at either end of a run tell how it drifts.
DRIFT_POSES = 10


def mtre(points_ct: ArrayLike, estimated: ArrayLike, true: ArrayLike) -> float:
    """Return the mean target registration error: the mean of |T_est p - T_true p| over points.

    Args:
        points_ct: (N, 3) mm, on the vertebra's surface (at least 1,000 in the contract).
        estimated: (4, 4), ct_to_world.
        true: (4, 4), ct_to_world.

    Returns:
        The error, mm.

    Raises:
        ValueError: for points of another shape, or none.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.measures import mtre
        >>> estimated = np.eye(4)
        >>> estimated[:3, 3] = [3.0, 0.0, 4.0]
        >>> mtre([[0.0, 0.0, 0.0], [10.0, 20.0, 30.0]], estimated, np.eye(4))
        5.0
    """
    return float(np.linalg.norm(_moved(points_ct, estimated, true), axis=1).mean())


def in_plane_and_depth_mm(
    points_ct: ArrayLike,
    ct_to_world: ArrayLike,
    true_ct_to_world: ArrayLike,
    source_world: ArrayLike,
) -> tuple[float, float]:
    """Return the in-plane and the depth error of a pose in one view: how far it displaces points on
    average across the beam, and along it.

    The beam is the line from the source to the bone's true centre, the mean of the points. Squares
    of both add up to that of a point's displacement, their means do not to that of the mTRE.

    Args:
        points_ct: (N, 3) mm, on the vertebra's surface.
        ct_to_world: (4, 4), the estimated pose.
        true_ct_to_world: (4, 4).
        source_world: (3,) mm, where the X-rays come from.

    Returns:
        The in-plane error and the depth error, mm.

    Raises:
        ValueError: for points of another shape, or none, and for a source in the bone's centre.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.measures import in_plane_and_depth_mm
        >>> estimated = np.eye(4)
        >>> estimated[:3, 3] = [3.0, 4.0, 12.0]
        >>> points = [[-10.0, 0.0, 0.0], [10.0, 0.0, 0.0]]
        >>> in_plane_and_depth_mm(points, estimated, np.eye(4), [0.0, 0.0, -700.0])
        (5.0, 12.0)
    """
    moved = _moved(points_ct, ct_to_world, true_ct_to_world)
    centre_ct = np.asarray(points_ct, dtype=float).mean(axis=0)
    centre_world = transform_points(true_ct_to_world, centre_ct[None])[0]
    beam = centre_world - np.asarray(source_world, dtype=float)
    length = float(np.linalg.norm(beam))
    if not length > 0.0:
        raise ValueError("the source lies in the bone's centre")
    beam /= length
    along = moved @ beam
    across = moved - along[:, None] * beam
    return float(np.linalg.norm(across, axis=1).mean()), float(np.abs(along).mean())


def drift_mm(
    points_ct: ArrayLike, estimated: Sequence[ArrayLike], true: Sequence[ArrayLike]
) -> float:
    """Return how far the poses of a run drift from the truth: the length of the surface's mean
    displacement over the last ten poses less that over the first ten, mm.

    ``points_ct`` (N, 3) mm; ``estimated`` and ``true``: (4, 4) of each frame that has a pose, in
    the order of time; of fewer than twenty the ends overlap. NaN where there is none. Raises
    ValueError where they are not equally many.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.measures import drift_mm
        >>> away = np.eye(4)
        >>> away[0, 3] = 0.5
        >>> drift_mm(np.zeros((1, 3)), [np.eye(4)] * 10 + [away] * 10, [np.eye(4)] * 20)
        0.5
    """
    means = [
        _moved(points_ct, pose, truth).mean(axis=0)
        for pose, truth in zip(estimated, true, strict=True)
    ]
    if not means:
        return float("nan")
    ends = np.mean(means[-DRIFT_POSES:], axis=0) - np.mean(means[:DRIFT_POSES], axis=0)
    return float(np.linalg.norm(ends))


def _moved(points_ct: ArrayLike, estimated: ArrayLike, true: ArrayLike) -> Array:
    """How far each point (N, 3) lies from where it should, (N, 3), world mm."""
    points = np.asarray(points_ct, dtype=float)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise ValueError("points_ct must have the shape (N, 3) with N >= 1")
    difference = np.asarray(estimated, dtype=float) - np.asarray(true, dtype=float)
    moved: Array = points @ difference[:3, :3].T + difference[:3, 3]
    return moved


def rotation_error_deg(estimated: ArrayLike, true: ArrayLike) -> float:
    """Return the angle between two rotations, degrees in [0, 180]."""
    return rotation_angle_deg(invert_rigid(true) @ np.asarray(estimated, dtype=float))


def centre_error_mm(centre_ct: ArrayLike, estimated: ArrayLike, true: ArrayLike) -> float:
    """Return how far apart two poses (4, 4) put the point ``centre_ct`` (3,), mm."""
    centre = np.asarray(centre_ct, dtype=float)[None]
    gap = transform_points(estimated, centre) - transform_points(true, centre)
    return float(np.linalg.norm(gap))


def success_rate(errors_mm: ArrayLike, threshold_mm: float = SUCCESS_MM) -> float:
    """Return the share of ``errors_mm`` (N,) below the threshold; NaN without any.

    SR with 2 mm, SMSR with 1 mm. An error that is not finite counts as a miss.
    """
    errors = np.asarray(errors_mm, dtype=float)
    if not errors.size:
        return float("nan")
    with np.errstate(invalid="ignore"):
        return float(np.mean(errors < threshold_mm))


def is_silent_failure(status: str, error_mm: float) -> bool:
    """Say whether a pose 2 mm or more off is called "ok": the worst the software can do."""
    return status == "ok" and not error_mm < SUCCESS_MM


def is_false_alarm(status: str, error_mm: float) -> bool:
    """Say whether a pose within 2 mm is called "uncertain" or "failed"."""
    return status in ("uncertain", "failed") and error_mm < SUCCESS_MM


def capture_bins(
    start_errors_mm: ArrayLike, errors_mm: ArrayLike
) -> list[tuple[float, float, int, float]]:
    """Sort runs into bins by the start's mTRE; (lower mm, upper mm, runs, success rate) if any."""
    starts = np.asarray(start_errors_mm, dtype=float)
    errors = np.asarray(errors_mm, dtype=float)
    if starts.shape != errors.shape:
        raise ValueError("one start error per error is needed")
    index = np.floor(starts / CAPTURE_BIN_MM).astype(int)
    return [
        (
            float(b * CAPTURE_BIN_MM),
            float((b + 1) * CAPTURE_BIN_MM),
            int(np.sum(index == b)),
            success_rate(errors[index == b]),
        )
        for b in np.unique(index)
    ]


def capture_range_mm(start_errors_mm: ArrayLike, errors_mm: ArrayLike) -> float:
    """Return CR: the upper edge of the last 5 mm bin up to which each succeeds in >= 95 % of runs.

    ``start_errors_mm`` and ``errors_mm`` (N,) are the mTRE of each run's start and result. Bins
    that no run fell into say nothing and are passed over; 0 when the first bin with runs fails.
    """
    reached = 0.0
    for _, upper, _, rate in capture_bins(start_errors_mm, errors_mm):
        if rate < CAPTURE_SHARE:
            break
        reached = upper
    return reached


def target_points(labels: Volume, label: int, count: int | None = None) -> Array:
    """Return the targets (N, 3), CT mm: the centres of the voxels on the surface of ``label``.

    With ``count``, at most that many of them, evenly picked in memory order, so that the same mask
    always gives the same points. Raises ValueError when the label is not there.
    """
    mask = np.asarray(labels.array) == label
    if not mask.any():
        raise ValueError(f"label {label} is not in the label map")
    points = surface_points(labels, mask)
    if count is not None and len(points) > count:
        points = points[np.linspace(0, len(points) - 1, count).round().astype(int)]
    return points


def describe(values: Sequence[float] | Array) -> dict[str, float]:
    """Return mean, median, standard deviation (of a sample), least and most of finite values."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return dict.fromkeys(("mean", "median", "std", "min", "max"), float("nan"))
    return {
        "mean": float(finite.mean()),
        "median": float(np.median(finite)),
        "std": float(finite.std(ddof=1)) if finite.size > 1 else 0.0,
        "min": float(finite.min()),
        "max": float(finite.max()),
    }
