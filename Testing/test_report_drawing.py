"""Pictures drawn beside the reconstruction: the same ones; errors and stops told, nothing left."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from ball import ball_case
from test_report_results import result

from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.report import results
from RadGSRegLib.report.drawing import Drawing
from RadGSRegLib.report.page import ReportPictures
from RadGSRegLib.report.results import draw_views, write_results
from RadGSRegLib.system import Progress


def _running() -> bool:
    return any(t.name.startswith("radgsreg-drawing") for t in threading.enumerate())


def test_what_is_drawn_ahead_is_what_is_drawn_afterwards(tmp_path: Path) -> None:
    case, done = ball_case(), result()
    with Drawing(case) as drawing:
        drawing.begin(done.registration)
        ahead = drawing.pictures(Progress())
    assert ahead == draw_views(case, done.registration)
    assert not _running()
    for name, views in (("ahead", ahead), ("after", None)):
        (tmp_path / name).mkdir()
        write_results(tmp_path / name, case, done, views=views)
    for picture in (tmp_path / "after").glob("overlay_*.png"):
        assert picture.read_bytes() == (tmp_path / "ahead" / picture.name).read_bytes()


def test_where_nothing_was_begun_there_is_nothing() -> None:
    with Drawing(ball_case()) as drawing:
        assert drawing.pictures(Progress()) is None


def test_an_error_while_drawing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> ReportPictures:
        raise InputError("view", "cannot be drawn")

    monkeypatch.setattr(results, "draw_views", broken)

    def draw() -> None:
        with Drawing(ball_case()) as drawing:
            drawing.begin(result().registration)
            drawing.pictures(Progress())

    with pytest.raises(InputError, match="cannot be drawn"):
        draw()


def _endless(_case: object, _registration: object, progress: Progress) -> ReportPictures:
    for _ in range(2000):
        progress(0.5, "drawing")
        time.sleep(0.01)
    raise AssertionError("it was not stopped")


def test_an_error_elsewhere_ends_the_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "draw_views", _endless)

    def fail() -> None:
        with Drawing(ball_case()) as drawing:
            drawing.begin(result().registration)
            raise InputError("views", "show nothing")

    began = time.monotonic()
    with pytest.raises(InputError, match="show nothing"):
        fail()
    assert time.monotonic() - began < 10.0
    assert not _running()


def test_waiting_for_the_pictures_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "draw_views", _endless)

    def wait() -> None:
        with Drawing(ball_case()) as drawing:
            drawing.begin(result().registration)
            drawing.pictures(Progress(lambda *_: False))

    began = time.monotonic()
    with pytest.raises(Cancelled):
        wait()
    assert time.monotonic() - began < 10.0
    assert not _running()
