"""What a work folder belongs to: an interrupted training goes on only with its own data."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..cases import output_file
from ..errors import InputError
from .kept import make_folder

FILE = "training.json"


def claim(folder: Path, parts: Mapping[str, Any], option: str = "--work") -> None:
    """Mark ``folder`` as that of a training, or check that it is.

    ``parts``: what must be the same, JSON values by what people call them; their digests alone are
    written, so that nothing says whose data they are. ``option`` names the folder on the command
    line. Raises InputError, naming the parts, for a folder of another training.
    """
    path = folder / FILE
    own = {name: _digest(value) for name, value in parts.items()}
    if not path.is_file():
        make_folder(folder)
        with output_file(path) as part:
            part.write_text(json.dumps(own, indent=1), encoding="utf-8")
        return
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, f"cannot be read ({error})", f"name another {option}") from None
    changed = [name for name in own if not isinstance(kept, dict) or kept.get(name) != own[name]]
    if changed:
        raise InputError(
            folder,
            f"holds another training, with other {' and '.join(changed)}",
            f"name another {option}, or remove it",
        )


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
