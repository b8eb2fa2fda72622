"""The coarse search: its grids, its signs, and that it finds what was moved or inverted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from host_reads import counted_host_reads
from hypothesis import given
from hypothesis import strategies as st
from registration_scenes import bodies, camera, one_thread, scene, simulated, truth

from RadGSRegLib.cases import View
from RadGSRegLib.errors import Cancelled
from RadGSRegLib.geometry import (
    compose_about,
    is_rigid,
    rotation_angle_deg,
    transform_points,
    translation,
)
from RadGSRegLib.registration import (
    BodySource,
    Candidate,
    Places,
    Scene,
    SearchOptions,
)
from RadGSRegLib.registration.proposers import correlation as correlation_room
from RadGSRegLib.registration.proposers.correlation import (
    Searched,
    _wrapped_samples,
    rotation_grid,
    search,
)
from RadGSRegLib.registration.stages import by_place
from RadGSRegLib.system import Progress
from RadGSRegLib.tensors import without_host_reads
from RadGSRegLib.views import prepare_view, window, windows

STILL = SearchOptions(rotation_range_deg=0.0, translation_range_mm=25.0)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    one_thread()


def _prepared(*, invert: tuple[str, ...] = (), display: bool = False) -> Scene:
    def changed(view: View) -> View:
        pixels = -view.pixels if view.name in invert else view.pixels
        return replace(view, pixels=pixels, intensity="display" if display else view.intensity)

    views = tuple(prepare_view(changed(view)) for view in simulated().case.views)
    return replace(scene(), views=views)


def _centre(ct_to_world: np.ndarray) -> np.ndarray:
    return transform_points(ct_to_world, bodies().centre_ct[None])[0]


@pytest.mark.parametrize(
    ("reach", "step", "per_axis"), [(25.0, 12.5, 5), (20.0, 12.5, 5), (12.5, 12.5, 3), (10, 3, 9)]
)
def test_rotation_grid_fills_the_range(reach: float, step: float, per_axis: int) -> None:
    grid = rotation_grid(reach, step)
    assert len(grid) == per_axis**3
    angles = []
    for rotation in grid:
        pose = np.eye(4)
        pose[:3, :3] = rotation
        assert is_rigid(pose, 1e-9)
        angles.append(rotation_angle_deg(pose))
    assert min(angles) == pytest.approx(0.0, abs=1e-6)
    assert max(angles) == pytest.approx(reach * np.sqrt(3.0), rel=1e-6)
    # No gap wider than the step along an axis.
    about_x = sorted(a for a, r in zip(angles, grid, strict=True) if abs(r[0, 0] - 1.0) < 1e-9)
    assert np.diff(about_x).max() <= step + 1e-6


def test_no_rotation_is_one_rotation() -> None:
    (only,) = rotation_grid(0.0, 12.5)
    assert (only == np.eye(3)).all()


@given(
    column=st.floats(-20.0, 20.0),
    row=st.floats(-20.0, 20.0),
)
def test_wrapped_maps_are_read_linearly_between_whole_shifts(column: float, row: float) -> None:
    maps = torch.rand(2, 12, 17, generator=torch.Generator().manual_seed(1))
    shifts = torch.tensor([[column, row]], dtype=torch.float64)
    samples = _wrapped_samples(shifts, (12, 17), maps.device)
    found = sum(maps.flatten(1)[:, index] * share for index, share in samples)[:, 0].numpy()
    c, r = int(np.floor(column)), int(np.floor(row))
    u, v = column - c, row - r

    def at(dc: int, dr: int) -> np.ndarray:
        return maps[:, (r + dr) % 12, (c + dc) % 17].numpy()

    expected = (at(0, 0) * (1 - u) + at(1, 0) * u) * (1 - v)
    expected += (at(0, 1) * (1 - u) + at(1, 1) * u) * v
    assert found == pytest.approx(expected, abs=1e-4)


def _candidate(offset: float, score: float) -> Candidate:
    return Candidate(translation([0.0, 0.0, offset]) @ truth(simulated()), score, (1, 1))


def test_candidates_are_grouped_by_place_best_first() -> None:
    places = Places(3, 2, 5, keep=3, survivors=1, apart_mm=15.0)
    candidates = [
        _candidate(offset, 1.0 - 0.01 * n)
        for n, offset in enumerate([0.0, 40.0, 3.0, 6.0, -30.0, 42.0, 90.0])
    ]
    groups = by_place(scene(), candidates, places)
    offsets = [
        [_centre(c.ct_to_world)[2] - _centre(truth(simulated()))[2] for c in group]
        for group in groups
    ]
    # Two to a place, three places, the place of each set by its best.
    assert [np.round(group).tolist() for group in offsets] == [[0.0, 3.0], [40.0, 42.0], [-30.0]]


def test_from_clicks_there_is_one_place() -> None:
    places = Places(1, 3, 1, keep=1, survivors=1, apart_mm=15.0)
    candidates = [_candidate(offset, 1.0) for offset in (0.0, 40.0, 3.0, 6.0)]
    (group,) = by_place(scene(), candidates, places)
    assert [c is d for c, d in zip(group, candidates, strict=False)] == [True] * 3


@pytest.mark.parametrize(
    "direction", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (-0.6, 0.6, 0.53)]
)
def test_search_finds_a_target_two_centimetres_away(direction: tuple[float, ...]) -> None:
    right = truth(simulated())
    offset = 20.0 * np.array(direction) / np.linalg.norm(direction)
    found = search(_prepared(), translation(offset) @ right, STILL)
    assert found == sorted(found, key=lambda c: -c.score)
    best = found[0]
    assert np.linalg.norm(_centre(best.ct_to_world) - _centre(right)) < 3.0
    assert best.ct_to_world[:3, :3] == pytest.approx(right[:3, :3])
    assert best.signs == (1, 1)
    assert 0.3 < best.score <= 1.0 + 1e-6


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_search_finds_the_rotation(axis: int) -> None:
    right = truth(simulated())
    twist = np.zeros(6)
    twist[axis] = np.radians(12.5)
    reference = compose_about(right, twist, bodies().centre_ct)
    options = replace(STILL, rotation_range_deg=12.5, translation_range_mm=7.5)
    best = search(_prepared(), reference, options)[0]
    assert rotation_angle_deg(np.linalg.inv(right) @ best.ct_to_world) < 8.0
    assert np.linalg.norm(_centre(best.ct_to_world) - _centre(right)) < 3.0


@pytest.mark.parametrize("inverted", [(), ("AP",), ("LA",), ("AP", "LA")])
def test_polarity_is_found_device_by_device(inverted: tuple[str, ...]) -> None:
    right = truth(simulated())
    there = _prepared(invert=inverted, display=True)
    views = tuple(replace(view, sign=0, device=view.name) for view in there.views)
    there = replace(there, views=views)
    best = search(there, translation([8.0, -5.0, 6.0]) @ right, STILL)[0]
    assert best.signs == tuple(-1 if view.name in inverted else 1 for view in there.views)
    assert np.linalg.norm(_centre(best.ct_to_world) - _centre(right)) < 3.0


def test_views_of_one_device_are_taken_for_alike() -> None:
    there = _prepared(invert=("AP",), display=True)
    there = replace(there, views=tuple(replace(view, sign=0) for view in there.views))
    assert {c.signs for c in search(there, truth(simulated()), STILL)} <= {(1, 1), (-1, -1)}


def test_several_positions_of_one_rotation_lie_apart() -> None:
    options = replace(STILL, positions_per_rotation=4, apart_mm=15.0)
    found = search(_prepared(), truth(simulated()), options)
    assert 1 < len(found) <= 4
    centres = np.array([_centre(c.ct_to_world) for c in found])
    gaps = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    assert gaps[np.triu_indices(len(found), 1)].min() >= 15.0


def test_search_reports_and_stops() -> None:
    seen: list[float] = []

    def stop(fraction: float, _: str) -> bool:
        seen.append(fraction)
        return len(seen) < 2

    many = SearchOptions(rotation_range_deg=20.0, rotation_step_deg=10.0, translation_range_mm=5.0)
    with pytest.raises(Cancelled):
        search(_prepared(), truth(simulated()), many, Progress(stop))
    # Between two batches of its 125 rotations, long before the end.
    assert len(seen) == 2
    assert seen[1] < 0.5


def test_few_shifts_are_read_as_among_many() -> None:
    centre = _centre(truth(simulated()))
    (part,) = (
        windows(view, torch.from_numpy(centre)[None], 50.0, 2.0, 2.5)
        for view in _prepared().views[:1]
    )
    rows, columns = part.valid.shape[1:]
    poses = [truth(simulated()), translation([3.0, -2.0, 4.0]) @ truth(simulated())]
    there = torch.from_numpy(np.stack(poses))
    near = np.array([[0.0, 0.0], [6.3, -4.2], [-7.0, 7.0]])
    far = np.concatenate([near, [[columns, rows]]])
    options = replace(STILL, neighbour_weight=0.5)
    few = Searched(part, near, options).correlations(bodies(), there)
    many = Searched(part, far, options).correlations(bodies(), there)
    assert torch.allclose(few, many[:, :3], atol=2e-3)
    assert few[0, 0] > 0.5


@pytest.mark.parametrize("positions", [1, 3])
def test_a_search_on_a_device_reads_nothing_until_its_end(positions: int) -> None:
    options = replace(
        STILL,
        rotation_range_deg=12.5,
        translation_range_mm=10.0,
        positions_per_rotation=positions,
        apart_mm=6.0,
    )
    on_host = search(_prepared(), truth(simulated()), options)
    with without_host_reads(), counted_host_reads() as heard:
        together = search(_prepared(), truth(simulated()), options)
    # Scores, places and signs at the end.
    assert +heard == {"cpu": 1, "numpy": 1}
    assert len(together) == len(on_host)
    for own, other in zip(on_host, together, strict=True):
        assert other.score == pytest.approx(own.score, abs=1e-5)
    assert together[0].ct_to_world == pytest.approx(on_host[0].ct_to_world, abs=1e-9)


def test_how_many_poses_a_device_searches_together_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = replace(STILL, rotation_range_deg=12.5, translation_range_mm=10.0)
    counts: list[int] = []
    correlations = Searched.correlations

    def counted(self: Searched, source: BodySource, poses: torch.Tensor) -> torch.Tensor:
        counts.append(len(poses))
        return correlations(self, source, poses)

    monkeypatch.setattr(Searched, "correlations", counted)
    there = _prepared()
    with without_host_reads():
        together = search(there, truth(simulated()), options)
        assert counts == [27] * len(there.views)
        counts.clear()
        monkeypatch.setattr(correlation_room, "SEARCH_PX", 60_000)
        with counted_host_reads() as heard:
            apart = search(there, truth(simulated()), options)
    assert +heard == {"cpu": 1, "numpy": 1}
    # Groups of several, the last one smaller.
    assert 1 < counts[0] < 27
    assert sum(counts) == 27 * len(there.views)
    for own, other in zip(together, apart, strict=True):
        assert other.score == pytest.approx(own.score, abs=1e-6)
        assert other.ct_to_world == pytest.approx(own.ct_to_world, abs=1e-9)


@given(
    offset=st.tuples(*[st.floats(-60.0, 60.0)] * 3),
    mirrored=st.booleans(),
    pixel_mm=st.floats(0.7, 3.0),
)
def test_a_shift_is_where_a_window_shows_the_moved_point(
    offset: tuple[float, ...], mirrored: bool, pixel_mm: float
) -> None:
    view = replace(_prepared().views[0], camera=camera(mirrored=mirrored))
    centre, moved = np.array([3.0, -8.0, 5.0]), np.array([offset])
    shown = window(view, centre, 30.0, pixel_mm, 1.0).camera
    expected = shown.project(centre + moved) - shown.project(centre[None])
    shifts = correlation_room._shifts_px(view.camera, centre, moved, pixel_mm)
    assert shifts == pytest.approx(expected, abs=1e-8)
