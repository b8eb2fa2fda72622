"""From Hounsfield units to linear attenuation (math.md section 2)."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry import Volume, cut, mask_box

# Where bone begins: below, everything is soft tissue, fat or air and scales like water.
BONE_HU = 150.0
# What is around a vertebra where the vertebra is not: muscle and organs.
SOFT_TISSUE_HU = 40.0
# The effective energy at which CT numbers of a 120 kVp scanner are taken.
CT_ENERGY_KEV = 70.0

# Mass attenuation coefficients (cm^2/g) of water and cortical bone (ICRU-44, density 1.92 g/cm^3):
# Hubbell and Seltzer, NIST Standard Reference Database 126, tables 4.
_ENERGY_KEV = np.array([30.0, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0])
_WATER = np.array([0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707, 0.1505])
_BONE = np.array([1.331, 0.6655, 0.4242, 0.3148, 0.2229, 0.1855, 0.1480])
_BONE_DENSITY = 1.92


def _attenuation_mm(table: NDArray[Any], density: float, energy_kev: float) -> float:
    if not _ENERGY_KEV[0] <= energy_kev <= _ENERGY_KEV[-1]:
        raise ValueError(f"energies lie between 30 and 150 keV, not at {energy_kev}")
    logarithm = np.interp(np.log(energy_kev), np.log(_ENERGY_KEV), np.log(table))
    return float(np.exp(logarithm) * density / 10.0)


@lru_cache(maxsize=16)
def water_attenuation(energy_kev: float = 60.0) -> float:
    """Linear attenuation of water, 1/mm; 0.0206 at 60 keV. ValueError outside 30 to 150 keV."""
    return _attenuation_mm(_WATER, 1.0, energy_kev)


@lru_cache(maxsize=16)
def bone_attenuation(energy_kev: float = 60.0) -> float:
    """Linear attenuation of cortical bone, 1/mm. ValueError outside 30 to 150 keV."""
    return _attenuation_mm(_BONE, _BONE_DENSITY, energy_kev)


def hu_to_attenuation(hu: ArrayLike, energy_kev: float = 60.0) -> NDArray[np.float32]:
    """Convert CT numbers to linear attenuation at an effective energy (math.md section 2).

    mu_water (1 + HU/1000), never below 0, up to `BONE_HU`. Above, a voxel is a mixture of that
    tissue and cortical bone in the share that explains its CT number at the scanner's energy
    (`CT_ENERGY_KEV`); its attenuation is the same mixture's at ``energy_kev``. Bone absorbs more
    steeply with falling energy than water, so the slope is above one for energies below the CT's.
    Coefficients: Hubbell and Seltzer, NIST Standard Reference Database 126.

    Args:
        hu: Hounsfield units, any shape.
        energy_kev: 30 to 150.

    Returns:
        Attenuation, the same shape, float32, 1/mm.

    Raises:
        ValueError: for an energy outside the table.

    Example:
        >>> from RadGSRegLib.drr import hu_to_attenuation
        >>> hu_to_attenuation([-1000.0, 0.0, 1000.0]).round(4)
        array([0.    , 0.0206, 0.0453], dtype=float32)
    """
    values = np.asarray(hu, dtype=np.float32)
    water = water_attenuation(float(energy_kev))
    soft = 1.0 + np.minimum(values, BONE_HU) / 1000.0
    bone_hu = 1000.0 * (bone_attenuation(CT_ENERGY_KEV) / water_attenuation(CT_ENERGY_KEV) - 1.0)
    bone_relative = bone_attenuation(float(energy_kev)) / water
    slope = (bone_relative - (1.0 + BONE_HU / 1000.0)) / (bone_hu - BONE_HU)
    relative = np.maximum(soft, 0.0) + slope * np.maximum(values - BONE_HU, 0.0)
    return np.asarray(relative * water, dtype=np.float32)


def excess_attenuation(
    ct: Volume,
    labels: Volume,
    label: int,
    *,
    energy_kev: float = 60.0,
    background_hu: float = SOFT_TISSUE_HU,
    margin_mm: float = 3.0,
) -> Volume:
    """What a labelled bone adds to an X-ray, 1/mm: its attenuation above that of soft tissue.

    ``ct`` in HU and ``labels`` on the same grid. Inside the mask of ``label`` the attenuation minus
    that of ``background_hu``, never below 0; outside the mask 0. Cropped to the mask's box and
    ``margin_mm`` around it, float32. Raises ValueError where the grids differ or the label is
    absent.
    """
    if ct.array.shape != labels.array.shape:
        raise ValueError("the labels are not on the grid of the CT")
    mask = labels.array == label
    if not mask.any():
        raise ValueError(f"there is no label {label}")
    box = mask_box(mask, ct.spacing, margin_mm)
    part = cut(ct, box)
    background = float(hu_to_attenuation(background_hu, energy_kev))
    excess = np.maximum(hu_to_attenuation(part.array, energy_kev) - background, 0.0)
    return part.with_array(np.where(mask[box], excess, 0.0).astype(np.float32))
