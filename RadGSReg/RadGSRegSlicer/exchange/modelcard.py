"""What a trained model says of itself, for people."""

import functools
import re
from pathlib import Path
from typing import Any

from RadGSRegLib.errors import InputError
from slicer.i18n import tr as _

from ..process.environment import explained

Card = dict[str, Any]


def knownCard(path: str | Path) -> Card:
    """The card of a model, read again only where the file has changed: for a form.

    Raises InputError for a file that is missing, damaged or no model of this program.
    """
    path = Path(path)
    try:
        status = path.stat()
    except (OSError, ValueError):
        raise InputError(path, "is not there") from None
    return _readOnce(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=8)
def _readOnce(path: Path, time_ns: int, size: int) -> Card:
    try:
        from RadGSRegLib.cases import read_card
    except ImportError as error:
        raise InputError(path, "cannot be read yet", str(explained(error))) from error

    return read_card(path)


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
            lines += [f"{_plain(name)}: {value}" for name, value in values.items()]
    return lines


def _plain(name: str) -> str:
    """A figure's name without the abbreviations of papers."""
    words = {
        "RecM": _("Reconstruction"),
        "RegM": _("Registration"),
        "SSIM": _("likeness of the volumes (at most 1)"),
        "PSNR": _("signal to noise"),
    }
    return re.sub("|".join(words), lambda found: words[found[0]], name)
