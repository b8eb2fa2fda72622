"""What a file of weights says of itself in its header, read without torch."""

import json
import os
from pathlib import Path
from typing import Any

from ..errors import InputError
from .json_input import existing_file

_MOST_BYTES = 100_000_000  # the format's own limit of a header


def read_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the JSON values that `tensors.save_tensors` put into a file's header.

    A safetensors file begins with the length of its header (8 bytes, little-endian) and the header
    itself, which is JSON. Raises InputError for a file that is missing, damaged or no model.
    """
    path = Path(path)
    try:
        # Checkpoints are read so, and written over; a command notes its model itself.
        with existing_file(path, is_input=False).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _MOST_BYTES:
                raise ValueError
            header = json.loads(file.read(length))
        return dict(json.loads(header["__metadata__"]["radgsreg"]))
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError):
        raise InputError(path, "is damaged or not a file of this program") from None


def read_card(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a model's card (data, training, figures, limits). Raises InputError as `read_facts`."""
    card = read_facts(path).get("card")
    if not isinstance(card, dict):
        raise InputError(path, "is not a model of this program", "train one with pretrain")
    return card
