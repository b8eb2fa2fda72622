"""Few X-rays guided by the shape of another CT: placed, bent, judged, left out."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from RadGSRegLib.cases import View, write_views, write_volume_nifti
from RadGSRegLib.cli import main
from RadGSRegLib.drr import SystemMatrix, hu_to_attenuation
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Camera, Volume
from RadGSRegLib.reconstruction import Box, Reconstruction, cube
from RadGSRegLib.simulation import SimulationParameters, path_cameras
from RadGSRegLib.tomography import BeamOptions, ShapeGuide, reconstruct_beam, solve
from RadGSRegLib.tomography import bounds as numbers
from RadGSRegLib.tomography.algebraic import Penalty
from RadGSRegLib.tomography.beams import Beams, whole_beams
from RadGSRegLib.tomography.bending import Bending, Bent
from RadGSRegLib.views import prepare_views

CENTRE = np.zeros(3)
PARAMETERS = SimulationParameters.preset("clean").with_field(140.0, 48)
QUICK = BeamOptions(steps=3, gaussians=2500, pixels=48, spacing_mm=4.0, box_mm=72.0)


def bone(stretch: tuple[float, float, float] = (1.0, 1.0, 1.0), spacing: float = 2.0) -> Volume:
    """A body, an arch and processes in air, HU; ``stretch`` makes it another's."""
    box = cube(CENTRE, 120.0, spacing)
    ijk = np.indices(box.size[::-1]).reshape(3, -1)[::-1].T
    x, y, z = ((box.lower + spacing * (ijk + 0.5)) / np.array(stretch)).T
    inside = (x / 21.0) ** 2 + ((y + 12.0) / 15.0) ** 2 < 1.0
    inside &= np.abs(z) < 13.0
    ring = np.hypot(x, y - 10.0)
    inside |= (ring > 8.0) & (ring < 14.0) & (np.abs(z) < 9.0) & (y > 2.0)
    inside |= (np.abs(x) < 36.0) & (np.abs(y - 6.0) < 4.0) & (np.abs(z - 2.0) < 5.0)
    inside |= (np.abs(x) < 4.0) & (y > 20.0) & (y < 42.0) & (np.abs(z + 5.0) < 7.0)
    hu = np.where(inside, 350.0, -1000.0).reshape(box.size[::-1]).astype(np.float32)
    return Volume(hu, box.index_to_world)


def elsewhere() -> Volume:
    """Something else: two rods, far apart."""
    ct = bone()
    hu = np.full_like(ct.array, -1000.0)
    hu[:, 4:9, 4:9] = hu[:, -9:-4, -9:-4] = 350.0
    return ct.with_array(hu)


def xrays(count: int, ct: Volume) -> list[View]:
    """X-rays of a CT turned by 12 degrees and shifted."""
    cameras = path_cameras(PARAMETERS, "arbitrary", count, np.random.default_rng(2))
    moved = to_world() @ ct.index_to_physical
    out = []
    for name, camera in cameras.items():
        matrix = SystemMatrix([camera], moved, ct.array.shape)
        mu = torch.from_numpy(hu_to_attenuation(ct.array))
        pixels = matrix.forward(mu)[0].numpy()
        spacing = (PARAMETERS.pixel_mm, PARAMETERS.pixel_mm)
        out.append(View(name, pixels, camera, spacing, "attenuation"))
    return out


def to_world() -> np.ndarray:
    """Where the bone lies."""
    turn, matrix = np.radians(12.0), np.eye(4)
    matrix[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    matrix[:3, 3] = 5.0, -4.0, 3.0
    return matrix


def beams_of(views: list[View]) -> Beams:
    return whole_beams(prepare_views(views), CENTRE, 48)


def correlation(done: Reconstruction) -> float:
    """With the true attenuation, on the grid of the volume."""
    volume = done.volume
    box = Box(volume.index_to_physical[:3, 3] - 2.0, -volume.index_to_physical[:3, 3] + 2.0, 4.0)
    true = Bent(ShapeGuide(bone(), to_world()), box, torch.device("cpu"))
    linear, shift = to_world()[:3, :3], to_world()[:3, 3]
    middle = ShapeGuide(bone()).middle_ct
    bending = Bending.start(box, linear.T, linear @ middle + shift, torch.device("cpu"))
    wanted = true.voxels(bending).numpy()
    return float(np.corrcoef(wanted.ravel(), volume.array.ravel())[0, 1])


@pytest.fixture(scope="module")
def few() -> list[View]:
    return xrays(5, bone())


@pytest.fixture(scope="module")
def scratch(few: list[View]) -> Reconstruction:
    return reconstruct_beam(few, centre_world=CENTRE, options=QUICK)


@pytest.fixture(scope="module")
def guided(few: list[View]) -> Reconstruction:
    shape = ShapeGuide(bone((1.15, 0.9, 1.05)))
    return reconstruct_beam(few, centre_world=CENTRE, options=QUICK, shape=shape)


def test_another_bone_makes_the_volume_better(
    scratch: Reconstruction, guided: Reconstruction
) -> None:
    said = guided.quality["shape"]
    assert guided.quality["prior"] == "shape"
    assert said["used"]
    assert said["predicts_db"] > said["predicts_without_db"] + numbers.LEAST_GAIN_DB
    assert correlation(guided) > correlation(scratch) + 0.02
    assert scratch.quality["prior"] == "none"
    assert "shape" not in scratch.quality


def test_what_is_said_of_the_shape(guided: Reconstruction) -> None:
    said = guided.quality["shape"]
    assert 0.0 < said["bent_mm"]["median"] <= said["bent_mm"]["p95"] < numbers.MOST_BENT_MM
    assert abs(said["turned_deg"] - 12.0) < 4.0
    assert 0.9 < said["share_explained"] < 1.0
    assert guided.quality["status"] == "uncertain"
    assert "5 X-rays" in guided.quality["reason"]
    json.dumps(said)


def test_what_does_not_fit_is_left_out(few: list[View], scratch: Reconstruction) -> None:
    shape = ShapeGuide(elsewhere())
    done = reconstruct_beam(few, centre_world=CENTRE, options=QUICK, shape=shape)
    assert done.quality["prior"] == "none"
    assert not done.quality["shape"]["used"]
    assert "the shape was left out" in done.quality["reason"]
    # And does not change anything.
    assert np.array_equal(done.volume.array, scratch.volume.array)


def test_a_start_far_away_is_where_it_begins(few: list[View]) -> None:
    # Upside down in the C-arm's frame: only a start says so.
    over = np.diag([1.0, -1.0, -1.0, 1.0])
    ct = bone()
    turned = Volume(ct.array, over @ ct.index_to_physical)
    shape = ShapeGuide(turned, to_world() @ over)
    done = reconstruct_beam(few, centre_world=CENTRE, options=QUICK, shape=shape)
    assert done.quality["shape"]["used"]
    assert done.quality["shape"]["turned_deg"] > 160.0


def test_splines_of_equal_nodes_move_all_alike() -> None:
    over, grid = cube(CENTRE, 120.0, 4.0), cube(CENTRE, 90.0, 9.0)
    bending = Bending.start(over, np.eye(3), np.zeros(3), torch.device("cpu"))
    bending.nodes[0], bending.nodes[3] = 3.0, -0.1
    field = bending.field(grid)
    assert torch.allclose(field[0], torch.full_like(field[0], 3.0), atol=1e-5)
    assert torch.allclose(field[3], torch.full_like(field[3], -0.1), atol=1e-6)
    assert not field[1:3].any()


def test_a_node_moves_what_is_near_it_along_its_own_axis() -> None:
    over = cube(CENTRE, 120.0, 4.0)
    bending = Bending.start(over, np.eye(3), np.zeros(3), torch.device("cpu"))
    bending.nodes[1, -1, 5, 1] = 1.0  # high, in the middle, at the left end
    field = bending.field(over)[1]
    k, j, i = np.unravel_index(int(field.argmax()), field.shape)
    assert k == field.shape[0] - 1
    assert abs(j - field.shape[1] // 2) <= 3
    assert i < 3


def test_bending_comes_nearer_and_keeps_what_is_not_asked(few: list[View]) -> None:
    beams = beams_of(few)
    grid = cube(CENTRE, 120.0, 4.0)
    bent = Bent(ShapeGuide(bone((1.1, 1.0, 1.0))), grid, torch.device("cpu"))
    bending = Bending.start(grid, np.eye(3), np.zeros(3), torch.device("cpu"))
    misfits = [bent.fit(bending, beams, 25, stage) for stage in ("similarity", "affine")]
    assert not bending.nodes.any()
    before = bending.copy()
    misfits.append(bent.fit(bending, beams, 40, "bend"))
    assert misfits[2] < misfits[0]
    assert bending.nodes.any()
    assert not before.nodes.any()


def test_voxels_of_no_data_are_what_they_resemble() -> None:
    camera: Camera = xrays(2, bone())[0].camera
    matrix = SystemMatrix([camera], np.diag([10.0, 10.0, 10.0, 1.0]), (4, 4, 4))
    lines = torch.zeros(1, 48, 48)
    towards = torch.full((4, 4, 4), 0.01)
    towards[1:3] = 0.03
    penalty = Penalty(tv=0.0, pull=1.0, towards=towards)
    start = torch.full_like(towards, 0.02)
    voxels = solve(matrix, lines, lines, start, 3, penalty=penalty)
    assert torch.allclose(voxels, towards, atol=1e-4)


def test_a_ct_without_bone_guides_nothing() -> None:
    ct = bone()
    with pytest.raises(InputError, match="no bone"):
        ShapeGuide(ct.with_array(np.full_like(ct.array, 40.0)))


def test_bone_alone_takes_no_shape(few: list[View]) -> None:
    alone = [replace(view, bone_alone=True) for view in few]
    with pytest.raises(InputError, match="standardised"):
        reconstruct_beam(alone, centre_world=CENTRE, options=QUICK, shape=ShapeGuide(bone()))


def test_the_command_takes_a_shape(
    few: list[View], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "orbit").mkdir()
    write_views(tmp_path / "orbit", few[:4])
    write_volume_nifti(bone((1.1, 0.95, 1.0)), tmp_path / "other.nii.gz")
    out = tmp_path / "out"
    sizes = ["--steps", "2", "--gaussians", "900", "--spacing", "4", "--box-mm", "72"]
    command = ["reconstruct", str(tmp_path / "orbit" / "views.json"), "--out", str(out)]
    assert main([*command, *sizes, "--shape", str(tmp_path / "other.nii.gz")]) == 3
    record = json.loads((out / "reconstruction.json").read_text())
    assert record["prior"] == record["quality"]["prior"] == "shape"
    assert any("other.nii.gz" in name for name in record["inputs"])
    assert record["quality"]["shape"]["used"]
    assert record["reason"] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--shape", "nowhere.nii.gz"], "nowhere.nii.gz"),
        (["--shape", "x.nii.gz", "--ct-prior"], "--shape"),
        (["--shape", "x.nii.gz", "--work", "w"], "--work"),
        (["--start", "s.json"], "--shape"),
    ],
)
def test_the_command_refuses_a_shape_that_is_of_no_use(
    more: list[str], word: str, few: list[View], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "orbit").mkdir()
    write_views(tmp_path / "orbit", few[:3])
    out = tmp_path / "out"
    command = ["reconstruct", str(tmp_path / "orbit" / "views.json"), "--out", str(out)]
    assert main([*command, *more]) == 2
    assert word in capsys.readouterr().err
    assert not out.exists()


def test_two_xrays_take_no_shape(
    few: list[View], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "orbit").mkdir()
    write_views(tmp_path / "orbit", few[:2])
    write_volume_nifti(bone(), tmp_path / "other.nii.gz")
    command = ["reconstruct", str(tmp_path / "orbit" / "views.json")]
    more = ["--out", str(tmp_path / "out"), "--shape", str(tmp_path / "other.nii.gz")]
    assert main([*command, *more]) == 2
    assert "three X-rays" in capsys.readouterr().err
