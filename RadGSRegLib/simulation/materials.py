"""What X-rays meet: mass attenuation of a few materials, and CT numbers as two of them.

Mass attenuation coefficients (cm^2/g, with coherent scattering) are the rounded values of
J. H. Hubbell and S. M. Seltzer, NIST Standard Reference Database 126 (the data behind XCOM), for
ICRU-44 soft tissue and cortical bone, aluminium and iron (for steel), at energies of that
table.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry import Array

ENERGIES_KEV = np.array([15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0])

MASS_ATTENUATION = {
    "water": np.array([1.673, 0.8096, 0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707, 0.1505]),
    "soft": np.array([1.690, 0.8230, 0.3790, 0.2688, 0.2264, 0.2048, 0.1823, 0.1693, 0.1492]),
    "bone": np.array([9.032, 4.001, 1.331, 0.6655, 0.4242, 0.3148, 0.2229, 0.1855, 0.1480]),
    "aluminium": np.array([7.955, 3.441, 1.128, 0.5685, 0.3681, 0.2778, 0.2018, 0.1704, 0.1378]),
    "iron": np.array([57.08, 25.68, 8.176, 3.629, 1.958, 1.205, 0.5952, 0.3717, 0.1964]),
}

DENSITY = {"water": 1.0, "soft": 1.06, "bone": 1.92, "aluminium": 2.699, "iron": 7.874}
"""g/cm^3."""

CT_ENERGY_KEV = 70.0
"""Effective energy of a CT scanner at 120 kVp, where its numbers are interpreted."""

SOFT_LIMIT_HU = 100.0
"""Up to here a voxel is soft tissue alone (of whatever density); above, bone joins."""


def mass_attenuation(material: str, energy_kev: ArrayLike) -> Array:
    """Mass attenuation (cm^2/g) at energies in keV, interpolated on doubly logarithmic axes."""
    logs = np.interp(
        np.log(np.asarray(energy_kev, dtype=float)),
        np.log(ENERGIES_KEV),
        np.log(MASS_ATTENUATION[material]),
    )
    return np.asarray(np.exp(logs))


def linear_attenuation(material: str, energy_kev: ArrayLike) -> Array:
    """Linear attenuation (1/mm) of a material at its ordinary density."""
    return mass_attenuation(material, energy_kev) * DENSITY[material] / 10.0


def cortical_bone_hu() -> float:
    """The CT number of pure ICRU-44 cortical bone at `CT_ENERGY_KEV`."""
    water = float(linear_attenuation("water", CT_ENERGY_KEV))
    return 1000.0 * (float(linear_attenuation("bone", CT_ENERGY_KEV)) / water - 1.0)


def split_hu(hu: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Densities (g/cm^3) of soft tissue and of cortical bone in voxels of given CT number.

    Up to `SOFT_LIMIT_HU` a voxel is soft tissue whose density follows the CT number; from there to
    pure cortical bone the bone's share grows linearly; beyond, the bone gets denser. The two
    materials' attenuation at `CT_ENERGY_KEV` adds up to the CT number everywhere (math.md, 2).
    """
    values = np.maximum(np.asarray(hu, dtype=np.float32), -1000.0)
    water = float(mass_attenuation("water", CT_ENERGY_KEV))
    soft = float(mass_attenuation("soft", CT_ENERGY_KEV))
    bone = float(mass_attenuation("bone", CT_ENERGY_KEV))
    relative = (1.0 + values / 1000.0) * np.float32(water)
    full = cortical_bone_hu()
    share = np.clip((values - SOFT_LIMIT_HU) / (full - SOFT_LIMIT_HU), 0.0, 1.0)
    base = np.float32((1.0 + SOFT_LIMIT_HU / 1000.0) * water / soft)
    soft_density = np.where(
        values <= SOFT_LIMIT_HU, relative / np.float32(soft), base * (1 - share)
    )
    bone_density = np.maximum(relative - soft_density * np.float32(soft), 0.0) / np.float32(bone)
    bone_density = np.where(values <= SOFT_LIMIT_HU, 0.0, bone_density)
    return soft_density.astype(np.float32), bone_density.astype(np.float32)
