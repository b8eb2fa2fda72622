"""A simulated case on the built-in phantom: no download, no patient."""

import numpy as np

from ..errors import InputError
from ..phantom import LABELS, MOBILE_LEVELS, SpineParameters, make_phantom, random_spine, region_box
from ..system import Progress, ProgressCallable
from .case import Prepared, SimulatedCase, simulate_case
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
    prepared: Prepared | None = None,
) -> SimulatedCase:
    """Simulate a case on the built-in phantom: a random anatomy, its CT, and two X-rays of it.

    The same seed gives the same case. Write it with `write_simulated_case`.

    Args:
        seed: of anatomy, poses and X-rays.
        parameters: of the X-rays, or the name of a preset: "clean", "realistic", "hard".
        target: the vertebra, T12 to L5.
        spacing_mm: of the CT's voxels.
        field: "crop": the target with the neighbours cut off; "trunk": 250 mm wide, with the
            vertebrae around.
        spine: the anatomy, instead of one drawn by ``seed``.
        progress: told of the share done; may cancel.
        prepared: the device that follows the rays of the X-rays, and what else is in them (beads,
            distortion); its ``scene`` is of no use here.

    Returns:
        The case and its truth (``truth["ct_to_world"]`` and more), mm, LPS.

    Raises:
        InputError: for another field or target.
        Cancelled: when ``progress`` says so.

    Example:
        >>> from RadGSRegLib.simulation import simulate_phantom_case
        >>> simulated = simulate_phantom_case(7, "clean", spacing_mm=3.0)
        >>> simulated.case.label_name, [view.name for view in simulated.case.views]
        ('L3', ['AP', 'LA'])
        >>> sorted(simulated.truth)[:3]
        ['ct_to_world', 'kvp', 'label']
    """
    if field not in ("crop", "trunk"):
        raise InputError("phantom case", f"no field named {field}", 'use "crop" or "trunk"')
    if target not in MOBILE_LEVELS:
        known = f"use {', '.join(MOBILE_LEVELS)}"
        raise InputError("phantom case", f"no target named {target}", known)
    report = Progress(progress)
    anatomy = random_spine(seed) if spine is None else spine
    lower, upper = region_box(anatomy, target, margin_mm=8.0)
    if field == "trunk":
        middle = 0.5 * (lower + upper)
        half = 0.5 * TRUNK_FIELD_MM
        lower = np.array([middle[0] - half, middle[1] - 150.0, lower[2] - 65.0])
        upper = np.array([middle[0] + half, upper[1] + 35.0, upper[2] + 65.0])
    phantom = make_phantom(anatomy, spacing_mm, (lower, upper), progress=report.part(0.0, 0.4))
    return simulate_case(
        phantom.ct,
        phantom.labels,
        LABELS[target],
        parameters,
        seed,
        label_names=phantom.label_names,
        prepared=prepared,
        progress=report.part(0.4, 1.0),
    )
