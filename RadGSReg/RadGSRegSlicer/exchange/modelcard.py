"""What a trained model says of itself, read without torch, which takes seconds to load."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from RadGSRegLib.errors import InputError
from slicer.i18n import tr as _

Card = dict[str, Any]

_MOST_BYTES = 100_000_000  # the format's own limit of a header


def readCard(path: str | Path) -> Card:
    """The card (JSON values: data, training, figures, limits) in a model's header.

    A safetensors file begins with the length of its header (8 bytes, little-endian) and the header
    itself, which is JSON. Raises InputError for a file that is missing, damaged or no model of
    ours.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _MOST_BYTES:
                raise ValueError
            header = json.loads(file.read(length))
        card = json.loads(header["__metadata__"]["radgsreg"])["card"]
        return dict(card)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise InputError(path, "is not there") from None
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError):
        raise InputError(path, "is damaged or not one of our models") from None


def knownCard(path: str | Path) -> Card:
    """`readCard`, which looks into the file only where that has changed: for a form."""
    path = Path(path)
    try:
        seen = path.stat()
    except (OSError, ValueError):
        raise InputError(path, "is not there") from None
    return _readOnce(path, seen.st_mtime_ns, seen.st_size)


@functools.lru_cache(maxsize=8)
def _readOnce(path: Path, time_ns: int, size: int) -> Card:
    return readCard(path)


def trainedFor(card: Card) -> str:
    """What the patient's vertebra was called that a model was trained for; "" for other models."""
    data = card.get("data")
    return str(data.get("label", "")) if isinstance(data, dict) and "patient" in data else ""


def describe(card: Card) -> list[str]:
    """A card as lines: the first says for whom and how long, the others its figures."""
    label = trainedFor(card)
    lines = [_("For one patient: {label}").format(label=label) if label else _("For any patient")]
    training = card.get("training")
    if isinstance(training, dict) and {"minutes", "steps"} <= set(training):
        text = _("trained for {minutes} minutes, {steps} steps")
        lines[0] += ", " + text.format(minutes=training["minutes"], steps=training["steps"])
    for heading, values in card.items():
        if heading.startswith("figures") and isinstance(values, dict):
            lines.append(f"{heading[0].upper()}{heading[1:]}:")
            lines += [f"{name}: {value}" for name, value in values.items()]
    return lines
