"""How steep a display's curve is, from the contrast of details: on blocks whose truth is known."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent / "benchmarks"))

from contrast_of_details import like_a_body, log_gains, match_contrast
from test_tomography_bone import displayed, lines_of

from RadGSRegLib.reconstruction import Deadline
from RadGSRegLib.system import Progress
from RadGSRegLib.tomography import bounds
from RadGSRegLib.tomography.algebraic import Penalty, solve
from RadGSRegLib.tomography.watch import Watch


def test_gains_that_depend_on_the_level_are_found_beside_those_of_views() -> None:
    generator = torch.Generator().manual_seed(4)
    u = torch.rand((6, 48, 48), generator=generator)
    of = torch.randn((6, 48, 48), generator=generator)
    gains = torch.exp(0.4 * (u - 0.5) + 0.05 * torch.arange(-2.5, 3.0)[:, None, None])
    shown = gains * of + 0.2 * torch.randn((6, 48, 48), generator=generator)
    shown[:, :4] *= 8.0  # what is no detail of what is predicted
    steep = log_gains(shown, of, u, torch.ones_like(u, dtype=torch.bool))
    expected = 0.4 * (torch.linspace(0.0, 1.0, len(steep)) - 0.5)
    assert torch.allclose(steep.float(), expected, atol=0.04)


def test_no_details_say_nothing() -> None:
    nothing = torch.zeros((2, 16, 16))
    steep = log_gains(nothing, nothing, nothing + 0.5, nothing == 0.0)
    assert not bool(steep.any())


def test_a_body_is_air_tissue_and_bone() -> None:
    voxels = torch.zeros(16, 16, 16)
    voxels[3:13, 3:13, 3:13] = bounds.TISSUE_MU
    voxels[3:13, 3:13, 3:13] *= 1.0 + 0.02 * torch.rand((10, 10, 10))
    voxels[6:9, 6:9, 6:9] = 1.6 * bounds.TISSUE_MU
    body = like_a_body(voxels)
    assert float(body[0].max()) == 0.0
    tissue = body[10:12, 10:12, 10:12]
    assert float(tissue.std()) == pytest.approx(0.0, abs=1e-9)
    assert float(body[7, 7, 7]) > 1.3 * float(tissue[0, 0, 0])


@pytest.mark.parametrize("bend", [-0.6, 0.0, 0.6])
def test_the_steepness_of_a_curve_is_found(bend: float) -> None:
    views, matrix, grid = lines_of(16)
    shown, start = displayed(views, bend)
    exact = torch.from_numpy(np.stack([view.pixels for view in views]))
    penalty = Penalty(0.75, 0.075)
    lines = start.lines(shown.values, exact, shown.pixel_mm)
    voxels = solve(matrix, lines, shown.weight, torch.zeros(matrix.shape), 4, penalty=penalty)
    watch = Watch(Progress(), "contrast")
    mended, _ = match_contrast(shown, grid, voxels, start, penalty, watch)
    before, after = (
        np.median(
            [
                float(torch.corrcoef(torch.stack([line.flatten(), true.flatten()]))[0, 1])
                for line, true in zip(
                    each.lines(shown.values, exact, shown.pixel_mm), exact, strict=True
                )
            ]
        )
        for each in (start, mended)
    )
    # Voxels of 8 mm explain a little of an edge by a bend.
    assert after > (0.99 if bend else 0.999)
    assert 1.0 - after < 0.8 * (1.0 - before) or not bend


def test_no_time_leaves_the_display_as_it_is() -> None:
    views, matrix, grid = lines_of(4)
    shown, start = displayed(views, 0.6)
    late = Watch(Progress(), "contrast", Deadline(0.0))
    voxels = torch.zeros(matrix.shape)
    same, _ = match_contrast(shown, grid, voxels, start, Penalty(0.75, 0.075), late)
    assert same is start
