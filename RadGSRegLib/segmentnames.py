"""Which segment is meant, and which vertebra it is: by its code, its identifier and its name.

Files and Slicer's scenes ask here alike.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import NamedTuple, NoReturn, TypeVar

from .errors import InputError
from .vertebrae import LABEL_SCHEMES, level_of_code, vertebra_level

LEVEL_TAG = "RadGSReg.Level"
"""The tag of a segment whose level a person has said in Slicer; it is saved with the segment."""


@dataclass(frozen=True)
class Named:
    """What tells a segment from others.

    ``code``: of SNOMED CT; ``said``: the level that a person has given it (or "").
    """

    name: str
    identifier: str
    code: str = field(default="", kw_only=True)
    said: str = field(default="", kw_only=True)


class SegmentLevel(NamedTuple):
    """A level, and what says so: "hand", "terminology", "id" or "name"."""

    level: str
    source: str


_N = TypeVar("_N", bound=Named)


def _voices(segment: Named) -> list[SegmentLevel]:
    """All that says which vertebra a segment is; what counts most comes first."""
    # What a person says changes code and name too; an identifier cannot be changed.
    identifier = "" if segment.said else segment.identifier
    every = (
        (segment.said, "hand"),
        (level_of_code(segment.code), "terminology"),
        (vertebra_level(identifier), "id"),
        (vertebra_level(segment.name), "name"),
    )
    return [SegmentLevel(level, source) for level, source in every if level]


def contradicts_itself(segment: Named) -> bool:
    """Whether code, identifier and name (or what a person said) mean different vertebrae."""
    return len({voice.level for voice in _voices(segment)}) > 1


def level_of_segment(segment: Named) -> SegmentLevel | None:
    """Return the vertebra that a segment is; None if nothing says so, or not clearly."""
    voices = _voices(segment)
    return voices[0] if voices and not contradicts_itself(segment) else None


def described(segment: Named) -> str:
    """Say what a segment's code, identifier and name are, and which vertebra each means."""

    def means(level: str | None) -> str:
        return f" ({level})" if level else ""

    code, name = level_of_code(segment.code), vertebra_level(segment.name)
    parts = [
        f"code {segment.code}{means(code)}" if segment.code else "no code",
        f'id "{segment.identifier}"{means(vertebra_level(segment.identifier))}',
        f'name "{segment.name}"{means(name)}',
    ]
    return ", ".join(parts) + (f", said to be {segment.said}" if segment.said else "")


def choose_segment(
    segments: Sequence[_N], wanted: str, source: str | PathLike[str], remedy: str
) -> _N | None:
    """Return the one segment that a text means; None where none does.

    A vertebra ("L3", "vertebrae_L3") is whatever says so by code, identifier or name; where several
    do, one of exactly that identifier or name is meant, unless another has the vertebra's code.
    Other texts are an identifier or a name, without regard to case and words for "vertebra".

    Raises InputError, with ``remedy``, where several fit, or where one that fits contradicts
    itself.
    """
    text, level = wanted.strip().lower(), vertebra_level(wanted)
    if level is not None:
        fitting = [s for s in segments if level in {voice.level for voice in _voices(s)}]
    else:
        fitting = _by_text(segments, text)
    for segment in fitting:
        if contradicts_itself(segment):
            problem = f"says different vertebrae of one segment: {described(segment)}"
            raise InputError(source, problem, remedy)
    if len(fitting) > 1:
        exact = [s for s in fitting if text in (s.identifier.lower(), s.name.lower())]
        coded = [s for s in fitting if level and level_of_code(s.code) == level]
        if len(exact) != 1 or any(s is not exact[0] for s in coded):
            several = "; ".join(described(s) for s in fitting)
            raise InputError(source, f'has more than one segment for "{wanted}": {several}', remedy)
        return exact[0]
    return fitting[0] if fitting else None


def _by_text(segments: Sequence[_N], text: str) -> list[_N]:
    """The segments of an identifier, else of a name, exactly or without words for "vertebra"."""
    ways: tuple[Callable[[_N], bool], ...] = (
        lambda s: s.identifier.lower() == text,
        lambda s: s.name.lower() == text,
        lambda s: _plain(s.identifier) == _plain(text),
        lambda s: _plain(s.name) == _plain(text),
    )
    return next((fit for fit in ([s for s in segments if way(s)] for way in ways) if fit), [])


def _plain(name: str) -> str:
    """A name for comparison, without words for "vertebra"."""
    words = re.split(r"[\s_\-]+", name.strip().lower())
    kept = [w for w in words if w not in ("vertebra", "vertebrae", "vertebral", "body", "segment")]
    return " ".join(kept or words)


# Label maps whose numbers follow a scheme


def scheme_remedy(wanted: str, numbers: Collection[int], how: str) -> str:
    """Say which schemes would have the wanted vertebra among these numbers; "" if none does.

    ``how`` says how a scheme is named, with "{}" where its name stands.
    """
    level = vertebra_level(wanted)
    fitting = [
        f"{how.format(scheme)} (then {level} is {number})"
        for scheme, known in LABEL_SCHEMES.items()
        for number, of in known.items()
        if of == level and number in numbers
    ]
    return f"if the numbers follow a known scheme, name it: {', or '.join(fitting)}" * bool(fitting)


def levels_by_scheme(
    segments: Sequence[tuple[Named, int]], scheme: str, source: str | PathLike[str]
) -> list[str | None]:
    """Return the level that a scheme gives each segment, by its number; None for other segments.

    Only segments without a name of their own ("Segment_22", "22") get one. Raises InputError for an
    unknown scheme, and where a name contradicts the scheme or the number.
    """
    known = LABEL_SCHEMES.get(scheme)
    if known is None:
        raise InputError(
            source, f'"{scheme}" is no scheme of labels', f"use {', '.join(LABEL_SCHEMES)}"
        )
    return [_scheme_level(segment, number, known, source) for segment, number in segments]


def _scheme_level(
    segment: Named, number: int, known: dict[int, str], source: str | PathLike[str]
) -> str | None:
    level = known.get(number)
    if contradicts_itself(segment):
        _not_of_scheme(source, f"different vertebrae: {described(segment)}")
    own = level_of_segment(segment)
    if own is not None:
        if own.level != level:
            means = f"means {level}" if level else "has no vertebra"
            _not_of_scheme(source, f"{own.level} of label {number}, which in the scheme {means}")
        return level
    counted = re.fullmatch(r"(?:segment|label)?[\s_]*(\d+)", segment.name.strip().lower())
    if counted is None:
        return None
    if int(counted[1]) != number:
        _not_of_scheme(source, f'"{segment.name}" of label {number}')
    return level


def _not_of_scheme(source: str | PathLike[str], says: str) -> NoReturn:
    raise InputError(source, f"does not follow the scheme: it says {says}", "choose by name")
