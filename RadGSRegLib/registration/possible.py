"""Which values of a registration's options are possible at all, for those that come from a file."""

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError

# Sizes that something is divided by or stepped with.
_POSITIVE = (
    "bone_scale",
    "pixel_mm",
    "cloud_mm",
    "step_mm",
    "step_deg",
    "neighbourhood_mm",
    "neighbourhoods_mm",
)


def refuse_impossible(options: Any, source: Path, within: str = "") -> None:
    """Raise InputError, naming ``source`` and the option, for a value that cannot be meant.

    Counts are at least 1; lengths and angles are not negative.
    """
    for field in fields(options):
        name, value = field.name, getattr(options, field.name)
        if is_dataclass(value):
            refuse_impossible(value, source, f"{within}{name}.")
            continue
        for number in value if isinstance(value, tuple) else (value,):
            problem = _problem(f"{within}{name}", number)
            if problem:
                raise InputError(source, f"{within}{name} is {number}, not {problem}")


def _problem(name: str, value: Any) -> str:
    """What a value is not but must be; nothing where it is possible."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if name.endswith(_POSITIVE):
        return "" if value > 0 else "positive"
    if isinstance(value, float):
        return "" if value >= 0 else "0 or more"
    if name.endswith("seed"):
        return "" if 0 <= value < 2**31 else "from 0 to 2^31 - 1"
    return "" if value >= 1 else "at least 1"
