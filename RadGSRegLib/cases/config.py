"""Options in dataclasses, read from JSON or YAML with their types checked.

Every complaint is one sentence that names the file and the option.
"""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import InputError
from .json_input import did_you_mean, existing_file, read_json_object

T = TypeVar("T")

_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "null",
}


def read_mapping(path: Path) -> dict[str, Any]:
    """Read the object in a ``.json`` file, or the mapping in a ``.yaml`` or ``.yml`` one.

    Raises InputError for a file that cannot be read or holds anything else.
    """
    if path.suffix.lower() not in (".yaml", ".yml"):
        return read_json_object(path)
    existing_file(path)
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from None
    except Exception as error:
        raise InputError(path, f"is not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise InputError(path, "holds no set of options")
    return values


def options_from(
    kind: type[T],
    values: Mapping[str, Any],
    source: str | Path,
    base: T | None = None,
    within: str = "",
) -> T:
    """Build options of a dataclass ``kind`` from values by name, dataclasses within it too.

    What ``values`` leave out is as in ``base``; without a ``base`` nothing may be left out.
    ``within`` is the name of the group that ``values`` are, for messages. Raises InputError, naming
    ``source`` and the option, for unknown names, missing ones, and values that do not fit.
    """
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind) if field.init]  # type: ignore[arg-type]
    changed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in names:
            near = did_you_mean(str(name), names)
            raise InputError(source, f"there is no option {within}{name}{near}")
        now = None if base is None else getattr(base, name)
        changed[name] = _fitting(hints[name], value, source, f"{within}{name}", now)
    missing = [name for name in names if name not in changed] if base is None else []
    if missing:
        raise InputError(source, f"has no option {within}{missing[0]}", "every option is needed")
    try:
        return kind(**changed) if base is None else replace(base, **changed)  # type: ignore[type-var]
    except InputError as error:  # what the dataclass itself refuses
        group = f"{within.removesuffix('.')}: " if within else ""
        raise InputError(source, group + error.problem, error.remedy) from None


def _fitting(hint: Any, value: Any, source: str | Path, name: str, now: Any) -> Any:
    """The value as its type hint wants it: tuples for lists, dataclasses for mappings."""
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise InputError(source, f"{name} is a group of options, not {value!r}")
        return options_from(hint, value, source, now, f"{name}.")  # type: ignore[arg-type]
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        group = next((part for part in parts if is_dataclass(part)), None)
        if group is not None and value is not None:
            return _fitting(group, value, source, name, now)
        for part in parts:
            if not is_dataclass(part) and _fits(part, value):
                return _fitting(part, value, source, name, now)
    elif origin is tuple and isinstance(value, list | tuple):
        if parts[-1] is Ellipsis:
            parts = (parts[0],) * len(value)
        if len(parts) == len(value):
            pairs = zip(parts, value, strict=True)
            return tuple(_fitting(part, each, source, name, None) for part, each in pairs)
    elif _fits(hint, value):
        return float(value) if hint is float else value
    raise InputError(source, f"{name} is {value!r}, not {_described(hint)}")


def _fits(hint: Any, value: Any) -> bool:
    if get_origin(hint) is Literal:
        return any(value == word and type(value) is type(word) for word in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, list | tuple)
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and math.isfinite(value)
    if hint not in _KINDS:
        raise TypeError(f"an option of the type {hint} cannot be read")
    return type(value) is hint


def _described(hint: Any) -> str:
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return " or ".join(map(str, parts))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_described, parts))
    if get_origin(hint) is tuple:
        return "a list" if parts[-1] is Ellipsis else f"a list of {len(parts)}"
    return _KINDS[hint]
