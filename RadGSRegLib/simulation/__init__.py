"""X-ray physics and display: realistic biplanar X-rays, with truth, from a CT and its labels."""

from .case import SimulatedCase, simulate_case
from .files import write_simulated_case
from .parameters import PRESETS, SimulationParameters
from .phantom_case import simulate_phantom_case
from .spectrum import Spectrum, monochromatic, tungsten_spectrum

__all__ = [
    "PRESETS",
    "SimulatedCase",
    "SimulationParameters",
    "Spectrum",
    "monochromatic",
    "simulate_case",
    "simulate_phantom_case",
    "tungsten_spectrum",
    "write_simulated_case",
]
