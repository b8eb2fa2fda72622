"""The door for what is registered: which bodies there are, and what of them is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from ..geometry import Array
from .options import Fidelity, RefineOptions

if TYPE_CHECKING:
    from .background import Background
    from .windows import StageView


@dataclass(frozen=True)
class Arrangement:
    """A hypothesis: where the target is, and how everything else has moved against it.

    ``ct_to_world`` (4, 4) of the target; ``shifts_ct`` one rigid (4, 4) per neighbour, and a last
    one for the background, that moves it within the CT frame before ``ct_to_world`` is applied (the
    identity: as in the CT). A source of bodies with more unknowns may add to it.
    """

    ct_to_world: Array
    shifts_ct: tuple[Array, ...]

    @property
    def background_to_world(self) -> Array:
        """Where the background is (4, 4)."""
        return np.asarray(self.ct_to_world @ self.shifts_ct[-1])


@dataclass(frozen=True)
class Drawing:
    """Pictures (V, rows, columns) of all bodies in V views, and how they change.

    ``image``: everything; ``target`` and ``others``: the target alone, the other bodies together;
    ``slopes`` (V, M, rows, columns): derivatives of ``image`` by M motions; ``unknowns_to_motions``
    (V, M, P): those motions from the P unknowns, of which the first six are the target's twist
    about its centre, along the axes of the CT.
    """

    image: Tensor
    target: Tensor
    others: Tensor
    slopes: Tensor
    unknowns_to_motions: Array


@dataclass(frozen=True)
class Prior:
    """What an arrangement costs before any X-ray is seen, with its derivatives by the unknowns.

    ``gradient`` (P,) is minus half the cost's derivative, ``hessian`` (P, P) half its second one.
    """

    cost: float
    gradient: Array
    hessian: Array


class BodySource(Protocol):
    """Bodies that are registered together: the target first, then whatever moves with it.

    The "CT frame" is the bodies' own. Guests: `rigid_bodies.ct_bodies` (a CT with labels),
    `rigid_bodies.single_body` (a predicted cloud).
    """

    @property
    def centre_ct(self) -> Array:
        """Where the target's pose pivots (3,), mm."""

    @property
    def radius_mm(self) -> float:
        """How far the target reaches from its centre."""

    @property
    def surface_points_ct(self) -> Array:
        """Points (N, 3) of the target's surface, mm: what distances between poses are taken of."""

    @property
    def neighbour_centres_ct(self) -> Sequence[Array]:
        """The centres (3,) of labelled vertebrae beside the target."""

    @property
    def background(self) -> Background | None:
        """What is rendered for all that is not a body; None where there is nothing."""

    def as_in_ct(self, ct_to_world: Array) -> Arrangement:
        """Return all bodies exactly as in the CT, moved as one piece."""

    def moved(self, arrangement: Arrangement, step: Array) -> Arrangement:
        """Return the arrangement after a step (P,) of the unknowns, or of the target's six."""

    def step_mm(self, step: Array) -> float:
        """Return how far a step (P,) moves what it moves the furthest."""

    def pictures(
        self,
        intrinsics: ArrayLike,
        ct_to_camera: ArrayLike,
        size: tuple[int, int],
        fidelity: Fidelity,
        arrangement: Arrangement | None = None,
    ) -> Tensor:
        """Render each body, the target first: (N, B, rows, columns).

        For N pairs of ``intrinsics`` (N, 3, 3) and ``ct_to_camera`` (N, 4, 4), all of one ``size``
        (columns, rows); of the arrangement only how the others have moved counts (None: as in the
        CT). May be as coarse as Gaussians where voxels are asked for.
        """

    def drawing(
        self,
        views: Sequence[StageView],
        arrangements: Sequence[Arrangement],
        options: RefineOptions,
    ) -> Drawing:
        """Render everything in views of one size, each with its own arrangement, with derivatives
        by what may move."""

    def prior(self, arrangement: Arrangement, options: RefineOptions) -> Prior | None:
        """Return what the arrangement costs by itself; None where nothing is held to a place."""

    def largest_shift_mm(self, arrangement: Arrangement) -> float:
        """Return how far the centre of any other body has moved in the CT frame."""
