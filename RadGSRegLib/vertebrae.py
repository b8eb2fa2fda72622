"""The vertebrae: their levels, their SNOMED CT codes, and the level that a name speaks of."""

import re

LEVELS = (*(f"T{n}" for n in range(1, 13)), *(f"L{n}" for n in range(1, 7)), "S1")
"""From top to bottom. L6 is what a transitional vertebra below L5 is often called."""

SNOMED_CODES = {
    "T1": "64864005",
    "T2": "53733008",
    "T3": "1626008",
    "T4": "73071006",
    "T5": "56401006",
    "T6": "45296009",
    "T7": "62487009",
    "T8": "11068009",
    "T9": "82687006",
    "T10": "7610001",
    "T11": "12989004",
    "T12": "23215003",
    "L1": "66794005",
    "L2": "14293000",
    "L3": "36470004",
    "L4": "11994002",
    "L5": "49668003",
    "S1": "54735007",
}
"""The codes of single vertebrae, and of the sacrum as S1, as in Slicer's terminology."""


def vertebra_level(text: str) -> str | None:
    """Return the vertebra that a name speaks of ("vertebrae_L3" and "L3 vertebra" give "L3").

    Only names that consist of a level and words for "vertebra" count: "disc L3" gives None.
    """
    words = [word for word in re.split(r"[^0-9A-Za-z]+", text) if word]
    other = [word for word in words if word.lower() not in ("vertebra", "vertebrae")]
    if len(other) != 1:
        return None
    match = re.fullmatch(r"([TLS])0?(\d{1,2})", other[0], flags=re.IGNORECASE)
    return f"{match[1].upper()}{int(match[2])}" if match else None


def level_of_code(code: str | None) -> str | None:
    """Return the level of a SNOMED CT code, or None."""
    return next((level for level, known in SNOMED_CODES.items() if known == code), None)
