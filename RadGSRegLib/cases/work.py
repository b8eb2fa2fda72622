"""What a work folder belongs to: interrupted work goes on only with its own data."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from .output import output_file


def claim(file: Path, work: str, parts: Mapping[str, Any], option: str = "--work") -> None:
    """Mark the folder of ``file`` as that of some work, or check that it is.

    ``work``: what people call it; ``parts``: what must be the same, JSON values by what people call
    them; their digests alone are written, so that nothing says whose data they are. ``option``
    names the folder on the command line. Raises InputError, naming the parts, for a folder of other
    work of this kind.
    """
    own = {name: _digest(value) for name, value in parts.items()}
    if not file.is_file():
        make_folder(file.parent)
        with output_file(file) as part:
            part.write_text(json.dumps(own, indent=1), encoding="utf-8")
        return
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(file, f"cannot be read ({error})", f"name another {option}") from None
    changed = [name for name in own if not isinstance(kept, dict) or kept.get(name) != own[name]]
    if changed:
        raise InputError(
            file.parent,
            f"holds another {work}, with other {' and '.join(changed)}",
            f"name another {option}, or remove it",
        )


def make_folder(folder: Path) -> None:
    """Make a folder where it is missing. Raises InputError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(folder, f"cannot be made ({error.strerror})") from error


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
