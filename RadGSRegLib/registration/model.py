"""The clouds that stand for the anatomy while it is being registered, and where each body is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..gaussians import Bodies, GaussianCloud
from ..geometry import compose_about
from .anatomy import Anatomy
from .background import Background

Array = NDArray[np.float64]


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
class RenderModel:
    """The target and its neighbours as clouds; ``background`` None where there is no CT around."""

    anatomy: Anatomy
    target: BodyClouds
    neighbours: tuple[BodyClouds, ...]
    background: Background | None

    @property
    def centre_ct(self) -> Array:
        """Where the target's pose pivots."""
        return self.anatomy.centre_ct

    @cached_property
    def _coarse(self) -> Bodies:
        return Bodies(tuple(body.coarse for body in (self.target, *self.neighbours)))

    @cached_property
    def _fine(self) -> Bodies:
        return Bodies(tuple(body.fine for body in (self.target, *self.neighbours)))

    @cached_property
    def _fine_neighbours(self) -> Bodies | None:
        return Bodies(tuple(b.fine for b in self.neighbours)) if self.neighbours else None

    def bodies(self, fine: bool) -> Bodies:
        """The target, then its neighbours, for a level of the search."""
        return self._fine if fine else self._coarse

    def neighbour_bodies(self) -> Bodies | None:
        """The neighbours alone, finely; None where there are none."""
        return self._fine_neighbours

    @property
    def movable_centres_ct(self) -> list[Array]:
        """The centres about which all but the target turn: the neighbours', the background's."""
        return [body.centre_ct for body in self.neighbours] + [self.centre_ct]


@dataclass(frozen=True)
class Arrangement:
    """A hypothesis: where the target is, and how everything else has moved against it.

    ``ct_to_world`` (4, 4) of the target; ``shifts_ct`` one rigid (4, 4) per neighbour, and a last
    one for the background, that moves it within the CT frame before ``ct_to_world`` is applied (the
    identity: as in the CT).
    """

    ct_to_world: Array
    shifts_ct: tuple[Array, ...]

    @classmethod
    def as_in_ct(cls, ct_to_world: Array, model: RenderModel) -> Arrangement:
        """The spine exactly as in the CT, moved as one piece."""
        return cls(ct_to_world, tuple(np.eye(4) for _ in model.movable_centres_ct))

    @property
    def background_to_world(self) -> Array:
        """Where the background is (4, 4)."""
        return np.asarray(self.ct_to_world @ self.shifts_ct[-1])

    def moved(self, target_twist: Array, other_twists: Array, model: RenderModel) -> Arrangement:
        """The arrangement after a step: twists (6,) and (M, 6) about each body's present centre."""
        pose = compose_about(self.ct_to_world, target_twist, model.centre_ct)
        shifts = []
        for centre_ct, shift, twist in zip(
            model.movable_centres_ct, self.shifts_ct, other_twists, strict=True
        ):
            centre = shifted(centre_ct, shift)
            shifts.append(compose_about(np.eye(4), twist, centre) @ shift)
        return Arrangement(pose, tuple(shifts))


def shifted(point_ct: Array, shift_ct: Array) -> Array:
    """Where a point (3,) of a shifted body lies in the CT frame, mm."""
    return np.asarray(shift_ct[:3, :3] @ point_ct + shift_ct[:3, 3])
