"""How a display's curve bends: found by what comes of it.

The fit of `display` hardly tells it: voxels of 16 mm explain the ranks almost as well when the
lower half of a curve is drawn out and the upper half pressed together. Line integrals are then off
by a curve that all views share, and bone and soft tissue of different depths contradict each other.
So bends are tried on finer voxels, each with the windows that go with it. Two things say which is
right: X-rays are predicted well from the others (`consistency.predicted`), and what is in the
middle of the volume looks like soft tissue or air. Either alone goes astray, the first by too
little, the second by too much. How much of the X-rays that were fitted stays unexplained says
neither: few views fit any bend (measured: docs/experiments/beam.md, "The bend").
"""

from __future__ import annotations

from dataclasses import dataclass

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

# Each bend that is tried is the last one bent by this much more; so many are tried at most.
_STEP, _MOST_STEPS = 0.3, 6
_ROUNDS = 3


@dataclass(frozen=True)
class _Fit:
    """A display and voxels (K, J, I), and how little speaks for them: the share of its views'
    variation that is not predicted from the others (of the median view), times the square of how
    unlike tissue or air the voxels are."""

    display: Display
    voxels: Tensor
    fault: float = float("inf")


@dataclass(frozen=True)
class _Curve:
    """The curve of one device among X-rays that hold ranks."""

    beams: Beams
    grid: Box
    matrix: SystemMatrix
    penalty: Penalty
    device: int

    def bent(self, start: _Fit, bend: float, watch: Watch) -> _Fit:
        """Fit voxels and the device's windows with the curve of ``start`` bent, in turn."""
        display, voxels, beams = start.display.bent(self.device, bend), start.voxels, self.beams
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
        against = fault(images[mine], known.values[mine], beams.weight[mine], voxels)
        return _Fit(display, voxels, against)


def fault(images: Tensor, lines: Tensor, weight: Tensor, voxels: Tensor) -> float:
    """How little speaks for line integrals (V, rows, columns) and the voxels (K, J, I) of them: the
    share of the median view's variation that ``images``, predicted from the others, do not have,
    times the square of how unlike tissue or air the voxels are."""
    total = weight.sum((1, 2)).clamp_min(1.0)
    middle = ((weight * lines).sum((1, 2)) / total)[:, None, None]
    shown = (weight * (lines - middle).square()).sum((1, 2)).clamp_min(1e-9)
    missed = (weight * (images - lines).square()).sum((1, 2)) / shown
    return float(missed.median()) * unlike_tissue(voxels) ** 2


def unlike_tissue(voxels: Tensor) -> float:
    """How little the middle of voxels (K, J, I) looks like soft tissue or air, whatever the tissue
    has: the mean of log(1 + d / 0.1), d the difference from the nearer of the two in tissues."""
    middle = voxels[tuple(slice(n // 4, 3 * n // 4) for n in voxels.shape)]
    dense = middle[middle > bounds.TISSUE_SHARE * bounds.TISSUE_MU]
    if not len(dense):
        return float("inf")
    tissue = dense.median()
    nearest = tissue * (middle > bounds.TISSUE_SHARE * tissue)
    return float(torch.log1p((middle - nearest).abs() / (bounds.LIKE_TISSUE * tissue)).mean())


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
        now = _search(_Curve(beams, grid, matrix, penalty, int(device)), now, part)
    return now.display, now.voxels


def _search(curve: _Curve, start: _Fit, watch: Watch) -> _Fit:
    """Walk downhill from the curve as it is, to one side, and to the other where that is up; the
    start where no time is left to compare, and where no bend gains enough."""
    straight = curve.bent(start, 0.0, watch.part(0.0, 0.15))
    best, tried = straight, 1
    for way in (_STEP, -_STEP):
        while tried <= _MOST_STEPS and not watch.late:
            share = 1.0 - 0.85**tried
            ahead = curve.bent(best, way, watch.part(share, share + 0.1))
            tried += 1
            if not ahead.fault < best.fault:
                break
            best = ahead
        if best is not straight:
            break
    return best if best.fault < bounds.WORTH_BENDING * straight.fault else start
