"""Beads in a CT are found where they are, and other metal is left out."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from RadGSRegLib.calibration import find_ct_beads
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Volume

Inside = Callable[[np.ndarray], np.ndarray]
STEEL, AIR, CUT = 12000.0, -1000.0, 3071.0


def grid(spacing: float, size_mm: float = 42.0, thick: float = 1.0) -> Volume:
    """An empty CT, oblique, of voxels ``thick`` times as thick as they are wide."""
    n = int(size_mm / spacing)
    turn = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn * [spacing, spacing, spacing * thick]
    matrix[:3, 3] = [-20.0, 35.0, 100.0]
    return Volume(np.full((int(n / thick), n, n), AIR), matrix)


def filled(ct: Volume, inside: Inside, middle: np.ndarray, parts: int = 5) -> np.ndarray:
    """The share of each voxel that is inside a body within 10 mm of a point: partial volume."""
    share = np.zeros(ct.array.shape)
    steps = (np.arange(parts) + 0.5) / parts - 0.5
    kji = np.indices(ct.array.shape).reshape(3, -1).T
    near = np.linalg.norm(ct.physical_points(kji[:, ::-1]) - middle, axis=1) < 10.0
    for offset in itertools.product(steps, steps, steps):
        points = ct.physical_points(kji[near][:, ::-1] + offset)
        share.ravel()[near] += inside(points)
    return share / parts**3


def with_bodies(
    ct: Volume, balls: np.ndarray, *others: np.ndarray, cut: float = CUT, seed: int = 0
) -> Volume:
    """A phantom of plastic with steel balls (N, 4: centre and diameter), blurred, with noise."""
    share = np.zeros(ct.array.shape)
    for *centre, diameter in balls:
        share += filled(
            ct,
            lambda p, c=centre, d=diameter: np.linalg.norm(p - c, axis=1) < d / 2,
            np.array(centre),
        )
    for other in others:
        share = np.maximum(share, other)
    plastic = np.where(np.indices(share.shape)[1] < share.shape[1] * 2 // 3, 120.0, AIR)
    for *centre, diameter in balls[: len(balls) // 2]:
        # These stand out of a surface by half.
        kji = np.indices(ct.array.shape).reshape(3, -1).T
        offset = ct.physical_points(kji[:, ::-1]) - centre
        out = (offset[:, 2] > 0) & (np.linalg.norm(offset, axis=1) < diameter + 3.0)
        plastic[out.reshape(plastic.shape)] = AIR
    hu = share * STEEL + (1.0 - share) * plastic
    hu = ndimage.gaussian_filter(hu, 0.35 / ct.spacing[::-1])
    hu += np.random.default_rng(seed).normal(0.0, 25.0, hu.shape)
    return ct.with_array(np.clip(hu, -1024.0, cut))


def placed(ct: Volume, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    middle = ct.physical_points([(np.array(ct.size) - 1) / 2.0])[0]
    steps = np.array([[-12, -11, -10], [11, -8, -5], [-9, 7, 0], [8, 10, 6], [0, 0, 13]], float)
    diameters = np.array([[3.0], [3.0], [5.0], [3.0], [4.0]])
    return np.hstack([middle + steps + rng.uniform(-1, 1, steps.shape), diameters])


@pytest.mark.parametrize(
    ("spacing", "thick", "seed"), [(0.5, 1.0, 1), (0.7, 1.0, 2), (1.0, 1.0, 3), (0.5, 2.0, 4)]
)
def test_centres_are_right_to_a_tenth_of_a_millimetre(
    spacing: float, thick: float, seed: int
) -> None:
    ct = grid(spacing, thick=thick)
    balls = placed(ct, seed)
    balls = balls[np.argsort(balls[:, 2])]
    for cut, off_mm in ((CUT, 0.8), (20000.0, 0.5)):
        beads = find_ct_beads(with_bodies(ct, balls, cut=cut, seed=seed))
        assert len(beads) == len(balls)
        off = np.linalg.norm(beads.centres_mm - balls[:, :3], axis=1)
        assert off[2:].max() < 0.1
        # Half in plastic, half in air; where steel is cut off, the sides look unlike.
        assert off[:2].max() < (0.2 if cut == CUT else 0.1)
        assert np.abs(beads.diameters_mm - balls[:, 3]).max() < off_mm


def test_implants_are_left_out() -> None:
    ct = grid(0.7)
    balls = placed(ct, 7)
    middle = ct.physical_points([(np.array(ct.size) - 1) / 2.0])[0]
    along = np.array([0.6, 0.3, 0.74])
    along /= np.linalg.norm(along)

    def screw(points: np.ndarray) -> np.ndarray:
        offset = points - (middle + [14.0, -3.0, 8.0])
        depth = offset @ along
        across = np.linalg.norm(offset - depth[:, None] * along, axis=1)
        return (np.abs(depth) < 6.0) & (across < 2.0)

    def molar(points: np.ndarray) -> np.ndarray:
        return (np.abs(points - (middle + [-14.0, 3.0, 10.0])) < [3.5, 2.0, 2.5]).all(axis=1)

    metal = (
        filled(ct, screw, middle + [14.0, -3.0, 8.0]),
        filled(ct, molar, middle + [-14.0, 3.0, 10.0]),
    )
    beads = find_ct_beads(with_bodies(ct, balls, *metal))
    assert len(beads) == len(balls)
    # A ball that touches the screw is no longer a ball.
    touching = np.array([[*(middle + [14.0, -3.0, 8.0] + 7.2 * along), 3.0]])
    assert len(find_ct_beads(with_bodies(ct, np.vstack([balls, touching]), metal[0]))) == len(balls)


def test_the_order_does_not_depend_on_the_grid() -> None:
    ct = grid(0.7)
    volume = with_bodies(ct, placed(ct, 5))
    beads = find_ct_beads(volume)
    again = find_ct_beads(volume)
    assert (beads.centres_mm == again.centres_mm).all()
    assert (np.diff(beads.centres_mm[:, 2]) > 0).all()
    # The same picture, stored from the other end.
    flip = np.diag([-1.0, 1.0, -1.0, 1.0])
    flip[[0, 2], 3] = [volume.size[0] - 1, volume.size[2] - 1]
    turned = Volume(volume.array[::-1, :, ::-1], volume.index_to_physical @ flip)
    assert np.allclose(find_ct_beads(turned).centres_mm, beads.centres_mm, atol=1e-6)


def test_a_ct_without_beads_is_refused() -> None:
    ct = grid(1.0)
    with pytest.raises(InputError, match="shows no metal"):
        find_ct_beads(ct, "air.nii.gz")
    slab = ct.array.copy()
    slab[10:12, 5:40, 5:40] = CUT
    with pytest.raises(InputError, match="of 1 lumps of metal none is round"):
        find_ct_beads(ct.with_array(slab), "plate.nii.gz")
