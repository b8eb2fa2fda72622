"""Files that say where the beads of a phantom are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import pdist, squareform

from ..cases import Fields, check_schema, output_file, read_json_object, write_json
from ..errors import InputError
from . import bounds
from .layouts import LAYOUTS, layout
from .types import Beads

SCHEMA = "radgsreg/beads"
VERSION = 1


def read_beads(file_or_name: str | os.PathLike[str]) -> Beads:
    """Read a phantom file, or take a layout that comes with the program by its name.

    A file that has the name of a layout is read where it is given with its folder ("./helix").

    Args:
        file_or_name: a path, or one of `LAYOUTS`.

    Returns:
        The beads, mm, in the frame of the file.

    Raises:
        InputError: for a file that is missing, no JSON or of another schema; fewer than 6 beads;
            beads that are no numbers, of no bead's size, nearer than they are wide or all near
            one plane.

    Example:
        >>> from RadGSRegLib.calibration import read_beads
        >>> beads = read_beads("helix")
        >>> len(beads), beads.name
        (20, 'helix')
    """
    if isinstance(file_or_name, str) and file_or_name in LAYOUTS:
        return layout(file_or_name)
    path = Path(file_or_name)
    if not path.exists() and path.suffix == "":
        raise InputError(
            path, "does not exist, and no layout has this name", f"layouts: {', '.join(LAYOUTS)}"
        )
    fields = Fields(path, read_json_object(path))
    check_schema(fields, SCHEMA, VERSION)
    entries = fields.need("beads")
    if not isinstance(entries, list):
        fields.refuse('"beads" must be a list')
    centres, diameters = [], []
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            fields.refuse(f"bead {number} must be an object")
        bead = Fields(path, entry, f"bead {number}")
        centres.append(bead.numbers("at_mm", (3,)))
        diameters.append(bead.number("diameter_mm"))
    name = fields.text("name").strip() if "name" in fields else path.stem
    beads = Beads(name, np.array(centres).reshape(-1, 3), np.array(diameters))
    problem = beads_problem(beads)
    if problem:
        fields.refuse(*problem)
    return beads


def write_beads(path: str | os.PathLike[str], beads: Beads) -> None:
    """Write a phantom file, whole or not at all.

    Args:
        path: of the JSON file.
        beads: as `read_beads` would take them.

    Returns:
        None.

    Raises:
        InputError: for beads that could not be read back, and where the file cannot be written.

    Example:
        >>> from pathlib import Path
        >>> from RadGSRegLib.calibration import layout, read_beads, write_beads
        >>> write_beads(Path(folder) / "beads.json", layout("two-plates"))
        >>> len(read_beads(Path(folder) / "beads.json"))
        16
    """
    problem = beads_problem(beads)
    if problem:
        raise InputError(path, *problem)
    with output_file(path) as part:
        write_json(beads_to_json(beads), part)


def beads_to_json(beads: Beads) -> dict[str, Any]:
    """What a phantom file holds."""
    entries = [
        {"at_mm": [float(x) for x in at], "diameter_mm": float(diameter)}
        for at, diameter in zip(beads.centres_mm, beads.diameters_mm, strict=True)
    ]
    return {"schema": SCHEMA, "version": VERSION, "name": beads.name, "beads": entries}


def beads_problem(beads: Beads) -> tuple[str, str] | None:
    """What keeps beads from calibrating a camera, and what to do; None where nothing does."""
    centres, diameters = beads.centres_mm, beads.diameters_mm
    if not (np.isfinite(centres).all() and np.isfinite(diameters).all()):
        return "holds a bead with a value that is not finite", "give numbers in mm"
    if len(beads) < bounds.FEWEST_BEADS:
        few = f"holds {len(beads)} beads"
        return few, f"a camera needs {bounds.FEWEST_BEADS} or more"
    strange = ~((diameters >= bounds.SMALLEST_MM) & (diameters <= bounds.LARGEST_MM))
    if strange.any():
        number = int(np.argmax(strange))
        limits = f"beads are {bounds.SMALLEST_MM:g} to {bounds.LARGEST_MM:g} mm wide"
        return f"bead {number} has a diameter of {diameters[number]:g} mm", limits
    apart = squareform(pdist(centres))
    if apart.max() > bounds.FURTHEST_MM:
        return f"its beads are {apart.max():.0f} mm apart", "give places in mm"
    np.fill_diagonal(apart, np.inf)
    room = apart - 0.5 * (diameters[:, None] + diameters[None])
    if room.min() < 0:
        first, second = sorted(divmod(int(np.argmin(room)), len(beads)))
        near = f"beads {first} and {second} are {apart[first, second]:.2f} mm apart"
        return near + ", nearer than they are wide", "leave out what stands there twice"
    _, _, axes = np.linalg.svd(centres - centres.mean(axis=0), full_matrices=True)
    across = np.abs((centres - centres.mean(axis=0)) @ axes[2])
    if across.max() < bounds.THINNEST_MM:
        flat = f"all beads lie within {across.max():.1f} mm of one plane"
        return flat, "a camera needs beads in depth, such as on two plates"
    return None
