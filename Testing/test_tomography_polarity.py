"""Bone bright or dark on displays that do not say: each device of a reconstruction by itself."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from test_tomography import CENTRE, QUICK, about_centre, body, correlation, shown
from test_tomography_minutes import AskedOften

from RadGSRegLib.cases import Ledger, View, read_views
from RadGSRegLib.cli import main
from RadGSRegLib.pipeline import centre_of_views
from RadGSRegLib.reconstruction import cube
from RadGSRegLib.system import Progress
from RadGSRegLib.tomography import reconstruct_beam
from RadGSRegLib.tomography.beams import whole_beams
from RadGSRegLib.tomography.coarse import Coarse, coarse_volume
from RadGSRegLib.views import prepare_views

COUNT = 10


@pytest.fixture(scope="module")
def realistic(tmp_path_factory: pytest.TempPathFactory) -> tuple[View, ...]:
    """X-rays of one display, all with bone bright."""
    orbit = tmp_path_factory.mktemp("simulated") / "orbit"
    command = ["simulate", "--out", str(orbit), "--realism", "realistic", "--seed", "6"]
    sizes = ["--views", str(COUNT), "--path", "arbitrary", "--field-mm", "250", "--pixels", "64"]
    assert main([*command, *sizes]) == 0
    return tuple(read_views(orbit / "views.json", Ledger()))


def inverted(views: Sequence[View], which: Sequence[int]) -> list[View]:
    """Some views with dark for bright, of another device."""
    return [
        replace(v, pixels=v.pixels.max() - v.pixels, device="other") if n in which else v
        for n, v in enumerate(views)
    ]


def coarsest(views: Sequence[View]) -> Coarse:
    """The coarsest stage alone: what follows is late."""
    centre = np.asarray(centre_of_views(tuple(views)))
    beams = whole_beams(prepare_views(views), centre, 64)
    assert not beams.sign.any()
    return coarse_volume(beams, centre, Progress(), AskedOften(0))


@pytest.mark.parametrize("which", [range(0, COUNT, 2), [4, 7], range(COUNT)])
def test_polarities_of_two_devices_are_told_apart(
    realistic: tuple[View, ...], which: Sequence[int]
) -> None:
    signs = coarsest(inverted(realistic, which)).sign.tolist()
    assert signs == [-1 if n in which else 1 for n in range(COUNT)]


def test_two_polarities_make_one_volume() -> None:
    views = shown(about_centre(16), "display")
    true = cube(CENTRE, 80.0, 4.0).voxelize(body()).array
    mixed = inverted(views, range(0, 16, 2))
    volume = reconstruct_beam(mixed, centre_world=CENTRE, options=QUICK).volume.array
    assert correlation(volume, true) > 0.6
