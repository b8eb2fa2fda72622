"""X-rays made ready for all who compare pictures: cleaned, then filtered."""

from collections.abc import Sequence

from ..cases import View
from .cleaning import clean
from .filters import ViewFilter, filtered
from .types import PreparedView


def prepare_views(views: Sequence[View], filters: Sequence[ViewFilter] = ()) -> list[PreparedView]:
    """Prepare several X-rays; see `prepare_view`."""
    return [prepare_view(view, filters) for view in views]


def prepare_view(view: View, filters: Sequence[ViewFilter] = ()) -> PreparedView:
    """Clean an X-ray and apply filters in their order.

    Raises InputError for a transmission without any counts, ValueError for a filter whose answer
    does not hold together.
    """
    return filtered(clean(view), filters)
