"""The CT taken apart: nothing lost, nothing counted twice, and everything where it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from registration_scenes import TARGET, phantom, simulated
from scipy import ndimage
from scipy.spatial.transform import Rotation

from RadGSRegLib.cases import Case
from RadGSRegLib.drr import SOFT_TISSUE_HU, hu_to_attenuation, project_volume
from RadGSRegLib.errors import InputError
from RadGSRegLib.gaussians import rasterize
from RadGSRegLib.geometry import Volume, invert_rigid, transform_points
from RadGSRegLib.registration import Anatomy, Body, RigidBodies, build_anatomy, ct_bodies
from RadGSRegLib.registration.background import build_background
from RadGSRegLib.registration.clouds import block_cloud
from RadGSRegLib.tensors import Lenses

REACH_MM = 50.0
SOFT = float(hu_to_attenuation(SOFT_TISSUE_HU))


@pytest.fixture(scope="module")
def case() -> Case:
    return simulated().case


@pytest.fixture(scope="module")
def anatomy(case: Case) -> Anatomy:
    return build_anatomy(case, reach_mm=REACH_MM)


@pytest.fixture(scope="module")
def model(case: Case, anatomy: Anatomy) -> RigidBodies:
    return ct_bodies(anatomy, case.ct, coarse_mm=7.0, fine_mm=3.0)


def _in_ct(body: Body, ct: Volume) -> np.ndarray:
    """A body's excess on the CT's whole grid."""
    corner = transform_points(ct.physical_to_index, body.excess.origin[None])[0]
    first = np.rint(corner).astype(int)
    assert corner == pytest.approx(first, abs=1e-6)
    out = np.zeros(ct.array.shape)
    k, j, i = body.excess.array.shape
    out[first[2] :, first[1] :, first[0] :][:k, :j, :i] = body.excess.array
    return out


def test_target_neighbours_and_other_bone_are_told_apart(case: Case, anatomy: Anatomy) -> None:
    names = [body.name for body in anatomy.neighbours]
    assert anatomy.target.name == "target"
    assert {"L2", "L4"} <= set(names)
    assert len(set(names)) == len(names)
    labels = case.labels.array
    target = _in_ct(anatomy.target, case.ct) > 0
    # The target is its drawn bone and at most one voxel around it, and no neighbour's.
    drawn = labels == TARGET
    bone = case.ct.array > SOFT_TISSUE_HU + 1
    assert target[drawn & bone].all()
    assert not target[~ndimage.binary_dilation(drawn)].any()
    assert not target[(labels > 0) & ~drawn].any()
    for body in anatomy.neighbours:
        if body.name in case.label_names.values():
            (label,) = (n for n, name in case.label_names.items() if name == body.name)
            seen = _in_ct(body, case.ct) > 0
            assert not seen[(labels > 0) & (labels != label)].any()


def test_bodies_share_no_voxel(case: Case, anatomy: Anatomy) -> None:
    bodies = [anatomy.target, *anatomy.neighbours]
    assert sum((_in_ct(body, case.ct) > 0).astype(int) for body in bodies).max() == 1


def test_bodies_and_background_are_the_whole_ct(case: Case, anatomy: Anatomy) -> None:
    # At the CT's own spacing the background is not shrunk.
    background = build_background(case.ct, anatomy, spacing_mm=float(case.ct.spacing.min()))
    assert np.allclose(background.excess.index_to_physical, case.ct.index_to_physical)
    total = background.excess.array.astype(np.float64)
    for body in (anatomy.target, *anatomy.neighbours):
        total += _in_ct(body, case.ct)
    assert total + SOFT == pytest.approx(hu_to_attenuation(case.ct.array), abs=1e-6)
    assert background.field.array == pytest.approx(SOFT)


def test_the_pictures_of_all_parts_add_up_to_the_whole(
    case: Case, anatomy: Anatomy, model: RigidBodies
) -> None:
    whole = case.ct.with_array(hu_to_attenuation(case.ct.array))
    camera = case.views[0].camera.window(60, 60, 62, 62, 2.0)
    pose = np.eye(4)
    pose[:3, 3] = -model.centre_ct
    to_camera = camera.world_to_camera @ pose

    def picture(volume: Volume) -> np.ndarray:
        return project_volume(volume, camera.intrinsic, to_camera, camera.size).numpy()

    assert model.background is not None
    lenses = Lenses.of([camera.intrinsic], camera.size)
    parts = model.background.render(lenses, torch.from_numpy(to_camera)[None])[0].sum(0).numpy()
    for body in (anatomy.target, *anatomy.neighbours):
        parts = parts + picture(body.excess)
    expected = picture(whole)
    # The background is shrunk to 2.5 mm; the rest is exact.
    assert np.abs(parts - expected).mean() < 0.02 * expected.max()


def _radius_mm(anatomy: Anatomy, ct: Volume) -> float:
    return ct_bodies(anatomy, ct, coarse_mm=7.0, fine_mm=3.0).radius_mm


def test_centre_is_the_centroid_of_the_drawn_mask(case: Case, anatomy: Anatomy) -> None:
    indices = np.argwhere(case.labels.array == TARGET)[:, ::-1].astype(float)
    assert anatomy.centre_ct == pytest.approx(case.ct.physical_points(indices).mean(0), abs=1e-6)
    assert anatomy.centre_ct == pytest.approx(simulated().truth["pivot_ct"], abs=1e-6)


def test_surface_lies_on_the_drawn_mask(case: Case, anatomy: Anatomy) -> None:
    assert len(anatomy.surface_points_ct) > 1000
    index = transform_points(case.ct.physical_to_index, anatomy.surface_points_ct)
    i, j, k = np.rint(index).astype(int).T
    drawn = case.labels.array == TARGET
    assert drawn[k, j, i].all()
    assert not ndimage.binary_erosion(drawn)[k, j, i].any()
    distance = np.linalg.norm(anatomy.surface_points_ct - anatomy.centre_ct, axis=1)
    assert np.mean(distance <= _radius_mm(anatomy, case.ct)) == pytest.approx(0.98, abs=0.005)


@pytest.mark.parametrize("reach_mm", [8.0, 20.0])
def test_bone_out_of_reach_is_left_to_the_background(case: Case, reach_mm: float) -> None:
    near = build_anatomy(case, reach_mm=reach_mm)
    distance = ndimage.distance_transform_edt(
        case.labels.array != TARGET, sampling=case.ct.spacing[::-1]
    )
    for body in near.neighbours:
        assert distance[_in_ct(body, case.ct) > 0].max() <= reach_mm + 1.8 * case.ct.spacing.max()


def test_any_axes_of_the_ct_give_the_same_anatomy(case: Case, anatomy: Anatomy) -> None:
    order, flip = (1, 2, 0), (-1, 1, -1)

    def turned(volume: Volume) -> Volume:
        matrix = volume.index_to_physical.copy()
        for axis, step in enumerate(flip):
            if step < 0:
                matrix[:3, 3] += matrix[:3, axis] * (volume.size[axis] - 1)
                matrix[:3, axis] *= -1.0
        array = volume.array[:: flip[2], :: flip[1], :: flip[0]]
        # Index axes (i, j, k) are array axes (2, 1, 0).
        matrix[:3, :3] = matrix[:3, list(order)]
        axes = [2 - order[2 - n] for n in range(3)]
        return Volume(np.ascontiguousarray(array.transpose(axes)), matrix)

    same = replace(case, ct=turned(case.ct), labels=turned(case.labels))
    other = build_anatomy(same, reach_mm=REACH_MM)
    assert other.centre_ct == pytest.approx(anatomy.centre_ct, abs=1e-6)
    assert _radius_mm(other, same.ct) == pytest.approx(_radius_mm(anatomy, case.ct), abs=1e-6)
    mass = {body.name: body.excess.array.sum() for body in anatomy.neighbours}
    for body in other.neighbours:
        assert body.excess.array.sum() == pytest.approx(mass[body.name], rel=1e-4)


@pytest.mark.parametrize(
    ("where", "hu"),
    [("air", -900), ("fat", -80)],
)
def test_a_label_without_bone_is_refused(case: Case, where: str, hu: int) -> None:
    labels, ct = case.labels.array.copy(), case.ct.array.copy()
    labels[2:12, 2:12, 2:12] = 77
    ct[:16, :16, :16] = hu
    wrong = replace(
        case,
        ct=case.ct.with_array(ct),
        labels=case.labels.with_array(labels),
        label=77,
        label_names={**case.label_names, 77: where},
    )
    with pytest.raises(InputError, match=rf"^{where}: .*no bone"):
        build_anatomy(wrong, reach_mm=REACH_MM)


def test_a_vertebra_alone_has_no_neighbours(case: Case) -> None:
    only = np.where(case.labels.array == TARGET, TARGET, 0)
    bare = np.where(case.labels.array == TARGET, case.ct.array, SOFT_TISSUE_HU).astype(np.int16)
    alone = build_anatomy(
        replace(case, ct=case.ct.with_array(bare), labels=case.labels.with_array(only)),
        reach_mm=REACH_MM,
    )
    assert alone.neighbours == ()
    assert len(ct_bodies(alone, case.ct, coarse_mm=7.0, fine_mm=3.0).movable_centres_ct) == 1


@pytest.mark.parametrize("block_mm", [3.0, 7.0, 12.0])
def test_block_clouds_keep_mass_and_centre(anatomy: Anatomy, block_mm: float) -> None:
    excess = anatomy.target.excess
    cloud = block_cloud(excess, block_mm)
    mass = excess.array.sum(dtype=np.float64) * np.prod(excess.spacing)
    assert float(cloud.mass()) == pytest.approx(mass, rel=1e-4)
    k, j, i = np.nonzero(excess.array)
    points = excess.physical_points(np.column_stack([i, j, k]).astype(float))
    centre = np.average(points, axis=0, weights=excess.array[k, j, i])
    masses = cloud.masses().numpy()
    assert np.average(cloud.means.numpy(), axis=0, weights=masses) == pytest.approx(
        centre, abs=1e-3
    )
    # A block is a cube: no member lies farther from its mean than the cube's diagonal.
    spread = np.sqrt((block_mm / 2) ** 2 + excess.spacing.max() ** 2)
    assert float(cloud.scales.max()) < spread
    volume = np.count_nonzero(excess.array) * np.prod(excess.spacing)
    assert volume / block_mm**3 * 0.9 < len(cloud)


def test_finer_blocks_come_nearer_to_the_projection(case: Case, anatomy: Anatomy) -> None:
    excess, camera = anatomy.target.excess, case.views[0].camera
    pose = np.eye(4)
    pose[:3, 3] = -anatomy.centre_ct
    to_camera = camera.world_to_camera @ pose
    expected = project_volume(excess, camera.intrinsic, to_camera, camera.size).numpy()
    errors = []
    for block_mm in (12.0, 7.0, 3.0):
        cloud = block_cloud(excess, block_mm)
        image = rasterize(cloud, camera.intrinsic, to_camera, camera.size).numpy()
        errors.append(np.abs(image - expected).sum() / expected.sum())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.15


def test_a_models_fine_clouds_are_no_finer_than_the_voxels(case: Case, anatomy: Anatomy) -> None:
    model = ct_bodies(anatomy, case.ct, coarse_mm=1.0, fine_mm=0.5)
    assert len(model.target.fine) <= np.count_nonzero(anatomy.target.excess.array)
    assert model._fine.clouds[0] is model.target.fine
    assert model._coarse.clouds[0] is model.target.coarse


@given(
    factors=st.tuples(*[st.integers(1, 4)] * 3).filter(lambda f: max(f) > 1),
    angle=st.floats(0.0, 3.0),
    shift=st.tuples(*[st.floats(-1.0, 1.0)] * 3),
)
def test_shrinking_the_background_moves_nothing(
    factors: tuple[int, int, int], angle: float, shift: tuple[float, float, float]
) -> None:
    """A blob's centroid and mass stay, on oblique grids of any spacing."""
    spacing = 2.5 / np.array(factors)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec([0.3 * angle, -0.2 * angle, angle]).as_matrix() * spacing
    matrix[:3, 3] = [12.0, -30.0, 5.0]
    sizes = (40.0 / spacing).astype(int)
    grid = Volume(np.zeros(sizes[::-1]), matrix)
    k, j, i = np.indices(grid.array.shape).reshape(3, -1)
    points = grid.physical_points(np.column_stack([i, j, k]).astype(float))
    middle = grid.physical_points(0.5 * (sizes[None] - 1))[0] + np.array(shift)
    blob = np.exp(-0.5 * ((points - middle) ** 2).sum(1) / 4.0**2)
    # As a CT whose attenuation is the blob's above soft tissue, with one distant voxel of bone.
    hu = np.interp(SOFT + 0.002 * blob, [0.0, SOFT, 2 * SOFT], [-1000.0, SOFT_TISSUE_HU, 1080.0])
    ct = Volume(hu.reshape(grid.array.shape).astype(np.float32), matrix)
    nothing = Body("target", ct.crop((0, 0, 0), (1, 1, 1)).with_array(np.zeros((1, 1, 1))), middle)
    excess = hu_to_attenuation(ct.array) - SOFT
    before = np.average(points, axis=0, weights=excess.ravel())
    small = build_background(ct, Anatomy(nothing, (), middle[None]), spacing_mm=2.5).excess
    assert small.spacing == pytest.approx(2.5 * np.ones(3))
    k, j, i = np.indices(small.array.shape).reshape(3, -1)
    at = small.physical_points(np.column_stack([i, j, k]).astype(float))
    after = np.average(at, axis=0, weights=small.array.ravel())
    assert after == pytest.approx(before, abs=0.05)
    mass = excess.sum() * np.prod(spacing)
    assert small.array.sum() * 2.5**3 == pytest.approx(mass, rel=0.01)


def test_an_arrangement_as_in_the_ct_renders_where_the_ct_is(model: RigidBodies) -> None:
    pose = invert_rigid(np.eye(4))
    arrangement = model.as_in_ct(pose)
    assert len(arrangement.shifts_ct) == len(model.neighbours) + 1
    assert all((shift == np.eye(4)).all() for shift in arrangement.shifts_ct)
    assert (arrangement.background_to_world == pose).all()
    assert phantom().ct.array.shape == simulated().case.ct.array.shape
