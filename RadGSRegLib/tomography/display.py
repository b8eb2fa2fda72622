"""What an unknown display made of the line integrals: fitted together with a coarse volume.

A device shows the signal behind the patient, primary and scatter, through one monotone curve, in a
window that it sets anew for every picture:

    signal = exp(-R) + s K(R),   u = (-log(signal) - near) / span,   grey = curve(u),

with line integrals R, ``near`` and ``span`` per view, ``curve`` per device (monotone, from 0 to 1,
``_KNOTS`` pieces) and scatter K, what the beam loses spread widely (B. Ohnesorge et al., Eur Radiol
9, 1999), of strength s per view. Grey values are first replaced by their ranks within the device,
so that every piece of the curve has as many pixels.

The model goes from the volume to the grey values and is compared there, where the data stand still.
The other way, from grey values to line integrals, a fit can always do better by making everything
fainter (measured: it does). What is wide is hardly in the data where all beams pass through a trunk
that no picture shows whole; what decides it is that most of a body is soft tissue: the volume is
pulled to tissue or air, whichever it resembles (measured: docs/experiments/beam.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ..drr import SystemMatrix
from . import bounds
from .algebraic import tissue_or_air
from .beams import Beams
from .watch import Watch

_KNOTS = 12
# Of the fit: weights of the penalties against a mean distance of ranks, and Adam's steps.
_TISSUE, _VARIATION, _CENTRE = 0.1, 1e-3, 0.05
_SMOOTH, _SCATTER, _SPAN, _NEAR = 1e-3, 0.01, 0.005, 3e-4
_RATE_VOXELS = 0.05
# Where it starts: the least attenuation behind a trunk, and the range of one picture.
_NEAR_START, _SPAN_START = 2.5, 4.5


class Lines(torch.autograd.Function):
    """Voxels to line integrals, with the transpose for the gradient."""

    @staticmethod
    def forward(ctx: object, voxels: Tensor, matrix: SystemMatrix) -> Tensor:
        ctx.matrix = matrix  # type: ignore[attr-defined]
        return matrix.forward(voxels.contiguous())

    @staticmethod
    @once_differentiable
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
        matrix: SystemMatrix = ctx.matrix  # type: ignore[attr-defined]
        return matrix.transpose(gradient.contiguous()), None


@dataclass
class Display:
    """The numbers of the model, of V views and D devices.

    ``near`` (V,), ``log_span`` (V,), ``log_scatter`` (V,) over the usual, ``knots`` (D, pieces)
    before the softmax that makes increments of them.
    """

    near: Tensor
    log_span: Tensor
    log_scatter: Tensor
    knots: Tensor
    device: Tensor

    @classmethod
    def start(cls, beams: Beams) -> Display:
        """Return the start: the same for all views, straight curves."""
        count, like = len(beams), beams.values
        return cls(
            torch.full((count,), _NEAR_START).to(like),
            torch.full((count,), float(np.log(_SPAN_START))).to(like),
            torch.zeros(count).to(like),
            torch.zeros(int(beams.device.max()) + 1, _KNOTS).to(like),
            beams.device,
        )

    def tensors(self) -> list[Tensor]:
        """All that is fitted."""
        return [self.near, self.log_span, self.log_scatter, self.knots]

    def holding(self, tensors: Sequence[Tensor]) -> Display:
        """Return one with other numbers, in the order of `tensors`."""
        near, log_span, log_scatter, knots = tensors
        return Display(near, log_span, log_scatter, knots, self.device)

    def some(self, index: Sequence[int]) -> Display:
        """Return that of some of the views."""
        i = list(index)
        return Display(
            self.near[i], self.log_span[i], self.log_scatter[i], self.knots, self.device[i]
        )

    def curves(self) -> Tensor:
        """Ranks (V, pieces + 1) at even steps of u from 0 to 1, of each view's device."""
        rising = functional.softmax(self.knots, 1).cumsum(1)
        return functional.pad(rising, (1, 0))[self.device]

    def bent(self, device: int, bend: float) -> Display:
        """Return one whose curve of a device is that of u + bend u (1 - u): with a bend above 0,
        up to 1, low values stand for more, and what is high is pressed together."""
        u = torch.linspace(0.0, 1.0, _KNOTS + 1, dtype=torch.float64)
        if bend != 0.0:
            root = ((1.0 + bend) ** 2 - 4.0 * bend * u).clamp_min(0.0).sqrt()
            u = (1.0 + bend - root) / (2.0 * bend)
        rising = functional.pad(
            functional.softmax(self.knots[device].double(), 0).cumsum(0), (1, 0)
        )
        place = (u.to(rising) * _KNOTS).clamp(0.0, _KNOTS)
        low = place.floor().clamp(0, _KNOTS - 1).long()
        curve = rising[low] + (place - low) * (rising[low + 1] - rising[low])
        knots = self.knots.clone()
        knots[device] = curve.diff().clamp_min(1e-6).log().to(knots)
        return Display(self.near, self.log_span, self.log_scatter, knots, self.device)

    @torch.no_grad()
    def rewindowed(
        self, ranks: Tensor, weight: Tensor, rendered: Tensor, pixel_mm: float, which: Tensor
    ) -> Display:
        """Return one with the windows that fit best what is ``rendered`` of its own views, of
        those that ``which`` (V,) says, no wider on average than they were: nothing else says how
        much all of a patient attenuates."""
        left = self._behind(rendered, pixel_mm)[which]
        usual = float(self.log_span[which].exp().mean())
        windows = _windows(self.straightened(ranks)[which], left, weight[which], usual)
        near, log_span = self.near.clone(), self.log_span.clone()
        near[which], log_span[which] = windows[0], windows[1].log()
        return self.holding([near, log_span, self.log_scatter, self.knots])

    def ranks(self, lines: Tensor, pixel_mm: float) -> Tensor:
        """Return what is shown (V, rows, columns) of line integrals; straight beyond the ends."""
        behind = self._behind(lines, pixel_mm)
        u = (behind - self.near[:, None, None]) / self.log_span.exp()[:, None, None]
        curve, place = self.curves(), (u * _KNOTS).flatten(1)
        piece = place.detach().floor().clamp(0, _KNOTS - 1).long()
        low, high = curve.gather(1, piece), curve.gather(1, piece + 1)
        return (low + (place - piece) * (high - low)).view_as(lines)

    def scatter(self, lines: Tensor, pixel_mm: float) -> Tensor:
        """Scatter (V, rows, columns) behind line integrals, in units of the open beam."""
        primary = torch.exp(-lines)
        spread = _spread(primary * lines.clamp_min(0.0), bounds.SCATTER_MM / pixel_mm)
        usual = (primary / spread.clamp_min(1e-9)).detach().flatten(1).median(1).values
        strength = bounds.SCATTER_TO_PRIMARY * usual * self.log_scatter.exp()
        return strength[:, None, None] * spread

    def straightened(self, ranks: Tensor) -> Tensor:
        """Return u (V, rows, columns) of ranks: the curves undone."""
        curve = self.curves()
        place = torch.searchsorted(curve, ranks.flatten(1).contiguous(), right=True) - 1
        place = place.clamp(0, _KNOTS - 1)
        low, high = curve.gather(1, place), curve.gather(1, place + 1)
        within = (ranks.flatten(1) - low) / (high - low).clamp_min(1e-6)
        return ((place + within.clamp(0.0, 1.0)) / _KNOTS).view_as(ranks)

    @torch.no_grad()
    def settled(
        self, ranks: Tensor, weight: Tensor, rendered: Tensor, device: Tensor, pixel_mm: float
    ) -> Display:
        """Return the display of other views of the same devices: the window that fits best what is
        ``rendered`` (V, rows, columns) of each."""
        count = len(ranks)
        zeros = torch.zeros(count).to(ranks)
        # Line integrals among them have no curve: any does.
        device = device.clamp(max=len(self.knots) - 1)
        other = Display(zeros, zeros, zeros, self.knots, device)
        u = other.straightened(ranks)
        near, span = _windows(u, other._behind(rendered, pixel_mm), weight)
        return Display(near, span.log(), zeros, self.knots, device)

    def _behind(self, lines: Tensor, pixel_mm: float) -> Tensor:
        """What line integrals (V, rows, columns) and their scatter leave of the beam: minus its
        logarithm."""
        return -torch.log((torch.exp(-lines) + self.scatter(lines, pixel_mm)).clamp_min(1e-6))

    @torch.no_grad()
    def lines(self, ranks: Tensor, rendered: Tensor, pixel_mm: float) -> Tensor:
        """Line integrals (V, rows, columns) that ranks stand for; scatter as of ``rendered``."""
        u = self.straightened(ranks)
        seen = self.near[:, None, None] + self.log_span.exp()[:, None, None] * u
        signal = torch.exp(-seen)
        least = (1.0 - bounds.MOST_SCATTER) * signal
        return -torch.log(torch.maximum(signal - self.scatter(rendered, pixel_mm), least))


def _windows(
    u: Tensor, behind: Tensor, weight: Tensor, mean_span: float | None = None
) -> tuple[Tensor, Tensor]:
    """The ``near`` and span (V,) of each view that fit best, by least squares; ``mean_span``: what
    the spans have on average."""
    total = weight.sum((1, 2)).clamp_min(1.0)
    mean_u, mean_behind = ((weight * x).sum((1, 2)) / total for x in (u, behind))
    off_u, off_behind = (
        weight * (x - mean[:, None, None]) for x, mean in ((u, mean_u), (behind, mean_behind))
    )
    power = (off_u * off_u).sum((1, 2)).clamp_min(1e-9)
    span = ((off_u * off_behind).sum((1, 2)) / power).clamp_min(1e-2)
    if mean_span is not None:
        span = span * mean_span / span.mean()
    return mean_behind - span * mean_u, span


def ranked(beams: Beams, sign: Tensor, among: Beams | None = None) -> Beams:
    """Return the views with grey values as ranks in [0, 1] within their device, bone bright.

    The ranks are those ``among`` other views of these devices, with the same ``sign``, where they
    are given. Line integrals that are known stay.
    """
    others = beams if among is None else among
    values = beams.values.clone()
    for number in range(int(beams.device.max()) + 1):
        mine = (beams.device == number) & ~beams.known
        if not bool(mine.any()):
            continue
        grey = (beams.values[mine] * sign[mine, None, None]).double()
        asked = others.device == number
        if not bool(asked.any()):
            continue
        pool = (others.values[asked] * sign[mine][0]).double()
        inside = pool[others.weight[asked] > 0]
        levels, first = torch.unique(inside, return_inverse=True)
        counts = torch.bincount(first, minlength=len(levels)).double()
        middle = (counts.cumsum(0) - 0.5 * counts) / counts.sum()
        where = torch.searchsorted(levels, grey.flatten()).clamp(0, len(levels) - 1)
        values[mine] = middle[where].view_as(grey).float()
    return beams.with_values(values)


def fit_display(
    beams: Beams,
    matrix: SystemMatrix,
    voxels: Tensor,
    display: Display,
    steps: int,
    *,
    rate: float,
    report: Watch | None = None,
) -> tuple[Display, Tensor, float]:
    """Fit a display and a coarse volume (K, J, I) to ranked views, by Adam.

    ``rate``: of the display's numbers at the first step. ``report`` hears the share done; where it
    has a deadline the rates follow the clock, and it ends then. Returns both, and the last loss.
    """
    unit = bounds.TISSUE_MU
    relative = (voxels / unit).clone().requires_grad_()
    free = [tensor.detach().clone().requires_grad_() for tensor in display.tensors()]
    fitted = display.holding(free)
    optimizer = torch.optim.Adam(
        [{"params": [relative], "lr": _RATE_VOXELS}, {"params": free, "lr": rate}],
        betas=(0.9, 0.98),
    )
    total = beams.weight.sum()
    span = beams.values[beams.known].std() if bool(beams.known.any()) else torch.tensor(1.0)
    known = beams.known[:, None, None]
    loss = torch.tensor(torch.inf)
    for step in range(steps):
        gone = step / steps
        if report is not None:
            report(gone)
            if report.late:
                break
            gone = max(gone, report.deadline.share)
        slower = 0.05 + 0.475 * (1.0 + np.cos(np.pi * gone))
        for group, full in zip(optimizer.param_groups, (_RATE_VOXELS, rate), strict=True):
            group["lr"] = full * slower
        lines = Lines.apply(relative.clamp_min(0.0) * unit, matrix)
        shown = torch.where(known, lines / span, fitted.ranks(lines, beams.pixel_mm))
        wanted = torch.where(known, beams.values / span, beams.values)
        misfit = ((shown - wanted).square() + 1e-5).sqrt()
        loss = (beams.weight * misfit).sum() / total + _penalty(relative, fitted)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        with torch.no_grad():
            relative.clamp_(0.0, 4.0)
    done = display.holding([tensor.detach() for tensor in free])
    return done, relative.detach() * unit, float(loss.detach())


def _penalty(relative: Tensor, display: Display) -> Tensor:
    """What is unlikely of a volume (in tissues) and of a display."""
    nearest = tissue_or_air(relative.detach() * bounds.TISSUE_MU) / bounds.TISSUE_MU
    apart = ((relative - nearest).square() + 4e-4).sqrt().mean()
    slopes = [(relative.diff(dim=axis).square() + 1e-3).sqrt().mean() for axis in range(3)]
    rough = torch.stack(slopes).sum()
    middle = relative[tuple(slice(2 * n // 5, 3 * n // 5 + 1) for n in relative.shape)]
    scale = torch.log(middle.mean().clamp_min(1e-3)).square()
    knots = display.knots
    bend = (knots[:, 2:] - 2.0 * knots[:, 1:-1] + knots[:, :-2]).square().mean()
    span = (display.log_span - float(np.log(_SPAN_START))).square().mean()
    near = (display.near - _NEAR_START).square().mean()
    return (
        _TISSUE * apart
        + _VARIATION * rough
        + _CENTRE * scale
        + _SMOOTH * bend
        + _SCATTER * display.log_scatter.square().mean()
        + _SPAN * span
        + _NEAR * near
    )


def _spread(source: Tensor, width: float) -> Tensor:
    """Spread (V, rows, columns) by a core of ``width`` pixels and a tail twice as wide."""
    rows, columns = source.shape[1:]
    core = _blur(rows, width, source) @ source @ _blur(columns, width, source).T
    tail = _blur(rows, 2.0 * width, source) @ source @ _blur(columns, 2.0 * width, source).T
    return 0.7 * core + 0.3 * tail


def _blur(size: int, sigma: float, like: Tensor) -> Tensor:
    """The matrix (size, size) of a Gaussian blur along a line whose ends go on."""
    reach = int(3.0 * sigma) + 1
    ends = np.pad(np.eye(size), [(reach, reach), (0, 0)], mode="edge")
    matrix = gaussian_filter1d(ends, sigma, axis=0, truncate=3.0)[reach : reach + size]
    return torch.from_numpy(matrix).to(like)
