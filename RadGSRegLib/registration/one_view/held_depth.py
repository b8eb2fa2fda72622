"""A guest of the door for steps: all moves but the target along a line of sight."""

from __future__ import annotations

import torch
from torch import Tensor

from ...geometry import Array
from ..steps import DAMPING, StretchedGaussNewton


class HeldDepth(StretchedGaussNewton):
    """Steps that leave the target's centre where it is along an axis of the CT.

    Along the line of sight the pictures change a thousandth as much as across it, so that steps
    that are right across it go astray or stand still along it: even from the truth they end 13 mm
    from it in the root mean square (docs/experiments/one-view.md).

    ``along_ct`` (3,), a unit vector; the first six unknowns are the target's twist, along the CT's
    axes.
    """

    def __init__(
        self, along_ct: Array, stretch: Tensor | None = None, damping: float = DAMPING
    ) -> None:
        super().__init__(stretch, damping)
        self._along_ct = along_ct

    def renewed(self) -> HeldDepth:
        """Return one that begins with the stretch that this one has learned."""
        return HeldDepth(self._along_ct, self._stretch, self._damping)

    def part(self, index: Tensor) -> HeldDepth:
        """Return one for some of the trials, with their stretch."""
        kept = None if self._stretch is None else self._stretch[index]
        return HeldDepth(self._along_ct, kept, self._damping)

    def step(self, gradient: Tensor, matrix: Tensor) -> Tensor:
        """Return the steps (T, P) to try, none of them along the axis."""
        along = self._along(gradient)
        across = _across(along)
        # Stiff along the axis, which the equations no longer hold.
        stiff = matrix.diagonal(dim1=-2, dim2=-1).amax(-1)[:, None, None] * torch.outer(
            along, along
        )
        return super().step(gradient @ across, across @ matrix @ across + stiff) @ across

    def learn(
        self, step: Tensor, fall: Tensor, before: Tensor, after: Tensor, among: Tensor
    ) -> Tensor:
        """Take in what steps brought, as in `Stepper`; changes along the axis are none of it."""
        across = _across(self._along(before))
        return super().learn(step, fall, before @ across, after @ across, among)

    def _along(self, gradient: Tensor) -> Tensor:
        """The axis among the unknowns (P,)."""
        along = torch.zeros_like(gradient[0])
        along[3:6] = torch.from_numpy(self._along_ct).to(along)
        return along


def _across(along: Tensor) -> Tensor:
    """The projection (P, P) that takes an axis (P,) out."""
    return torch.eye(len(along), dtype=along.dtype, device=along.device) - torch.outer(along, along)
