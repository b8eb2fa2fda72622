"""X-rays made ready for all who compare pictures: cleaned, then filtered."""

from collections.abc import Sequence
from dataclasses import replace

from ..cases import View
from .air import signs_by_air
from .cleaning import clean
from .filters import ViewFilter, filtered
from .types import PreparedView


def prepare_views(views: Sequence[View], filters: Sequence[ViewFilter] = ()) -> list[PreparedView]:
    """Clean X-rays and apply filters in their order.

    Where burnt-out air shows whether bone is bright or dark, it does so for all views of its
    device. Raises InputError for a transmission without any counts, ValueError for a filter whose
    answer does not hold together.
    """
    prepared = []
    for view, sign in zip(views, signs_by_air(views), strict=True):
        cleaned = clean(view)
        prepared.append(filtered(replace(cleaned, sign=cleaned.sign or sign), filters))
    return prepared


def prepare_view(view: View, filters: Sequence[ViewFilter] = ()) -> PreparedView:
    """Prepare one X-ray alone; see `prepare_views`."""
    return prepare_views([view], filters)[0]
