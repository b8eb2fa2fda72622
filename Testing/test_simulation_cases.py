"""Simulated cases: the truth is where the vertebra is, files hold the case, seeds repeat it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from RadGSRegLib import cli
from RadGSRegLib.cases import read_case, read_start
from RadGSRegLib.drr import project_volume
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import (
    Volume,
    invert_rigid,
    is_rigid,
    rotation_angle_deg,
    transform_points,
)
from RadGSRegLib.phantom import LABELS, make_phantom, random_spine
from RadGSRegLib.simulation import (
    Prepared,
    SimulatedCase,
    SimulationParameters,
    covers_body,
    parts,
    simulate_case,
    simulate_phantom_case,
    take_apart,
    write_simulated_case,
)
from RadGSRegLib.simulation.geometry import AP, LATERAL, c_arm_camera

SMALL = {"size_px": 122, "pixel_mm": 2.44}


@pytest.fixture(scope="module")
def ct_and_labels() -> tuple[Volume, Volume]:
    phantom = make_phantom(random_spine(11), 2.0, "L3")
    return phantom.ct, phantom.labels


@pytest.fixture(scope="module")
def realistic(ct_and_labels: tuple[Volume, Volume]) -> SimulatedCase:
    parameters = replace(SimulationParameters.preset("realistic"), **SMALL)
    return simulate_case(*ct_and_labels, LABELS["L3"], parameters, 5)


def _balls() -> tuple[Volume, Volume]:
    """Two bone balls in air, labels 1 and 2, on an oblique, anisotropic grid."""
    k, j, i = np.indices((40, 44, 48))
    matrix = np.array([[0.0, 1.5, 0, 30], [-1.2, 0, 0, 200], [0, 0, 1.4, -90], [0, 0, 0, 1]])
    ct = np.full(k.shape, -1000, dtype=np.int16)
    labels = np.zeros(k.shape, dtype=np.uint8)
    for number, centre in ((1, (14, 20, 14)), (2, (28, 24, 34))):
        inside = (k - centre[0]) ** 2 + (j - centre[1]) ** 2 + (i - centre[2]) ** 2 < 36
        ct[inside] = 900
        labels[inside] = number
    return Volume(ct, matrix), Volume(labels, matrix)


def test_rays_are_followed_on_the_device_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    blind = replace(SimulationParameters.preset("clean"), size_px=61, pixel_mm=4.88)
    plain = simulate_case(*_balls(), 1, blind, 3)
    met = []

    def projected(voxels: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        met.append(voxels.device.type)
        numbers = next(volumes)
        assert numbers.shape == voxels.shape
        return project_volume(numbers, *rest, **more)

    there = parts.parts_on(take_apart(*_balls()), "cpu")
    volumes = iter([v for _ in range(2) for part in there for v in (part.soft, part.bone)])
    monkeypatch.setattr(parts, "project_volume", projected)
    done = simulate_case(*_balls(), 1, blind, 3, prepared=Prepared(device="meta"))
    assert met == ["meta"] * len(met)
    assert next(volumes, None) is None
    for view, other in zip(done.case.views, plain.case.views, strict=True):
        assert (view.pixels == other.pixels).all()


def test_every_moved_body_is_where_its_pose_says() -> None:
    ct, labels = _balls()
    blind = replace(SimulationParameters.preset("clean"), size_px=244, pixel_mm=1.22)
    done = simulate_case(ct, labels, 1, blind, 3)
    poses = {1: done.truth["ct_to_world"], 2: done.truth["neighbours"]["2"]}
    for view in done.case.views:
        expected = np.zeros(view.pixels.shape)
        for number, pose in poses.items():
            excess = ct.with_array(np.where(labels.array == number, 1.0, 0.0).astype(np.float32))
            to_camera = view.camera.world_to_camera @ np.asarray(pose)
            expected += project_volume(
                excess, view.camera.intrinsic, to_camera, view.camera.size
            ).numpy()
        # Where each ball is alone, the picture is proportional to its projection at the truth.
        seen = (expected > 0.05 * expected.max()) | (view.pixels > 0.05 * view.pixels.max())
        assert np.corrcoef(expected[seen], view.pixels[seen])[0, 1] > 0.999
        v, u = np.indices(expected.shape)
        for axis in (u, v):
            wanted = (axis * expected).sum() / expected.sum()
            assert (axis * view.pixels).sum() / view.pixels.sum() == pytest.approx(wanted, abs=0.1)


def test_the_target_matches_at_the_truth_and_not_beside_it() -> None:
    phantom = make_phantom(random_spine(4), 1.5, "L3")
    clean = replace(SimulationParameters.preset("clean"), size_px=244, pixel_mm=1.22)
    done = simulate_case(phantom.ct, phantom.labels, LABELS["L3"], clean, 8)
    excess = np.where(phantom.labels.array == LABELS["L3"], phantom.ct.array, 0).clip(0)
    target = phantom.ct.with_array(excess.astype(np.float32))
    truth = np.asarray(done.truth["ct_to_world"])
    for view in done.case.views:

        def score(offset: np.ndarray, view=view) -> float:
            pose = truth.copy()
            pose[:3, 3] += offset
            drr = project_volume(
                target, view.camera.intrinsic, view.camera.world_to_camera @ pose, view.camera.size
            ).numpy()
            box = drr > 0
            a, b = (np.stack(np.gradient(x))[:, box] for x in (drr, view.pixels))
            return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])

        best = score(np.zeros(3))
        right, down = view.camera.world_to_camera[:2, :3]
        for direction in (right, -right, down, -down):
            assert score(1.5 * direction) < best - 0.02


def test_truth_and_starts_stay_within_their_ranges(realistic: SimulatedCase) -> None:
    truth = realistic.truth
    pivot = np.asarray(truth["pivot_ct"])
    ct_to_world = np.asarray(truth["ct_to_world"])
    points = np.asarray(truth["points_ct"])
    assert 1000 <= len(points) <= 2000
    case = realistic.case
    index = np.rint(transform_points(case.labels.physical_to_index, points)).astype(int)
    assert (case.labels.array[index[:, 2], index[:, 1], index[:, 0]] == LABELS["L3"]).all()
    for pose in (ct_to_world, truth["start_ct_to_world"], *truth["neighbours"].values()):
        assert is_rigid(pose)
    at = transform_points(ct_to_world, pivot[None])[0]
    assert np.abs(at).max() <= 23.0
    own = invert_rigid(truth["spine_ct_to_world"]) @ ct_to_world
    assert rotation_angle_deg(own) <= 5.0
    start = np.asarray(truth["start_ct_to_world"])
    assert np.abs(transform_points(start, pivot[None])[0] - at).max() <= 50.0
    assert rotation_angle_deg(invert_rigid(ct_to_world) @ start) <= 36.0
    for view in case.views:
        off = view.camera.project(at[None])[0] - np.asarray(view.center_px)
        assert np.abs(off).max() <= 10.0
    assert set(truth["neighbours"]) == {
        str(v) for v in np.unique(case.labels.array) if v not in (0, LABELS["L3"])
    }


def test_views_look_as_the_contract_says() -> None:
    p = SimulationParameters.preset("clean")
    ap, lateral = c_arm_camera(p, AP), c_arm_camera(p, LATERAL)
    assert ap.view_direction_world == pytest.approx([0, -1, 0])
    assert lateral.view_direction_world == pytest.approx([1, 0, 0])
    for camera in (ap, lateral):
        assert is_rigid(camera.world_to_camera)
        assert np.linalg.norm(camera.source_world) == pytest.approx(750.0)
        head, feet = camera.project(np.array([[0, 0, 50.0], [0, 0, -50.0]]))
        assert head[1] < 243.5 < feet[1]
        assert camera.project(np.zeros((1, 3)))[0] == pytest.approx([243.5, 243.5])
        magnified = (feet[1] - head[1]) * p.pixel_mm / 100.0
        assert magnified == pytest.approx(1124.0 / 750.0)
    tilted = c_arm_camera(p, AP, 15.0, 10.0)
    angle = np.degrees(np.arccos(tilted.view_direction_world @ ap.view_direction_world))
    assert 15.0 < angle < 18.5


def test_realisms_differ_as_described(ct_and_labels: tuple[Volume, Volume]) -> None:
    pictures = {}
    for realism in ("clean", "realistic", "hard"):
        parameters = replace(SimulationParameters.preset(realism), **SMALL)
        done = simulate_case(*ct_and_labels, LABELS["L3"], parameters, 2)
        pictures[realism] = done
        assert done.truth["level"] == realism
        assert not np.isnan(done.case.views[0].pixels).any()
    assert [v.intensity for v in pictures["clean"].case.views] == ["attenuation"] * 2
    assert [v.intensity for v in pictures["hard"].case.views] == ["display"] * 2
    clean = pictures["clean"].case.views[0].pixels
    assert (clean == 0).mean() > 0.2  # the field ends where the crop ends
    assert 1.0 < clean.max() < 8.0
    assert not pictures["clean"].grey
    grey = pictures["realistic"].grey["AP"]
    assert (grey == grey[0, 0]).mean() < 0.2  # the trunk fills the picture
    corner = [pictures["hard"].grey["AP"][i, j] for i in (0, -1) for j in (0, -1)]
    assert min(corner) == 0


def test_same_seed_same_case(
    ct_and_labels: tuple[Volume, Volume], realistic: SimulatedCase
) -> None:
    parameters = replace(SimulationParameters.preset("realistic"), **SMALL)
    again = simulate_case(*ct_and_labels, LABELS["L3"], parameters, 5)
    assert again.truth == realistic.truth
    for a, b in zip(again.case.views, realistic.case.views, strict=True):
        assert (a.pixels == b.pixels).all()
    other = simulate_case(*ct_and_labels, LABELS["L3"], parameters, 6)
    assert other.truth["ct_to_world"] != realistic.truth["ct_to_world"]


def test_taking_apart_and_putting_back_gives_the_ct(ct_and_labels: tuple[Volume, Volume]) -> None:
    ct, labels = ct_and_labels
    scene = take_apart(ct, labels)
    assert scene.rest.bone.array.sum() < 0.1 * scene.vertebrae[LABELS["L3"]].bone.array.sum()
    camera = c_arm_camera(replace(SimulationParameters(), **SMALL), AP)
    from RadGSRegLib.simulation.materials import split_hu

    whole = ct.with_array(split_hu(ct.array)[1])
    pose = np.eye(4)
    pose[:3, 3] = -scene.centroids[LABELS["L3"]]
    to_camera = camera.world_to_camera @ pose
    parts = [scene.rest.bone, *(piece.bone for piece in scene.vertebrae.values())]
    total = sum(project_volume(v, camera.intrinsic, to_camera, camera.size).numpy() for v in parts)
    direct = project_volume(whole, camera.intrinsic, to_camera, camera.size).numpy()
    assert np.abs(total - direct).max() < 0.01 * direct.max()


def test_crop_and_body_are_told_apart(ct_and_labels: tuple[Volume, Volume]) -> None:
    assert not covers_body(ct_and_labels[0])
    spine = random_spine(2)
    lower, upper = np.array([-230.0, -230.0, -20.0]), np.array([230.0, 160.0, 20.0])
    assert covers_body(make_phantom(spine, 4.0, (lower, upper)).ct)


def test_files_hold_the_case(realistic: SimulatedCase, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    path = write_simulated_case(realistic, folder)
    wanted = {"ct.nii.gz", "seg.nii.gz", "ap.tif", "la.tif", "start.json", "truth.json"}
    assert {p.name for p in folder.iterdir()} == wanted | {"case.json", "views.json"}
    back = read_case(path)
    assert back.label == LABELS["L3"]
    assert (back.ct.array == realistic.case.ct.array).all()
    assert (back.labels.array == realistic.case.labels.array).all()
    for a, b in zip(back.views, realistic.case.views, strict=True):
        assert (a.pixels == b.pixels).all()
        assert a.camera.projection == pytest.approx(b.camera.projection)
        assert a.center_px == pytest.approx(b.center_px)
        assert a.intensity == "display"
    assert read_start(folder / "start.json") == pytest.approx(realistic.start_ct_to_world)
    truth = json.loads((folder / "truth.json").read_text())
    assert truth["ct_to_world"] == realistic.truth["ct_to_world"]
    assert truth["level"] == "realistic"


def test_the_command_writes_cases_and_refuses_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    realism = ["--realism", "clean"]
    source = tmp_path / "phantom"
    words = ["simulate", "--out", str(source), *realism, "--seed", "3"]
    assert cli.main([*words, "--label", "C1"]) == 2
    assert not source.exists()
    assert cli.main([*words, "--label", str(LABELS["L2"])]) == 0
    assert read_case(source / "case.json").label == LABELS["L2"]
    words = ["simulate", "--out", str(tmp_path / "b"), *realism]
    segmentation = ["--segmentation", str(source / "seg.nii.gz")]
    ct, none = str(source / "ct.nii.gz"), str(tmp_path / "none.nii.gz")
    assert cli.main([*words, "--ct", ct, *segmentation, "--label", "99"]) == 2
    assert cli.main([*words, "--ct", none, *segmentation, "--label", "1"]) == 2
    assert cli.main([*words, "--ct", ct, "--label", "1"]) == 2
    assert not (tmp_path / "b").exists()
    assert len(capsys.readouterr().err.strip().splitlines()) == 4


def test_a_case_is_written_with_the_names_of_its_vertebrae_and_no_others(
    realistic: SimulatedCase, tmp_path: Path
) -> None:
    names = {LABELS["L3"]: "L3", LABELS["L2"]: "vertebrae_L2", LABELS["L4"]: "Jane Doe"}
    named = replace(realistic, case=replace(realistic.case, label_names=names))
    path = write_simulated_case(named, tmp_path / "named")
    file = {"ct": "ct.nii.gz", "segmentation": "seg.seg.nrrd", "views": "views.json"}
    by_name = tmp_path / "named" / "by_name.json"
    by_name.write_text(json.dumps({**file, "label": "L3"}))
    assert read_case(by_name).label == LABELS["L3"]
    back = read_case(path).label_names
    assert {name for name in back.values() if "L" in name} == {"L3", "vertebrae_L2"}
    assert b"Doe" not in (tmp_path / "named" / "seg.seg.nrrd").read_bytes()
    bare = replace(realistic, case=replace(realistic.case, label_names={}))
    again = write_simulated_case(bare, tmp_path / "bare")
    assert (again.parent / "seg.nii.gz").is_file()
    assert read_case(again).label_names == {}


def test_missing_labels_and_other_grids_are_refused(
    ct_and_labels: tuple[Volume, Volume],
) -> None:
    ct, labels = ct_and_labels
    with pytest.raises(InputError, match="no label 99"):
        simulate_case(ct, labels, 99, "clean", 0)
    moved = Volume(labels.array, labels.index_to_physical + np.eye(4)[:, [3, 0, 0, 0]] * 5)
    with pytest.raises(InputError, match="another grid"):
        take_apart(ct, moved)
    with pytest.raises(InputError, match="no target named C1; use T12, L1, L2"):
        simulate_phantom_case(1, "clean", "C1")
    with pytest.raises(InputError, match="no field"):
        simulate_phantom_case(1, "clean", "L3", field="whole")
