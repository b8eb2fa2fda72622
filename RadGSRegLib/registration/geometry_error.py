"""How sure a pose is where the cameras themselves are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..cases import camera_sigma_mm
from ..geometry import Array, Camera, Rigid, projection_by_camera, projection_by_point, skew
from .scene import Scene

# Points of the surface that stand for it: four times as many change the error by 0.02 %.
_POINTS = 200


def calibration_covariance(scene: Scene, ct_to_world: Array) -> Array | None:
    """The part (6, 6) of the target's covariance at a pose (4, 4) that comes of the cameras.

    None where no view says how sure its camera is; one that does not is taken as exact.
    """
    known = scene.camera_covariances
    if not any(view.name in known for view in scene.views):
        return None
    points = scene.bodies.surface_points_ct
    some = np.asarray(points[:: max(len(points) // _POINTS, 1)], dtype=float)
    views = [view.camera for view in scene.views]
    covariances: dict[int, Array] = {
        number: known[view.name] for number, view in enumerate(scene.views) if view.name in known
    }
    centre_ct = scene.bodies.centre_ct
    numbers = {view.name: number for number, view in enumerate(scene.views)}
    crossed = {
        (numbers[first], numbers[second]): covariance
        for (first, second), covariance in scene.crossed_covariances.items()
        if first in numbers and second in numbers
    }
    return propagated(views, covariances, Rigid(ct_to_world), some, centre_ct, crossed)


def loosest(scene: Scene, ct_to_world: Array) -> list[str]:
    """The views whose cameras are the least sure where the vertebra is at a pose (4, 4): the worst,
    and those at least half as unsure."""
    place = Rigid(ct_to_world).apply(scene.bodies.centre_ct)
    unsure_mm = {
        view.name: camera_sigma_mm(view.camera, scene.camera_covariances[view.name], place)
        for view in scene.views
        if view.name in scene.camera_covariances
    }
    most_mm = max(unsure_mm.values(), default=0.0)
    return [name for name, sigma_mm in unsure_mm.items() if sigma_mm >= 0.5 * most_mm]


def propagated(
    cameras: Sequence[Camera],
    covariances: Mapping[int, Array],
    ct_to_world: Rigid,
    points_ct: Array,
    centre_ct: Array,
    crossed: Mapping[tuple[int, int], Array] | None = None,
) -> Array:
    """Return the covariance (6, 6) of the twist about ``centre_ct`` (3,), as `Registration` has it,
    of a pose fitted to pictures of points (N, 3) by cameras that are off.

    With J how what is shown moves with the pose and K how it does with a camera, a small error of
    cameras moves the pose of least squares by -A, A = (sum J^T J)^-1 J^T K, and cameras of
    ``covariances`` (9, 9), by their numbers, add up A C A^T. Two that were calibrated together, of
    ``crossed`` (9, 9) by both numbers (rows of the first one's parameters), add A C B^T and its
    transpose. Distances in the pictures are taken in mm at the centre, so that views count alike
    however fine their pixels.
    """
    points_world = ct_to_world.apply(points_ct)
    depth_of = np.append(ct_to_world.apply(centre_ct), 1.0)
    turned = ct_to_world.matrix[:3, :3]
    by_pose = np.concatenate(
        [-turned @ skew(points_ct - centre_ct), np.broadcast_to(turned, (len(points_ct), 3, 3))],
        axis=2,
    )
    normal = np.zeros((6, 6))
    pulls: dict[int, Array] = {}
    for number, camera in enumerate(cameras):
        mm = float(camera.world_to_camera[2] @ depth_of) / camera.focal_px
        j = mm * (projection_by_point(camera, points_world) @ by_pose).reshape(-1, 6)
        normal += j.T @ j
        if number in covariances:
            by_camera = projection_by_camera(camera, points_world)
            pulls[number] = mm * j.T @ by_camera.reshape(len(j), -1)
    inverse = np.linalg.pinv(normal, hermitian=True)
    moved = {number: inverse @ pull for number, pull in pulls.items()}
    out = np.zeros((6, 6))
    for number, by_camera in moved.items():
        out += by_camera @ covariances[number] @ by_camera.T
    for (first, second), covariance in (crossed or {}).items():
        both = moved[first] @ covariance @ moved[second].T
        out += both + both.T
    return np.asarray((out + out.T) / 2.0)
