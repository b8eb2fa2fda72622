"""How steep a display's curve is: seen from the contrast of details (not part of a reconstruction).

Where line integrals are wrong by a curve, details are too faint where it is too flat, and too
strong where it is too steep. What the other X-rays predict of a view (`consistency.predicted`) has
the same details behind other depths. So the gain of a view's details over those that are predicted,
grey level by grey level, says by how much the curve is too steep there, and is taken from it, in
rounds, with voxels and windows fitted again. Unlike a loss it does not prefer what is faint.

The gain is not 1 of right line integrals either: prediction loses more where details are weak or
beams few. So the same gain is measured on X-rays that are right for sure: renderings of a body that
is like the voxels, of tissue, air and bone alone, in the same views. The logarithm of the gain
less that one counts (measured: docs/experiments/beam.md, "The contrast of details").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from RadGSRegLib.drr import SystemMatrix
from RadGSRegLib.reconstruction import Box
from RadGSRegLib.tomography import bounds
from RadGSRegLib.tomography.algebraic import Penalty, solve
from RadGSRegLib.tomography.beams import Beams
from RadGSRegLib.tomography.bend import fault
from RadGSRegLib.tomography.consistency import predicted
from RadGSRegLib.tomography.display import Display, _blur
from RadGSRegLib.tomography.watch import Watch

_ROUNDS, _SOLVES = 5, 3
# This share of how much too steep a curve seems is taken from it in a round.
_SHARE_TAKEN = 0.8
# Of the body that prediction is measured on: a blur, voxels; bone is what exceeds tissue by the
# second, and has at least the third more than tissue and the fourth times what it exceeds.
_BODY_BLUR, _BONE_FROM, _BONE_LEAST, _BONE_GAIN = 0.5, 1.15, 0.1, 1.5
# Levels between which the gain is interpolated, and steps of the curve that comes of it.
_LEVELS, _STEPS = 6, 120
# Details, pixels: what is left of a blur so wide without one so wide. Pixels nearer to the rim are
# left out, and what differs between neighbours of this blur by more than most pixels.
_FINE_PX, _COARSE_PX, _EDGE_PX, _LEAST_WHOLE = 0.6, 2.5, 1.0, 0.97
# Of the fit of gains: what second differences of levels, levels and views have at most, about;
# so many pixels make one of evidence, and residuals count less from so many deviations on.
_SMOOTH, _LEVEL, _VIEW = 0.3, 1.0, 0.1
_PIXELS, _ROBUST, _NEWTON, _MOST_AT_ONCE = 30.0, 2.5, 6, 0.5


@dataclass(frozen=True)
class _Fit:
    display: Display
    voxels: Tensor
    rendered: Tensor


@dataclass(frozen=True)
class _Contrast:
    """The X-rays, which hold ranks, and what is measured of one device's."""

    beams: Beams
    grid: Box
    matrix: SystemMatrix
    penalty: Penalty
    device: int

    @property
    def mine(self) -> Tensor:
        """Which views (V,) the device made."""
        return ~self.beams.known & (self.beams.device == self.device)

    def lines(self, fit: _Fit) -> Beams:
        """The X-rays as line integrals."""
        beams = self.beams
        lines = fit.display.lines(beams.values, fit.rendered, beams.pixel_mm)
        known = beams.known[:, None, None]
        return beams.with_values(torch.where(known, beams.values, lines))

    def predicted(self, fit: _Fit, watch: Watch) -> tuple[Tensor | None, float]:
        """What is predicted of each view from the others, and what speaks against the fit."""
        lines, mine = self.lines(fit), self.mine
        images = predicted(lines, self.grid, report=watch)
        if images is None:
            return None, float("inf")
        weight = self.beams.weight[mine]
        return images, fault(images[mine], lines.values[mine], weight, fit.voxels)

    def steepness(self, fit: _Fit, images: Tensor, watch: Watch) -> Tensor | None:
        """By how much the curve is too steep at even levels of u: logarithms (levels,)."""
        mine, weight = self.mine, self.beams.weight[self.mine]
        u = fit.display.straightened(self.beams.values)[mine]
        right = self.beams.with_values(self.matrix.forward(like_a_body(fit.voxels)))
        expected = predicted(right, self.grid, report=watch)
        if expected is None:
            return None
        where = _flat(u, weight)
        gains = [
            log_gains(_details(shown[mine], weight), _details(of[mine], weight), u, where)
            for shown, of in ((self.lines(fit).values, images), (right.values, expected))
        ]
        return gains[0] - gains[1]

    def mended(self, fit: _Fit, steep: Tensor, watch: Watch) -> _Fit:
        """Fit voxels and windows with a curve that is less steep by ``steep`` (levels,)."""
        beams, mine, before = self.beams, self.mine, fit.display
        levels = np.linspace(0.0, 1.0, _LEVELS)
        even = np.linspace(0.0, 1.0, _STEPS + 1)
        slope = np.exp(-_SHARE_TAKEN * np.interp(even, levels, steep.cpu().numpy()))
        rise = np.concatenate([[0.0], np.cumsum(0.5 * (slope[1:] + slope[:-1]))])
        display = _recurved(before, self.device, rise / rise[-1])
        # Views vary as much as they did.
        wide = [_deviation(d.straightened(beams.values), beams.weight) for d in (before, display)]
        spans = before.log_span + torch.where(mine, (wide[0] / wide[1].clamp_min(1e-6)).log(), 0.0)
        display = display.holding([display.near, spans, display.log_scatter, display.knots])
        display = _centred(display, beams.values, beams.weight, fit.rendered, beams.pixel_mm, mine)
        now = _Fit(display, fit.voxels, fit.rendered)
        for number in range(_SOLVES):
            part = watch.part(number / _SOLVES, (number + 1) / _SOLVES)
            lines = self.lines(now).values
            voxels = solve(
                self.matrix, lines, beams.weight, now.voxels, 2, penalty=self.penalty, report=part
            )
            rendered = self.matrix.forward(voxels)
            display = now.display.rewindowed(
                beams.values, beams.weight, rendered, beams.pixel_mm, mine
            )
            now = _Fit(display, voxels, rendered)
        return now


def match_contrast(
    beams: Beams,
    grid: Box,
    voxels: Tensor,
    display: Display,
    penalty: Penalty,
    watch: Watch,
) -> tuple[Display, Tensor]:
    """Return the display whose curves are as steep as the contrast of details says, and the voxels
    (K, J, I) on ``grid`` with it.

    ``beams`` hold ranks. One device after the other, in a few rounds, each of which is kept where
    less speaks against it (`bend.fault`). Once the watch is late, what is known by then.
    """
    shape = (grid.size[2], grid.size[1], grid.size[0])
    matrix = SystemMatrix(beams.cameras, grid.index_to_world, shape, device=beams.values.device)
    now = _Fit(display, voxels, matrix.forward(voxels))
    devices = torch.unique(beams.device[~beams.known]).tolist()
    for number, device in enumerate(devices):
        part = watch.part(number / len(devices), (number + 1) / len(devices))
        now = _rounds(_Contrast(beams, grid, matrix, penalty, int(device)), now, part)
    return now.display, now.voxels


def _rounds(contrast: _Contrast, now: _Fit, watch: Watch) -> _Fit:
    images, against = contrast.predicted(now, watch.part(0.0, 0.1))
    for number in range(_ROUNDS):
        part = watch.part(0.1 + 0.9 * number / _ROUNDS, 0.1 + 0.9 * (number + 1) / _ROUNDS)
        if images is None or watch.late:
            break
        steep = contrast.steepness(now, images, part.part(0.0, 0.35))
        if steep is None:
            break
        ahead = contrast.mended(now, steep, part.part(0.35, 0.65))
        images, less = contrast.predicted(ahead, part.part(0.65, 1.0))
        if not less < against:
            break
        now, against = ahead, less
    return now


def like_a_body(voxels: Tensor) -> Tensor:
    """A body (K, J, I) of air, even soft tissue and bone, as voxels show them."""
    unit = bounds.TISSUE_MU
    relative = voxels.cpu().numpy() / unit
    middle = relative[tuple(slice(n // 4, 3 * n // 4) for n in relative.shape)]
    dense = middle[middle > bounds.TISSUE_SHARE]
    tissue = float(np.median(dense)) if dense.size else 1.0
    smooth = gaussian_filter(relative, _BODY_BLUR) / tissue
    excess = np.maximum(smooth - _BONE_FROM, 0.0)
    bone = np.where(excess > 0.0, _BONE_LEAST + _BONE_GAIN * excess, 0.0)
    body = tissue * unit * ((smooth > bounds.TISSUE_SHARE) + bone)
    return torch.from_numpy(body.astype(np.float32)).to(voxels)


def log_gains(shown: Tensor, of: Tensor, u: Tensor, where: Tensor) -> Tensor:
    """Logarithms (levels,) at even levels of ``u`` of the gain of details ``shown`` over details
    ``of``, less their mean, by robust regression with a gain for each view besides.

    All are (V, rows, columns); ``where``: which pixels count.
    """
    view = torch.arange(len(shown)).to(u.device)[:, None, None].expand_as(shown)[where]
    wanted, given, at = (x[where].double() for x in (shown, of, u))
    size = _LEVELS + len(shown)
    out = torch.zeros(size, dtype=torch.float64).to(u.device)
    power = (given * given).sum()
    if not float(power) > 0.0:
        return out[:_LEVELS]
    usual = ((wanted * given).sum() / power).clamp_min(1e-3).log()
    place = at.clamp(0.0, 1.0) * (_LEVELS - 1)
    low = place.floor().clamp(0, _LEVELS - 2).long()
    above = place - low
    columns = ((low, 1.0 - above), (low + 1, above), (_LEVELS + view, torch.ones_like(above)))
    rough = torch.eye(_LEVELS, dtype=torch.float64).diff(n=2, dim=0)
    prior = torch.eye(size, dtype=torch.float64) / _VIEW**2
    prior[:_LEVELS, :_LEVELS] = rough.T @ rough / _SMOOTH**2 + torch.eye(_LEVELS) / _LEVEL**2
    prior = prior.to(out)
    for _ in range(_NEWTON):
        gain = (usual + sum(share * out[which] for which, share in columns)).exp()
        off = wanted - gain * given
        noise = (1.4826 * off.abs().median()).clamp_min(1e-9)
        slope = gain * given
        counts = 1.0 / (1.0 + (off / (_ROBUST * noise)).square())
        hessian, right = torch.zeros(size * size).to(out), torch.zeros(size).to(out)
        for row, of_row in columns:
            right.index_add_(0, row, of_row * counts * slope * off)
            for column, of_column in columns:
                both = of_row * of_column * counts * slope.square()
                hessian.index_add_(0, row * size + column, both)
        held = _PIXELS * noise.square() * prior
        step = torch.linalg.solve(hessian.view(size, size) + held, right - held @ out)
        out = out + step.clamp(-_MOST_AT_ONCE, _MOST_AT_ONCE)
    levels = out[:_LEVELS]
    mean = ((1.0 - above) * levels[low] + above * levels[low + 1]).mean()
    return levels - mean


def _recurved(display: Display, device: int, places: np.ndarray) -> Display:
    """The display where u of a device is what ``places`` say, at even steps of what it was."""
    rising = functional.pad(
        functional.softmax(display.knots[device].double(), 0).cumsum(0), (1, 0)
    ).numpy()
    even = np.linspace(0.0, 1.0, len(rising))
    old = np.interp(even, places, np.linspace(0.0, 1.0, len(places)))
    curve = torch.from_numpy(np.interp(old, even, rising))
    knots = display.knots.clone()
    knots[device] = curve.diff().clamp_min(1e-6).log().to(knots)
    return display.holding([display.near, display.log_span, display.log_scatter, knots])


def _centred(
    display: Display,
    ranks: Tensor,
    weight: Tensor,
    rendered: Tensor,
    pixel_mm: float,
    which: Tensor,
) -> Display:
    """The display whose windows begin where views are on average what is rendered of them."""
    spans = display.log_span.exp()[:, None, None]
    apart = display._behind(rendered, pixel_mm) - spans * display.straightened(ranks)
    near = (weight * apart).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1.0)
    near = torch.where(which, near, display.near)
    return display.holding([near, display.log_span, display.log_scatter, display.knots])


def _blurred(images: Tensor, sigma: float) -> Tensor:
    rows, columns = images.shape[1:]
    return _blur(rows, sigma, images) @ images @ _blur(columns, sigma, images).T


def _details(x: Tensor, weight: Tensor) -> Tensor:
    fine, coarse = (
        _blurred(x * weight, px) / _blurred(weight, px).clamp_min(1e-3)
        for px in (_FINE_PX, _COARSE_PX)
    )
    return fine - coarse


def _flat(u: Tensor, weight: Tensor) -> Tensor:
    """Which pixels (V, rows, columns) lie away from the rim, and not where it is steepest."""
    whole = _blurred(weight, _COARSE_PX) > _LEAST_WHOLE
    smooth = _blurred(u, _EDGE_PX)
    down = torch.diff(smooth, dim=1, append=smooth[:, -1:])
    across = torch.diff(smooth, dim=2, append=smooth[:, :, -1:])
    steep = (down.square() + across.square()).sqrt()
    for n, here in enumerate(whole):
        if bool(here.any()):
            whole[n] = here & (steep[n] <= torch.quantile(steep[n][here], bounds.FLAT_SHARE))
    return whole


def _deviation(x: Tensor, weight: Tensor) -> Tensor:
    """Standard deviations (V,)."""
    total = weight.sum((1, 2)).clamp_min(1.0)
    mean = (weight * x).sum((1, 2)) / total
    return ((weight * (x - mean[:, None, None]).square()).sum((1, 2)) / total).sqrt()
