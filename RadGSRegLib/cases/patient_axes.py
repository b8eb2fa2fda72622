"""``patient_axes`` of a ``views.json``: how the patient lies in the world."""

from typing import Any

import numpy as np

from ..geometry import PATIENT_POSITIONS, Array, room_to_patient
from .json_input import Fields

PARALLEL = np.eye(3)
"""The patient lies as the world's axes say."""


def read_patient_axes(fields: Fields) -> Array | None:
    """Return the rotation (3, 3) from the patient's axes (LPS) to the world's; None for "any".

    The identity where the file says nothing. Else ``"any"``, a 3x3 rotation, or a DICOM patient
    position (0018,5100) with the table's axes in the world, ``{"position": "HFP", "table":
    [[...]]}``: a patient who lies head first and supine has the table's own. Raises InputError,
    naming the file, for anything else.
    """
    if "patient_axes" not in fields:
        return PARALLEL
    value = fields.data["patient_axes"]
    if value == "any":
        return None
    if isinstance(value, list):
        return fields.rotation("patient_axes")
    if not isinstance(value, dict):
        fields.refuse('"patient_axes" must be a 3x3 rotation, a position with a table, or "any"')
    group = Fields(fields.source, value, "patient_axes")
    position = group.text("position")
    if position not in PATIENT_POSITIONS:
        group.refuse(f'"position" is "{position}"', f"use one of {', '.join(PATIENT_POSITIONS)}")
    table = group.rotation("table") if "table" in group else np.eye(3)
    return np.asarray(table @ room_to_patient(position).T)


def patient_axes_to_json(axes: Array | None) -> dict[str, Any]:
    """The entry of a ``views.json`` that `read_patient_axes` reads back; none for the identity."""
    if axes is None:
        return {"patient_axes": "any"}
    return {} if np.array_equal(axes, np.eye(3)) else {"patient_axes": np.asarray(axes).tolist()}
