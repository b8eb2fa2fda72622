"""A simulated case on the built-in phantom: no download, no patient."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..phantom import LABELS, MOBILE_LEVELS, SpineParameters, make_phantom, random_spine, region_box
from ..system import Progress, ProgressCallable
from .case import SimulatedCase, simulate_case
from .parameters import SimulationParameters

TRUNK_FIELD_MM = 250.0


def simulate_phantom_case(
    seed: int,
    parameters: SimulationParameters | str = "realistic",
    target: str = "L3",
    spacing_mm: float = 1.5,
    field: str = "crop",
    spine: SpineParameters | None = None,
    progress: ProgressCallable | None = None,
) -> SimulatedCase:
    """A random anatomy, its CT, and two X-rays of it; the same seed gives the same case.

    ``field`` "crop" is the target vertebra with the neighbours cut off; "trunk" a field of 250 mm
    width with the vertebrae around. Raises InputError for another field or a target that is none of
    T12 to L5.
    """
    if field not in ("crop", "trunk"):
        raise InputError("phantom case", f"no field named {field}", 'use "crop" or "trunk"')
    if target not in MOBILE_LEVELS:
        raise InputError("phantom case", f"no target named {target}", f"use {MOBILE_LEVELS}")
    report = Progress(progress)
    anatomy = random_spine(seed) if spine is None else spine
    lower, upper = region_box(anatomy, target, margin_mm=8.0)
    if field == "trunk":
        middle = 0.5 * (lower + upper)
        half = 0.5 * TRUNK_FIELD_MM
        lower = np.array([middle[0] - half, middle[1] - 150.0, lower[2] - 65.0])
        upper = np.array([middle[0] + half, upper[1] + 35.0, upper[2] + 65.0])
    part = report.part(0.0, 0.4)
    phantom = make_phantom(anatomy, spacing_mm, (lower, upper), progress=lambda f, m: part(f, m))
    rest = report.part(0.4, 1.0)
    return simulate_case(
        phantom.ct,
        phantom.labels,
        LABELS[target],
        parameters,
        seed,
        label_names=phantom.label_names,
        progress=lambda f, m: rest(f, m),
    )
