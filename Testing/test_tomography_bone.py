"""Bone told from soft tissue in a volume, and the bend of a display's curve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from RadGSRegLib.cases import View
from RadGSRegLib.drr import SystemMatrix
from RadGSRegLib.geometry import Volume
from RadGSRegLib.reconstruction import Box, Deadline, cube
from RadGSRegLib.simulation import SimulationParameters, path_cameras
from RadGSRegLib.system import Progress
from RadGSRegLib.tomography import BeamOptions, reconstruct_beam
from RadGSRegLib.tomography import bounds as tomography_bounds
from RadGSRegLib.tomography.algebraic import Penalty
from RadGSRegLib.tomography.beams import Beams, whole_beams
from RadGSRegLib.tomography.bend import bend_display, unlike_tissue
from RadGSRegLib.tomography.bone import Bone, DrawnBones, bone_of, drawn_bones
from RadGSRegLib.tomography.display import Display
from RadGSRegLib.tomography.verdict import with_bone
from RadGSRegLib.tomography.watch import Watch
from RadGSRegLib.views import PreparedView, prepare_views

GRID = cube(np.zeros(3), 80.0, 4.0)
SIZE = GRID.size[::-1]
TISSUE, BONE = 0.02, 0.035


def places(grid: Box) -> list[np.ndarray]:
    """The x, y and z (K, J, I) of all voxels, mm."""
    axes = [grid.lower[a] + grid.spacing_mm * (np.arange(n) + 0.5) for a, n in enumerate(grid.size)]
    z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
    return [x, y, z]


def block(grid: Box, half_mm: tuple[float, float, float], at_mm: float = 0.0) -> np.ndarray:
    """A mask (K, J, I) of a block about x = ``at_mm``."""
    x, y, z = places(grid)
    return (abs(x - at_mm) < half_mm[0]) & (abs(y) < half_mm[1]) & (abs(z) < half_mm[2])


def tissue() -> Volume:
    """Soft tissue with air around it, bone in its middle, and as dense a shadow beside it."""
    values = np.where(block(GRID, (36.0, 36.0, 40.0)), TISSUE, 0.0)
    values[block(GRID, (8.0, 8.0, 30.0))] = BONE
    values[block(GRID, (5.0, 8.0, 30.0), 24.0)] = BONE
    return Volume(values.astype(np.float32), GRID.index_to_world)


def drawn(mask: np.ndarray, names: tuple[str, ...] = ("A", "B", "C")) -> DrawnBones:
    """Bones drawn where a mask (K, J, I) says, with faint streaks everywhere."""
    streaks = 0.05 * np.random.default_rng(0).random(SIZE)
    voxels = torch.from_numpy((mask + streaks).astype(np.float32))
    return DrawnBones(voxels, GRID, names)


def test_bone_is_what_both_volumes_say() -> None:
    true, shadow = block(GRID, (8.0, 8.0, 30.0)), block(GRID, (5.0, 8.0, 30.0), 24.0)
    bone = bone_of(tissue(), drawn(block(GRID, (12.0, 12.0, 34.0))))
    values = bone.volume.array
    assert bone.tissue_per_mm == pytest.approx(TISSUE, abs=1e-5)
    factor = tomography_bounds.BONE_ABOVE_TISSUE
    # In all of the bone as much is drawn as is usual, which is a third of what counts wholly.
    whole = BONE - factor * TISSUE
    assert whole / tomography_bounds.WHOLLY_BONE < values[true].mean() < whole
    assert values[shadow].max() < 0.1 * values[true].mean()
    assert values[~(true | shadow)].max() == 0.0  # where nothing is denser than soft tissue
    assert bone.agreement > tomography_bounds.LEAST_BONE_AGREEMENT


@settings(deadline=None, max_examples=15)
@given(st.floats(1e-3, 1e3), st.floats(0.7, 1.5))
def test_units_do_not_change_what_is_bone(of_drawn: float, of_tissue: float) -> None:
    mask = block(GRID, (12.0, 12.0, 34.0))
    plain, bones = bone_of(tissue(), drawn(mask)), drawn(mask)
    scaled = tissue()
    # Soft tissue is told from air by an absolute attenuation, so that a volume may not be far off.
    scaled = scaled.with_array(scaled.array * np.float32(of_tissue))
    other = bone_of(scaled, replace(bones, voxels=bones.voxels * of_drawn))
    factor = other.tissue_per_mm / plain.tissue_per_mm
    np.testing.assert_allclose(
        other.volume.array, factor * plain.volume.array, rtol=1e-3, atol=1e-6
    )
    assert other.agreement == pytest.approx(plain.agreement, abs=1e-4)


def test_nothing_drawn_is_no_bone() -> None:
    nothing = DrawnBones(torch.zeros(SIZE), GRID, ("A", "B", "C"))
    bone = bone_of(tissue(), nothing)
    assert not bone.volume.array.any()
    assert np.isnan(bone.agreement)
    assert bone.said()["agreement"] is None
    status, reason = with_bone("ok", "20 X-rays agree", nothing, bone)
    assert status == "uncertain"
    assert "do not show the bones" in reason
    status, reason = with_bone("uncertain", "too few X-rays", nothing, bone)
    assert status == "uncertain"
    assert reason.startswith("too few X-rays; the X-rays as they are do not show the bones")


def test_bones_elsewhere_do_not_agree() -> None:
    right = bone_of(tissue(), drawn(block(GRID, (8.0, 8.0, 30.0))))
    away = bone_of(tissue(), drawn(block(GRID, (8.0, 8.0, 30.0), -24.0)))
    assert right.agreement > tomography_bounds.LEAST_BONE_AGREEMENT > away.agreement


@pytest.mark.parametrize(
    ("status", "left_out", "agreement", "expected"),
    [
        ("ok", (), 0.9, "ok"),
        ("ok", ("D",), 0.9, "ok"),
        ("ok", ("D", "E", "F", "G"), 0.9, "uncertain"),
        ("ok", (), 0.05, "uncertain"),
        ("ok", (), float("nan"), "uncertain"),
        ("uncertain", (), 0.9, "uncertain"),
        ("uncertain", (), 0.05, "uncertain"),
    ],
)
def test_the_networks_word_alone_is_never_ok(
    status: str, left_out: tuple[str, ...], agreement: float, expected: str
) -> None:
    bones = replace(drawn(block(GRID, (8.0, 8.0, 30.0))), left_out=left_out)
    bone = Bone(tissue(), TISSUE, agreement)
    said, reason = with_bone(status, "because", bones, bone)
    assert said == expected
    assert reason.startswith("because") == (status == "uncertain" or said == "ok")


def test_unfinished_bones_are_not_believed() -> None:
    bones = replace(drawn(block(GRID, (8.0, 8.0, 30.0))), finished=False)
    said, reason = with_bone("ok", "because", bones, Bone(tissue(), TISSUE, 0.9))
    assert said == "uncertain"
    assert "stopped early" in reason


# X-rays of known voxels on a display

CENTRE = np.zeros(3)
PARAMETERS = SimulationParameters.preset("clean").with_field(120.0, 32)


def phantom(grid: Box) -> np.ndarray:
    """Attenuation (K, J, I) of a trunk with bones and a pocket of air."""
    x, y, z = places(grid)
    values = np.where((x / 70.0) ** 2 + (y / 50.0) ** 2 < 1.0, 0.0206, 0.0)
    values[(abs(x) < 14.0) & (abs(y - 12.0) < 14.0) & (abs(z % 32.0 - 16.0) < 12.0)] = 0.036
    values[(x + 26.0) ** 2 + (y + 20.0) ** 2 + (z / 1.5) ** 2 < 14.0**2] = 0.0
    values[(abs(x - 36.0) < 6.0) & (abs(y) < 10.0)] = 0.032
    return values.astype(np.float32)


def lines_of(count: int) -> tuple[list[View], SystemMatrix, Box]:
    """Line integrals of the phantom from everywhere, as X-rays."""
    grid = cube(CENTRE, 160.0, 8.0)
    cameras = list(path_cameras(PARAMETERS, "arbitrary", count, np.random.default_rng(1)).values())
    fine = cube(CENTRE, 160.0, 4.0)
    exact = SystemMatrix(cameras, fine.index_to_world, fine.size[::-1])
    lines = exact.forward(torch.from_numpy(phantom(fine))).numpy()
    pitch = (PARAMETERS.pixel_mm,) * 2
    views = [
        View(f"V{n:02d}", lines[n], camera, pitch, "attenuation")
        for n, camera in enumerate(cameras)
    ]
    return views, SystemMatrix(cameras, grid.index_to_world, grid.size[::-1]), grid


def displayed(views: list[View], bend: float) -> tuple[Beams, Display]:
    """The X-rays on a display, each in a window of its own, on one curve that bends; and a display
    that knows the windows and takes the curve for straight."""
    beams = whole_beams(prepare_views(views), CENTRE, 32)
    generator = torch.Generator().manual_seed(2)
    near = beams.values.amin((1, 2)) - 0.2 * torch.rand(len(beams), generator=generator)
    span = beams.values.amax((1, 2)) - near + 0.2 * torch.rand(len(beams), generator=generator)
    u = (beams.values - near[:, None, None]) / span[:, None, None]
    root = ((1.0 + bend) ** 2 - 4.0 * bend * u).sqrt()
    grey = (1.0 + bend - root) / (2.0 * bend) if bend else u
    start = Display.start(beams)
    no_scatter = torch.full_like(near, -20.0)
    known = torch.zeros(len(beams), dtype=torch.bool)
    return (
        replace(beams.with_values(grey), known=known),
        start.holding([near, span.log(), no_scatter, start.knots]),
    )


@pytest.mark.parametrize("bend", [-0.6, 0.0, 0.6])
def test_the_bend_of_a_curve_is_found(bend: float) -> None:
    views, matrix, grid = lines_of(16)
    shown, start = displayed(views, bend)
    watch = Watch(Progress(), "bending")
    voxels = torch.zeros(matrix.shape)
    straight, _ = bend_display(shown, grid, voxels, start, Penalty(0.75, 0.075), watch)
    exact = torch.from_numpy(np.stack([view.pixels for view in views]))
    before, after = (
        np.median(
            [
                float(torch.corrcoef(torch.stack([line.flatten(), true.flatten()]))[0, 1])
                for line, true in zip(
                    each.lines(shown.values, exact, shown.pixel_mm), exact, strict=True
                )
            ]
        )
        for each in (start, straight)
    )
    # Voxels of 8 mm explain a little of an edge by a bend.
    assert after > 0.996
    assert 1.0 - after < 0.5 * (1.0 - before) or not bend


def test_line_integrals_beside_a_display_leave_its_windows() -> None:
    views, _, _ = lines_of(6)
    shown, start = displayed(views, 0.6)
    exact = torch.from_numpy(np.stack([view.pixels for view in views]))
    which = torch.tensor([True, True, True, False, False, False])
    # Those that are known hold line integrals where the others hold ranks.
    ranks = torch.where(which[:, None, None], shown.values, exact)
    arguments = (shown.weight, exact, shown.pixel_mm)
    mixed = start.rewindowed(ranks, *arguments, which)
    by_themselves = start.some([0, 1, 2]).rewindowed(
        ranks[:3], *(each[:3] for each in arguments[:2]), shown.pixel_mm, which[:3]
    )
    assert torch.allclose(mixed.log_span[:3], by_themselves.log_span, atol=1e-6)
    assert torch.equal(mixed.log_span[3:], start.log_span[3:])
    assert torch.equal(mixed.near[3:], start.near[3:])


def test_no_time_leaves_the_display_as_it_is() -> None:
    views, matrix, grid = lines_of(4)
    shown, start = displayed(views, 0.6)
    late = Watch(Progress(), "bending", Deadline(0.0))
    voxels = torch.zeros(matrix.shape)
    same, _ = bend_display(shown, grid, voxels, start, Penalty(0.75, 0.075), late)
    assert same is start


def test_what_looks_like_tissue_or_air_is_told_whatever_tissue_has() -> None:
    body = torch.zeros(16, 16, 16)
    body[4:12, 4:12, 4:10] = tomography_bounds.TISSUE_MU
    assert unlike_tissue(body) == pytest.approx(0.0, abs=1e-6)
    assert unlike_tissue(0.8 * body) == pytest.approx(0.0, abs=1e-6)
    uneven = body * torch.linspace(0.8, 1.2, 16)
    more = body * torch.linspace(0.7, 1.3, 16)
    assert 0.0 < unlike_tissue(uneven) < unlike_tissue(more)
    assert unlike_tissue(torch.zeros(16, 16, 16)) == float("inf")


def test_a_curve_bent_and_bent_back_is_the_same() -> None:
    views, _, _ = lines_of(3)
    start = Display.start(whole_beams(prepare_views(views), CENTRE, 32))
    there = start.bent(0, 0.5)
    u = torch.linspace(0.0, 1.0, 41)[None, None]
    ranks = start.some([0]).straightened(u)
    bent = there.some([0]).straightened(u)
    # u + bend u (1 - u) of what it was, to a piece of the curve.
    np.testing.assert_allclose(bent, ranks + 0.5 * ranks * (1.0 - ranks), atol=0.01)
    assert torch.allclose(start.bent(0, 0.0).curves(), start.curves(), atol=1e-5)


# The whole of it


class TrueBones:
    """Draws what the phantom's bones show, of a view that is line integrals."""

    name = "true bones"

    def __init__(self, unlike: tuple[str, ...] = ()) -> None:
        self.unlike = unlike

    def __call__(self, view: PreparedView) -> PreparedView:
        fine = cube(CENTRE, 160.0, 4.0)
        bones = torch.from_numpy((phantom(fine) > 0.03).astype(np.float32))
        matrix = SystemMatrix([view.camera], fine.index_to_world, fine.size[::-1])
        values = matrix.forward(bones)[0].numpy()
        return replace(view, values=values, bone_alone=True, unlike=view.name in self.unlike)


def test_bones_come_with_the_volume() -> None:
    views, _, _ = lines_of(8)
    quick = BeamOptions(steps=4, gaussians=1500, pixels=32, spacing_mm=4.0, box_mm=96.0)
    plain = reconstruct_beam(views, centre_world=CENTRE, options=quick)
    done = reconstruct_beam(views, centre_world=CENTRE, options=quick, bones=TrueBones(("V03",)))
    assert plain.bone is None
    assert "bone" not in plain.quality
    assert done.bone is not None
    # The volume of all tissue is the same: the network changes nothing of it.
    np.testing.assert_array_equal(done.volume.array, plain.volume.array)
    assert done.bone.array.shape == done.volume.array.shape
    assert done.quality["bone"]["left_out"] == ["V03"]
    grid = cube(CENTRE, 96.0, 4.0)
    true = (phantom(grid) > 0.03).astype(float)
    of_bone, of_all = (
        np.corrcoef(each.array.ravel(), true.ravel())[0, 1] for each in (done.bone, done.volume)
    )
    assert of_bone > of_all + 0.05
    assert done.quality["status"] == "uncertain"  # 8 X-rays


def test_bones_that_are_all_unlike_are_not_believed() -> None:
    views, _, _ = lines_of(3)
    prepared = prepare_views(views)
    names = tuple(view.name for view in views)
    options = BeamOptions(pixels=32)
    bones = drawn_bones(prepared, TrueBones(names), CENTRE, options, Progress(), Deadline(None))
    assert bones.drawn == ()
    assert bones.left_out == names
    assert not bones.enough
