"""What a registration is about: bodies, and X-rays made ready."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ..cases import Case, camera_covariances_with
from ..geometry import Array, Rigid
from ..views import PreparedView, ViewFilter, prepare_views
from .anatomy import build_anatomy
from .bodies import BodySource
from .options import RegistrationOptions
from .rigid_bodies import RigidBodies, ct_bodies


@dataclass(frozen=True)
class Scene:
    """The bodies and the views that are registered to each other.

    ``nominal``: names of the views whose geometry is only what the C-arm was meant to do,
    ``room_nominal``: of those whose cameras say that of the room alone (`View.room_nominal`);
    ``parameters``: what the result is to record of its input; ``start_ct_to_world`` (4, 4): where
    the target is expected, None where that is not known; ``camera_covariances``: by the views'
    names, how sure their cameras are (9, 9), where a calibration says so; ``crossed_covariances``:
    (9, 9) of two that were calibrated together, by both names; rows are of the first one.
    """

    bodies: BodySource
    views: tuple[PreparedView, ...]
    nominal: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    start_ct_to_world: Array | None = None
    camera_covariances: Mapping[str, Array] = field(default_factory=dict)
    crossed_covariances: Mapping[tuple[str, str], Array] = field(default_factory=dict)
    room_nominal: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the stages of a registration compute."""
        return self.bodies.device

    @cached_property
    def distance_points_ct(self) -> Array:
        """Some of the target's surface (N, 3) mm, which distances between poses are taken of."""
        points = self.bodies.surface_points_ct
        return np.ascontiguousarray(points[:: max(len(points) // 500, 1)], dtype=float)

    def distance_mm(self, a: Array, b: Array) -> float:
        """Return the mean distance of the target's surface between two poses (4, 4)."""
        points = self.distance_points_ct
        moved = Rigid(a).apply(points) - Rigid(b).apply(points)
        return float(np.linalg.norm(moved, axis=1).mean())

    def centre_world(self, ct_to_world: Array) -> Array:
        """Return where a pose puts the target's centre (3,), mm."""
        return Rigid(ct_to_world).apply(self.bodies.centre_ct)

    def shows(self, point_world: Array) -> bool:
        """Return whether a point (3,) lies inside every view."""
        for view in self.views:
            column, row = view.camera.project(point_world[None])[0]
            if not (0 <= column < view.camera.columns and 0 <= row < view.camera.rows):
                return False
        return True


def case_bodies(case: Case, options: RegistrationOptions) -> RigidBodies:
    """Make the bodies of a case's CT. Raises InputError for a label without bone."""
    anatomy = build_anatomy(case, reach_mm=options.reach_mm)
    coarse_mm, fine_mm = options.coarse_cloud_mm, options.fine_cloud_mm
    return ct_bodies(anatomy, case.ct, coarse_mm=coarse_mm, fine_mm=fine_mm)


def scene_of(
    case: Case,
    options: RegistrationOptions,
    filters: Sequence[ViewFilter] = (),
    device: torch.device | str = "cpu",
) -> Scene:
    """Make the scene of a case: its CT's bodies and its X-rays, made better by ``filters``.

    ``device``: where the bodies are to lie. Raises InputError for a label without bone and for
    X-rays without any counts.
    """
    return Scene(
        case_bodies(case, options).to(device),
        tuple(prepare_views(case.views, filters)),
        tuple(view.name for view in case.views if view.nominal),
        case.to_parameters(),
        camera_covariances={
            view.name: view.camera_covariance
            for view in case.views
            if view.camera_covariance is not None
        },
        crossed_covariances={
            (case.views[i].name, case.views[j].name): covariance
            for (i, j), covariance in camera_covariances_with(case.views).items()
        },
        room_nominal=tuple(view.name for view in case.views if view.room_nominal),
    )
