"""Levels as JSON values: what ``levels.json`` says of vertebrae, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .chain import LEVELS
from .levels import SpineLevels, Vertebra, name_vertebrae

UNKNOWN = "unknown"


def levels_to_record(spine: SpineLevels) -> dict[str, Any]:
    """Return what a file says of a spine: JSON values."""
    return {
        "anchor": spine.anchor,
        "anchors": {name: round(value, 4) for name, value in spine.anchors.items()},
        "told": {str(n): level for n, level in sorted(spine.told.items())},
        "vertebrae": [
            {
                "level": vertebra.level or UNKNOWN,
                "place_world_mm": [round(float(x), 3) for x in vertebra.place_world],
                "share": round(vertebra.share, 4),
                "probabilities": {
                    **{level: round(vertebra.probabilities[level], 4) for level in LEVELS},
                    UNKNOWN: round(max(1.0 - sum(vertebra.probabilities.values()), 0.0), 4),
                },
                "looks": {level: round(vertebra.looks[level], 4) for level in LEVELS},
            }
            for vertebra in spine.vertebrae
        ],
    }


def levels_from_record(record: Mapping[str, Any]) -> SpineLevels:
    """Read what `levels_to_record` gave. Raises ValueError for anything else."""
    try:
        vertebrae = [
            Vertebra(
                np.asarray(entry["place_world_mm"], dtype=float).reshape(3),
                float(entry["share"]),
                {level: float(entry["looks"][level]) for level in LEVELS},
                {},
            )
            for entry in record["vertebrae"]
        ]
        anchors = {str(name): float(value) for name, value in record["anchors"].items()}
        told = {int(n): str(level) for n, level in record["told"].items()}
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"is no record of levels ({error!r})") from None
    return name_vertebrae(vertebrae, anchors, told)
