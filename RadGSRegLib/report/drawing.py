"""The views' pictures, drawn while the reconstruction is still going on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from ..cases import Case
from ..system import Progress

if TYPE_CHECKING:
    from ..registration import Registration
    from .page import ReportPictures


_REPORT_S = 0.05


class Drawing:
    """Draws on a thread of its own from `begin` on; leaving the context waits for it.

    What draws is imported by that thread, too.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="radgsreg-drawing")
        self._stopped = False
        self._pictures: Future[ReportPictures] | None = None

    def __enter__(self) -> Drawing:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._thread.shutdown(wait=True, cancel_futures=True)

    def begin(self, registration: Registration) -> None:
        """Begin to draw the views of a registration."""
        self._pictures = self._thread.submit(self._draw, registration)

    def pictures(self, progress: Progress) -> ReportPictures | None:
        """Wait for what is drawn; None where nothing was begun.

        Raises Cancelled when ``progress`` says so, and what drawing has raised.
        """
        if self._pictures is None:
            return None
        while not self._pictures.done():
            progress(1.0, "drawing the views")
            wait([self._pictures], timeout=_REPORT_S)
        return self._pictures.result()

    def _draw(self, registration: Registration) -> ReportPictures:
        from .results import draw_views

        return draw_views(self._case, registration, Progress(lambda *_: not self._stopped))
