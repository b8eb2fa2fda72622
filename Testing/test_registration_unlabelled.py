"""Bone without a label beside the target: pieces that may move, and contrast that is no bone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from registration_scenes import QUICK, TARGET, error_mm, one_thread, simulated
from scipy import ndimage

from RadGSRegLib.cases import Case
from RadGSRegLib.drr import SOFT_TISSUE_HU, hu_to_attenuation
from RadGSRegLib.geometry import Volume, transform_points
from RadGSRegLib.registration import Anatomy, Body, build_anatomy, register_case
from RadGSRegLib.registration import anatomy as anatomy_module
from RadGSRegLib.registration.background import build_background
from RadGSRegLib.registration.unlabelled import contrast, pieces_of

REACH_MM = 50.0
SPACING = np.full(3, 1.5)


def alone(case: Case) -> Case:
    """The case with the target's label only."""
    labels = np.where(case.labels.array == TARGET, TARGET, 0).astype(np.uint8)
    return replace(case, labels=case.labels.with_array(labels))


def in_ct(body: Body, ct: Volume) -> np.ndarray:
    """Where a body is, on the CT's whole grid."""
    i, j, k = np.rint(transform_points(ct.physical_to_index, body.excess.origin[None])[0]).astype(
        int
    )
    out = np.zeros(ct.array.shape, dtype=bool)
    depth, rows, columns = body.excess.array.shape
    out[k : k + depth, j : j + rows, i : i + columns] = body.excess.array > 0
    return out


def with_tube(case: Case, hu: float = 350.0, apart_mm: float = 4.0) -> tuple[Case, np.ndarray]:
    """The case with a vessel of 9 mm radius in front of the spine, and where it is."""
    k, j, i = np.indices(case.ct.array.shape)
    points = case.ct.physical_points(
        np.column_stack([i.ravel(), j.ravel(), k.ravel()]).astype(float)
    )
    drawn = points[(case.labels.array == TARGET).ravel()]
    x, y = np.median(drawn[:, 0]) + 3.0, drawn[:, 1].min() - 9.0 - apart_mm
    distance = np.hypot(points[:, 0] - x, points[:, 1] - y).reshape(case.ct.array.shape)
    tube = (distance < 9.0) & (case.labels.array == 0)
    noise = np.random.default_rng(4).normal(0.0, 15.0, tube.shape)
    array = np.where(tube, hu + noise, case.ct.array).astype(np.float32)
    return replace(case, ct=case.ct.with_array(array)), tube


@pytest.fixture(scope="module")
def case() -> Case:
    return simulated(region=("L2", "L3", "L4")).case


@pytest.fixture(scope="module")
def anatomy(case: Case) -> Anatomy:
    return build_anatomy(alone(case), reach_mm=REACH_MM)


def test_the_vertebrae_above_and_below_are_bodies_of_their_own(
    case: Case, anatomy: Anatomy
) -> None:
    labels = case.labels.array
    for name in ("L2", "L4"):
        (value,) = (n for n, title in case.label_names.items() if title == name)
        inside = [
            int((in_ct(body, case.ct) & (labels == value)).sum()) for body in anatomy.neighbours
        ]
        largest = anatomy.neighbours[int(np.argmax(inside))]
        own = in_ct(largest, case.ct)
        assert not largest.labelled
        # Its marrow too, which is no denser than 180 HU: most of what is denser than tissue.
        near = (
            ndimage.distance_transform_edt(labels != TARGET, sampling=case.ct.spacing) <= REACH_MM
        )
        bone = near & (labels == value) & (case.ct.array > 90)
        assert (own & bone).sum() > 0.5 * bone.sum()
        assert (own & (labels == value)).sum() > 0.7 * (own & (labels > 0)).sum()


def test_bodies_share_no_voxel_and_all_is_the_whole_ct(case: Case, anatomy: Anatomy) -> None:
    bodies = [anatomy.target, *anatomy.neighbours]
    assert sum(in_ct(body, case.ct).astype(int) for body in bodies).max() == 1
    background = build_background(case.ct, anatomy, spacing_mm=float(case.ct.spacing.min()))
    total = background.excess.array.astype(np.float64)
    for body in bodies:
        where = in_ct(body, case.ct)
        total[where] += body.excess.array[body.excess.array > 0]
    soft = float(hu_to_attenuation(SOFT_TISSUE_HU))
    assert total + soft == pytest.approx(hu_to_attenuation(case.ct.array), abs=1e-6)


def test_labelled_neighbours_are_left_as_they_are(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("bone was taken apart although neighbours have labels")

    monkeypatch.setattr(anatomy_module, "pieces_of", never)
    names = [body.name for body in build_anatomy(case, reach_mm=REACH_MM).neighbours]
    assert {"L2", "L4"} <= set(names)


@pytest.mark.parametrize("apart_mm", [4.0, 0.0, -2.0])
def test_contrast_in_a_vessel_is_no_bone(case: Case, anatomy: Anatomy, apart_mm: float) -> None:
    filled, tube = with_tube(case, apart_mm=apart_mm)
    assert tube.sum() > 1000
    with_vessel = build_anatomy(alone(filled), reach_mm=REACH_MM)
    apart = ndimage.distance_transform_edt(~(case.labels.array == TARGET)) > 2
    for body in with_vessel.neighbours:
        assert (in_ct(body, case.ct) & tube & apart).sum() < 0.05 * tube.sum(), body.name
    bones = [sum(in_ct(b, case.ct).sum() for b in a.neighbours) for a in (anatomy, with_vessel)]
    assert bones[1] == pytest.approx(bones[0], rel=0.05)


def test_no_part_of_a_vertebra_is_taken_for_contrast(case: Case) -> None:
    bone = case.ct.array > 90
    taken = contrast(case.ct.array.astype(np.float32), bone, case.ct.spacing[::-1])
    assert (taken & (case.labels.array > 0)).sum() < 0.002 * (case.labels.array > 0).sum()


def _ct(solid: np.ndarray, marrow: np.ndarray | None = None) -> Volume:
    """Bone of 700 HU with marrow of 150 HU in soft tissue."""
    array = np.where(solid, 700.0, 40.0)
    if marrow is not None:
        array[marrow] = 150.0
    matrix = np.diag([*SPACING, 1.0])
    return Volume(array.astype(np.float32), matrix)


def _grid() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    k, j, i = (np.indices((70, 50, 60)) * 1.5).astype(float)
    return i, j, k


def test_a_shaft_is_one_piece() -> None:
    """Of two long bones the other one moves as one, although its depth varies along it."""
    x, y, z = _grid()
    target = np.hypot(x - 25.0, y - 35.0) < 7.0
    width = 6.0 + 0.5 * np.sin(z / 9.0)
    other = np.hypot(x - 58.0 - 0.1 * z, y - 35.0) < width
    marrow = np.hypot(x - 58.0 - 0.1 * z, y - 35.0) < width - 3.0
    pieces, agent = pieces_of(_ct(target | other, marrow), ~target, target)
    assert len(pieces) == 1
    assert (pieces[0] & other).sum() > 0.9 * other.sum()
    assert not agent.any()


def test_two_bones_that_touch_are_two_pieces() -> None:
    x, y, z = _grid()
    target = (x - 20.0) ** 2 + (y - 35.0) ** 2 + (z - 50.0) ** 2 < 14.0**2
    upper = (x - 60.0) ** 2 + (y - 35.0) ** 2 + (z - 35.0) ** 2 < 13.0**2
    lower = (x - 60.0) ** 2 + (y - 35.0) ** 2 + (z - 66.0) ** 2 < 13.0**2
    bridge = (np.hypot(x - 66.0, y - 35.0) < 3.5) & (abs(z - 50.0) < 12.0)
    pieces, _ = pieces_of(_ct(target | upper | lower | bridge), ~target, target)
    assert len(pieces) == 2
    for bone in (upper, lower):
        assert max((piece & bone).sum() for piece in pieces) > 0.95 * bone.sum()
        assert min((piece & bone).sum() for piece in pieces) < 0.02 * bone.sum()


def test_neighbours_that_moved_are_explained_without_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one_thread()
    made = simulated(region=("L2", "L3", "L4"), vertebra_deg=5.0, vertebra_mm=3.0)
    start = made.start_ct_to_world
    case = alone(made.case)
    apart = register_case(case, start, QUICK)

    def together(ct: Volume, *_: object) -> tuple[list[np.ndarray], np.ndarray]:
        return [], np.zeros(ct.array.shape, dtype=bool)

    monkeypatch.setattr(anatomy_module, "pieces_of", together)
    before = register_case(case, start, QUICK)
    scores = [min(v["score"] for v in r.quality["views"].values()) for r in (apart, before)]
    assert error_mm(made, apart.ct_to_world) < 0.5
    assert scores[0] > scores[1] + 0.03
