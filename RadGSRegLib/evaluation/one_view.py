"""Poses of one X-ray: errors across and along the line of sight, against what was expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..geometry import Array
from .measure import number


@dataclass(frozen=True)
class Part:
    """One part of the error over some runs, mm: its median and that of what was expected of it;
    the shares of errors within what was expected, and within twice that. None where there is
    nothing."""

    median_mm: float | None
    expected_median_mm: float | None
    within_expected: float | None
    within_twice: float | None


@dataclass(frozen=True)
class OneView:
    """What came of ``cases`` (or frames) of one view, across and along the line of sight."""

    cases: int
    in_plane: Part
    depth: Part

    def to_json(self) -> dict[str, float | int | None]:
        """Return all values by name, as in evaluation.json."""
        parts = {"in_plane": self.in_plane, "depth": self.depth}
        return {
            "cases": self.cases,
            **{
                f"{name}_{key}": value
                for name, p in parts.items()
                for key, value in vars(p).items()
            },
        }


class HasParts(Protocol):
    """Both parts of an error, and what was expected of them, mm; None where there is nothing."""

    @property
    def in_plane_error_mm(self) -> float | None: ...

    @property
    def depth_error_mm(self) -> float | None: ...

    @property
    def expected_in_plane_mm(self) -> float | None: ...

    @property
    def expected_depth_mm(self) -> float | None: ...


def one_view_of(rows: Sequence[HasParts]) -> OneView | None:
    """Sum up the rows of one view among some; None where there is none.

    Within what is expected: a part of the error (a mean over the surface) is at most the expected
    one (a root mean square). Rows that expect nothing count in the medians of the errors alone.
    """
    own = [row for row in rows if row.in_plane_error_mm is not None]
    if not own:
        return None
    return OneView(
        len(own),
        _part([(row.in_plane_error_mm, row.expected_in_plane_mm) for row in own]),
        _part([(row.depth_error_mm, row.expected_depth_mm) for row in own]),
    )


def one_view_parts(groups: Mapping[str, Sequence[HasParts]]) -> dict[str, OneView]:
    """Sum up every group that holds rows of one view, by its name."""
    parts = {name: one_view_of(rows) for name, rows in groups.items()}
    return {name: part for name, part in parts.items() if part is not None}


def _part(pairs: Sequence[tuple[float | None, float | None]]) -> Part:
    errors: Array = np.array([number(error) for error, _ in pairs])
    expected: Array = np.array([number(value) for _, value in pairs])
    said = np.isfinite(expected)
    if not said.any():
        return Part(float(np.median(errors)), None, None, None)
    ratio = errors[said] / np.maximum(expected[said], np.finfo(float).tiny)
    return Part(
        float(np.median(errors)),
        float(np.median(expected[said])),
        float(np.mean(ratio <= 1.0)),
        float(np.mean(ratio <= 2.0)),
    )
