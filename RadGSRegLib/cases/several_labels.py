"""Which labels of a segmentation a list of names, or "all", means."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..segmentnames import Named, choose_segment
from ..vertebrae import vertebra_level
from .types import CtCase

ALL = "all"


def labels_of(case: CtCase, wanted: str, source: str = "--labels") -> list[int]:
    """Return the labels that a text means, each once.

    Args:
        case: whose segmentation they are of.
        wanted: names or numbers with commas ("L1,L2", "20,21"), or "all": every vertebra but the
            sacrum, or every label where none is named as a vertebra.
        source: what gave the text, for an error.

    Returns:
        Values of the label map.

    Raises:
        InputError: for what is no label of the case.

    Example:
        >>> from RadGSRegLib.cases import labels_of
        >>> labels_of(case, case.label_name) == [case.label]
        True
    """
    there = [int(value) for value in np.unique(case.labels.array) if value > 0]
    names = {label: case.label_names.get(label, str(label)) for label in there}
    if wanted.strip().lower() == ALL:
        levels = {label: vertebra_level(name) for label, name in names.items()}
        vertebrae = [label for label in there if levels[label] not in (None, "S1")]
        return vertebrae or there
    parts = [part.strip() for part in wanted.split(",")]
    if not all(parts):
        raise InputError(source, "names no label between two commas", 'as in "L1,L2,L3", or "all"')
    return list(dict.fromkeys(_label(part, names, source) for part in parts))


def _label(wanted: str, names: dict[int, str], source: str) -> int:
    segments = [Named(name, str(label)) for label, name in names.items()]
    remedy = "choose by number"
    chosen = choose_segment(segments, wanted, source, remedy)
    if chosen is None:
        there = ", ".join(
            name if name == str(label) else f"{name} ({label})" for label, name in names.items()
        )
        raise InputError(source, f'"{wanted}" is no label of the segmentation', f"it has {there}")
    return int(chosen.identifier)
