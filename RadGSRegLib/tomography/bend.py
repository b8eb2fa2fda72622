"""How a display's curve bends: found by how well X-rays are then predicted from the others.

The fit of `display` hardly tells it: voxels of 16 mm explain the ranks almost as well when the
lower half of a curve is drawn out and the upper half pressed together. Line integrals are then off
by a curve that all views share, and bone and soft tissue of different depths contradict each other.
So a few bends are tried on finer voxels, each with the windows that go with it, and the one is
taken with which X-rays are predicted best from the others (`consistency.predicted`). How much of
the X-rays that were fitted stays unexplained is not enough: few views fit any bend (measured:
docs/experiments/beam.md, "The bend").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..drr import SystemMatrix
from ..reconstruction import Box
from . import bounds
from .algebraic import Penalty, solve
from .beams import Beams
from .consistency import predicted
from .display import Display
from .watch import Watch

# Bends that are tried begin at none, this far apart; less than 1 keeps a curve rising.
_STEP, _MOST = 0.3, 0.95
_ROUNDS = 3


@dataclass(frozen=True)
class _Fit:
    """A display and voxels (K, J, I), and what share of its views' variation is not predicted from
    the others (of the median view)."""

    display: Display
    voxels: Tensor
    missed: float = float("inf")


@dataclass(frozen=True)
class _Curve:
    """The curve of one device among X-rays that hold ranks, and where its bending starts."""

    beams: Beams
    grid: Box
    matrix: SystemMatrix
    penalty: Penalty
    start: _Fit
    device: int

    def bent(self, bend: float, watch: Watch) -> _Fit:
        """Fit voxels and the device's windows with the curve bent, in turn."""
        display, voxels, beams = (
            self.start.display.bent(self.device, bend),
            self.start.voxels,
            self.beams,
        )
        asked = ~beams.known
        mine = asked & (beams.device == self.device)
        rendered = self.matrix.forward(voxels)
        for number in range(_ROUNDS):
            part = watch.part(number / (2 * _ROUNDS), (number + 1) / (2 * _ROUNDS))
            lines = display.lines(beams.values, rendered, beams.pixel_mm)
            targets = torch.where(asked[:, None, None], lines, beams.values)
            voxels = solve(
                self.matrix, targets, beams.weight, voxels, 2, penalty=self.penalty, report=part
            )
            rendered = self.matrix.forward(voxels)
            display = display.rewindowed(beams.values, beams.weight, rendered, beams.pixel_mm, mine)
        lines = display.lines(beams.values, rendered, beams.pixel_mm)
        known = beams.with_values(torch.where(asked[:, None, None], lines, beams.values))
        images = predicted(known, self.grid, report=watch.part(0.5, 1.0))
        if images is None:
            return _Fit(display, voxels)
        weight, wanted = beams.weight[mine], known.values[mine]
        total = weight.sum((1, 2)).clamp_min(1.0)
        middle = ((weight * wanted).sum((1, 2)) / total)[:, None, None]
        shown = (weight * (wanted - middle).square()).sum((1, 2)).clamp_min(1e-9)
        missed = (weight * (images[mine] - wanted).square()).sum((1, 2)) / shown
        return _Fit(display, voxels, float(missed.median()))


def bend_display(
    beams: Beams,
    grid: Box,
    voxels: Tensor,
    display: Display,
    penalty: Penalty,
    watch: Watch,
) -> tuple[Display, Tensor]:
    """Return the display whose curves bend as the X-rays say, and the voxels (K, J, I) on ``grid``
    with it.

    ``beams`` hold ranks. One device after the other; once the watch is late, what is known by then.
    """
    now = _Fit(display, voxels)
    shape = (grid.size[2], grid.size[1], grid.size[0])
    matrix = SystemMatrix(beams.cameras, grid.index_to_world, shape, device=beams.values.device)
    devices = torch.unique(beams.device[~beams.known]).tolist()
    for number, device in enumerate(devices):
        part = watch.part(number / len(devices), (number + 1) / len(devices))
        now = _search(_Curve(beams, grid, matrix, penalty, now, int(device)), part)
    return now.display, now.voxels


def _search(curve: _Curve, watch: Watch) -> _Fit:
    """Walk downhill from no bend, and end at the lowest point of a parabola through the last three;
    the start where no time is left to compare, and where no bend gains enough."""
    known: dict[float, _Fit] = {}

    def tried(bend: float, share: float) -> float:
        known[bend] = curve.bent(bend, watch.part(share, share + 0.15))
        return known[bend].missed

    for number, bend in enumerate((0.0, _STEP, -_STEP)):
        if watch.late:
            return curve.start
        tried(bend, 0.2 * number)
    at = min(known, key=lambda bend: known[bend].missed)
    while at != 0.0 and abs(at) + _STEP < _MOST and not watch.late:
        ahead = round(at + np.copysign(_STEP, at), 6)
        if tried(ahead, 0.35 + 0.35 * abs(ahead)) >= known[at].missed:
            break
        at = ahead
    low, high = round(at - _STEP, 6), round(at + _STEP, 6)
    if low in known and high in known and not watch.late:
        below, here, above = (known[n].missed for n in (low, at, high))
        curved = below - 2.0 * here + above
        if curved > 0.0:
            tried(at + 0.5 * _STEP * (below - above) / curved, 0.85)
    best = min(known.values(), key=lambda fit: fit.missed)
    return best if best.missed < bounds.WORTH_BENDING * known[0.0].missed else curve.start
