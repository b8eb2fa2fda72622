"""CT numbers to attenuation, and what a vertebra adds to an X-ray."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from RadGSRegLib.drr import (
    bone_attenuation,
    excess_attenuation,
    hu_to_attenuation,
    water_attenuation,
)
from RadGSRegLib.geometry import Volume


def test_water_and_air() -> None:
    assert water_attenuation(60.0) == pytest.approx(0.0206, rel=1e-3)
    values = hu_to_attenuation([0.0, -1000.0, -2000.0])
    np.testing.assert_allclose(values, [0.0206, 0.0, 0.0], atol=2e-5)


def test_bone_is_bone_at_every_energy() -> None:
    """The CT number that cortical bone has at the scanner's energy gives cortical bone."""
    hu = 1000.0 * (bone_attenuation(70.0) / water_attenuation(70.0) - 1.0)
    for energy in (40.0, 60.0, 70.0, 100.0):
        assert float(hu_to_attenuation(hu, energy)) == pytest.approx(bone_attenuation(energy))


def test_at_the_scanners_energy_the_curve_is_the_definition() -> None:
    hu = np.array([-500.0, 0.0, 150.0, 700.0, 1500.0])
    expected = water_attenuation(70.0) * (1 + hu / 1000)
    np.testing.assert_allclose(hu_to_attenuation(hu, 70.0), expected, rtol=1e-5)


@given(st.floats(-1500, 3000), st.floats(0, 500), st.floats(35, 140))
def test_never_falls_and_never_negative(hu: float, more: float, energy: float) -> None:
    low, high = hu_to_attenuation([hu, hu + more], energy)
    assert 0 <= low <= high + 1e-9


def test_energies_without_a_table_are_refused() -> None:
    with pytest.raises(ValueError, match="keV"):
        water_attenuation(10.0)


def grid(array: np.ndarray) -> Volume:
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    matrix[:3, 3] = [10.0, 20.0, 30.0]
    return Volume(array, matrix)


def test_excess_is_above_soft_tissue_inside_the_mask_alone() -> None:
    hu = np.full((12, 13, 14), 500.0, np.float32)
    hu[5, 5, 5] = -100.0
    labels = np.zeros(hu.shape, np.int16)
    labels[4:8, 4:7, 3:9] = 22
    excess = excess_attenuation(grid(hu), grid(labels), 22, margin_mm=2.0)
    assert excess.size == (8, 5, 6)
    np.testing.assert_allclose(excess.origin, [10 + 2 * 2, 20 + 3 * 2, 30 + 3 * 2])
    bone = float(hu_to_attenuation(500.0) - hu_to_attenuation(40.0))
    assert excess.array.max() == pytest.approx(bone)
    assert np.count_nonzero(excess.array) == 4 * 3 * 6 - 1  # fat in the mask adds nothing
    assert np.count_nonzero(excess.array[0]) == 0


def test_what_does_not_fit_is_refused() -> None:
    hu = np.zeros((4, 4, 4), np.float32)
    with pytest.raises(ValueError, match="no label 7"):
        excess_attenuation(grid(hu), grid(hu.astype(int)), 7)
    with pytest.raises(ValueError, match="grid"):
        excess_attenuation(grid(hu), grid(np.zeros((4, 4, 5), int)), 7)
