"""A start without a click: where the X-rays name the level of the vertebra that is asked for."""

from dataclasses import replace

from ..cases import Case, middle_of_views
from ..errors import InputError
from ..spine import LEVELS
from ..vertebrae import vertebra_level
from ..views import prepare_views
from .levels import LevelNetwork
from .naming import name_levels


def clicked_by_level(case: Case, network: LevelNetwork) -> Case:
    """Return a case with clicks where its X-rays name the level of its label, and a note on that.

    Raises InputError for a case that is clicked already, whose patient may lie in any way, or whose
    label says no level that can be named; and where the X-rays do not name that level: no guess is
    made without the sacrum or the last rib.
    """
    if any(view.center_px is not None for view in case.views):
        raise InputError("--by-level", "is for X-rays without clicks, these have some")
    if case.patient_axes is None:
        raise InputError(
            "--by-level", "needs to know where the head is", "say how the patient lies"
        )
    level = vertebra_level(case.label_name)
    if level not in LEVELS:
        raise InputError(
            f'label "{case.label_name}"',
            "says no level that can be named in X-rays",
            f"name it: {', '.join(LEVELS)}",
        )
    spine = name_levels(
        prepare_views(case.views), network, middle_of_views(case.views), case.patient_axes
    )
    named = [vertebra for vertebra in spine.vertebrae if vertebra.level == level]
    if not named:
        reason = f"show no {level} for sure"
        if spine.anchor is None:
            reason = "tell no levels: neither the sacrum nor the last rib is seen for sure"
        raise InputError("the X-rays", reason, "click the vertebra, or give a start")
    place = named[0].place_world[None]
    views = []
    for view in case.views:
        column, row = view.camera.project(place)[0]
        inside = 0 <= column <= view.camera.columns - 1 and 0 <= row <= view.camera.rows - 1
        views.append(replace(view, center_px=(float(column), float(row)) if inside else None))
    if sum(view.center_px is not None for view in views) < 2:
        raise InputError("the X-rays", f"show the {level} in one view alone", "click the vertebra")
    note = f"begun where the X-rays name the {level}, counted from the {spine.anchor}"
    return replace(case, views=tuple(views), notes=(*case.notes, note))
