"""From mass lengths to pictures, many at once, on any device: what `imaging` does, in torch.

Each step is that of the full simulator, pixel for pixel but for its noise and for two medians,
which are taken of every sixteenth pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from ..system import median_among, tail_quantile
from .drawing import Drawn
from .imaging import SCATTER_MM, collimator_mask
from .materials import mass_attenuation
from .parameters import SimulationParameters
from .pixels import CLEAN_KEV
from .rays import MassLengths, detect
from .rays import mass_lengths as mass_lengths
from .spectrum import FIRST_KEV, STEP_KEV, tungsten_spectrum

_MATERIALS = ("soft", "bone", "iron")
# Medians are of every fourth pixel along each axis: they scale scatter and noise, which are drawn
# from ranges whose upper end is up to eight times the lower. Measured (test_simulation_batch.py):
# scatter differs by less than 12 %.
_STRIDE = 4
# How far the display's window and its floor are from the ends of the values (`random_display`).
_TAIL = 0.03
_FLOOR_SHARE = 0.001


@dataclass(frozen=True)
class Chains:
    """What happens to each of P pictures behind the patient: numbers (P,) and (P, energies) on a
    device, and the ``collimators`` (P, rows, columns), None where all are open.

    ``weights``: of each energy in the signal; those of a single energy are line integrals without
    scatter, noise and display.
    """

    numbers: dict[str, Tensor]
    weights: Tensor
    coefficients: Tensor
    seeds: Tensor
    collimators: Tensor | None
    reach: int
    """Of the widest blur, pixels."""
    scatter_px: float

    @classmethod
    def of(
        cls,
        cases: Sequence[tuple[SimulationParameters, Drawn, int]],
        device: torch.device | str,
    ) -> Chains:
        """Gather them of drawn cases and their seeds, the views of the first case first."""
        rows, spectra, seeds, masks = [], [], [], []
        size = next(iter(cases[0][1].cameras.values())).size
        for p, drawn, seed in cases:
            finish, curve = drawn.finish, drawn.finish.curve
            row = {
                "poly": float(drawn.filter_mm is not None),
                "scatter": finish.scatter,
                "photons": finish.photons,
                "electronic": finish.electronic,
                "blur": finish.blur_mm / p.pixel_mm,
                "logarithm": float(curve.logarithm),
                "gamma": curve.gamma,
                "sigmoid": curve.sigmoid,
                "low": curve.window[0],
                "high": 1.0 - curve.window[1],
                "air": curve.air,
                "bright": float(curve.bone_bright),
                "levels": 2.0**curve.bits - 1.0,
            }
            generator = np.random.default_rng([seed, 79])
            spectrum = _spectrum(drawn.kvp, drawn.filter_mm)
            for _ in drawn.cameras:
                rows.append(row)
                spectra.append(spectrum)
                seeds.append(int(generator.integers(2**31)))
                masks.append(collimator_mask(finish.collimator, size[1], size[0], generator))
        energies = max(len(weights) for weights in spectra)
        weights = np.stack([np.pad(w, (0, energies - len(w))) for w in spectra])
        table = torch.from_numpy(np.array([list(row.values()) for row in rows])).float().to(device)
        closed = any(drawn.finish.collimator != "none" for _, drawn, _ in cases)
        sigma = max(row["blur"] for row in rows)
        return cls(
            dict(zip(rows[0], table.T.contiguous(), strict=True)),
            torch.from_numpy(weights).float().to(device),
            torch.from_numpy(_coefficients(energies)).float().to(device),
            torch.tensor(seeds, dtype=torch.int32, device=device),
            torch.from_numpy(np.stack(masks)).to(device) if closed else None,
            int(4.0 * sigma + 0.5) if sigma > 0 else 0,
            SCATTER_MM / cases[0][0].pixel_mm,
        )


@torch.no_grad()
def expose(lengths: MassLengths, chains: Chains) -> Tensor:
    """Make pictures (P, rows, columns) of mass lengths: grey values, or line integrals of those
    with a single energy."""
    passed = torch.stack([lengths.soft, lengths.bone, lengths.steel], dim=1).flatten(2)
    attenuation = torch.matmul(chains.coefficients[:1], passed).clamp_min(0.0)
    attenuation = attenuation.view_as(lengths.soft)
    numbers = {name: values[:, None, None] for name, values in chains.numbers.items()}
    poly = numbers["poly"] > 0
    if chains.weights.shape[1] == 0:
        return attenuation
    signal = _transmitted(passed.clamp_min(0.0), chains).view_as(lengths.soft)
    signal = _with_scatter(signal, numbers["scatter"], chains.scatter_px)
    signal = _blurred(signal, chains.numbers["blur"], chains.reach)
    signal = _detected(signal, chains)
    grey = _displayed(signal, numbers, chains.collimators)
    return torch.where(poly, grey, attenuation)


def _transmitted(passed: Tensor, chains: Chains) -> Tensor:
    """The share (P, N) of the signal that passes mass lengths (P, 3, N): Beer-Lambert's law."""
    depths = torch.matmul(chains.coefficients[1:], passed)
    return torch.bmm(chains.weights[:, None], depths.neg_().exp_())[:, 0]


def _with_scatter(primary: Tensor, ratio: Tensor, width_px: float) -> Tensor:
    """`imaging.add_scatter`."""
    p = primary.clamp(1e-6, 1.0)
    source = -p * p.log()
    near, far = (_on(matrix, p) for matrix in _scatter_matrices(p.shape[1], width_px))
    if p.shape[2] == p.shape[1]:
        near_along, far_along = near, far
    else:
        near_along, far_along = (_on(m, p) for m in _scatter_matrices(p.shape[2], width_px))
    scatter = 0.7 * (near @ source @ near_along.T) + 0.3 * (far @ source @ far_along.T)
    few, some = (x[:, ::_STRIDE, ::_STRIDE].flatten(1) for x in (p, scatter))
    now = median_among(some / few, few < 0.6).clamp_min(1e-9)[:, None, None]
    return primary + scatter * (ratio / now)


def _blurred(signal: Tensor, sigma: Tensor, reach: int) -> Tensor:
    """A Gaussian blur of each picture's own ``sigma`` (P,) pixels, as scipy's."""
    if reach == 0:
        return signal
    offsets = torch.arange(-reach, reach + 1, device=signal.device)
    wide = sigma[:, None].clamp_min(1e-6)
    taps = torch.exp(-0.5 * (offsets / wide) ** 2)
    taps = taps * (offsets.abs() <= (4.0 * wide + 0.5).floor())
    taps = taps / taps.sum(1, keepdim=True)
    rows, columns = (
        torch.einsum("pk,kij->pij", taps, _on(_shifts(n, reach), signal)) for n in signal.shape[1:]
    )
    return rows @ signal @ columns.transpose(1, 2)


def _detected(signal: Tensor, chains: Chains) -> Tensor:
    """`imaging.add_noise`; pictures that no photons are counted of stay."""
    few = signal[:, ::_STRIDE, ::_STRIDE].flatten(1)
    behind = signal < 0.6 * signal.amax((1, 2), keepdim=True)
    enough = behind.sum((1, 2)) > 100
    among = behind[:, ::_STRIDE, ::_STRIDE].flatten(1) | ~enough[:, None]
    reference = median_among(few, among).clamp_min(1e-9)
    numbers = chains.numbers
    return detect(signal, numbers["photons"] / reference, numbers["electronic"], chains.seeds)


def _displayed(signal: Tensor, numbers: dict[str, Tensor], open_beam: Tensor | None) -> Tensor:
    """`imaging.DisplayCurve` and the collimator."""
    flat = signal.flatten(1)
    whole = torch.ones_like(flat, dtype=torch.bool)
    shown = whole if open_beam is None else open_beam.flatten(1) > 0.5
    each = {name: values[:, 0, 0] for name, values in numbers.items()}
    floor = tail_quantile(flat, whole, torch.full_like(each["low"], _FLOOR_SHARE), _FLOOR_SHARE)
    floor = 0.5 * floor.clamp_min(1e-6)
    low = tail_quantile(flat, shown, each["low"], _TAIL)
    high = tail_quantile(flat, shown, each["high"], -_TAIL)
    body = shown & (flat < 0.4)
    behind = tail_quantile(flat, body, each["high"], -_TAIL)
    thick = body.float().mean(1) > 0.05

    def curve(x: Tensor) -> Tensor:
        bounded = torch.maximum(x, floor.view(-1, *[1] * (x.dim() - 1)))
        power = bounded ** each["gamma"].view(-1, *[1] * (x.dim() - 1))
        logarithm = each["logarithm"].view(-1, *[1] * (x.dim() - 1)) > 0
        return torch.where(logarithm, bounded.log(), power)

    low, high, behind = curve(low), curve(high), curve(torch.where(thick, behind, high))
    high = behind + torch.where(thick, each["air"], 1.0) * (high - behind)
    span = (high - low).clamp_min(1e-9)
    y = ((curve(signal) - low[:, None, None]) / span[:, None, None]).clamp(0.0, 1.0)
    steep = numbers["sigmoid"]
    bend, edge = torch.sigmoid(steep * (y - 0.5)), torch.sigmoid(-0.5 * steep)
    bent = (bend - edge) / (1.0 - 2.0 * edge).clamp_min(1e-6)
    y = torch.where(steep > 0, bent, y)
    y = torch.where(numbers["bright"] > 0, 1.0 - y, y)
    grey = (y * numbers["levels"]).round()
    return grey if open_beam is None else (grey * open_beam).round()


def _on(matrix: NDArray[np.float32], like: Tensor) -> Tensor:
    return torch.from_numpy(matrix).to(like)


def _spectrum(kvp: float, filter_mm: float | None) -> NDArray[np.float64]:
    """Weights of the energies of `_coefficients`; none for a single energy."""
    if filter_mm is None:
        return np.zeros(0)
    return tungsten_spectrum(kvp, filter_mm).weights


def _coefficients(energies: int) -> NDArray[np.float64]:
    """Mass attenuation (1 + energies, 3) at `CLEAN_KEV`, then at those of every spectrum."""
    kev = np.concatenate([[CLEAN_KEV], FIRST_KEV + STEP_KEV * np.arange(energies)])
    return np.stack([mass_attenuation(name, kev) for name in _MATERIALS], axis=1)


@lru_cache(maxsize=8)
def _scatter_matrices(
    size: int, width_px: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What `imaging.add_scatter` does along one axis (size, size): its core and its tail."""
    pad = int(2 * width_px)
    wide = np.pad(np.eye(size), [(pad, pad), (0, 0)], mode="edge")[::2]
    out = []
    for sigma in (width_px / 2, width_px):
        spread = np.repeat(gaussian_filter1d(wide, sigma, axis=0), 2, 0)[pad:][:size]
        out.append(gaussian_filter1d(spread, 2.0, axis=0).astype(np.float32))
    return out[0], out[1]


@lru_cache(maxsize=8)
def _shifts(size: int, reach: int) -> NDArray[np.float32]:
    """Matrices (2 reach + 1, size, size) that shift a line, which is mirrored at its ends."""
    place = np.arange(size)[None] + np.arange(-reach, reach + 1)[:, None]
    place = np.mod(place, 2 * size)
    place = np.where(place < size, place, 2 * size - 1 - place)
    return np.asarray(place[:, :, None] == np.arange(size), dtype=np.float32)
