"""The weights that come with the program."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

POPULATION = "population"
"""Weights that reconstruct a vertebra whose shape they are not told, and that a patient's training
goes on from."""

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped_weights(name: str = POPULATION) -> Path | None:
    """Weights of many vertebrae, or None where they were not installed.

    They stand in the library's own folder in a built extension and where pip has installed it, and
    in the Resources beside that folder in a checkout.
    """
    for folder in (_PACKAGE / "Models", _PACKAGE.parent / "Resources" / "Models"):
        path = folder / f"{name}.safetensors"
        if path.is_file():
            return path
    return None


def shipped_name(path: Path, card: Mapping[str, Any]) -> str | None:
    """Name the model at ``path``, with its date, if it came with the program.

    None for all others: what users call their files may be somebody's name.
    """
    weights = shipped_weights()
    if weights is not None and Path(path).resolve() == weights.resolve():
        return f"{POPULATION}, {card.get('date', 'no date')}"
    return None
