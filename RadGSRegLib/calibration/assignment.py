"""From a rough camera to pairs: assign, refine, and assign again under a closing gate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from ..cases import camera_from_projection
from ..geometry import Array, Camera, affine, projection_by_camera, projection_by_point, skew
from . import bounds
from .dlt import projected, robust_dlt
from .types import Beads, Spots

_GATES = (1.0, 0.6, 0.35, 0.2)
_STEPS = 3
_AGAIN = 4
_Settled = tuple[Camera, NDArray[np.int64], float] | None
# Pairs from which a projection matrix of eleven numbers is worth more than a camera of nine.
_MATRIX_PAIRS = 9


@dataclass(frozen=True)
class Guess:
    """A camera, its pairs (M, 2) of bead and spot, and how many of them agree in size too."""

    camera: Camera
    pairs: NDArray[np.int64]
    rms_px: float
    gate_px: float
    of_size: int

    @property
    def support(self) -> float:
        """Pairs, those of a wrong size by half."""
        return (len(self.pairs) + self.of_size) / 2.0

    def alike(self, other: Guess) -> bool:
        """Whether most of its pairs are the other's too."""
        mine, theirs = ({(int(b), int(s)) for b, s in g.pairs} for g in (self, other))
        return len(mine & theirs) > 0.5 * min(len(mine), len(theirs))


def assigned(places_px: Array, spots_px: Array, gate_px: float) -> NDArray[np.int64]:
    """The pairs (M, 2) of places and spots that lie nearest together in all, within a gate."""
    apart = np.linalg.norm(places_px[:, None] - spots_px[None], axis=-1)
    apart = np.where(np.isfinite(apart), apart, np.inf)
    cost = np.minimum(apart / gate_px, 1.0) ** 2
    rows, columns = linear_sum_assignment(cost)
    inside = apart[rows, columns] < gate_px
    return np.asarray(np.column_stack([rows, columns])[inside])


def _step(camera: Camera, points: Array, pixels: Array, start: Camera, noise_px: float) -> Camera:
    """One Gauss-Newton step of pose, focal length and principal point, as far as these may go."""
    turn, k = camera.world_to_camera[:3, :3], camera.intrinsic
    place = points @ turn.T + camera.world_to_camera[:3, 3]
    by_place = projection_by_point(camera, points) @ turn.T
    middle = place.mean(0)
    jacobian = projection_by_camera(camera, points)
    # The pose's part about the points' middle, along camera axes: the source is far away.
    jacobian[:, :, :3] = by_place @ (-skew(place - middle))
    jacobian[:, :, 3:6] = by_place
    residual = pixels - camera.project(points)
    length = np.linalg.norm(residual, axis=1)
    limit = 1.5 * max(float(np.median(length)), noise_px)
    weight = np.sqrt(np.minimum(1.0, limit / length.clip(1e-12))) / noise_px
    sigma = np.array(
        [bounds.FOCAL_DOUBT * start.focal_px, *[bounds.MIDDLE_DOUBT * max(camera.size)] * 2]
    )
    away = np.array([start.focal_px - camera.focal_px, *(start.intrinsic[:2, 2] - k[:2, 2])])
    data = (jacobian * weight[:, None, None]).reshape(-1, 9)
    rows = np.concatenate([data, np.eye(9)[6:] / sigma[:, None]])
    right = np.concatenate([(residual * weight[:, None]).ravel(), away / sigma])
    column = np.linalg.norm(rows, axis=0).clip(1e-12)
    x = np.linalg.lstsq(rows / column, right, rcond=1e-10)[0] / column
    size = float(np.linalg.norm(x[:3]))
    small = Rotation.from_rotvec(x[:3] * min(1.0, 0.3 / max(size, 1e-12))).as_matrix()
    focal = np.clip(camera.focal_px + x[6], 0.7 * start.focal_px, 1.4 * start.focal_px)
    intrinsic = k.copy()
    intrinsic[:2, :2] *= focal / camera.focal_px
    intrinsic[:2, 2] += x[7:]
    move = small @ (camera.world_to_camera[:3, 3] - middle) + middle + x[3:6]
    return Camera(intrinsic, affine(small @ turn, move), *camera.size)


def _fine_gate(camera: Camera, beads: Beads, spots: Spots, pairs: NDArray[np.int64]) -> float:
    """Three robust standard deviations of the pairs, at least the smallest gate."""
    apart = camera.project(beads.centres_mm[pairs[:, 0]]) - spots.centres_px[pairs[:, 1]]
    spread = float(np.median(np.linalg.norm(apart, axis=1))) / 1.1774
    return max(bounds.FINE_PX, 3.0 * spread)


def _by_matrix(
    beads: Beads, spots: Spots, pairs: NDArray[np.int64], gate_px: float
) -> NDArray[np.int64]:
    """The pairs that a projection matrix of the pairs' own finds; none where it finds none.

    Such a matrix does not mind where the principal point is, as in a cropped picture.
    """
    none = np.zeros((0, 2), dtype=np.int64)
    if len(pairs) < _MATRIX_PAIRS:
        return none
    points, pixels = beads.centres_mm[pairs[:, 0]], spots.centres_px[pairs[:, 1]]
    try:
        matrix, inside = robust_dlt(points, pixels, gate_px)
        if inside.sum() < _MATRIX_PAIRS:
            return none
        camera_from_projection(matrix, 2, 2)
    except (ValueError, np.linalg.LinAlgError):
        return none
    return assigned(projected(matrix, beads.centres_mm), spots.centres_px, gate_px)


def refit(
    camera: Camera, beads: Beads, spots: Spots, pairs: NDArray[np.int64], start: Camera
) -> Camera:
    """The camera after some steps towards its pairs, within what is known of ``start``."""
    for _ in range(_STEPS):
        points, pixels = beads.centres_mm[pairs[:, 0]], spots.centres_px[pairs[:, 1]]
        camera = _step(camera, points, pixels, start, 1.0)
    return camera


def _settled(camera: Camera, beads: Beads, spots: Spots, start: Camera, gates: Array) -> _Settled:
    """The camera and pairs after each gate in turn; None where pairs become too few."""
    pairs = np.zeros((0, 2), dtype=np.int64)
    for gate in gates:
        pairs = assigned(camera.project(beads.centres_mm), spots.centres_px, gate)
        if len(pairs) < bounds.LEAST_PAIRS:
            return None
        camera = refit(camera, beads, spots, pairs, start)
        if not np.isfinite(camera.world_to_camera).all():
            return None
    gate = min(_fine_gate(camera, beads, spots, pairs), 0.5 * float(gates[0]))
    pairs = assigned(camera.project(beads.centres_mm), spots.centres_px, gate)
    return (camera, pairs, gate) if len(pairs) >= bounds.LEAST_PAIRS else None


def refined_guess(start: Camera, beads: Beads, spots: Spots, coarse_px: float) -> Guess | None:
    """The pairs and the camera that a rough one leads to; None where these become too few.

    Begun again from where it ended for as long as that brings more pairs: a pose from a spot beside
    the right one settles on a part of the beads at first.
    """
    gates = coarse_px * np.array(_GATES)
    settled = _settled(start, beads, spots, start, gates)
    if settled is None:
        return None
    for _ in range(_AGAIN):
        again = _settled(settled[0], beads, spots, start, gates[1:])
        if again is None or len(again[1]) <= len(settled[1]):
            break
        settled = again
    camera, pairs, gate = settled
    wider = _by_matrix(beads, spots, pairs, bounds.FINE_PX)
    if len(wider) > len(pairs):
        pairs, gate = wider, bounds.FINE_PX
        camera = refit(camera, beads, spots, pairs, start)
    return _guess(camera, beads, spots, pairs, gate)


def _guess(
    camera: Camera, beads: Beads, spots: Spots, pairs: NDArray[np.int64], gate_px: float
) -> Guess:
    points = beads.centres_mm[pairs[:, 0]]
    apart = camera.project(points) - spots.centres_px[pairs[:, 1]]
    depth = points @ camera.world_to_camera[2, :3] + camera.world_to_camera[2, 3]
    ratio = spots.radii_px[pairs[:, 1]] * depth / beads.diameters_mm[pairs[:, 0]]
    ratio = ratio / max(float(np.nanmedian(ratio)), 1e-12)
    of_size = int(((ratio > 1 / bounds.SIZE_RATIO) & (ratio < bounds.SIZE_RATIO)).sum())
    rms = float(np.sqrt(np.mean(np.sum(apart**2, axis=1))))
    return Guess(camera, pairs, rms, gate_px, of_size)
