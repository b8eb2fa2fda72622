"""Layouts of beads that come with the program, to be printed or bought."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..geometry import Array
from .types import Beads

SMALL_MM, LARGE_MM = 3.0, 5.0
"""Diameters of ball bearings that are sold everywhere."""

# Drawn at random, the most irregular of some hundred: no turn and no mirror maps the beads onto
# each other but for 20 mm (root mean square). Along x and along z no two beads of a plate
# are nearer than 10 mm, and seen along y no two of all are nearer than 17 mm.
_PLATES_APART_MM = 80.0
_PLATE_XZ_MM = (
    ((-68, -10), (-48, 33), (-32, 7), (-8, -34), (12, -51), (26, -17), (43, 18), (69, 46)),
    ((-70, 32), (-50, 6), (-24, -23), (-14, 50), (6, -4), (29, -50), (52, -35), (67, 23)),
)
_PLATES_LARGE = (0, 5, 11, 14)

_HELIX_RADIUS_MM = 70.0
# Uneven steps: an even helix looks the same when it is turned over.
_HELIX_DEG = (
    *(0, 30, 60, 88, 119, 158, 189, 219, 258, 298),
    *(334, 373, 410, 438, 468, 497, 528, 563, 595, 628),
)
_HELIX_Z_MM = (
    *(0, 7, 13, 17, 24, 30, 36, 43, 49, 55),
    *(62, 67, 72, 77, 82, 88, 92, 99, 103, 109),
)
_HELIX_LARGE = (0, 4, 5, 12, 18)


def _two_plates() -> Beads:
    half = 0.5 * _PLATES_APART_MM
    rows = [
        (x, y, z) for y, plate in zip((-half, half), _PLATE_XZ_MM, strict=True) for x, z in plate
    ]
    return _beads("two-plates", np.array(rows, dtype=float), _PLATES_LARGE)


def _helix() -> Beads:
    angles = np.radians(_HELIX_DEG)
    z = np.array(_HELIX_Z_MM, dtype=float)
    z -= 0.5 * (z.min() + z.max())
    round_mm = _HELIX_RADIUS_MM * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return _beads("helix", np.column_stack([round_mm, z]), _HELIX_LARGE)


def _beads(name: str, centres_mm: Array, large: tuple[int, ...]) -> Beads:
    diameters = np.full(len(centres_mm), SMALL_MM)
    diameters[list(large)] = LARGE_MM
    return Beads(name, centres_mm, diameters)


_LAYOUTS = {"two-plates": _two_plates, "helix": _helix}
LAYOUTS = tuple(_LAYOUTS)
"""The names of the layouts that come with the program."""


def layout(name: str) -> Beads:
    """The beads of a layout of `LAYOUTS`, mm; z is along the patient, y from front to back.

    "two-plates": eight beads in each of two parallel plates, 140 by 100 mm and 80 mm apart.
    "helix": twenty beads around a cylinder of radius 70 mm. Both have larger beads among the
    others, and neither looks the same turned or mirrored. Raises InputError for another name.

    Example:
        >>> from RadGSRegLib.calibration import layout
        >>> beads = layout("two-plates")
        >>> len(beads), sorted(set(beads.diameters_mm.tolist()))
        (16, [3.0, 5.0])
    """
    if name not in _LAYOUTS:
        raise InputError("beads", f"no layout named {name}", f"use one of {list(LAYOUTS)}")
    return _LAYOUTS[name]()
