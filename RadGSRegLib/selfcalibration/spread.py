"""How sure cameras and vertebrae are, beside the frame that they share.

X-rays say nothing of where all of them are together: moved as one piece they look the same. So
errors are told in the frame of the vertebrae: what is left when the rigid motion that all their
surfaces follow best is taken away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..geometry import CAMERA_PARAMETERS, Array, Camera, skew, transform_points
from ..multilevel import Setup, Unknowns
from . import bounds


@dataclass(frozen=True)
class Spread:
    """Covariances in the frame of the vertebrae, or of the room where a camera is held in it.

    ``targets`` (K, 6, 6) of each one's twist about its centre, along its CT's axes, and
    ``by_cameras`` (K, 6, 6) the part of it that comes of the cameras; ``cameras`` (V, V, 6, 6) of
    all cameras' rotation vectors (camera axes) and sources (world axes), radians and mm.
    """

    targets: Array
    by_cameras: Array
    cameras: Array


def spread_of(
    unknowns: Unknowns,
    setup: Setup,
    cameras: Sequence[Camera],
    hessian: Array,
    points_ct: Sequence[Array],
    room_known: bool = False,
) -> Spread:
    """Return the spread that a Hessian (P, P) has at a setup; ``cameras`` as they are there,
    ``points_ct``: some of each target's surface (N, 3), mm.

    Raises LinAlgError for a Hessian without an inverse.
    """
    first = 6 * unknowns.cameras
    covariance = np.linalg.inv(hessian)
    # Were the cameras exact.
    of_bones = np.zeros_like(hessian)
    of_bones[first:, first:] = np.linalg.inv(hessian[first:, first:])
    if not room_known:
        kept = _without_common_motion(unknowns, setup, points_ct)
        covariance, of_bones = (kept @ c @ kept.T for c in (covariance, of_bones))
    covariance = (covariance + covariance.T) / 2.0
    targets, by_cameras = [], []
    for number in range(len(unknowns.targets)):
        own = unknowns.of_piece(number)
        targets.append(covariance[own, own])
        by_cameras.append(_positive(covariance[own, own] - of_bones[own, own]))
    changes = [_camera_by_twist(camera, unknowns.pivot_world) for camera in cameras]
    crossed = [
        [
            change @ covariance[unknowns.of_camera(a), unknowns.of_camera(b)] @ other.T
            for b, other in enumerate(changes)
        ]
        for a, change in enumerate(changes)
    ]
    return Spread(np.array(targets), np.array(by_cameras), np.array(crossed))


def by_nominal_intrinsics(camera: Camera, centre_world: Array) -> Array:
    """Return the covariance (9, 9) of a refined camera, in the order of `CAMERA_PARAMETERS`, that
    comes of its nominal focal length and principal point.

    Refinement lets the camera show the vertebrae at ``centre_world`` (3,) where they are shown: a
    focal length that is too long is made up for by a source further off, a principal point by one
    beside.
    """
    depth = float(camera.world_to_camera[2] @ np.append(centre_world, 1.0))
    right, down, forth = camera.world_to_camera[:3, :3]
    with_them = np.zeros((CAMERA_PARAMETERS, 3))
    with_them[6:] = np.eye(3)
    with_them[3:6, 0] = -depth / camera.focal_px * forth
    with_them[3:6, 1] = depth / camera.intrinsic[0, 0] * right
    with_them[3:6, 2] = depth / camera.intrinsic[1, 1] * down
    principal_px = bounds.NOMINAL_PRINCIPAL_SHARE * max(camera.size)
    off = with_them * [bounds.NOMINAL_FOCAL_SHARE * camera.focal_px, principal_px, principal_px]
    return np.asarray(off @ off.T)


def _positive(matrix: Array) -> Array:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2.0)
    return np.asarray((vectors * values.clip(0.0)) @ vectors.T)


def _camera_by_twist(camera: Camera, pivot_world: Array) -> Array:
    """How a camera's rotation vector (camera axes) and source move with its twist (6, 6): the
    world moving by the twist is the camera moving against it."""
    turn = camera.world_to_camera[:3, :3]
    out = np.zeros((6, 6))
    out[:3, :3] = turn
    out[3:, :3] = skew(camera.source_world - pivot_world)
    out[3:, 3:] = -np.eye(3)
    return out


def _without_common_motion(unknowns: Unknowns, setup: Setup, points_ct: Sequence[Array]) -> Array:
    """The matrix (P, P) that takes from unknowns the rigid motion that the vertebrae share."""
    rows, moves = [], []
    for number, (target, points) in enumerate(zip(unknowns.targets, points_ct, strict=True)):
        pose = setup.ct_to_world[number]
        by_twist = np.zeros((len(points), 3, unknowns.count))
        own = unknowns.of_piece(number).start
        by_twist[:, :, own : own + 3] = -pose[:3, :3] @ skew(points - target.bodies.centre_ct)
        by_twist[:, :, own + 3 : own + 6] = pose[:3, :3]
        rows.append(by_twist.reshape(-1, unknowns.count))
        away = transform_points(pose, points) - unknowns.pivot_world
        by_motion = np.concatenate(
            [-skew(away), np.broadcast_to(np.eye(3), (len(points), 3, 3))], axis=2
        )
        moves.append(by_motion.reshape(-1, 6))
    # The world's motion (6, P) of least squares to what the unknowns move.
    common = np.linalg.lstsq(np.concatenate(moves), np.concatenate(rows), rcond=None)[0]
    out = np.eye(unknowns.count)
    moving = len(unknowns.targets if unknowns.alone else unknowns.pieces)
    for number, pose in enumerate(setup.ct_to_world[:moving]):
        # The same motion as a piece's own twist.
        out[unknowns.of_piece(number)] -= unknowns.by_camera(number, pose) @ common
    for number in range(unknowns.cameras):
        # A camera moves with the world where its twist goes against the world's.
        out[unknowns.of_camera(number)] += common
    return out
