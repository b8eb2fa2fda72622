"""Beam, materials, scatter, noise, display and blades behave as X-rays do."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from RadGSRegLib.cases import options_from
from RadGSRegLib.errors import InputError
from RadGSRegLib.simulation import SimulationParameters, tungsten_spectrum
from RadGSRegLib.simulation.imaging import (
    DisplayCurve,
    add_noise,
    add_scatter,
    collimator_mask,
    random_display,
)
from RadGSRegLib.simulation.materials import (
    CT_ENERGY_KEV,
    cortical_bone_hu,
    linear_attenuation,
    mass_attenuation,
    split_hu,
)
from RadGSRegLib.simulation.shapes import cylinder_path, ellipsoid_path
from RadGSRegLib.simulation.spectrum import Spectrum


def test_one_energy_is_beer_lamberts_law() -> None:
    beam = Spectrum(np.array([60.0]), np.array([1.0]))
    soft, bone = np.linspace(0, 30, 7), np.linspace(0, 5, 7)
    expected = np.exp(
        -soft * float(mass_attenuation("soft", 60.0)) - bone * float(mass_attenuation("bone", 60.0))
    )
    assert beam.intensity(soft, bone) == pytest.approx(expected, rel=1e-5)


def test_thin_layers_see_the_mean_coefficient_and_thick_ones_less() -> None:
    beam = tungsten_spectrum(80.0)
    mean = float(beam.weights @ mass_attenuation("soft", beam.energies_kev))
    thin, thick = np.array([0.01]), np.array([30.0])
    zero = np.array([0.0])
    assert -np.log(beam.intensity(thin, zero))[0] / 0.01 == pytest.approx(mean, rel=1e-2)
    assert -np.log(beam.intensity(thick, zero))[0] / 30.0 < 0.95 * mean  # hardening


def test_higher_voltage_and_filter_harden_the_beam() -> None:
    def mean_kev(*tube: float) -> float:
        beam = tungsten_spectrum(*tube)
        return float(beam.energies_kev @ beam.weights)

    energies = [mean_kev(kvp) for kvp in (60, 80, 100, 120)]
    assert all(b > a + 3 for a, b in itertools.pairwise(energies))
    assert mean_kev(80, 8.0) > mean_kev(80, 2.0) + 1
    spectrum = tungsten_spectrum(120)
    assert spectrum.energies_kev.max() < 120
    assert spectrum.weights.sum() == pytest.approx(1.0)
    with pytest.raises(InputError, match="kVp"):
        tungsten_spectrum(20.0)


def test_coefficients_at_known_places() -> None:
    assert float(linear_attenuation("water", 60.0)) == pytest.approx(0.0206, abs=1e-4)
    assert float(mass_attenuation("aluminium", 30.0)) == pytest.approx(1.128)
    between = float(mass_attenuation("iron", 70.0))
    assert 0.5952 < between < 1.205
    assert 1300 < cortical_bone_hu() < 1900


@given(hu=st.floats(-1000, 3000))
def test_two_materials_add_up_to_the_ct_number(hu: float) -> None:
    soft, bone = split_hu(np.array([hu]))
    assert soft[0] >= 0
    assert bone[0] >= 0
    total = soft[0] * float(mass_attenuation("soft", CT_ENERGY_KEV))
    total += bone[0] * float(mass_attenuation("bone", CT_ENERGY_KEV))
    water = float(mass_attenuation("water", CT_ENERGY_KEV))
    assert total == pytest.approx(water * (1 + hu / 1000), abs=2e-4)
    if hu <= 100:
        assert bone[0] == 0


def _step_wedge() -> np.ndarray:
    wedge = np.ones((160, 160), dtype=np.float32)
    wedge[20:140, 20:140] = 0.05
    wedge[60:100, 60:100] = 0.01
    return wedge


def test_scatter_raises_the_floor_and_lowers_contrast() -> None:
    primary = _step_wedge()
    total = add_scatter(primary, 0.8, 30.0)
    assert (total >= primary - 1e-6).all()
    assert total[80, 80] > 2 * primary[80, 80]
    assert total[80, 40] / total[80, 80] < primary[80, 40] / primary[80, 80]
    ratio = (total - primary) / primary
    assert np.median(ratio[primary < 0.6]) == pytest.approx(0.8, rel=0.1)
    assert (add_scatter(primary, 0.0, 30.0) == primary).all()


def test_noise_variance_follows_the_counts() -> None:
    rng = np.random.default_rng(0)
    flat = np.full((300, 300), 0.1, dtype=np.float32)
    few = add_noise(flat, 100.0, 0.0, rng)
    many = add_noise(flat, 10_000.0, 0.0, rng)
    assert few.mean() == pytest.approx(0.1, rel=5e-3)
    assert few.std() / 0.1 == pytest.approx(0.1, rel=0.05)
    assert many.std() / 0.1 == pytest.approx(0.01, rel=0.05)
    with_readout = add_noise(flat, 100.0, 30.0, rng)
    assert with_readout.std() / 0.1 == pytest.approx(np.hypot(0.1, 0.3), rel=0.05)
    # Within one picture, bright areas have the larger variance: the mean's.
    two = np.full((300, 300), 0.1, dtype=np.float32)
    two[:, 150:] = 0.4
    noisy = add_noise(two, 1000.0, 0.0, rng)
    assert noisy[:, 150:].var() / noisy[:, :150].var() == pytest.approx(4.0, rel=0.1)


@given(seed=st.integers(0, 10_000))
def test_display_is_monotone_in_its_polarity_and_uses_its_bits(seed: int) -> None:
    curve = random_display(np.random.default_rng(seed), (8, 12, 16))
    signal = np.linspace(0.01, 1.0, 4000, dtype=np.float32).reshape(40, 100)
    grey = curve(signal).ravel().astype(int)
    steps = np.diff(grey)
    assert ((steps <= 0) if curve.bone_bright else (steps >= 0)).all()
    assert grey.min() == 0
    assert grey.max() == 2**curve.bits - 1
    assert len(np.unique(grey)) > 100


def test_polarity_turns_the_picture_over() -> None:
    signal = np.linspace(0.01, 1.0, 500, dtype=np.float32).reshape(20, 25)
    pictures = [DisplayCurve(True, 0.5, 2.0, (0.0, 1.0), b, 12)(signal) for b in (True, False)]
    assert (pictures[0].astype(int) + pictures[1] == 4095).mean() > 0.99


@pytest.mark.parametrize("kind", ["round", "rectangle"])
def test_collimator_covers_the_corners_and_spares_the_middle(kind: str) -> None:
    mask = collimator_mask(kind, 200, 240, np.random.default_rng(1))
    assert mask.shape == (200, 240)
    assert mask[100, 120] == 1.0
    assert min(mask[0, 0], mask[-1, -1], mask[0, -1], mask[-1, 0]) == 0.0
    assert (collimator_mask("none", 5, 6, np.random.default_rng(1)) == 1).all()


def test_path_lengths_in_simple_bodies() -> None:
    source = np.array([0.0, 0.0, -750.0])
    ahead = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    eye = np.eye(3)
    assert ellipsoid_path(source, ahead, np.zeros(3), eye, [10, 20, 30]) == pytest.approx([60, 0])
    trunk = ellipsoid_path(source, ahead, np.zeros(3), eye[[0, 2]], [50, 40])
    assert trunk == pytest.approx([80, 0])
    rod = cylinder_path(source, ahead, [-20, 0, 0], [20, 0, 0], 2.0)
    assert rod == pytest.approx([4.0, 0.0])
    along = cylinder_path(source, ahead, [0, 0.5, -15], [0, 0.5, 15], 2.0)
    assert along[0] == pytest.approx(30.0)
    tube = cylinder_path(source, ahead, [-20, 0, 0], [20, 0, 0], 2.0, 1.5)
    assert tube[0] == pytest.approx(1.0)
    beside = cylinder_path(source, np.array([[0.1, 0.0, 1.0]]), [-20, 0, 0], [20, 0, 0], 2.0)
    assert beside[0] == 0.0


def test_parameters_survive_json_and_senseless_ones_are_refused() -> None:
    hard = SimulationParameters.preset("hard")
    values = json.loads(json.dumps(asdict(hard)))
    assert options_from(SimulationParameters, values, "file") == hard
    with pytest.raises(InputError, match="no realism named"):
        SimulationParameters.preset("easy")
    with pytest.raises(InputError, match="no range"):
        SimulationParameters(scatter=(2.0, 1.0))
    with pytest.raises(InputError, match="isocentre"):
        SimulationParameters(source_isocentre_mm=2000.0)
    with pytest.raises(InputError, match="collimator"):
        SimulationParameters(collimator=("square",))
    with pytest.raises(InputError, match="no option colour"):
        options_from(SimulationParameters, {"colour": 1}, "file", hard)
