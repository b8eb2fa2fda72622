"""Rigid bodies as Gaussians and voxels: a CT's vertebrae and background, or one cloud alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..drr import Voxels, project_pictures_with_jacobian
from ..gaussians import (
    Bodies,
    GaussianCloud,
    coarsen,
    rasterize_bodies,
    rasterize_bodies_with_jacobian,
)
from ..geometry import Array, Rigid, Volume
from ..tensors import Lenses, applied, compose_about, rotation_vector, skew
from ..views import Windows
from .anatomy import Anatomy, Body
from .background import Background, RenderedBackground, build_background
from .bodies import Arrangement, Arrangements, Drawing, Prior
from .bounds import PRIOR_STRENGTH
from .clouds import block_cloud
from .options import Fidelity, RefineOptions

# Samples of the target's voxels lie so many of their smallest edges apart: their X-rays are then
# within 0.9 % of finely sampled ones (two CTs, two views; docs/experiments/last-stage.md).
_STEP = 0.7


@dataclass(frozen=True)
class BodyClouds:
    """One rigid body as Gaussians in the CT frame, coarse and fine."""

    name: str
    centre_ct: Array
    coarse: GaussianCloud
    fine: GaussianCloud
    vertebra: bool = True
    """False for bone without a label."""

    def to(self, device: torch.device) -> BodyClouds:
        """Return it on a device."""
        return replace(self, coarse=self.coarse.to(device), fine=self.fine.to(device))


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

    @property
    def device(self) -> torch.device:
        """Where they are rendered."""
        return self.target.fine.device

    def to(self, device: torch.device | str) -> RigidBodies:
        """Return them on a device."""
        there = torch.device(device)
        if there == self.device:
            return self
        background = self.background
        return replace(
            self,
            target=self.target.to(there),
            neighbours=tuple(body.to(there) for body in self.neighbours),
            background=None if background is None else replace(background, device=there),
        )

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
    def _voxels(self) -> Voxels | None:
        excess = self.target_excess
        return None if excess is None else Voxels.of(excess, self.device, occupied=True)

    def _there(self, numbers: ArrayLike) -> Tensor:
        return torch.from_numpy(np.array(numbers, dtype=np.float64)).to(self.device)

    @cached_property
    def _centre(self) -> Tensor:
        return self._there(self.centre_ct)

    @cached_property
    def _movable(self) -> Tensor:
        return self._there(self.movable_centres_ct)

    @cached_property
    def _unmoved(self) -> Tensor:
        return torch.eye(4, dtype=torch.float64, device=self.device)

    def as_in_ct(self, ct_to_world: Array) -> Arrangement:
        """Return the spine exactly as in the CT, moved as one piece."""
        return Arrangement(ct_to_world, tuple(np.eye(4) for _ in self.movable_centres_ct))

    def moved(self, arrangements: Arrangements, steps: Tensor) -> Arrangements:
        """Return the arrangements after twists (T, 6) of the target and then of everything else,
        each about the body's present centre; steps of six move the target alone."""
        poses = compose_about(arrangements.ct_to_world, steps[:, :6], self._centre)
        shifts = arrangements.shifts_ct
        if steps.shape[1] > 6:
            twists = steps[:, 6:].reshape(len(steps), -1, 6)
            now = applied(shifts, self._movable)
            shifts = compose_about(self._unmoved, twists, now) @ shifts
        return Arrangements(poses, shifts, arrangements.further)

    def step_mm(self, steps: Tensor) -> Tensor:
        """Return how far twists (T, 6 M) of M bodies move what they move the furthest (T,), were
        all of the target's size."""
        twists = steps.reshape(len(steps), -1, 6)
        turns, shifts = twists[..., :3].norm(dim=-1), twists[..., 3:].norm(dim=-1)
        farthest: Tensor = (self.radius_mm * turns + shifts).amax(1)
        return farthest

    def largest_shift_mm(self, arrangement: Arrangement) -> float:
        """Return how far the centre of any other body has moved in the CT frame."""
        return max(
            float(np.linalg.norm(Rigid(shift).apply(centre) - centre))
            for centre, shift in zip(self.movable_centres_ct, arrangement.shifts_ct, strict=True)
        )

    def _placed(self, arrangements: Arrangements) -> Tensor:
        """Where the bodies are in the CT frame (N, B, 4, 4), the target where it is."""
        shifts = arrangements.shifts_ct[:, : len(self.neighbours)]
        return torch.cat([self._unmoved.expand(len(shifts), 1, 4, 4), shifts], 1)

    def pictures(
        self,
        lenses: Lenses,
        ct_to_camera: Tensor,
        fidelity: Fidelity,
        arrangements: Arrangements | None = None,
    ) -> Tensor:
        """Render each body as Gaussians, at any fidelity; see `BodySource.pictures`."""
        bodies = self._coarse if fidelity == "coarse" else self._fine
        if arrangements is None:
            placed = self._unmoved.expand(len(bodies), 4, 4)
        else:
            placed = self._placed(arrangements)
        return rasterize_bodies(bodies, lenses, ct_to_camera, placed)

    def drawing(
        self,
        windows: Windows,
        background: RenderedBackground | None,
        arrangements: Arrangements,
        options: RefineOptions,
    ) -> Drawing:
        """Render all bodies, and the background where there is one; see `BodySource`."""
        images, jacobians = self._with_jacobian(windows, arrangements, options.fidelity)
        target, others = images[:, 0], images[:, 1:].sum(1)
        image = target + others
        if background is not None:
            image = image + background.moved_to(arrangements.background_to_world)
            jacobians = torch.cat([jacobians, background.jacobian[:, None]], 1)
        motions = self._motions(background, arrangements, options)
        slopes = jacobians.reshape(len(image), motions.shape[1], *image.shape[1:])
        return Drawing(image, target, others, slopes, motions)

    def _with_jacobian(
        self, windows: Windows, arrangements: Arrangements, fidelity: Fidelity
    ) -> tuple[Tensor, Tensor]:
        """Images (N, B, rows, columns) of target and neighbours, derivatives (N, B, 6, ...).

        Each derivative is by a motion of that body about the target's centre in the CT frame.
        """
        lenses, centre = windows.lenses, self._centre
        ct_to_camera = windows.world_to_camera @ arrangements.ct_to_world
        placed = self._placed(arrangements)
        voxels = self._voxels
        if fidelity != "voxels" or voxels is None:
            bodies = self._coarse if fidelity == "coarse" else self._fine
            return rasterize_bodies_with_jacobian(bodies, lenses, ct_to_camera, placed, centre)
        step_mm = _STEP * voxels.spacing_mm
        image, jacobian = project_pictures_with_jacobian(
            voxels, lenses, ct_to_camera, centre, step_mm=step_mm
        )
        image, jacobian = image[:, None], jacobian[:, None]
        if self._fine_neighbours is None:
            return image, jacobian
        images, jacobians = rasterize_bodies_with_jacobian(
            self._fine_neighbours, lenses, ct_to_camera, placed[:, 1:], centre
        )
        return torch.cat([image, images], 1), torch.cat([jacobian, jacobians], 1)

    def _motions(
        self,
        background: RenderedBackground | None,
        arrangements: Arrangements,
        options: RefineOptions,
    ) -> Tensor:
        """The matrices (N, M, P) from the unknowns' twists to those that the derivatives are by.

        Bodies are differentiated by twists about the target's centre in the CT frame, as if the CT
        moved with each; the background by twists about its own pivot.
        """
        shifts, count = arrangements.shifts_ct, len(arrangements)
        bodies = 1 + len(self.neighbours)
        rows = bodies + (background is not None)
        columns = 1 + (len(self.movable_centres_ct) if options.move_neighbours else 0)
        out = shifts.new_zeros(count, rows, 6, columns, 6)
        identity = torch.eye(6, dtype=shifts.dtype, device=shifts.device)
        out[:, :bodies, :, 0] = identity
        if options.move_neighbours and self.neighbours:
            beside = applied(shifts, self._movable)[:, : bodies - 1] - self._centre
            own = _about(self._unmoved[:3, :3].expand(count, bodies - 1, 3, 3), beside)
            for n in range(1, bodies):
                out[:, n, :, n] = own[:, n - 1]
        if background is not None:
            shift = shifts[:, -1]
            back = shift[:, :3, :3].mT
            lever = (back @ (self._centre - shift[:, :3, 3])[..., None])[..., 0]
            out[:, bodies, :, 0] = _about(back, lever - background.pivot_ct)
            if options.move_neighbours:
                out[:, bodies, :, -1] = _about(back, torch.zeros_like(lever))
        return out.reshape(count, 6 * rows, 6 * columns)

    def prior(self, arrangements: Arrangements, options: RefineOptions) -> Prior | None:
        """Hold everything but the target near its place in the CT: a Gaussian prior on each shift.

        In the units of the mean residual: one at one standard deviation costs `PRIOR_STRENGTH`.
        """
        if not options.move_neighbours:
            return None
        shifts = arrangements.shifts_ct
        turned = rotation_vector(shifts[..., :3, :3])
        state = torch.cat([turned, applied(shifts, self._movable) - self._movable], -1).flatten(1)
        own = [PRIOR_STRENGTH / np.radians(options.neighbour_rotation_deg) ** 2] * 3
        own += [PRIOR_STRENGTH / options.neighbour_translation_mm**2] * 3
        precision = self._there(own * shifts.shape[1])
        of_target = state.new_zeros(len(state), 6)
        gradient = torch.cat([of_target, -precision * state], 1)
        hessian = torch.diag(torch.cat([of_target.new_zeros(6), precision]))
        return Prior((precision * state * state).sum(1), gradient, hessian)


def _about(turns: Tensor, levers: Tensor) -> Tensor:
    """The matrices (..., 6, 6) from twists to the same motions as twists about another centre.

    ``turns`` (..., 3, 3) take the twists' axes to the new ones, ``levers`` (..., 3) point from the
    new centre to the old one, in the new axes.
    """
    above = torch.cat([turns, torch.zeros_like(turns)], -1)
    below = torch.cat([skew(levers) @ turns, turns], -1)
    return torch.cat([above, below], -2)


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
    """Make one body of a cloud alone (mm), on its device and in its own frame.

    There is nothing around it. It turns about ``centre`` (3,) and is rendered with at most
    ``gaussians`` Gaussians; ``surface_points`` (N, 3).
    """
    few = coarsen(cloud, gaussians)
    target = BodyClouds("vertebra", np.asarray(centre, dtype=float), few, few)
    return RigidBodies(target, (), surface_points)
