"""Cameras of beads, by reprojection."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bead_scenes import FOCAL, SIZE, pixels_of, random_camera, two_plates
from scipy.spatial.transform import Rotation

from RadGSRegLib.calibration import (
    Beads,
    Calibrated,
    Prior,
    Resection,
    Sighting,
    Spots,
    grid_distortion,
    resect,
)
from RadGSRegLib.calibration import bundle as solving
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array, Camera, Distortion, affine, exp_se3


def near(camera: Camera, seed: int) -> Camera:
    """A start: turned and moved a little, with the nominal focal length."""
    rng = np.random.default_rng(seed)
    turn = Rotation.from_rotvec(rng.normal(0, 0.03, 3)).as_matrix()
    k = camera.intrinsic.copy()
    k[:2, :2] *= FOCAL / camera.focal_px
    pose = camera.world_to_camera
    move = pose[:3, 3] + rng.normal(0, 5, 3)
    return Camera(k, affine(turn @ pose[:3, :3], move), *camera.size)


def sighting(
    camera: Camera, beads: Beads, seed: int, noise_px: float, pixels: Array | None = None
) -> Sighting:
    rng = np.random.default_rng(seed)
    shown = pixels_of(camera, beads.centres_mm) if pixels is None else pixels
    shown = shown + rng.normal(0, noise_px, shown.shape)
    count = len(beads)
    spots = Spots(shown, np.full(count, 6.0), np.ones(count))
    return Sighting(
        f"view {seed}", beads, spots, np.column_stack([np.arange(count)] * 2), near(camera, seed)
    )


def errors(view: Calibrated, camera: Camera) -> Array:
    """The errors (9,) of a camera, in the order of its covariance."""
    pose, truth = view.camera.world_to_camera[:3], camera.world_to_camera[:3]
    turn = Rotation.from_matrix(pose[:, :3] @ truth[:, :3].T).as_rotvec()
    source = -pose[:, :3].T @ pose[:, 3] + truth[:, :3].T @ truth[:, 3]
    inner = view.camera.intrinsic - camera.intrinsic
    return np.array([*turn, *source, inner[1, 1], inner[0, 2], inner[1, 2]])


@pytest.mark.parametrize("mirrored", [False, True])
def test_exact_spots_give_the_camera(mirrored: bool) -> None:
    camera = random_camera(3, mirrored)
    (view,) = resect([sighting(camera, two_plates(), 3, 0.0)])
    assert np.abs(errors(view, camera)).max() < 1e-4
    assert view.rms_px < 1e-6
    assert view.distortion is None


def test_two_sigma_hold_ninety_five_per_cent() -> None:
    """And not all: each group of parameters between 90 % and 99 %, over 80 views."""
    inside = []
    for seed in range(80):
        camera = random_camera(seed)
        (view,) = resect([sighting(camera, two_plates(seed), seed, 0.2)])
        inside.append(np.abs(errors(view, camera)) < 2 * np.sqrt(np.diag(view.covariance)))
    share = np.mean(inside, axis=0)
    assert (share[:3].mean(), share[3:6].mean(), share[6:].mean()) == pytest.approx(
        (0.95, 0.95, 0.95), abs=0.045
    )


def test_outliers_are_left_out() -> None:
    """Two of fourteen, 10 px off, in twenty views; those of great leverage may stay."""
    clean = 0
    for seed in range(20):
        camera = random_camera(seed)
        pixels = pixels_of(camera, two_plates(seed).centres_mm)
        wrong = np.random.default_rng(seed).permutation(14)[:2]
        pixels[wrong] += [[9.0, -4.0], [-6.0, 11.0]]
        (view,) = resect([sighting(camera, two_plates(seed), seed, 0.1, pixels)])
        assert view.residuals_px.shape == view.pairs.shape
        left = not set(wrong) & set(view.pairs[:, 0])
        assert left or view.rms_px > 1.0  # if they stay, the figure says so
        clean += left and len(view.pairs) >= 10 and view.rms_px < 0.3
    assert clean >= 16


def test_ten_pairs_are_not_taken_for_outliers_of_each_other() -> None:
    """With few equations to spare, robust losses would meet some exactly and lose the rest."""
    kept = []
    for seed in range(25):
        camera = random_camera(seed)
        made = sighting(camera, two_plates(seed), seed, 0.2)
        prior = Prior(focal_px=(camera.focal_px, 0.005 * FOCAL))
        (view,) = resect([replace(made, pairs=made.pairs[2:12])], Resection(prior=prior))
        kept.append(len(view.pairs))
    assert min(kept) >= 8
    assert np.mean(kept) > 9.8


def test_a_prior_and_shared_intrinsics_make_the_source_surer() -> None:
    cameras = [random_camera(seed) for seed in range(8)]
    k = cameras[0].intrinsic
    cameras = [replace(camera, intrinsic=k) for camera in cameras]
    views = [sighting(camera, two_plates(), n, 0.2) for n, camera in enumerate(cameras)]

    def doubt(options: Resection) -> float:
        return float(
            np.median([np.sqrt(np.trace(v.covariance[3:6, 3:6])) for v in resect(views, options)])
        )

    alone = doubt(Resection())
    assert doubt(Resection(prior=Prior(focal_px=(k[1, 1], 5.0)))) < 0.8 * alone
    assert doubt(Resection(shared_intrinsics=True)) < 0.7 * alone
    together = resect(views, Resection(shared_intrinsics=True))
    assert len({view.camera.focal_px for view in together}) == 1
    off = [np.linalg.norm(errors(v, c)[3:6]) for v, c in zip(together, cameras, strict=True)]
    assert np.median(off) < 2.5


def bent(points: Array, radial: tuple[float, float], spiral: tuple[float, float]) -> Array:
    """Where a bent picture shows points, by the formula, with complex numbers."""
    z = (points[:, 0] - 499.5 + 1j * (points[:, 1] - 499.5)) / 500.0
    square = np.abs(z) ** 2
    turn = np.exp(1j * (spiral[0] * square + spiral[1] * square**2))
    z = z * (1 + radial[0] * square + radial[1] * square**2) * turn
    return np.column_stack([z.real, z.imag]) * 500.0 + 499.5


def test_distortion_from_many_beads_and_from_a_grid() -> None:
    radial, spiral = (0.03, -0.01), (0.02, 0.01)
    beads = two_plates(1, 20)
    camera = random_camera(1)
    pixels = bent(pixels_of(camera, beads.centres_mm), radial, spiral)
    made = sighting(camera, beads, 1, 0.0, pixels)
    (view,) = resect([made], Resection(distortion="fit"))
    assert view.distortion is not None
    assert view.distortion.radial == pytest.approx(radial, abs=1e-5)
    assert view.distortion.spiral == pytest.approx(spiral, abs=1e-5)
    assert np.abs(errors(view, camera)).max() < 1e-2
    known = Distortion((499.5, 499.5), 500.0, radial, spiral)
    (given,) = resect([made], Resection(distortion=known))
    assert np.abs(errors(given, camera)).max() < 1e-4
    (without,) = resect([made])
    assert without.rms_px > 0.3 or len(without.pairs) < 30


def test_distortion_of_few_beads_is_refused() -> None:
    made = sighting(random_camera(1), two_plates(), 1, 0.1)
    with pytest.raises(InputError, match=r"view 1.*14 beads.*25"):
        resect([made], Resection(distortion="fit"))


@pytest.mark.parametrize("seed", range(4))
def test_a_grid_tells_its_distortion(seed: int) -> None:
    rng = np.random.default_rng(seed)
    radial, spiral = tuple(rng.uniform(-0.04, 0.06, 2)), tuple(rng.uniform(-0.04, 0.04, 2))
    radial = (radial[0], radial[1] / 4)
    nodes = np.stack(np.meshgrid(np.arange(-11, 12), np.arange(-11, 12)), -1).reshape(-1, 2) * 42.0
    turn = Rotation.from_euler("Z", rng.uniform(-3, 3)).as_matrix()[:2, :2]
    pixels = bent(nodes @ turn.T + 499.5 + rng.uniform(-20, 20, 2), radial, spiral)
    pixels = pixels[((pixels > 4) & (pixels < 995)).all(1) & (rng.random(len(pixels)) > 0.1)]
    pixels = np.concatenate(
        [pixels + rng.normal(0, 0.1, pixels.shape), rng.uniform(0, 999, (30, 2))]
    )
    pixels = pixels[rng.permutation(len(pixels))]
    spots = Spots(pixels, np.full(len(pixels), 5.0), np.ones(len(pixels)))
    distortion, rms = grid_distortion("grid", spots, SIZE)
    assert rms < 0.2
    assert distortion.radial == pytest.approx(radial, abs=2e-3)
    assert distortion.spiral == pytest.approx(spiral, abs=2e-3)


def test_no_grid_is_refused() -> None:
    rng = np.random.default_rng(0)
    spots = Spots(rng.uniform(0, 999, (30, 2)), np.full(30, 5.0), np.ones(30))
    with pytest.raises(InputError, match="grid picture"):
        grid_distortion("grid picture", spots, SIZE)


def ellipse_shift(camera: Camera, centres: Array, diameters: Array) -> Array:
    """Of a sphere's outline: the middle of the ellipse (a cone cut by a plane), less its centre."""
    k, pose = camera.intrinsic, camera.world_to_camera
    out = []
    for centre, diameter in zip(centres, diameters, strict=True):
        c = pose[:3, :3] @ centre + pose[:3, 3]
        depth_2 = c[2] ** 2 - (diameter / 2) ** 2
        out.append(np.diag(k)[:2] * c[:2] * (c[2] / depth_2 - 1 / c[2]))
    return np.array(out)


def test_the_shift_of_spheres_is_taken_off() -> None:
    camera = random_camera(2)
    beads = replace(two_plates(2), diameters_mm=np.full(14, 12.0))
    pixels = pixels_of(camera, beads.centres_mm)
    pixels = pixels + ellipse_shift(camera, beads.centres_mm, beads.diameters_mm)
    made = sighting(camera, beads, 2, 0.0, pixels)
    (view,) = resect([made], Resection(sphere_shift=ellipse_shift))
    (without,) = resect([made])
    assert view.rms_px < 1e-3
    assert np.abs(errors(view, camera)).max() < 0.02
    assert np.abs(errors(without, camera)).max() > np.abs(errors(view, camera)).max()


def test_spots_count_by_how_well_they_are_known() -> None:
    camera = random_camera(4)
    pixels = pixels_of(camera, two_plates(4).centres_mm)
    sigma = np.where(np.arange(14) < 4, 3.0, 0.05)
    pixels = pixels + np.random.default_rng(0).normal(0, 1, pixels.shape) * sigma[:, None]
    made = sighting(camera, two_plates(4), 4, 0.0, pixels)
    (weighed,) = resect([replace(made, sigma_px=sigma)])
    assert len(weighed.pairs) == 14
    assert np.linalg.norm(weighed.residuals_px[4:], axis=1).max() < 0.2


def test_pairs_that_fix_nothing_are_refused() -> None:
    made = sighting(random_camera(1), two_plates(), 1, 0.1)
    with pytest.raises(InputError, match=r"view 1.*5 of the beads"):
        resect([replace(made, pairs=made.pairs[:5])])
    assert resect([]) == []


def test_beads_in_one_plane_fix_no_camera() -> None:
    beads = two_plates(1)
    flat = replace(beads, centres_mm=beads.centres_mm * [1.0, 1.0, 0.0])
    with pytest.raises(InputError, match=r"view 1.*one plane"):
        resect([sighting(random_camera(1), flat, 1, 0.1)])


def test_mirrored_views_share_nothing_with_others() -> None:
    views = [sighting(random_camera(n, n == 1), two_plates(), n, 0.1) for n in range(2)]
    with pytest.raises(InputError, match=r"view 0, view 1.*mirrored"):
        resect(views, Resection(shared_intrinsics=True))


def test_steps_move_pixels_as_the_jacobian_says() -> None:
    camera = random_camera(7)
    poses = np.stack([np.eye(4), exp_se3([0.1, 0.2, 0.3, 5, 6, 7])])
    bend = Distortion((499.5, 499.5), 500.0, (0.01, 0.02), (0.03, -0.01))
    state = solving.State((camera, camera), (0, 0), poses, (bend,))
    beads = two_plates()
    block = solving.Block(
        1, 1, beads.centres_mm, np.zeros((14, 2)), np.ones(14), beads.diameters_mm
    )
    shift = np.full((14, 2), 0.5)
    x = np.random.default_rng(0).normal(0, 0.01, 25)
    analytic = solving._block_jacobian(state, x, block, shift)
    for k, step in enumerate(np.eye(25) * 1e-6):
        ends = [
            solving.predicted(solving.moved(state, y), block, shift) for y in (x + step, x - step)
        ]
        assert analytic[:, k] == pytest.approx((ends[0] - ends[1]).ravel() / 2e-6, abs=1e-4)
