"""Pictures of beads drawn without the library: sphere chords, clutter, blur, counts, display."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Drawing:
    """How a picture is made: ``photons`` a pixel in the open beam (0: no noise); ``clutter`` 0
    to 1; ``curve`` of the display; ``dark_metal`` its polarity."""

    side: int = 512
    beads: int = 30
    radii: tuple[float, float] = (2.5, 6.0)
    per_px: float = 0.15  # steel of 0.75 / mm in pixels of 0.2 mm
    blur: float = 1.0
    photons: float = 0.0
    clutter: float = 0.0
    curve: str = "log"
    dark_metal: bool = True
    collimator: bool = False
    apart: float = 2.5  # between centres, in sums of radii


def chords(side: int, centres: Array, radii: Array, fine: int = 5) -> Array:
    """Lengths of steel (side, side), pixels, of ``fine`` x ``fine`` points a pixel."""
    total = np.zeros((side, side))
    offsets = (np.arange(fine) + 0.5) / fine - 0.5
    for (u, v), radius in zip(centres, radii, strict=True):
        reach = int(radius + 3)
        columns = np.arange(max(round(u) - reach, 0), min(round(u) + reach + 1, side))
        rows = np.arange(max(round(v) - reach, 0), min(round(v) + reach + 1, side))
        if not len(columns) or not len(rows):
            continue
        x = (columns[:, None] + offsets).ravel() - u
        y = (rows[:, None] + offsets).ravel() - v
        chord = 2.0 * np.sqrt(np.maximum(radius**2 - x**2 - y[:, None] ** 2, 0.0))
        mean = chord.reshape(len(rows), fine, len(columns), fine).mean(axis=(1, 3))
        total[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += mean
    return total


def anatomy(side: int, rng: np.random.Generator) -> Array:
    """Line integrals (side, side) like a trunk's: body, bones with dense rims, ribs, texture."""
    v, u = np.mgrid[:side, :side] / side - 0.5
    total = 2.5 * np.exp(-((u / rng.uniform(0.35, 0.6)) ** 2) - (v / 1.2) ** 2)
    for _ in range(6):  # vertebrae: boxes of rounded corners with a dense rim
        cu, cv, angle = rng.uniform(-0.3, 0.3), rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5)
        a = (u - cu) * np.cos(angle) + (v - cv) * np.sin(angle)
        b = -(u - cu) * np.sin(angle) + (v - cv) * np.cos(angle)
        radius = (
            np.abs(a / rng.uniform(0.08, 0.14)) ** 4 + np.abs(b / rng.uniform(0.05, 0.1)) ** 4
        ) ** 0.25
        total += 0.25 * (1 - np.tanh((radius - 1) * 20)) + 0.25 * np.exp(
            -(((radius - 1) / 0.05) ** 2)
        )
    for _ in range(6):  # ribs: bands of two edges along an arc
        cu, cv, r = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0.5, 1.2)
        t = (np.hypot(u - cu, v - cv) - r) / 0.02
        total += 0.3 * (np.exp(-((t - 1) ** 2) * 4) + np.exp(-((t + 1) ** 2) * 4)) + 0.25 * (
            np.abs(t) < 1
        )
    for size, share in ((1.5, 0.03), (4.0, 0.06), (12.0, 0.12)):  # trabeculae, vessels, gas
        noise = gaussian_filter(rng.standard_normal((side, side)), size)
        total += share * noise / noise.std()
    return np.maximum(gaussian_filter(total, 0.7), 0.0)


def placed(drawing: Drawing, rng: np.random.Generator) -> tuple[Array, Array]:
    """Centres (N, 2) as (column, row) and radii (N,) of beads that keep apart."""
    centres: list[Array] = []
    radii: list[float] = []
    margin = 0.14 * drawing.side if drawing.collimator else drawing.radii[1] + 3.0
    while len(centres) < drawing.beads:
        radius = float(rng.uniform(*drawing.radii))
        centre = rng.uniform(margin, drawing.side - 1 - margin, 2)
        gaps = [np.hypot(*(centre - c)) / (radius + r) for c, r in zip(centres, radii, strict=True)]
        if all(gap > drawing.apart for gap in gaps):
            centres.append(centre)
            radii.append(radius)
    return np.array(centres), np.array(radii)


def shown(signal: Array, drawing: Drawing) -> NDArray[np.float32]:
    """Grey values of a signal (1 in the open beam) by a monotone curve, in 8, 12 or 16 bits."""
    x = np.log(np.maximum(signal, 1e-4))
    if drawing.curve == "log":
        low, high, bits = float(x.min()), 0.05, 16
    elif drawing.curve == "clipped":  # both ends are lost
        low, high, bits = *(float(q) for q in np.quantile(x, (0.01, 0.8))), 8
    else:  # a power, bent into an S
        x = np.maximum(signal, 0.0) ** 0.4
        low, high, bits = 0.0, 1.05, 12
    y = np.clip((x - low) / (high - low), 0.0, 1.0)
    if drawing.curve == "bent":
        y = y**2 * (3.0 - 2.0 * y)
    y = y if drawing.dark_metal else 1.0 - y
    return np.asarray(np.rint(y * (2**bits - 1)), dtype=np.float32)


def picture(drawing: Drawing, seed: int) -> tuple[NDArray[np.float32], Array, Array]:
    """A picture (side, side), and the centres (N, 2) and radii (N,) of the beads in it, pixels."""
    rng = np.random.default_rng(seed)
    centres, radii = placed(drawing, rng)
    steel = chords(drawing.side, centres, radii) * drawing.per_px
    body = drawing.clutter * anatomy(drawing.side, rng) if drawing.clutter else 1.0
    signal = gaussian_filter(np.exp(-(body + steel)), drawing.blur)
    if drawing.photons:
        signal = rng.poisson(signal * drawing.photons) / drawing.photons
    image = shown(signal, drawing)
    if drawing.collimator:
        v, u = np.mgrid[: drawing.side, : drawing.side]
        outside = np.hypot(u - drawing.side / 2, v - drawing.side / 2) > 0.47 * drawing.side
        image[outside] = 0.0
    return image, centres, radii


@dataclass(frozen=True)
class Score:
    """What came of a search: errors in pixels of the beads that were met."""

    beads: int
    met: int
    wrong: int
    errors_px: Array
    of_radius: Array

    @property
    def recall(self) -> float:
        """The share of beads that were met."""
        return self.met / self.beads

    @property
    def rms_px(self) -> float:
        """Of the distances of the centres (both axes)."""
        return float(np.sqrt(np.mean(self.errors_px**2)))


def scored(found_px: Array, found_radii: Array, centres: Array, radii: Array) -> Score:
    """Each bead takes the nearest spot within half its radius (at least 1.5 pixels)."""
    distance = np.hypot(*(found_px[:, None] - centres[None]).transpose(2, 0, 1))
    errors, ratios, used = [], [], set()
    for bead, radius in enumerate(radii):
        if not len(found_px):
            break
        spot = int(np.argmin(distance[:, bead]))
        if distance[spot, bead] < max(0.5 * radius, 1.5) and spot not in used:
            used.add(spot)
            errors.append(distance[spot, bead])
            ratios.append(found_radii[spot] / radius)
    return Score(
        len(radii), len(errors), len(found_px) - len(errors), np.array(errors), np.array(ratios)
    )


def together(scores: list[Score]) -> Score:
    """Several as one."""
    add: Any = lambda name: sum(getattr(s, name) for s in scores)  # noqa: E731
    both = (
        np.concatenate([getattr(s, name) for s in scores]) for name in ("errors_px", "of_radius")
    )
    return Score(add("beads"), add("met"), add("wrong"), *both)
