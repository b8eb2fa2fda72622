"""The procedural spine: sizes, sides, HU, connectedness, and independence of grid and pose."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, label

from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.geometry import invert_rigid, transform_points
from RadGSRegLib.phantom import (
    LABELS,
    SIZES,
    Phantom,
    SpineParameters,
    make_phantom,
    random_poses,
    random_spine,
    region_box,
    vertebra_poses,
)


@pytest.fixture(scope="module")
def mean_l3() -> Phantom:
    """The mean L3 at 1 mm, smooth and without noise."""
    return make_phantom(SpineParameters(noise_hu=0.0, roughness_mm=0.0), 1.0, "L3")


@pytest.fixture(scope="module")
def whole() -> Phantom:
    """A random spine, T12 to sacrum, coarse."""
    return make_phantom(random_spine(9), 2.0, "spine")


def _local(phantom: Phantom, mask: np.ndarray, name: str) -> np.ndarray:
    ijk = np.argwhere(mask)[:, ::-1].astype(float)
    to_local = invert_rigid(phantom.poses[name]) @ phantom.ct.index_to_physical
    return transform_points(to_local, ijk)


def test_body_has_the_size_of_the_table(mean_l3: Phantom) -> None:
    size = SIZES["L3"]
    body = _local(mean_l3, mean_l3.subregions.array >= 49, "L3")
    keep = mean_l3.labels.array[mean_l3.subregions.array >= 49] == LABELS["L3"]
    body = body[keep]
    half = size.height_posterior / 2
    ends = body[body[:, 2] > 0.7 * half]
    assert np.ptp(ends[:, 0]) + 1 == pytest.approx(size.width_upper, abs=3.0)
    ends = body[body[:, 2] < -0.7 * half]
    assert np.ptp(ends[:, 0]) + 1 == pytest.approx(size.width_lower, abs=3.0)
    middle = body[np.abs(body[:, 0]) < 3]
    assert np.ptp(middle[:, 1]) + 1 == pytest.approx(size.depth_upper, abs=3.0)
    rim = body[body[:, 1] < -0.35 * size.depth_upper]
    assert np.ptp(rim[:, 2]) + 1 == pytest.approx(size.height_anterior, abs=3.0)
    # The waist is narrower than the ends, and the end plates are hollow.
    waist = body[np.abs(body[:, 2]) < 2]
    assert np.ptp(waist[:, 0]) < 0.96 * np.ptp(ends[:, 0])
    centre = body[(np.hypot(body[:, 0], body[:, 1]) < 3)]
    assert np.ptp(centre[:, 2]) < np.ptp(rim[:, 2]) - 1.5


def test_processes_and_canal_have_the_size_of_the_table(mean_l3: Phantom) -> None:
    size = SIZES["L3"]
    points = _local(mean_l3, mean_l3.labels.array == LABELS["L3"], "L3")
    assert np.ptp(points[:, 0]) == pytest.approx(size.transverse_span, abs=5.0)
    wall = 0.25 * (size.depth_upper + size.depth_lower)
    assert points[:, 1].max() - wall == pytest.approx(size.spinous_length, abs=4.0)
    # At the height of the pedicles the canal is a ring closed by bone; its inside is empty.
    level = points[np.abs(points[:, 2] - 4.0) < 1.0]
    inside = (np.abs(level[:, 0]) < 0.35 * size.canal_width) & (
        np.abs(level[:, 1] - wall - 0.4 * size.canal_depth) < 0.25 * size.canal_depth
    )
    assert not inside.any()
    flank = level[(np.abs(level[:, 1] - wall - 3) < 2) & (level[:, 0] > 0)]
    assert flank[:, 0].min() == pytest.approx(size.canal_width / 2, abs=2.5)
    assert np.ptp(flank[:, 0]) == pytest.approx(size.pedicle_width, abs=3.0)


def test_every_vertebra_is_one_piece_in_its_order(whole: Phantom) -> None:
    heights = []
    for name, number in LABELS.items():
        mask = whole.labels.array == number
        assert mask.any()
        assert label(mask, np.ones((3, 3, 3)))[1] == 1, name
        heights.append(np.argwhere(mask)[:, 0].mean())
    assert all(upper > lower for upper, lower in itertools.pairwise(heights))
    assert whole.label_names == {number: name for name, number in LABELS.items()}


@pytest.mark.parametrize("seed", [1, 2, 10])
def test_lowest_joint_leaves_no_crumbs(seed: int) -> None:
    phantom = make_phantom(random_spine(seed), 2.0, ["L5", "S1"])
    for name in ("L5", "S1"):
        mask = phantom.labels.array == LABELS[name]
        assert label(mask, np.ones((3, 3, 3)))[1] == 1, name


def test_subregions_lie_where_their_names_say(whole: Phantom) -> None:
    mask = whole.labels.array == LABELS["L3"]
    centres = {}
    for number in range(41, 51):
        part = mask & (whole.subregions.array == number)
        assert part.any(), number
        centres[number] = _local(whole, part, "L3").mean(0)
    for left, right in ((43, 44), (45, 46), (47, 48)):
        assert centres[left][0] > 3 > -3 > centres[right][0]  # x grows to the person's left
    assert centres[42][1] > centres[41][1] > centres[50][1]  # y grows backwards
    assert min(centres[45][2], centres[46][2]) > max(centres[47][2], centres[48][2]) + 8
    assert not whole.subregions.array[whole.labels.array == 0].any()


def test_hu_are_those_of_tissues(mean_l3: Phantom) -> None:
    hu = mean_l3.ct.array.astype(float)
    mask = mean_l3.labels.array == LABELS["L3"]
    core = mask & (mean_l3.subregions.array == 50)
    assert 90 < hu[core].mean() < 190
    facets = mask & np.isin(mean_l3.subregions.array, [45, 46, 47, 48])
    assert hu[facets].mean() > 500
    soft = ~binary_dilation(mean_l3.labels.array > 0, iterations=3)
    assert -120 < np.median(hu[soft]) < 80
    assert np.percentile(hu[mask], 99.5) < 1800
    assert hu.min() >= -1024


def test_thin_shell_keeps_its_mass_at_any_spacing() -> None:
    spine = SpineParameters(noise_hu=0.0)
    box = region_box(spine, "L3")
    masses, volumes, centres = [], [], []
    for spacing in (1.0, 1.5, 2.5):
        phantom = make_phantom(spine, spacing, box)
        mask = phantom.labels.array == LABELS["L3"]
        near = binary_dilation(mask, iterations=max(1, round(2.0 / spacing)))
        masses.append((phantom.ct.array[near] - 30.0).clip(0).sum() * spacing**3)
        volumes.append(mask.sum() * spacing**3)
        centres.append(phantom.ct.physical_points(np.argwhere(mask)[:, ::-1].astype(float)).mean(0))
    assert np.ptp(volumes) < 0.02 * volumes[0]
    assert np.ptp(masses) < 0.12 * masses[0]
    assert np.abs(np.subtract(centres, centres[0])).max() < 0.2


def test_anisotropic_grids_hold_the_same_anatomy() -> None:
    spine = random_spine(3)
    box = region_box(spine, "L2")
    fine = make_phantom(spine, 1.2, box)
    slices = make_phantom(spine, (1.0, 1.0, 3.0), box)
    a = (fine.labels.array == LABELS["L2"]).sum() * 1.2**3
    b = (slices.labels.array == LABELS["L2"]).sum() * 3.0
    assert a == pytest.approx(b, rel=0.03)


def test_same_seed_same_phantom() -> None:
    first, again = (make_phantom(random_spine(5), 2.5, "L4") for _ in range(2))
    assert (first.ct.array == again.ct.array).all()
    assert (first.labels.array == again.labels.array).all()
    other = random_spine(6)
    assert other != random_spine(5)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20)
def test_random_spines_stay_human(seed: int) -> None:
    spine = random_spine(seed)
    poses = vertebra_poses(spine)
    length = np.linalg.norm(poses["L1"][:3, 3] - poses["L5"][:3, 3])
    assert 110 < length < 185
    for vertebra in spine.vertebrae.values():
        assert 30 < vertebra.size.width_upper < 65
        assert 17 < vertebra.size.height_anterior < 40
        assert vertebra.size.canal_width > 15
    assert spine.sacrum_tilt_deg > 10


def test_a_move_is_rigid_and_moves_only_its_vertebra() -> None:
    spine = SpineParameters(noise_hu=0.0)
    moves = random_poses(spine, 4)
    box = region_box(spine, "L3", margin_mm=14.0)
    still = make_phantom(spine, 1.5, box)
    moved = make_phantom(spine, 1.5, box, moves={"L3": moves["L3"]})
    before = still.ct.physical_points(
        np.argwhere(still.labels.array == LABELS["L3"])[:, ::-1].astype(float)
    )
    after = moved.ct.physical_points(
        np.argwhere(moved.labels.array == LABELS["L3"])[:, ::-1].astype(float)
    )
    assert len(after) == pytest.approx(len(before), rel=0.02)
    expected = transform_points(moves["L3"], before)
    assert np.abs(expected.mean(0) - after.mean(0)).max() < 0.15
    assert np.cov(expected.T) == pytest.approx(np.cov(after.T), abs=6.0)


def test_spines_differ_in_what_a_third_of_them_has() -> None:
    spines = [list(random_spine(seed).vertebrae.values()) for seed in range(30)]
    spurs = [any(v.osteophytes for v in spine) for spine in spines]
    curves = [max(abs(v.coronal_deg) for v in spine) for spine in spines]
    marrow = [np.mean([v.trabecular_hu for v in spine]) for spine in spines]
    assert 0 < sum(spurs) < len(spines) / 2
    assert max(curves) > 8.0 > 4.0 > np.median(curves)
    assert min(marrow) < 80.0 < 130.0 < max(marrow)


def test_one_vertebra_is_quick() -> None:
    begin = time.process_time()
    make_phantom(random_spine(9), 1.5, "L3")
    assert time.process_time() - begin < 6.0  # about 1.5 s alone on one core


def test_vertebrae_above_t12_bear_ribs_and_leave_the_rest_as_it_is() -> None:
    spine = random_spine(9)
    lower, upper = region_box(spine, "trunk")
    box = (lower, upper + np.array([0.0, 0.0, 40.0]))
    plain, longer = make_phantom(spine, 4.0, box), make_phantom(spine, 4.0, box, thoracic=2)
    assert set(longer.label_names.values()) - set(plain.label_names.values()) == {"T10", "T11"}
    heights = [
        np.argwhere(longer.labels.array == number)[:, 0].mean()
        for number in (20, 19, 18, 17)  # L1 to T10 as in VerSe
    ]
    steps = np.diff(heights) * 4.0
    assert (steps > 24.0).all()
    assert (steps < 42.0).all()
    # T12 and what is below it stays, but for T11's ribs behind it.
    below = plain.labels.array >= 19
    assert (longer.labels.array[below] == plain.labels.array[below]).mean() > 0.99
    bone = (longer.ct.array > 300) & (longer.labels.array == 0) & (plain.ct.array < 300)
    left, right = (bone & side[None, None] for side in _halves(longer))
    assert min(left.sum(), right.sum()) * 4.0**3 > 3000.0
    with pytest.raises(InputError, match="above T12"):
        make_phantom(spine, 4.0, box, thoracic=4)


def _halves(phantom: Phantom) -> tuple[np.ndarray, np.ndarray]:
    """Which columns lie 30 mm or more to the left and to the right of the middle."""
    columns = np.zeros((phantom.ct.array.shape[2], 3))
    columns[:, 0] = np.arange(len(columns))
    x = phantom.ct.physical_points(columns)[:, 0]
    return x > 30.0, x < -30.0


def test_senseless_requests_are_refused() -> None:
    with pytest.raises(InputError, match="spacing"):
        make_phantom(spacing_mm=0.0)
    with pytest.raises(InputError, match="no region named"):
        make_phantom(region="C7")
    with pytest.raises(InputError, match="too many"):
        make_phantom(spacing_mm=0.3, region="trunk")
    with pytest.raises(InputError, match="cannot move"):
        make_phantom(spacing_mm=3.0, region="L3", moves={"C2": np.eye(4)})
    with pytest.raises(Cancelled):
        make_phantom(spacing_mm=3.0, region="L3", progress=lambda f, m: False)
