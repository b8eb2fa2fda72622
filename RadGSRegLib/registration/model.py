"""The clouds that stand for the anatomy while it is being registered, and where each body is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..gaussians import GaussianCloud
from ..geometry.pose import translation, exp_se3, orthonormalize
from .anatomy import Anatomy

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BodyClouds:
    """One rigid body as Gaussians in the CT frame, coarse and fine."""

    name: str
    centre_ct: Array
    coarse: GaussianCloud
    fine: GaussianCloud

    def level(self, fine: bool) -> GaussianCloud:
        """The cloud for a level of the search."""
        return self.fine if fine else self.coarse


@dataclass(frozen=True)
class RenderModel:
    """The target and its neighbours as clouds."""

    anatomy: Anatomy
    target: BodyClouds
    neighbours: tuple[BodyClouds, ...]

    @property
    def centre_ct(self) -> Array:
        """Where the target's pose pivots."""
        return self.anatomy.centre_ct


@dataclass(frozen=True)
class Arrangement:
    """A hypothesis: where the target is, and how each neighbour has moved against it.

    ``ct_to_world`` (4, 4) of the target; ``shifts_ct`` one rigid (4, 4) per neighbour that moves it
    within the CT frame before ``ct_to_world`` is applied (the identity: as in the CT).
    """

    ct_to_world: Array
    shifts_ct: tuple[Array, ...] = field(default=())

    @classmethod
    def as_in_ct(cls, ct_to_world: Array, model: RenderModel) -> Arrangement:
        """The spine exactly as in the CT, moved as one piece."""
        return cls(ct_to_world, tuple(np.eye(4) for _ in model.neighbours))

    def moved(self, target_twist: Array, neighbour_twists: Array, model: RenderModel) -> Arrangement:
        """The arrangement after a step: twists (6,) and (N, 6) about each body's present centre."""
        to_centre = translation(model.centre_ct)
        from_centre = translation(-model.centre_ct)
        pose = self.ct_to_world @ to_centre @ exp_se3(target_twist) @ from_centre
        shifts = []
        for body, shift, twist in zip(
            model.neighbours, self.shifts_ct, neighbour_twists, strict=True
        ):
            centre = shifted_centre(body, shift)
            step = translation(centre) @ exp_se3(twist) @ translation(-centre)
            shifts.append(orthonormalize(step @ shift))
        return Arrangement(orthonormalize(pose), tuple(shifts))


def shifted_centre(body: BodyClouds, shift_ct: Array) -> Array:
    """Where a shifted body's centre lies in the CT frame, mm (3,)."""
    return np.asarray(shift_ct[:3, :3] @ body.centre_ct + shift_ct[:3, 3])
