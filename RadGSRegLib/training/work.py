"""What a work folder belongs to: an interrupted training goes on only with its own data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import cases

FILE = "training.json"


def claim(folder: Path, parts: Mapping[str, Any], option: str = "--work") -> None:
    """Mark ``folder`` as that of a training, or check that it is (`cases.claim`)."""
    cases.claim(folder / FILE, "training", parts, option)
