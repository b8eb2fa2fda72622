"""A CT bent by the poses of its bones: rigid in each, and smooth between them.

V. Arsigny, O. Commowick, N. Ayache, X. Pennec: A fast and log-Euclidean polyaffine framework for
locally linear registration, J Math Imaging Vis 33, 2009 (docs/math.md, "A CT bent by its bones").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..geometry import Array, Rigid, Volume, exp_se3, is_rigid, log_se3, orthonormalize
from . import bounds
from .bone_distances import BoneDistances, bone_distances


@dataclass(frozen=True, eq=False)
class LedBack:
    """Points of the world led back to the CT.

    ``points_ct`` (N, 3) mm; ``residual_mm`` (N,): how far from the given point of the world each
    comes out. It stays large where the bent CT has nothing: where bones that touched come apart.
    """

    points_ct: Array
    residual_mm: Array


@dataclass(frozen=True, eq=False)
class PolyrigidMap:
    """Carry points of a CT to the world: with its own pose in each bone, smoothly in between.

    Args:
        labels: of the bones with a pose, ascending.
        common_ct_to_world: (4, 4) rigid, the mean of the bones' poses.
        twists: (B, 6), how each bone moves besides, before the mean: logarithms in the CT's frame,
            rotation (rad), then translation (mm).
        distances: from each bone, in the same order.

    `polyrigid_map` makes it.
    """

    labels: tuple[int, ...]
    common_ct_to_world: Array
    twists: Array
    distances: BoneDistances

    @property
    def poses(self) -> Array:
        """The ``ct_to_world`` (B, 4, 4) of every bone."""
        return np.asarray(self.common_ct_to_world @ exp_se3(self.twists))

    def apply(self, points_ct: ArrayLike) -> Array:
        """Carry points (N, 3) mm of the CT to the world, (N, 3) mm."""
        points = np.asarray(points_ct, dtype=float)
        return Rigid(self.common_ct_to_world).apply(_moved(self.twists_at(points), points))

    def twists_at(self, points_ct: Array) -> Array:
        """The blended twists (N, 6) at points (N, 3) mm of the CT."""
        return np.asarray(_weights(self.distances.at(points_ct)).T @ self.twists)

    def lead_back(self, points_world: ArrayLike, start_ct: ArrayLike | None = None) -> LedBack:
        """Find the points of the CT that come out at points (N, 3) mm of the world.

        Steps ``x <- exp(-xi(x)) common^-1 y``, from ``start_ct`` (N, 3) mm or from
        ``common^-1 y``: inside a bone one is enough. Where one brings no gain, the next is half as
        long. The residual is below `bounds.INVERSE_MM` wherever the map can be inverted.
        """
        aim = Rigid(self.common_ct_to_world).inverse().apply(np.asarray(points_world, dtype=float))
        at = aim if start_ct is None else np.asarray(start_ct, dtype=float)
        points, residual = at.copy(), np.full(len(aim), np.inf)
        active, stride = np.arange(len(aim)), np.ones((len(aim), 1))
        for _ in range(bounds.INVERSE_STEPS):
            step = _moved(-self.twists_at(at), aim[active]) - at
            # The motion at a point is rigid: what it misses by is as long as the step from it.
            miss = np.sqrt((step**2) @ np.ones(3))
            better = miss < residual[active]
            points[active[better]], residual[active[better]] = at[better], miss[better]
            stride[~better] /= 2.0
            on = miss > bounds.INVERSE_MM
            if not on.any():
                break
            at, active, stride = (at + stride * step)[on], active[on], stride[on]
        return LedBack(points, residual)


def polyrigid_map(labels: Volume, ct_to_world_of: Mapping[int, ArrayLike]) -> PolyrigidMap:
    """Blend the poses of a CT's bones into one map of the whole CT.

    Inside a bone (where all voxels around a point are its own) the map is exactly its pose. In
    between, logarithms of what the bones' poses differ from their mean are blended by closeness;
    far from all of them little but the mean is left. Bones without a pose follow what is around
    them.

    Args:
        labels: the label map, on the CT's grid.
        ct_to_world_of: {label: (4, 4)} rigid, LPS mm; one or more.

    Returns:
        The map. It does not depend on the order of the labels, and moves with the world.

    Raises:
        ValueError: for a pose that is not rigid, and without any.
        InputError: for a label that the label map does not hold.

    Example:
        >>> import numpy as np
        >>> from RadGSRegLib.geometry import Volume, translation
        >>> from RadGSRegLib.multilevel import polyrigid_map
        >>> labels = np.zeros((10, 10, 30), dtype=int)
        >>> labels[:, :, :8], labels[:, :, 22:] = 1, 2
        >>> poses = {1: translation([0, 0, 0]), 2: translation([0, 4, 0])}
        >>> bend = polyrigid_map(Volume(labels, np.eye(4)), poses)
        >>> points_ct = [[3.0, 5.0, 5.0], [14.5, 5.0, 5.0], [26.0, 5.0, 5.0]]
        >>> np.round(bend.apply(points_ct) + 0.0, 6)
        array([[ 3. ,  5. ,  5. ],
               [14.5,  7. ,  5. ],
               [26. ,  9. ,  5. ]])
    """
    if not ct_to_world_of:
        raise ValueError("no bone has a pose")
    for label, pose in ct_to_world_of.items():
        if not is_rigid(pose):
            raise ValueError(f"ct_to_world of label {label} is not rigid")
    names = sorted(ct_to_world_of)
    poses = np.array([orthonormalize(ct_to_world_of[label]) for label in names])
    common, twists = _mean_and_twists(poses)
    return PolyrigidMap(tuple(names), common, twists, bone_distances(labels, names))


def _mean_and_twists(poses: Array) -> tuple[Array, Array]:
    """The rigid mean (4, 4) of poses (B, 4, 4), and the logarithms (B, 6) from it, whose sum is 0.

    That mean goes with the frames on both sides (X. Pennec, V. Arsigny: Exponential barycenters,
    in Matrix Information Geometry, 2013).
    """
    mean = poses[0]
    for _ in range(50):
        inverse = Rigid(mean).inverse().matrix
        twists = np.array([log_se3(inverse @ pose) for pose in poses])
        step = twists.mean(axis=0)
        if np.abs(step).max() < 1e-12:
            break
        mean = orthonormalize(mean @ exp_se3(step))
    return mean, twists


def _weights(distance: Array) -> Array:
    """How much each bone counts, (B, N) that add up to 1, by distances (B, N) mm from them.

    Shares of 1 / distance would bend with a crease at a bone's surface. Smoothed, they leave it
    with slope 0, and are at most half as steep again in the middle of a gap.
    """
    nearest = distance.min(axis=0)
    closeness = np.where(nearest > 0, nearest, 1.0) / np.where(distance > 0, distance, 1.0)
    closeness = np.where(nearest > 0, closeness, distance == 0)
    share = closeness / closeness.sum(axis=0)
    smooth = share**2 * (3.0 - 2.0 * share)
    return np.asarray(smooth / smooth.sum(axis=0))


def _moved(twists: Array, points: Array) -> Array:
    """Each of the points (N, 3) moved by the exponential of its own twist (N, 6).

    As `geometry.exp_se3`, without its matrices: a fifth of the time.
    """
    turn, shift = twists[:, :3], twists[:, 3:]
    angle = np.sqrt((turn**2) @ np.ones((3, 1)))
    sine = np.sinc(angle / np.pi)
    a = 0.5 * np.sinc(angle / (2.0 * np.pi)) ** 2
    safe = np.where(angle > 1e-2, angle, 1.0)
    b = np.where(angle > 1e-2, (1.0 - sine) / safe**2, 1.0 / 6.0 - angle**2 / 120.0)
    inner = sine * points + a * shift + _cross(turn, a * points + b * shift)
    return np.asarray(points + shift + _cross(turn, inner))


def _cross(a: Array, b: Array) -> Array:
    """As `numpy.cross` of (N, 3), which takes twice as long."""
    x, y, z = a.T
    u, v, w = b.T
    return np.stack([y * w - z * v, z * u - x * w, x * v - y * u], axis=1)
