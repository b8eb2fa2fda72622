"""Files that say which shadow is of which bead: in the form that ``calibration.json`` has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..cases import Fields, check_schema, read_json_object
from . import bounds
from .given import GivenPairs
from .types import Beads

SCHEMA = "radgsreg/calibration"
VERSION = 1


def read_pairs(path: str | os.PathLike[str], beads: Beads) -> dict[str, GivenPairs]:
    """Read the pairs of bead and spot of each view, as a person or `calibrate` has written them.

    Args:
        path: a JSON file; of each view its ``name``, ``beads`` and ``spots_px`` are read.
        beads: those that the numbers are of.

    Returns:
        The pairs of each view, by its name.

    Raises:
        InputError: for a file that is missing, no JSON or of another schema; of another number of
            beads; a bead that there is not or that comes twice; spots that are no pixels, or two
            of them at one place; fewer pairs than a camera needs; two views of one name.

    Example:
        >>> import json
        >>> from pathlib import Path
        >>> from RadGSRegLib.calibration import GivenPairs, layout, pairs_to_json, read_pairs
        >>> spots = [[float(n), 2.0 * n] for n in range(6)]
        >>> file = Path(folder) / "pairs.json"
        >>> content = pairs_to_json({"AP": GivenPairs(range(6), spots)})
        >>> _ = file.write_text(json.dumps(content))
        >>> read_pairs(file, layout("helix"))["AP"].beads
        array([0, 1, 2, 3, 4, 5])
    """
    path = Path(path)
    fields = Fields(path, read_json_object(path))
    check_schema(fields, SCHEMA, VERSION)
    said = fields.data.get("beads")
    if isinstance(said, dict) and said.get("count") not in (None, len(beads)):
        fields.refuse(
            f"is of {said['count']} beads, and {beads.name} has {len(beads)}",
            "give the beads that it was made with",
        )
    entries = fields.need("views")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        fields.refuse('"views" must be a list of objects')
    out: dict[str, GivenPairs] = {}
    for entry in entries:
        name = Fields(path, entry, "view").text("name").strip()
        if name in out:
            fields.refuse(f'holds the view "{name}" twice')
        out[name] = _pairs(Fields(path, entry, f'view "{name}"'), beads)
    return out


def _pairs(view: Fields, beads: Beads) -> GivenPairs:
    listed = view.need("beads")
    if not isinstance(listed, list):
        view.refuse('"beads" must be a list of numbers of beads')
    count = len(listed)
    if count < bounds.LEAST_PAIRS:
        view.refuse(f"has {count} pairs", f"a camera needs {bounds.LEAST_PAIRS}")
    numbers = view.numbers("beads", (count,))
    strange = (numbers != np.round(numbers)) | (numbers < 0) | (numbers >= len(beads))
    if strange.any():
        last = len(beads) - 1
        view.refuse(f"there is no bead {numbers[strange][0]:g}", f"the beads are 0 to {last}")
    if len(np.unique(numbers)) < count:
        view.refuse("a bead has two spots", "leave one of them out")
    if not isinstance(view.need("spots_px"), list) or len(view.data["spots_px"]) != count:
        view.refuse(f'"spots_px" must hold one spot for each of the {count} beads')
    spots = view.numbers("spots_px", (count, 2))
    if len(np.unique(spots, axis=0)) < count:
        view.refuse("two beads have the same spot", "leave one of them out")
    return GivenPairs(numbers.astype(np.int64), spots)


def pairs_to_json(pairs: Mapping[str, GivenPairs]) -> dict[str, Any]:
    """What a file for `read_pairs` holds."""
    views = [
        {
            "name": name,
            "beads": [int(number) for number in of.beads],
            "spots_px": [[float(x) for x in spot] for spot in of.spots_px],
        }
        for name, of in pairs.items()
    ]
    return {"schema": SCHEMA, "version": VERSION, "views": views}
