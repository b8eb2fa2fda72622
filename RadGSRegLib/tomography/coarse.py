"""From coarse to fine: the display of X-rays, and the voxels that Gaussians are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..drr import SystemMatrix
from ..geometry import Array
from ..reconstruction import Box, Deadline, cube
from ..system import Progress
from . import bounds
from .algebraic import Penalty, solve
from .beams import Beams
from .bend import bend_display
from .consistency import contradictions
from .display import Display, fit_display, ranked
from .watch import Watch

_DISPLAY_STEPS, _DISPLAY_AGAIN = 300, 20
_DISPLAY_RATE, _DISPLAY_RATE_AGAIN = 0.2, 0.05


@dataclass(frozen=True)
class _Stage:
    """Voxels of ``voxel_mm`` from pictures thinned by ``factor``, in so many ``rounds``: voxels of
    about two pixels (docs/experiments/beam.md)."""

    voxel_mm: float
    factor: int
    rounds: int = 0


_COARSEST = _Stage(16.0, 4)
_COARSE = _Stage(8.0, 2, rounds=2)
_FINE = _Stage(4.0, 1, rounds=3)
# Of drawn bones no detail is asked for.
_BONES = _Stage(4.0, 2, rounds=3)


@dataclass(frozen=True)
class Coarse:
    """What is known before Gaussians are drawn.

    ``display`` is None where all X-rays are line integrals; ``lines`` are the X-rays as such;
    ``voxels`` (K, J, I) lie on ``grid``; ``sign`` (V,) says whether bone is bright; ``agreement``
    how well each X-ray is predicted from the others, and ``odd`` the names of those that contradict
    the rest and are left out of all that follows (`contradictions`). ``finished``: nothing was left
    out because time was up.
    """

    display: Display | None
    lines: Beams
    voxels: Tensor
    grid: Box
    sign: Tensor
    agreement: tuple[float, ...] = ()
    odd: tuple[str, ...] = ()
    finished: bool = True

    def without(self, odd: Sequence[int]) -> Coarse:
        """Return it without some X-rays, whose names are kept as ``odd``."""
        if not odd:
            return self
        rest = [n for n in range(len(self.lines)) if n not in odd]
        names = tuple(self.lines.names[n] for n in odd)
        display = None if self.display is None else self.display.some(rest)
        lines, sign = self.lines.some(rest), self.sign[rest]
        return replace(self, display=display, lines=lines, sign=sign, odd=names)


@dataclass(frozen=True)
class _Tried:
    """What came of one guess of polarities: the ``loss``, and by how much each view's ranks are
    missed (V,)."""

    loss: float
    misfit: Tensor
    coarse: Coarse


def coarse_volume(
    beams: Beams, centre_world: Array, report: Progress, deadline: Deadline | None = None
) -> Coarse:
    """Find the display curves, and all that the beams cross in voxels of 4 mm.

    Once ``deadline`` has passed, what is left of it is left out, the finest voxels first of all.
    """
    until = deadline or Deadline(None)
    now, few = lines_to_compare(beams, centre_world, report.part(0.0, 0.55), until)
    comparing = "comparing the X-rays with each other"
    checking = Watch(report.part(0.55, 0.65), comparing, until)
    agreed, odd = contradictions(few, now.grid, report=checking)
    now = replace(now, agreement=tuple(agreed)).without(odd)
    now = _refined(now, _FINE, centre_world, report.part(0.65, 1.0), until)
    lines = as_lines(now.lines, now.display, _matrix(now.lines, now.grid).forward(now.voxels))
    return replace(now, lines=lines, finished=now.finished and not until.struck)


def lines_to_compare(
    beams: Beams, centre_world: Array, report: Progress, until: Deadline
) -> tuple[Coarse, Beams]:
    """Return voxels of 8 mm with the display curves, and the X-rays as line integrals on wide
    pixels, as `contradictions` compares them."""
    if bool(beams.known.all()):
        now = _empty(beams, centre_world)
    else:
        now = _coarsest(beams, centre_world, report.part(0.0, 0.55), until)
    now = _refined(now, _COARSE, centre_world, report.part(0.55, 0.73), until)
    now = _bent(now, report.part(0.73, 1.0), until)
    few = now.lines.thinned(_COARSE.factor)
    return now, as_lines(few, now.display, _matrix(few, now.grid).forward(now.voxels))


def _bent(now: Coarse, report: Progress, until: Deadline) -> Coarse:
    """The curves of the display bent as the X-rays say."""
    if now.display is None:
        return now
    few = now.lines.thinned(_COARSE.factor)
    watch = Watch(report, "the bend of the display curve", until)
    penalty = _penalty(few, _COARSE)
    display, voxels = bend_display(few, now.grid, now.voxels, now.display, penalty, watch)
    return replace(now, display=display, voxels=voxels)


def _penalty(beams: Beams, stage: _Stage) -> Penalty:
    """Fewer and wider pixels: as many times less data for the same penalties."""
    usual, fewer = Penalty(), stage.factor**2
    return Penalty(usual.tv / fewer, usual.pull / fewer, not beams.bone_alone)


def coarse_bones(beams: Beams, centre_world: Array, report: Progress, until: Deadline) -> Coarse:
    """Find voxels of 4 mm of bones, from X-rays that show the line integrals of bone alone."""
    now = _empty(beams, centre_world)
    for stage, share in ((_COARSE, (0.0, 0.3)), (_BONES, (0.3, 1.0))):
        now = _refined(now, stage, centre_world, report.part(*share), until)
    return replace(now, finished=not until.struck)


def _empty(beams: Beams, centre_world: Array) -> Coarse:
    """Nothing yet, of X-rays that are line integrals."""
    grid = _region(centre_world, _COARSE.voxel_mm)
    voxels = torch.zeros(_shape(grid), device=beams.values.device)
    return Coarse(None, beams, voxels, grid, beams.sign)


def as_lines(beams: Beams, display: Display | None, rendered: Tensor) -> Beams:
    """Return the X-rays as line integrals; ``rendered`` (V, rows, columns) says their scatter."""
    if display is None:
        return beams
    lines = display.lines(beams.values, rendered, beams.pixel_mm)
    return beams.with_values(torch.where(beams.known[:, None, None], beams.values, lines))


def _refined(
    now: Coarse, stage: _Stage, centre_world: Array, report: Progress, until: Deadline
) -> Coarse:
    """Finer voxels of the same views; the display once more where voxels are still coarse."""
    watch = Watch(report, "a coarse volume", until)
    if watch.late:
        return now
    few, display = now.lines.thinned(stage.factor), now.display
    grid = _region(centre_world, stage.voxel_mm)
    voxels = now.voxels
    if tuple(voxels.shape) != _shape(grid):
        finer = functional.interpolate(voxels[None, None], size=_shape(grid), mode="trilinear")
        voxels = finer[0, 0].contiguous()
    matrix = _matrix(few, grid)
    penalty = _penalty(few, stage)
    for number in range(stage.rounds):
        watch(number / stage.rounds)
        part = watch.part(number / stage.rounds, (number + 1) / stage.rounds)
        if part.late:
            break
        lines = as_lines(few, display, matrix.forward(voxels))
        voxels = solve(
            matrix, lines.values, few.weight, voxels, 2, penalty=penalty, report=part.part(0.0, 0.6)
        )
        if display is not None and stage is _COARSE:
            display, voxels, _ = fit_display(
                few,
                matrix,
                voxels,
                display,
                _DISPLAY_AGAIN,
                rate=_DISPLAY_RATE_AGAIN,
                report=replace(part.part(0.6, 1.0), deadline=Deadline(until.left_s)),
            )
    return replace(now, display=display, voxels=voxels, grid=grid)


def _coarsest(beams: Beams, centre_world: Array, report: Progress, until: Deadline) -> Coarse:
    """Display and volume of the coarsest stage, with the polarities that fit best.

    All devices whose polarity is unknown are guessed alike, either way; where they do not all fit
    better the same way, a third fit gives each its own. Where time is short each fit has its share
    of half of it.
    """
    grid = _region(centre_world, _COARSEST.voxel_mm)
    unknown = beams.sign == 0
    several = len(torch.unique(beams.device[unknown])) > 1
    alike = [torch.where(unknown, guess, beams.sign) for guess in (1, -1)]
    guesses = alike if bool(unknown.any()) else [beams.sign]
    most = len(guesses) + several
    each_s = None if until.left_s is None else 0.5 * until.left_s / most
    tried: list[_Tried] = []
    for number in range(most):
        if number == len(guesses):
            mixed = _each_its_own(beams, tried)
            if any(torch.equal(mixed, sign) for sign in guesses):
                break
            guesses.append(mixed)
        part = report.part(number / most, (number + 1) / most)
        watch = Watch(part, "the display curve", Deadline(each_s))
        shown = ranked(beams, guesses[number])
        few = shown.thinned(_COARSEST.factor)
        matrix = _matrix(few, grid)
        display, voxels, loss = fit_display(
            few,
            matrix,
            _trunk(grid, beams.values.device),
            Display.start(few),
            _DISPLAY_STEPS,
            rate=_DISPLAY_RATE,
            report=watch,
        )
        off = (display.ranks(matrix.forward(voxels), few.pixel_mm) - few.values).abs()
        now = Coarse(display, shown, voxels, grid, guesses[number])
        now = replace(now, finished=not watch.deadline.struck)
        tried.append(_Tried(loss, (few.weight * off).sum((1, 2)), now))
    finished = all(fit.coarse.finished for fit in tried)
    return replace(min(tried, key=lambda fit: fit.loss).coarse, finished=finished)


def _each_its_own(beams: Beams, tried: Sequence[_Tried]) -> Tensor:
    """Signs (V,): for each device those of the fit that explains its views best."""
    sign = beams.sign.clone()
    for device in torch.unique(beams.device[beams.sign == 0]).tolist():
        mine = (beams.device == device) & (beams.sign == 0)
        best = min(tried, key=lambda fit: float(fit.misfit[mine].sum()))
        sign[mine] = best.coarse.sign[mine]
    return sign


def _region(centre_world: Array, spacing_mm: float) -> Box:
    return cube(centre_world, bounds.REGION_MM, spacing_mm)


def _shape(grid: Box) -> tuple[int, int, int]:
    return grid.size[2], grid.size[1], grid.size[0]


def _matrix(beams: Beams, grid: Box) -> SystemMatrix:
    device = beams.values.device
    return SystemMatrix(beams.cameras, grid.index_to_world, _shape(grid), device=device)


def _trunk(grid: Box, device: torch.device) -> Tensor:
    """Something to start from: an upright cylinder of soft tissue."""
    axes = [grid.lower[a] + grid.spacing_mm * (np.arange(n) + 0.5) for a, n in enumerate(grid.size)]
    x, y = axes[0] - grid.centre[0], axes[1] - grid.centre[1]
    disc = x[None, :] ** 2 + y[:, None] ** 2 < (0.35 * bounds.REGION_MM) ** 2
    full = np.broadcast_to(disc, _shape(grid)).astype(np.float32)
    return torch.from_numpy(0.9 * bounds.TISSUE_MU * full).to(device)
