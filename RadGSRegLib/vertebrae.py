"""The vertebrae: their levels, codes and label numbers, and the level that a name speaks of."""

import re

LEVELS = (
    *(f"C{n}" for n in range(1, 8)),
    *(f"T{n}" for n in range(1, 14)),
    *(f"L{n}" for n in range(1, 7)),
    "S1",
)
"""From top to bottom. T13 and L6 are what transitional vertebrae are often called."""

TRANSITIONAL = ("T13", "L6")
"""Levels that most people do not have."""

SNOMED_CODES = {
    "C1": "14806007",
    "C2": "39976000",
    "C3": "113205007",
    "C4": "5329002",
    "C5": "36978003",
    "C6": "36054005",
    "C7": "87391001",
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


_USUAL = tuple(level for level in LEVELS if level not in TRANSITIONAL)

LABEL_SCHEMES = {
    "verse": {
        **dict(enumerate(_USUAL[:-1], 1)),
        25: "L6",
        26: "S1",
        28: "T13",
    },
    "totalsegmentator": dict(enumerate(_USUAL[::-1], 26)),
    "totalsegmentator-v1": dict(enumerate(_USUAL[-2::-1], 18)),
}
"""What the numbers of label maps without names mean: VerSe (TPTBox too), TotalSegmentator 2 and 1.

The same number is another vertebra in each, so only the user can say which scheme it is.
"""


def vertebra_level(text: str) -> str | None:
    """Return the vertebra that a name speaks of ("vertebrae_L3" and "L3 vertebra" give "L3").

    Only names that consist of one of `LEVELS` (or "sacrum", for S1) and words for "vertebra" count:
    "disc L3" and "T99" give None.
    """
    words = [word.lower() for word in re.split(r"[^0-9A-Za-z]+", text) if word]
    other = [word for word in words if word not in ("vertebra", "vertebrae", "vertebral", "body")]
    if len(other) != 1:
        return None
    match = re.fullmatch(r"([ctls])0?(\d{1,2})", other[0])
    level = f"{match[1].upper()}{int(match[2])}" if match else {"sacrum": "S1"}.get(other[0], "")
    return level if level in LEVELS else None


def level_of_code(code: str | None) -> str | None:
    """Return the level of a SNOMED CT code, or None."""
    return next((level for level, known in SNOMED_CODES.items() if known == code), None)
