"""Strict reading of JSON: every complaint is one sentence that names the file and the key."""

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..errors import InputError
from ..geometry import THREE_DECIMALS, Array, affine, orthonormalize
from ..inputs import note_input
from . import bounds


def existing_file(path: Path, mentioned_in: str = "", is_input: bool = True) -> Path:
    """``path`` if it is a file, noted as an input; InputError otherwise."""
    where = f" (mentioned in {mentioned_in})" if mentioned_in else ""
    if path.is_dir():
        raise InputError(path, f"is a folder, not a file{where}")
    if not path.is_file():
        raise InputError(path, f"does not exist{where}")
    if is_input:
        note_input(path)
    return path


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out:
            raise ValueError(f'the key "{key}" stands there twice')
        out[key] = value
    return out


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. InputError if missing, not UTF-8, not JSON, or not an object."""
    existing_file(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        data = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(path, "is not a text file in UTF-8") from error
    except json.JSONDecodeError as error:
        raise InputError(
            path, f"is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is not usable JSON: {error}") from error
    if not isinstance(data, dict):
        raise InputError(path, "holds no JSON object")
    return data


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """`` (did you mean "x"?)`` or nothing."""
    names = {name.lower(): name for name in candidates}
    near = difflib.get_close_matches(word.lower(), names, n=1)
    return f' (did you mean "{names[near[0]]}"?)' if near else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class Fields:
    """The keys of one JSON object, read with checks.

    ``source`` is the file for messages and ``of`` a phrase such as ``view "AP"``.
    """

    source: Path
    data: dict[str, Any]
    of: str = ""

    def __contains__(self, key: str) -> bool:
        return self.data.get(key) is not None

    def refuse(self, problem: str, remedy: str = "") -> NoReturn:
        """Raise InputError about this object."""
        raise InputError(self.source, f"{self.of}: {problem}" if self.of else problem, remedy)

    def need(self, key: str) -> Any:
        """The value of a key that must be there."""
        if key not in self:
            self.refuse(f'has no "{key}"{did_you_mean(key, set(self.data) - {key})}')
        return self.data[key]

    def text(self, key: str) -> str:
        """A string that is not blank."""
        value = self.need(key)
        if not isinstance(value, str) or not value.strip():
            self.refuse(f'"{key}" must be a text that is not blank')
        return value

    def integer(self, key: str) -> int:
        """A whole number."""
        value = self.need(key)
        if not _is_number(value) or (isinstance(value, float) and not value.is_integer()):
            self.refuse(f'"{key}" must be a whole number')
        return int(value)

    def number(self, key: str) -> float:
        """A finite number."""
        if not _is_number(self.need(key)):
            self.refuse(f'"{key}" must be a number')
        return float(self.numbers(key, ()))

    def numbers(self, key: str, shape: tuple[int, ...]) -> Array:
        """An array of finite numbers of a given shape."""
        value = self.need(key)
        size = " x ".join(map(str, shape))

        def check(part: Any, depth: int) -> bool:
            if depth == len(shape):
                return _is_number(part)
            return (
                isinstance(part, list)
                and len(part) == shape[depth]
                and all(check(p, depth + 1) for p in part)
            )

        if not check(value, 0):
            self.refuse(f'"{key}" must hold {size} numbers')
        try:
            out = np.asarray(value, dtype=float)
        except OverflowError:
            out = np.array([np.inf])
        if not np.isfinite(out).all():
            self.refuse(f'"{key}" holds a value that is not finite')
        return out

    def rigid(self, key: str, skew: float = bounds.SKEW) -> Array:
        """A rigid, right-handed 4x4, made exactly orthonormal; ``skew``: how far off it may be."""
        value = self.numbers(key, (4, 4))
        problem = _rigid_problem(value, skew)
        if problem:
            self.refuse(f'"{key}" {problem}')
        return orthonormalize(value)

    def rotation(self, key: str) -> Array:
        """A rotation (3, 3) of three decimals or more, made exactly orthonormal."""
        value = affine(self.numbers(key, (3, 3)), np.zeros(3))
        if _rigid_problem(value, THREE_DECIMALS):
            self.refuse(f'"{key}" must be a rotation: three right-handed axes of length 1')
        return orthonormalize(value)[:3, :3]

    def path(self, key: str) -> Path:
        """A path, relative to the JSON file."""
        try:
            path = self.source.parent / Path(self.text(key)).expanduser()
            path.exists()
        except (OSError, ValueError, RuntimeError):  # too long, a zero byte, no such user
            self.refuse(f'"{key}" is no usable path')
        return path

    def note_unknown(self, known: set[str]) -> list[str]:
        """One remark per key that is not read."""
        of = f"{self.of}: " if self.of else ""
        return [
            f'{self.source.name}: {of}"{key}" is not used{did_you_mean(key, known)}'
            for key in self.data
            if key not in known
        ]


def _rigid_problem(matrix: Array, skew: float) -> str:
    """What keeps a finite 4x4 from being rigid and right-handed; nothing if it is."""
    if np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-9:
        return "must have the last row 0 0 0 1"
    rotation = matrix[:3, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > skew:
        return "is not rigid: its 3x3 part is no rotation (it scales or shears)"
    if np.linalg.det(rotation) < 0:
        return "is left-handed: its 3x3 part mirrors (determinant -1)"
    return ""
