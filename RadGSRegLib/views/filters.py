"""The door for whatever makes a view better before anything is compared with it."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from .types import PreparedView


class ViewFilter(Protocol):
    """A view made better: standardised, unwarped, with metal or shutters masked.

    It returns a changed copy (`dataclasses.replace`), and may change values, validity, sign, what
    is known of the scale, and the camera; not the name.
    """

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def __call__(self, view: PreparedView) -> PreparedView:
        """Return the changed view."""
        ...


def filtered(view: PreparedView, filters: Sequence[ViewFilter]) -> PreparedView:
    """Apply filters in their order.

    Raises ValueError for one whose answer does not hold together.
    """
    for better in filters:
        changed = better(view)
        problem = _problem(changed, view.name)
        if problem:
            raise ValueError(f'filter "{better.name}" on view "{view.name}": {problem}')
        view = changed
    return view


def _problem(view: PreparedView, name: str) -> str:
    size = (view.camera.rows, view.camera.columns)
    if view.name != name:
        return "the view has another name"
    if view.values.shape != size or view.valid.shape != size:
        return "values, validity and camera differ in size"
    if view.values.dtype != np.float32 or view.valid.dtype != np.bool_:
        return "values are float32 and validity is bool"
    if not np.isfinite(view.values).all():
        return "values are not finite"
    if view.sign not in (-1, 0, 1):
        return "a sign is -1, 0 or 1"
    return ""
