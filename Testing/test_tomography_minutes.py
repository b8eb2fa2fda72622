"""Volumes from X-rays alone where time is short: what is left out, and that the result says so."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_tomography import CENTRE, QUICK, about_centre, shown

from RadGSRegLib.drr import SystemMatrix
from RadGSRegLib.reconstruction import Deadline, cube
from RadGSRegLib.system import Progress
from RadGSRegLib.tomography import reconstruct_beam, solve
from RadGSRegLib.tomography.beams import whole_beams
from RadGSRegLib.tomography.coarse import coarse_volume
from RadGSRegLib.tomography.consistency import contradictions
from RadGSRegLib.tomography.display import Display, fit_display, ranked
from RadGSRegLib.tomography.verdict import verdict
from RadGSRegLib.tomography.watch import Watch
from RadGSRegLib.views import prepare_views


class AskedOften(Deadline):
    """Passes once it has been asked so often."""

    def __init__(self, times: int) -> None:
        super().__init__(None)
        self.times = times

    @property
    def passed(self) -> bool:
        self.times -= 1
        self.struck = self.struck or self.times < 0
        return self.struck


def late() -> Watch:
    return Watch(Progress(), "", Deadline(0.0))


def test_a_deadline_says_what_is_left() -> None:
    never, long, over = Deadline(None), Deadline(1000.0), Deadline(0.0)
    assert (never.left_s, never.share, never.passed) == (None, 0.0, False)
    assert 900.0 < (long.left_s or 0.0) <= 1000.0
    assert long.share < 0.1
    assert (over.left_s, over.share, over.struck) == (0.0, 1.0, False)
    assert over.passed
    assert over.struck
    assert not long.passed


def test_the_parts_end_where_they_are() -> None:
    """Each returns what it has, and begins nothing new."""
    cameras = about_centre(6)
    grid = cube(CENTRE, 200.0, 25.0)
    matrix = SystemMatrix(cameras, grid.index_to_world, (8, 8, 8))
    lines = matrix.forward(torch.full((8, 8, 8), 0.02))
    start, weight = torch.full((8, 8, 8), 0.01), torch.ones_like(lines)
    assert torch.equal(solve(matrix, lines, weight, start, 3, report=late()), start)
    half = Watch(Progress(), "", AskedOften(4))
    some = solve(matrix, lines, weight, start, 3, report=half)
    assert 0.0 < float((some - start).norm()) < 0.5
    beams = whole_beams(prepare_views(shown(cameras, "display")), CENTRE, 32)
    grey = ranked(beams, -torch.ones(6, dtype=torch.long))
    _, voxels, loss = fit_display(
        grey, matrix, start, Display.start(beams), 9, rate=0.1, report=late()
    )
    torch.testing.assert_close(voxels, start)
    assert loss == float("inf")
    scores, odd = contradictions(grey, grid, report=late())
    assert np.isnan(scores).all()
    assert odd == []


@pytest.mark.parametrize(
    ("times", "finest_mm", "judged"), [(0, 8.0, False), (40, 8.0, False), (130, 4.0, True)]
)
def test_what_is_late_is_left_out(times: int, finest_mm: float, judged: bool) -> None:
    beams = whole_beams(prepare_views(shown(about_centre(6))), CENTRE, 32)
    coarse = coarse_volume(beams, CENTRE, Progress(), AskedOften(times))
    assert coarse.grid.spacing_mm == finest_mm
    assert not coarse.finished
    assert (not np.isnan(coarse.agreement).any()) == judged


def test_no_time_gives_a_volume_that_is_not_believed() -> None:
    views = shown(about_centre(24), "display")
    short = replace(QUICK, minutes=1e-6, hold_out=2)
    result = reconstruct_beam(views, centre_world=CENTRE, options=short)
    quality = result.quality
    assert quality["steps"] == 0
    assert not quality["coarse_finished"]
    assert quality["status"] == "uncertain"
    assert "stopped early" in quality["reason"]
    assert set(quality["agreement"].values()) == {None}
    assert np.isfinite(result.volume.array).all()
    assert result.volume.array.max() > 0.0


def test_minutes_enough_change_nothing() -> None:
    views = shown(about_centre(6))
    ample = replace(QUICK, minutes=1e4)
    some, other = (
        reconstruct_beam(views, centre_world=CENTRE, options=options) for options in (QUICK, ample)
    )
    assert other.quality["coarse_finished"]
    np.testing.assert_allclose(other.volume.array, some.volume.array, rtol=1e-3, atol=1e-5)


def test_the_verdict_names_what_is_unfinished() -> None:
    status, reason = verdict(40, 10.0, 0.9, ["V3"], True, True)
    assert status == "uncertain"
    assert "stopped early" in reason
    assert "V3" not in reason
