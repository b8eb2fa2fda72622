"""X-ray physics and display: realistic biplanar X-rays, with truth, from a CT and its labels."""

from .case import Prepared, SimulatedCase, simulate_case
from .files import write_simulated_case
from .parameters import PRESETS, SimulationParameters
from .phantom_case import simulate_phantom_case
from .scene import Scene, covers_body, take_apart
from .spectrum import Spectrum, monochromatic, tungsten_spectrum

__all__ = [
    "PRESETS",
    "Prepared",
    "Scene",
    "SimulatedCase",
    "SimulationParameters",
    "Spectrum",
    "covers_body",
    "monochromatic",
    "simulate_case",
    "simulate_phantom_case",
    "take_apart",
    "tungsten_spectrum",
    "write_simulated_case",
]
