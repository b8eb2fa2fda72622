"""From transmitted intensity to the picture: scatter, noise, display, collimation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Array = NDArray[np.float32]

SCATTER_MM = 50.0
"""How far scatter spreads at the detector, one standard deviation."""


def add_scatter(primary: Array, ratio: float, width_px: float) -> Array:
    """Primary plus scatter (rows, cols), in units of the unattenuated beam.

    The source of scatter is what the beam loses, P * ln(1/P), spread by a smooth kernel of
    ``width_px`` (standard deviation) with a broader tail (B. Ohnesorge et al., Eur Radiol 9, 1999);
    its strength is set so that scatter over primary is ``ratio`` at the median of the object.
    """
    if ratio <= 0:
        return primary
    p = np.clip(primary, 1e-6, 1.0)
    source = p * -np.log(p)
    pad = int(2 * width_px)
    wide = np.pad(source, pad, mode="edge")[::2, ::2]
    spread = 0.7 * gaussian_filter(wide, width_px / 2) + 0.3 * gaussian_filter(wide, width_px)
    scatter = np.repeat(np.repeat(spread, 2, 0), 2, 1)[pad:, pad:][: p.shape[0], : p.shape[1]]
    scatter = gaussian_filter(scatter, 2.0)
    body = p < 0.6
    where = body if body.any() else np.ones_like(body)
    now = float(np.median(scatter[where] / p[where]))
    return np.asarray(primary + scatter * (ratio / max(now, 1e-9)), dtype=np.float32)


def add_noise(
    signal: Array, photons: float, electronic: float, generator: np.random.Generator
) -> Array:
    """The signal after detection: Poisson counts and Gaussian read-out noise.

    ``photons`` per pixel are detected where the signal has its median behind the object; the
    variance follows the mean as counts do. Same units as the input.
    """
    if photons <= 0:
        return signal
    behind = signal[signal < 0.6 * float(signal.max())]
    reference = float(np.median(behind)) if len(behind) > 100 else float(np.median(signal))
    scale = photons / max(reference, 1e-9)
    counts = generator.poisson(np.maximum(signal, 0.0) * scale).astype(np.float32)
    counts += np.float32(electronic) * generator.standard_normal(signal.shape).astype(np.float32)
    return np.asarray(counts / np.float32(scale), dtype=np.float32)


@dataclass(frozen=True)
class DisplayCurve:
    """A monotone curve from detector signal to grey value, as an unknown maker's chain does.

    ``logarithm`` takes the logarithm first (else a power ``gamma`` of the signal); the window runs
    between two quantiles of what is behind the body, opened by a share ``air`` towards the direct
    beam; ``sigmoid`` (0 = none) bends it into an S; ``bone_bright``
    is the polarity; ``bits`` the depth of quantisation.
    """

    logarithm: bool
    gamma: float
    sigmoid: float
    window: tuple[float, float]
    bone_bright: bool
    bits: int
    air: float = 1.0

    def __call__(self, signal: Array, where: NDArray[np.bool_] | None = None) -> NDArray[np.uint16]:
        """Grey values (rows, cols), 0 to 2^bits - 1; the window is measured on ``where``.

        ``signal`` in units of the direct beam: below 0.4 counts as behind the body.
        """
        return self.shown(signal, self.measured(signal, where))

    def measured(
        self, signal: Array, where: NDArray[np.bool_] | None = None
    ) -> tuple[float, float, float]:
        """The window (floor, low, high) that suits a signal: what a run of pictures keeps."""
        floor = max(float(np.quantile(signal, 0.001)), 1e-6) * 0.5
        x = self._bent(signal, floor)
        seen = np.ones(x.shape, dtype=bool) if where is None or not where.any() else where
        low, high = (float(v) for v in np.quantile(x[seen], self.window))
        body = seen & (signal < 0.4)
        if body.mean() > 0.05:
            behind = float(np.quantile(x[body], self.window[1]))
            high = behind + self.air * (high - behind)
        return floor, low, high

    def _bent(self, signal: Array, floor: float) -> NDArray[np.float64]:
        x = np.maximum(signal.astype(np.float64), floor)
        return np.log(x) if self.logarithm else x**self.gamma

    def shown(self, signal: Array, window: tuple[float, float, float]) -> NDArray[np.uint16]:
        """Grey values (rows, cols) in a window that was `measured`."""
        floor, low, high = window
        x = self._bent(signal, floor)
        y = np.clip((x - low) / max(high - low, 1e-9), 0.0, 1.0)
        if self.sigmoid > 0:
            bend = 1.0 / (1.0 + np.exp(-self.sigmoid * (y - 0.5)))
            edge = 1.0 / (1.0 + np.exp(self.sigmoid * 0.5))
            y = (bend - edge) / (1.0 - 2.0 * edge)
        if self.bone_bright:
            y = 1.0 - y
        return np.asarray(np.rint(y * (2**self.bits - 1)), dtype=np.uint16)


def random_display(generator: np.random.Generator, bits: tuple[int, ...]) -> DisplayCurve:
    """A random display curve; the same one serves both views of a case."""
    bone_bright = bool(generator.random() < 0.65)
    depth = int(generator.choice(bits))
    # A power of the signal leaves little for what is dense: too little for few bits.
    logarithm = bool(generator.random() < 0.75) or depth < 12
    return DisplayCurve(
        logarithm=logarithm,
        gamma=float(generator.uniform(0.25, 0.8)),
        sigmoid=float(generator.choice([0.0, generator.uniform(1.0, 5.0)])),
        window=(float(generator.uniform(0.0, 0.01)), float(generator.uniform(0.97, 1.0))),
        bone_bright=bone_bright,
        bits=depth,
        air=float(generator.uniform(0.0, 0.5)),
    )


def collimator_mask(kind: str, rows: int, columns: int, generator: np.random.Generator) -> Array:
    """Openness (rows, cols) of the beam, 0 to 1, with edges a pixel or two wide."""
    if kind == "none":
        return np.ones((rows, columns), dtype=np.float32)
    v, u = np.mgrid[:rows, :columns].astype(np.float32)
    cu = columns / 2 + float(generator.uniform(-0.04, 0.04)) * columns
    cv = rows / 2 + float(generator.uniform(-0.04, 0.04)) * rows
    if kind == "round":
        radius = float(generator.uniform(0.40, 0.5)) * min(rows, columns)
        inside = radius - np.hypot(u - cu, v - cv)
    else:
        angle = float(generator.uniform(-0.15, 0.15))
        a = (u - cu) * np.cos(angle) + (v - cv) * np.sin(angle)
        b = -(u - cu) * np.sin(angle) + (v - cv) * np.cos(angle)
        half = generator.uniform(0.33, 0.5, 2) * (columns, rows)
        inside = np.minimum(half[0] - np.abs(a), half[1] - np.abs(b))
    return np.asarray(np.clip(inside / 1.5 + 0.5, 0.0, 1.0), dtype=np.float32)
