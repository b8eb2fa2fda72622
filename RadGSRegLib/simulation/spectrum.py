"""An X-ray tube with a tungsten anode, and what its beam loses on its way."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..geometry import Array
from .materials import linear_attenuation, mass_attenuation

_TUNGSTEN_LINES = ((57.98, 0.58), (59.32, 1.0), (67.24, 0.33), (69.1, 0.09))
_K_EDGE_KEV = 69.5
_DETECTOR_CSI_MM = 0.5
FIRST_KEV, STEP_KEV = 18.0, 3.0
"""The energies of a spectrum, up to the tube's voltage."""


@dataclass(frozen=True)
class Spectrum:
    """Energies (M,) keV and the weight (M,) of each in the detector's signal; weights sum to 1."""

    energies_kev: Array
    weights: Array

    def intensity(
        self, soft: ArrayLike, bone: ArrayLike, steel: ArrayLike = 0.0
    ) -> NDArray[np.float32]:
        """Share of the signal that passes given mass lengths (g/cm^2) of each material.

        Polychromatic Beer-Lambert law; negative mass lengths count as none.
        """
        s = np.maximum(np.asarray(soft, dtype=np.float32), 0.0)
        b = np.maximum(np.asarray(bone, dtype=np.float32), 0.0)
        f = np.maximum(np.asarray(steel, dtype=np.float32), 0.0)
        out = np.zeros(np.broadcast_shapes(s.shape, b.shape, f.shape), dtype=np.float32)
        coefficients = [
            mass_attenuation(name, self.energies_kev).astype(np.float32)
            for name in ("soft", "bone", "iron")
        ]
        for weight, ms, mb, mf in zip(self.weights, *coefficients, strict=True):
            out += np.float32(weight) * np.exp(-(s * ms + b * mb + f * mf))
        return out


def tungsten_spectrum(
    kvp: float, aluminium_mm: float = 4.0, step_kev: float = STEP_KEV
) -> Spectrum:
    """The signal's spectrum of a tungsten tube at ``kvp`` behind ``aluminium_mm`` of filter.

    Kramers' law (photons per energy fall as (kVp - E) / E), the K lines above the edge at 69.5 keV
    with a share growing as (kVp / 69.5 - 1)^1.67, attenuation in the filter, and an
    energy-weighting detector of 0.5 mm caesium iodide (absorption as E^-2.8 above 40 keV).
    Raises InputError for tube voltages outside 40 to 150 kVp.
    """
    if not 40.0 <= kvp <= 150.0:
        raise InputError("X-ray tube", f"{kvp} kVp", "use 40 to 150 kVp")
    energies = np.arange(FIRST_KEV, kvp, step_kev)
    photons = (kvp - energies) / energies
    if kvp > _K_EDGE_KEV:
        share = 0.5 * (kvp / _K_EDGE_KEV - 1.0) ** 1.67
        for line, strength in _TUNGSTEN_LINES:
            photons[int(np.argmin(np.abs(energies - line)))] += share * strength * 3.0 / step_kev
    photons = photons * np.exp(-linear_attenuation("aluminium", energies) * aluminium_mm)
    absorption = 2.3 * _DETECTOR_CSI_MM / 0.5 * (np.maximum(energies, 40.0) / 40.0) ** -2.8 * 1.6
    signal = photons * energies * (1.0 - np.exp(-absorption))
    return Spectrum(energies, signal / signal.sum())
