"""``patient_axes`` of a ``views.json``: how the patient lies in the world."""

from pathlib import Path

import numpy as np

from ..geometry import Array
from .json_input import Fields, read_json_object

# Patient axes (left, posterior, head) along those of the table, where a patient who lies head
# first and supine has the table's own: DICOM's Patient Position (0018,5100).
_POSITIONS = {
    "HFS": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "HFP": ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
    "FFS": ((-1, 0, 0), (0, 1, 0), (0, 0, -1)),
    "FFP": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "HFDR": ((0, -1, 0), (1, 0, 0), (0, 0, 1)),
    "HFDL": ((0, 1, 0), (-1, 0, 0), (0, 0, 1)),
    "FFDR": ((0, -1, 0), (-1, 0, 0), (0, 0, -1)),
    "FFDL": ((0, 1, 0), (1, 0, 0), (0, 0, -1)),
}


def read_patient_axes(path: Path) -> Array | None:
    """Return the rotation (3, 3) from the patient's axes (LPS) to the world's; None for "any".

    The identity where the file says nothing. Else ``"any"``, a 3x3 rotation, or a DICOM patient
    position with the table's axes in the world: ``{"position": "HFP", "table": [[...]]}``. Raises
    InputError, naming the file, for anything else.
    """
    fields = Fields(Path(path), read_json_object(Path(path)))
    if "patient_axes" not in fields:
        return np.eye(3)
    value = fields.data["patient_axes"]
    if value == "any":
        return None
    if isinstance(value, list):
        return _rotation(fields, "patient_axes")
    if not isinstance(value, dict):
        fields.refuse('"patient_axes" must be a 3x3 rotation, a position with a table, or "any"')
    group = Fields(Path(path), value, "patient_axes")
    position = group.text("position")
    if position not in _POSITIONS:
        group.refuse(f'"position" is "{position}"', f"use one of {', '.join(_POSITIONS)}")
    table = _rotation(group, "table") if "table" in group else np.eye(3)
    return np.asarray(table @ np.array(_POSITIONS[position], dtype=float).T)


def _rotation(fields: Fields, key: str) -> Array:
    """A rotation, given with at least three decimals."""
    matrix = fields.numbers(key, (3, 3))
    u, _, v = np.linalg.svd(matrix)
    turn = u @ v
    if np.linalg.det(matrix) <= 0 or np.abs(turn - matrix).max() > 2e-3:
        fields.refuse(f'"{key}" must be a rotation: three right-handed axes of length 1')
    return np.asarray(turn)
