"""Rigid bodies as Gaussians and voxels: a CT's vertebrae and background, or one cloud alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..drr import occupied_cells, project_volume_with_jacobian
from ..gaussians import (
    Bodies,
    GaussianCloud,
    coarsen,
    rasterize_bodies,
    rasterize_bodies_with_jacobian,
)
from ..geometry import Array, Rigid, Volume, compose_about, skew
from ..tensors import Lenses
from .anatomy import Anatomy, Body
from .background import Background, RenderedBackground, build_background
from .bodies import Arrangement, Drawing, Prior
from .bounds import PRIOR_STRENGTH
from .clouds import block_cloud
from .options import Fidelity, RefineOptions
from .windows import StageView


@dataclass(frozen=True)
class BodyClouds:
    """One rigid body as Gaussians in the CT frame, coarse and fine."""

    name: str
    centre_ct: Array
    coarse: GaussianCloud
    fine: GaussianCloud
    vertebra: bool = True
    """False for bone without a label."""


@dataclass(frozen=True)
class RigidBodies:
    """A `BodySource` of rigid bodies: every one has six unknowns, and so has the background.

    ``target_excess``: the target's voxels (1/mm), for the stage that renders them (None: that one
    renders Gaussians too); ``background`` None where there is no CT around.
    """

    target: BodyClouds
    neighbours: tuple[BodyClouds, ...]
    surface_points_ct: Array
    target_excess: Volume | None = None
    background: Background | None = None

    @property
    def centre_ct(self) -> Array:
        """Where the target's pose pivots."""
        return self.target.centre_ct

    @cached_property
    def radius_mm(self) -> float:
        """The distance from the centre within which 98 % of the target's surface lies."""
        distances = np.linalg.norm(self.surface_points_ct - self.centre_ct, axis=1)
        return float(np.percentile(distances, 98.0))

    @property
    def neighbour_centres_ct(self) -> list[Array]:
        """The centres of labelled vertebrae beside the target."""
        return [body.centre_ct for body in self.neighbours if body.vertebra]

    @property
    def movable_centres_ct(self) -> list[Array]:
        """The centres about which all but the target turn: the neighbours', the background's."""
        return [body.centre_ct for body in self.neighbours] + [self.centre_ct]

    @cached_property
    def _coarse(self) -> Bodies:
        return Bodies(tuple(body.coarse for body in (self.target, *self.neighbours)))

    @cached_property
    def _fine(self) -> Bodies:
        return Bodies(tuple(body.fine for body in (self.target, *self.neighbours)))

    @cached_property
    def _fine_neighbours(self) -> Bodies | None:
        return Bodies(tuple(b.fine for b in self.neighbours)) if self.neighbours else None

    @cached_property
    def _occupied(self) -> Tensor | None:
        return None if self.target_excess is None else occupied_cells(self.target_excess)

    def as_in_ct(self, ct_to_world: Array) -> Arrangement:
        """Return the spine exactly as in the CT, moved as one piece."""
        return Arrangement(ct_to_world, tuple(np.eye(4) for _ in self.movable_centres_ct))

    def moved(self, arrangement: Arrangement, step: Array) -> Arrangement:
        """Return the arrangement after twists (6,) of the target and then of everything else, each
        about the body's present centre; a step of six moves the target alone."""
        pose = compose_about(arrangement.ct_to_world, step[:6], self.centre_ct)
        twists = step[6:].reshape(-1, 6)
        if len(twists) == 0:
            return Arrangement(pose, arrangement.shifts_ct)
        shifts = np.stack(arrangement.shifts_ct)
        centres = np.stack(self.movable_centres_ct)
        now = (shifts[:, :3, :3] @ centres[..., None])[..., 0] + shifts[:, :3, 3]
        return Arrangement(pose, tuple(compose_about(np.eye(4), twists, now) @ shifts))

    def step_mm(self, step: Array) -> float:
        """Return how far twists (6 M,) of M bodies move what they move the furthest, were all of
        the target's size."""
        twists = step.reshape(-1, 6)
        turns, shifts = np.linalg.norm(twists[:, :3], axis=1), np.linalg.norm(twists[:, 3:], axis=1)
        return float((self.radius_mm * turns + shifts).max())

    def largest_shift_mm(self, arrangement: Arrangement) -> float:
        """Return how far the centre of any other body has moved in the CT frame."""
        return max(
            float(np.linalg.norm(Rigid(shift).apply(centre) - centre))
            for centre, shift in zip(self.movable_centres_ct, arrangement.shifts_ct, strict=True)
        )

    def pictures(
        self,
        intrinsics: ArrayLike,
        ct_to_camera: ArrayLike,
        size: tuple[int, int],
        fidelity: Fidelity,
        arrangement: Arrangement | None = None,
    ) -> Tensor:
        """Render each body as Gaussians, at any fidelity; see `BodySource.pictures`."""
        bodies = self._coarse if fidelity == "coarse" else self._fine
        shifts = [np.eye(4)] * len(self.neighbours)
        if arrangement is not None:
            shifts = list(arrangement.shifts_ct[: len(self.neighbours)])
        places = torch.from_numpy(np.stack([np.eye(4), *shifts]))
        to_camera = torch.from_numpy(np.array(ct_to_camera, dtype=np.float64))
        return rasterize_bodies(bodies, _lenses(intrinsics, size), to_camera, places)

    def drawing(
        self,
        views: Sequence[StageView],
        arrangements: Sequence[Arrangement],
        options: RefineOptions,
    ) -> Drawing:
        """Render all bodies, and the background where the views have it; see `BodySource`."""
        images, jacobians = self._with_jacobian(views, arrangements, options.fidelity)
        target, others = images[:, 0], images[:, 1:].sum(1)
        image = target + others
        backgrounds = [view.background for view in views if view.background is not None]
        if backgrounds:
            pairs = zip(backgrounds, arrangements, strict=True)
            image = image + torch.stack([part.moved_to(a.background_to_world) for part, a in pairs])
            slopes = torch.stack([part.jacobian for part in backgrounds])
            jacobians = torch.cat([jacobians, slopes[:, None]], 1)
        motions = np.stack(
            [
                self._motions(view.background, arrangement, options)
                for view, arrangement in zip(views, arrangements, strict=True)
            ]
        )
        slopes = jacobians.reshape(len(views), motions.shape[1], *image.shape[1:])
        return Drawing(image, target, others, slopes, motions)

    def _with_jacobian(
        self, views: Sequence[StageView], arrangements: Sequence[Arrangement], fidelity: Fidelity
    ) -> tuple[Tensor, Tensor]:
        """Images (V, B, rows, columns) of target and neighbours, derivatives (V, B, 6, ...).

        Each derivative is by a motion of that body about the target's centre in the CT frame.
        """
        cameras, centre_ct = [view.window.camera for view in views], self.centre_ct
        intrinsics, size = [camera.intrinsic for camera in cameras], cameras[0].size
        pairs = list(zip(views, arrangements, strict=True))
        ct_to_camera = np.stack([view.world_to_camera @ a.ct_to_world for view, a in pairs])
        bodies_to_ct = np.stack(
            [[np.eye(4), *a.shifts_ct[: len(self.neighbours)]] for a in arrangements]
        )
        excess = self.target_excess
        lenses = _lenses(intrinsics, size)
        to_camera, centre = torch.from_numpy(ct_to_camera), torch.from_numpy(centre_ct)
        places = torch.from_numpy(bodies_to_ct)
        if fidelity != "voxels" or excess is None:
            bodies = self._coarse if fidelity == "coarse" else self._fine
            return rasterize_bodies_with_jacobian(bodies, lenses, to_camera, places, centre)
        step_mm = 0.7 * float(excess.spacing.min())
        projected = [
            project_volume_with_jacobian(
                excess, k, pose, size, centre_ct, step_mm=step_mm, occupied=self._occupied
            )
            for k, pose in zip(intrinsics, ct_to_camera, strict=True)
        ]
        image = torch.stack([image for image, _ in projected])[:, None]
        jacobian = torch.stack([jacobian for _, jacobian in projected])[:, None]
        if self._fine_neighbours is None:
            return image, jacobian
        images, jacobians = rasterize_bodies_with_jacobian(
            self._fine_neighbours, lenses, to_camera, places[:, 1:], centre
        )
        return torch.cat([image, images], 1), torch.cat([jacobian, jacobians], 1)

    def _motions(
        self,
        background: RenderedBackground | None,
        arrangement: Arrangement,
        options: RefineOptions,
    ) -> Array:
        """The matrix (M, P) from the unknowns' twists to those that the derivatives are by.

        Bodies are differentiated by twists about the target's centre in the CT frame, as if the CT
        moved with each; the background by twists about its own pivot.
        """
        centre = self.centre_ct
        bodies = 1 + len(self.neighbours)
        rows = bodies + (background is not None)
        columns = 1 + (len(self.movable_centres_ct) if options.move_neighbours else 0)
        out = np.zeros((rows, 6, columns, 6))
        out[:bodies, :, 0] = np.eye(6)
        for n in range(1, bodies if options.move_neighbours else 1):
            shift = Rigid(arrangement.shifts_ct[n - 1])
            offset = shift.apply(self.neighbours[n - 1].centre_ct) - centre
            out[n, :, n] = _about(np.eye(3), offset)
        if background is not None:
            shift = Rigid(arrangement.shifts_ct[-1])
            back = shift.rotation.T
            lever = back @ (centre - shift.translation) - background.pivot_ct
            out[bodies, :, 0] = _about(back, lever)
            if options.move_neighbours:
                out[bodies, :, -1] = _about(back, np.zeros(3))
        return out.reshape(6 * rows, 6 * columns)

    def prior(self, arrangement: Arrangement, options: RefineOptions) -> Prior | None:
        """Hold everything but the target near its place in the CT: a Gaussian prior on each shift.

        In the units of the mean residual: one at one standard deviation costs `PRIOR_STRENGTH`.
        """
        if not options.move_neighbours:
            return None
        precision = PRIOR_STRENGTH * np.diag(
            [1.0 / np.radians(options.neighbour_rotation_deg) ** 2] * 3
            + [1.0 / options.neighbour_translation_mm**2] * 3
        )
        count = 6 * (1 + len(self.movable_centres_ct))
        gradient, hessian = np.zeros(count), np.zeros((count, count))
        cost = 0.0
        for n, (centre, shift) in enumerate(
            zip(self.movable_centres_ct, arrangement.shifts_ct, strict=True)
        ):
            moved = Rigid(shift).apply(centre) - centre
            state = np.concatenate([Rotation.from_matrix(shift[:3, :3]).as_rotvec(), moved])
            part = slice(6 * (n + 1), 6 * (n + 2))
            hessian[part, part] = precision
            gradient[part] = -precision @ state
            cost += float(state @ precision @ state)
        return Prior(cost, gradient, hessian)


def _lenses(intrinsics: ArrayLike, size: tuple[int, int]) -> Lenses:
    return _kept_lenses(np.asarray(intrinsics, dtype=np.float64).tobytes(), size)


@lru_cache(maxsize=64)
def _kept_lenses(intrinsics: bytes, size: tuple[int, int]) -> Lenses:
    """With their rays, which the windows of a stage need again and again."""
    return Lenses.of(np.frombuffer(intrinsics).reshape(-1, 3, 3), size)


def _about(turn: Array, lever: Array) -> Array:
    """The matrix (6, 6) from a twist to the same motion as a twist about another centre.

    ``turn`` (3, 3) takes the twist's axes to the new ones, ``lever`` (3,) points from the new
    centre to the old one, in the new axes.
    """
    out = np.zeros((6, 6))
    out[:3, :3] = out[3:, 3:] = turn
    out[3:, :3] = skew(lever) @ turn
    return out


def ct_bodies(anatomy: Anatomy, ct: Volume, *, coarse_mm: float, fine_mm: float) -> RigidBodies:
    """Make the bodies of a CT (HU): Gaussians of about so many mm, the target's voxels, background.

    No cloud is finer than the CT's voxels.
    """

    def clouds(body: Body) -> BodyClouds:
        finest = max(fine_mm, 1.01 * float(body.excess.spacing.max()))
        return BodyClouds(
            body.name,
            body.centre_ct,
            block_cloud(body.excess, max(coarse_mm, finest)),
            block_cloud(body.excess, finest),
            vertebra=body.labelled,
        )

    return RigidBodies(
        clouds(anatomy.target),
        tuple(clouds(body) for body in anatomy.neighbours),
        anatomy.surface_points_ct,
        anatomy.target.excess,
        build_background(ct, anatomy),
    )


def single_body(
    cloud: GaussianCloud, centre: ArrayLike, surface_points: Array, gaussians: int
) -> RigidBodies:
    """Make one body of a cloud alone (CPU, mm), in the cloud's own frame, with nothing around it.

    It turns about ``centre`` (3,) and is rendered with at most ``gaussians`` Gaussians;
    ``surface_points`` (N, 3).
    """
    few = coarsen(cloud, gaussians)
    target = BodyClouds("vertebra", np.asarray(centre, dtype=float), few, few)
    return RigidBodies(target, (), surface_points)
