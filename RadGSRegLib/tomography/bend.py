"""How a display's curve bends: found by how well the X-rays then fit one volume.

The fit of `display` hardly tells it: voxels of 16 mm explain the ranks almost as well when the
lower half of a curve is drawn out and the upper half pressed together. Line integrals are then off
by a curve that all views share, and bone and soft tissue of different depths contradict each other.
So a few bends are tried on finer voxels, each with the windows that go with it, and the one is
taken that leaves the least unexplained of what the X-rays show (measured:
docs/experiments/beam.md, "The bend").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..drr import SystemMatrix
from .algebraic import Penalty, solve
from .beams import Beams
from .display import Display
from .watch import Watch

# Bends that are tried begin at none, this far apart; less than 1 keeps a curve rising.
_STEP, _MOST = 0.3, 0.95
_ROUNDS = 3


@dataclass(frozen=True)
class _Fit:
    """A display and voxels (K, J, I), and the share of the X-rays' variation that both leave
    unexplained."""

    display: Display
    voxels: Tensor
    unexplained: float = float("inf")


@dataclass(frozen=True)
class _Curve:
    """The curve of one device among X-rays that hold ranks, and where its bending starts."""

    beams: Beams
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
            part = watch.part(number / _ROUNDS, (number + 1) / _ROUNDS)
            lines = display.lines(beams.values, rendered, beams.pixel_mm)
            targets = torch.where(asked[:, None, None], lines, beams.values)
            voxels = solve(
                self.matrix, targets, beams.weight, voxels, 2, penalty=self.penalty, report=part
            )
            rendered = self.matrix.forward(voxels)
            display = display.rewindowed(beams.values, beams.weight, rendered, beams.pixel_mm, mine)
        lines = display.lines(beams.values, rendered, beams.pixel_mm)[mine]
        weight, left = beams.weight[mine], (rendered[mine] - lines).square()
        total = weight.sum((1, 2)).clamp_min(1.0)
        middle = ((weight * lines).sum((1, 2)) / total)[:, None, None]
        shown = (weight * (lines - middle).square()).sum((1, 2)).clamp_min(1e-9)
        return _Fit(display, voxels, float(((weight * left).sum((1, 2)) / shown).mean()))


def bend_display(
    beams: Beams,
    matrix: SystemMatrix,
    voxels: Tensor,
    display: Display,
    penalty: Penalty,
    watch: Watch,
) -> tuple[Display, Tensor]:
    """Return the display whose curves bend as the X-rays say, and the voxels (K, J, I) with it.

    ``beams`` hold ranks. One device after the other; once the watch is late, what is known by then.
    """
    now = _Fit(display, voxels)
    devices = torch.unique(beams.device[~beams.known]).tolist()
    for number, device in enumerate(devices):
        part = watch.part(number / len(devices), (number + 1) / len(devices))
        now = _search(_Curve(beams, matrix, penalty, now, int(device)), part)
    return now.display, now.voxels


def _search(curve: _Curve, watch: Watch) -> _Fit:
    """Walk downhill from no bend, and end at the lowest point of a parabola through the last three;
    the start where no time is left to compare two."""
    known: dict[float, _Fit] = {}

    def tried(bend: float, share: float) -> float:
        known[bend] = curve.bent(bend, watch.part(share, share + 0.1))
        return known[bend].unexplained

    for bend, share in ((0.0, 0.0), (_STEP, 0.2)):
        if watch.late:
            return curve.start
        tried(bend, share)
    way = _STEP if known[_STEP].unexplained < known[0.0].unexplained else -_STEP
    at = max(way, 0.0)
    while abs(at + way) < _MOST and not watch.late:
        ahead = round(at + way, 6)
        if tried(ahead, 0.35 + 0.45 * abs(ahead)) >= known[at].unexplained:
            break
        at = ahead
    low, high = round(at - _STEP, 6), round(at + _STEP, 6)
    if low in known and high in known and not watch.late:
        below, here, above = (known[n].unexplained for n in (low, at, high))
        tried(at + 0.5 * _STEP * (below - above) / max(below - 2.0 * here + above, 1e-12), 0.9)
    return min(known.values(), key=lambda fit: fit.unexplained)
