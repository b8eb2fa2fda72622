"""Tensors and JSON values in one safetensors file, written whole or not at all (no pickle)."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from ..cases import output_file, read_facts
from ..errors import InputError


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors, and JSON values in the file's header.

    Raises InputError where the file cannot be written.
    """
    from safetensors.torch import save

    still = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    header = {"radgsreg": json.dumps(facts, allow_nan=False)}
    # As bytes: safetensors' own files are their owner's alone, whatever the user's umask says.
    with output_file(path) as part:
        part.write_bytes(save(still, metadata=header))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises InputError for a file that is missing, damaged or no model, and where safetensors is not
    installed.
    """
    path = Path(path)
    facts = read_facts(path)
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise InputError(path, "needs the package safetensors", "install it") from None
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(path, f"is damaged or not a file of this program ({reason})") from None
    return tensors, facts
