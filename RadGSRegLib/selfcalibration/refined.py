"""Which views are refined, and what is said of them since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..cases import Case, View


def nominal_views(case: Case) -> tuple[str, ...]:
    """The names of the views whose cameras are refined: the nominal ones, or all if none is."""
    names = tuple(view.name for view in case.views if view.nominal)
    return names or tuple(view.name for view in case.views)


def room_known(case: Case, refined: Sequence[str]) -> bool:
    """Whether a view is held that was not itself refined with vertebrae alone, before."""
    return any(view.name not in refined and not view.room_nominal for view in case.views)


def with_refined(given: Case, views: Sequence[View], refined: Sequence[str]) -> tuple[View, ...]:
    """Return views with refined cameras without what was said of those that they had, which a case
    was ``given`` with; of the room they say what the others do."""
    room_nominal = not room_known(given, refined)

    def since(view: View) -> View:
        if view.name not in refined:
            joint = {k: c for k, c in view.camera_covariance_with.items() if k not in refined}
            return replace(view, camera_covariance_with=joint)
        unsaid = replace(view, camera_covariance=None, camera_covariance_with={})
        return replace(unsaid, nominal=False, room_nominal=room_nominal)

    return tuple(since(view) for view in views)
