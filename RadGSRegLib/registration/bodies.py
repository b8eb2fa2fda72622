"""The door for what is registered: which bodies there are, and what of them is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from ..geometry import Array, Rigid
from ..tensors import Lenses
from .options import Fidelity, RefineOptions

if TYPE_CHECKING:
    from ..views import Windows
    from .background import Background, RenderedBackground


@dataclass(frozen=True)
class Arrangement:
    """A hypothesis: where the target is, and how everything else has moved against it.

    ``ct_to_world`` (4, 4) of the target; ``shifts_ct`` one rigid (4, 4) per neighbour, and a last
    one for the background, that moves it within the CT frame before ``ct_to_world`` is applied (the
    identity: as in the CT). ``further`` (E,): the other unknowns of a source that has more.
    """

    ct_to_world: Array
    shifts_ct: tuple[Array, ...]
    further: Array = field(default_factory=lambda: np.zeros(0))

    @property
    def background_to_world(self) -> Array:
        """Where the background is (4, 4)."""
        return np.asarray(self.ct_to_world @ self.shifts_ct[-1])

    def with_target_at(self, ct_to_world: Array) -> Arrangement:
        """Return the target at a pose (4, 4), everything else where it is in the world."""
        back = Rigid(ct_to_world).inverse().matrix @ self.ct_to_world
        return Arrangement(ct_to_world, tuple(back @ shift for shift in self.shifts_ct))


@dataclass(frozen=True)
class Arrangements:
    """T arrangements on a device, float64: ``ct_to_world`` (T, 4, 4), ``shifts_ct`` (T, S, 4, 4),
    ``further`` (T, E), as in `Arrangement`."""

    ct_to_world: Tensor
    shifts_ct: Tensor
    further: Tensor

    @classmethod
    def of(cls, arrangements: Sequence[Arrangement], device: torch.device) -> Arrangements:
        """Take arrangements of one source to a device."""
        shifts = np.array([a.shifts_ct for a in arrangements], dtype=float)
        parts = (
            np.array([a.ct_to_world for a in arrangements], dtype=float),
            shifts.reshape(len(arrangements), -1, 4, 4),
            np.array([a.further for a in arrangements], dtype=float),
        )
        return cls(*(torch.from_numpy(part).to(device) for part in parts))

    def __len__(self) -> int:
        return len(self.ct_to_world)

    @property
    def background_to_world(self) -> Tensor:
        """Where the background is (T, 4, 4)."""
        return self.ct_to_world @ self.shifts_ct[:, -1]

    def part(self, index: Tensor) -> Arrangements:
        """Return some of them."""
        return Arrangements(self.ct_to_world[index], self.shifts_ct[index], self.further[index])

    def where(self, chosen: Tensor, others: Arrangements) -> Arrangements:
        """Return these where ``chosen`` (T,), else the others."""
        return Arrangements(
            torch.where(chosen[:, None, None], self.ct_to_world, others.ct_to_world),
            torch.where(chosen[:, None, None, None], self.shifts_ct, others.shifts_ct),
            torch.where(chosen[:, None], self.further, others.further),
        )

    def on_host(self) -> list[Arrangement]:
        """Return them as numbers on the host."""
        poses, shifts, further = (
            part.cpu().numpy() for part in (self.ct_to_world, self.shifts_ct, self.further)
        )
        each = zip(poses, shifts, further, strict=True)
        return [Arrangement(pose, tuple(own), more) for pose, own, more in each]


@dataclass(frozen=True)
class Drawing:
    """Pictures (N, rows, columns) of all bodies in N windows, and how they change.

    ``image``: everything; ``target`` and ``others``: the target alone, the other bodies together;
    ``slopes`` (N, M, rows, columns): derivatives of ``image`` by M motions; ``unknowns_to_motions``
    (N, M, P), float64: those motions from the P unknowns, of which the first six are the target's
    twist about its centre, along the axes of the CT.
    """

    image: Tensor
    target: Tensor
    others: Tensor
    slopes: Tensor
    unknowns_to_motions: Tensor


@dataclass(frozen=True)
class Prior:
    """What T arrangements cost before any X-ray counts, with derivatives by the unknowns, float64.

    ``cost`` (T,); ``gradient`` (T, P) is minus half its derivative, ``hessian`` (P, P), or
    (T, P, P), half its second one.
    """

    cost: Tensor
    gradient: Tensor
    hessian: Tensor


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
    def device(self) -> torch.device:
        """Where they are rendered, and where all that is compared with them is computed."""

    @property
    def background(self) -> Background | None:
        """What is rendered for all that is not a body; None where there is nothing."""

    def as_in_ct(self, ct_to_world: Array) -> Arrangement:
        """Return all bodies exactly as in the CT, moved as one piece."""

    def moved(self, arrangements: Arrangements, steps: Tensor) -> Arrangements:
        """Return the arrangements after steps (T, P) of the unknowns, or of the target's six."""

    def step_mm(self, steps: Tensor) -> Tensor:
        """Return how far steps (T, P) move what they move the furthest, (T,)."""

    def pictures(
        self,
        lenses: Lenses,
        ct_to_camera: Tensor,
        fidelity: Fidelity,
        arrangements: Arrangements | None = None,
    ) -> Tensor:
        """Render each body, the target first: (N, B, rows, columns).

        For N lenses and ``ct_to_camera`` (N, 4, 4); of the N arrangements only how the others have
        moved counts (None: as in the CT). May be as coarse as Gaussians where voxels are asked for.
        """

    def drawing(
        self,
        windows: Windows,
        background: RenderedBackground | None,
        arrangements: Arrangements,
        options: RefineOptions,
    ) -> Drawing:
        """Render everything in N windows, each with its own arrangement, with derivatives by what
        may move."""

    def prior(self, arrangements: Arrangements, options: RefineOptions) -> Prior | None:
        """Return what arrangements cost by themselves; None where nothing is held to a place."""

    def largest_shift_mm(self, arrangement: Arrangement) -> float:
        """Return how far the centre of any other body has moved in the CT frame."""
