"""RegM: every encoder with every head, passes, CT pairs, the rigid fit of displacements."""

from __future__ import annotations

from dataclasses import replace

import network_scenes as scenes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation

from RadGSRegLib.errors import InputError
from RadGSRegLib.gaussians import GaussianCloud
from RadGSRegLib.networks import ENCODERS, load_model, save_model
from RadGSRegLib.networks.model import ModelConfig, RadGSReg
from RadGSRegLib.networks.regm import _OLD_NAMES, RegM, RegMConfig, move_volume
from RadGSRegLib.networks.regm_heads import HEADS, Displacements, fit_rigid
from RadGSRegLib.tensors.tensor_file import load_tensors, save_tensors
from RadGSRegLib.training import bounds
from RadGSRegLib.training.config import TrainingConfig
from RadGSRegLib.training.ct_pairs import CtPairs
from RadGSRegLib.training.losses import ExtraWeights, point_distance
from RadGSRegLib.training.objective import Objective
from RadGSRegLib.training.pool import Batch

CUBES = RegMConfig(voxels=32, box_mm=96.0, width=4)
KINDS = [(encoder, head) for encoder in ENCODERS for head in HEADS]


def _pose() -> torch.Tensor:
    pose = torch.eye(4)[None]
    pose[0, :3, :3] = torch.from_numpy(
        Rotation.from_euler("xyz", [20, -10, 15], degrees=True).as_matrix()
    ).float()
    pose[0, :3, 3] = torch.tensor([6.0, -4.0, 9.0])
    return pose


def _config(encoder: str, head: str) -> RegMConfig:
    if encoder != "small":
        pytest.importorskip("monai")
    return replace(CUBES, encoder=encoder, head=head)


def _regm(encoder: str, head: str) -> RegM:
    torch.manual_seed(0)
    return RegM(_config(encoder, head))


def _posed(count: int) -> torch.Tensor:
    """Poses (count, 4, 4) of which each is another one."""
    rng = np.random.default_rng(3)
    poses = torch.eye(4).repeat(count, 1, 1)
    turns = Rotation.from_euler("xyz", rng.uniform(-20, 20, (count, 3)), degrees=True)
    poses[:, :3, :3] = torch.from_numpy(turns.as_matrix()).float()
    poses[:, :3, 3] = torch.from_numpy(rng.uniform(-10, 10, (count, 3))).float()
    return poses


def _pairs(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Reconstructions, CTs, true poses and points of as many pairs."""
    model = RadGSReg(ModelConfig(scenes.TINY.recm, CUBES), scenes.lopsided_cloud())
    cloud, poses = scenes.lopsided_cloud(), _posed(count)
    seen = model.voxelize([cloud.transformed(pose) for pose in poses])
    ct = model.voxelize([cloud] * count)
    return seen, ct, poses, cloud.means.expand(count, -1, -1)


def test_a_moved_cube_is_the_moved_cloud():
    model = scenes.tiny_model(ModelConfig(scenes.TINY.recm, scenes.TINY.regm))
    cloud = scenes.lopsided_cloud()
    still, moved = model.voxelize([cloud]), model.voxelize([cloud.transformed(_pose()[0])])
    found = move_volume(still, _pose(), model.config.regm.box_mm)
    error = (found - moved).abs().sum() / moved.sum()
    # Voxels of 6 mm: what is left is interpolation.
    assert error < 0.35
    assert error < 0.5 * (still - moved).abs().sum() / moved.sum()


@pytest.mark.parametrize(("encoder", "head"), KINDS)
def test_an_untrained_network_leaves_the_ct_where_it_is(encoder: str, head: str) -> None:
    regm = _regm(encoder, head)
    seen, ct, _, _ = _pairs(1)
    with torch.no_grad():
        for volume in (ct, seen, torch.zeros_like(ct)):
            assert torch.allclose(regm(volume, ct), torch.eye(4)[None], atol=1e-4)


@pytest.mark.parametrize(("encoder", "head"), KINDS)
def test_every_weight_learns_and_every_pose_is_rigid(encoder: str, head: str) -> None:
    regm = scenes.shaken(_regm(encoder, head), 0.02)
    seen, ct, truth, points = _pairs(2)
    poses, before, moves = regm.trace(seen, ct, passes=2)
    assert (moves is None) == (head == "pose")
    for found in (poses, before):
        assert torch.isfinite(found).all()
        assert not torch.allclose(found, torch.eye(4), atol=1e-3)
        product = found[:, :3, :3] @ found[:, :3, :3].transpose(1, 2)
        assert torch.allclose(product, torch.eye(3).expand(2, 3, 3), atol=1e-4)
        assert torch.allclose(torch.linalg.det(found), torch.ones(2), atol=1e-4)
    point_distance(points, truth, poses).mean().backward()
    still = [
        name
        for name, weight in regm.named_parameters()
        if weight.requires_grad and (weight.grad is None or not weight.grad.abs().max() > 0)
    ]
    assert still == []
    fixed = [name for name, weight in regm.named_parameters() if not weight.requires_grad]
    # MONAI's blocks can attend to another sequence, of which there is none.
    assert all("cross_attn" in name for name in fixed)
    assert not fixed or encoder == "vit12"


def _learn(encoder: str, head: str, steps: int, rate: float) -> list[float]:
    """Errors (mm) on three pairs while they are learned."""
    regm = _regm(encoder, head)
    seen, ct, truth, points = _pairs(3)
    optimizer = torch.optim.Adam(regm.parameters(), lr=rate)
    errors = []
    for _ in range(steps):
        loss = point_distance(points, truth, regm(seen, ct, passes=1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(loss.detach()))
    return errors


@pytest.mark.parametrize(
    ("head", "steps", "rate"), [("displacement", 40, 1e-2), ("pose", 60, 3e-3)]
)
def test_three_pairs_are_learned(head: str, steps: int, rate: float) -> None:
    errors = _learn("small", head, steps, rate)
    assert max(errors[-5:]) < errors[0] / 3.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "head", "rate"),
    [
        ("resnet50", "displacement", 1e-3),
        ("resnet50", "pose", 1e-4),
        ("densenet121", "displacement", 1e-3),
        ("densenet121", "pose", 3e-4),
        ("vit12", "displacement", 5e-4),
        ("vit12", "pose", 5e-4),
    ],
)
def test_larger_encoders_learn_three_pairs_too(encoder: str, head: str, rate: float) -> None:
    errors = _learn(encoder, head, 30, rate)
    assert min(errors[-5:]) < errors[0] / (1.2 if encoder == "vit12" else 1.5)


@pytest.mark.parametrize("head", HEADS)
def test_the_reconstructions_scale_does_not_matter(head: str) -> None:
    regm = scenes.shaken(_regm("small", head))
    seen, ct, _, _ = _pairs(1)
    with torch.no_grad():
        assert torch.allclose(regm(3 * seen, ct), regm(seen, ct), atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_a_pass_moves_the_ct_and_looks_again(head: str) -> None:
    regm = scenes.shaken(_regm("small", head))
    seen, ct, _, _ = _pairs(2)
    with torch.no_grad():
        first, start, _ = regm.trace(seen, ct, passes=1)
        second, before, _ = regm.trace(seen, ct, passes=2)
        assert torch.equal(start, torch.eye(4).expand(2, 4, 4))
        assert torch.allclose(before, first, atol=1e-4)
        assert torch.allclose(regm(seen, ct), regm(seen, ct, passes=regm.config.passes))
        # The second pass answers to the moved CT, from the pose that moved it.
        moved = move_volume(ct, first, CUBES.box_mm)
        again = regm(seen, moved, passes=1)
        if head == "displacement":
            assert torch.allclose(second, again @ first, atol=1e-3)
        else:
            assert torch.allclose(second[:, :3, :3], again[:, :3, :3] @ first[:, :3, :3], atol=1e-4)
            assert torch.allclose(second[:, :3, 3], again[:, :3, 3] + first[:, :3, 3], atol=1e-3)


@pytest.mark.parametrize(("encoder", "head"), KINDS)
def test_a_saved_network_answers_the_same(encoder: str, head: str, tmp_path) -> None:
    torch.manual_seed(0)
    config = ModelConfig(scenes.TINY.recm, _config(encoder, head))
    model = scenes.shaken(RadGSReg(config, scenes.lopsided_cloud()), 0.02).eval()
    save_model(tmp_path / "model.safetensors", model, {})
    again = load_model(tmp_path / "model.safetensors")
    assert again.config == config
    seen, ct, _, _ = _pairs(2)
    with torch.no_grad():
        ours, theirs = model.regm(seen, ct, passes=1), again.regm(seen, ct, passes=1)
    # mm, and the weights are kept in half precision.
    assert torch.allclose(ours, theirs, atol=2e-2)
    assert not torch.allclose(ours, torch.eye(4), atol=2e-2)


def test_files_with_the_names_of_before_are_read(tmp_path) -> None:
    """Models of before 2026-11-29 have other names in RegM, and do not say which head."""
    torch.manual_seed(2)
    model = scenes.shaken(RadGSReg(scenes.TINY, scenes.lopsided_cloud()), 0.02).eval()
    new = tmp_path / "new.safetensors"
    save_model(new, model, {})
    tensors, facts = load_tensors(new)
    before = {}
    for name, tensor in tensors.items():
        renamed = [(o, n) for o, n in _OLD_NAMES if name.startswith(f"regm.{n}")]
        old, now = renamed[0] if renamed else ("", "")
        before[f"regm.{old}{name.removeprefix(f'regm.{now}')}" if renamed else name] = tensor
    assert {"regm.stem.0.weight", "regm.down.weight", "regm.head.2.bias"} <= set(before)
    del facts["config"]["regm"]["head"]
    save_tensors(tmp_path / "old.safetensors", before, facts)
    cloud = scenes.lopsided_cloud()
    ct, seen = model.voxelize([cloud]), model.voxelize([cloud.transformed(_pose()[0])])
    with torch.no_grad():
        found = [
            load_model(tmp_path / f"{n}.safetensors").regm(seen, ct)[0] for n in ("old", "new")
        ]
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "resnet51"}, "no encoder 'resnet51'.*resnet50"),
        ({"head": "twelve"}, "no head 'twelve'.*displacement"),
        ({"encoder": "densenet121", "voxels": 24}, "densenet121 sees nothing in cubes of 24"),
        ({"voxels": 20}, "multiple of 8"),
        ({"passes": 0}, "too small"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RegMConfig(**changes)


@given(
    hnp.arrays(np.float64, 3, elements=st.floats(-2.0, 2.0)),
    hnp.arrays(np.float64, 3, elements=st.floats(-30.0, 30.0)),
    st.integers(0, 100),
)
def test_the_rigid_fit_of_displacements_is_exact(turn, shift, seed):
    rng = np.random.default_rng(seed)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    pose[:3, 3] = shift
    places = rng.uniform(-40, 40, (50, 3))
    offsets = places @ pose[:3, :3].T + pose[:3, 3] - places
    weights = rng.uniform(0, 1, 50)
    # What has no weight may say what it likes.
    weights[:20] = 0.0
    offsets[:20] += rng.normal(0, 20, (20, 3))
    seen = Displacements(
        *(torch.from_numpy(a) for a in (places, offsets[None], weights[None], weights[None]))
    )
    assert np.allclose(fit_rigid(seen)[0].numpy(), pose, atol=2e-3)


def test_the_rigid_fit_of_nothing_has_a_gradient():
    offsets = torch.zeros(1, 8, 3, requires_grad=True)
    none = torch.zeros(1, 8)
    found = fit_rigid(Displacements(torch.randn(8, 3), offsets, none, none))
    found.square().sum().backward()
    assert torch.isfinite(found).all()
    assert offsets.grad is not None
    assert torch.isfinite(offsets.grad).all()


# CT pairs


def _batch(cloud: GaussianCloud, ct: torch.Tensor) -> Batch:
    """Pairs whose X-rays nothing asks for."""
    points = cloud.means.expand(len(ct), -1, -1)
    eye = torch.eye(4).repeat(len(ct), 1, 1)
    views = scenes.rendered_batch(cloud)
    return Batch(views, torch.ones(len(ct), 2, 32, 32), eye, eye, points, ct)


@pytest.mark.parametrize("head", HEADS)
def test_cts_are_moved_as_far_as_asked(head: str, monkeypatch) -> None:
    model = scenes.tiny_model(ModelConfig(scenes.TINY.recm, replace(CUBES, head=head)))
    cloud = scenes.lopsided_cloud()
    ct = model.voxelize([cloud] * 2)
    moved = []
    trace = model.regm.trace
    monkeypatch.setattr(
        model.regm, "trace", lambda volumes, *rest: moved.append(volumes) or trace(volumes, *rest)
    )
    for ct_pairs in (None, CtPairs(0.0, 0.0), CtPairs(20.0, 30.0), CtPairs(20.0, 30.0)):
        model.recm.generator = torch.Generator().manual_seed(4)
        objective = Objective(model, ExtraWeights(), ct_pairs=ct_pairs).eval()
        terms = objective(_batch(cloud, ct), "regm", 2)
        assert torch.isfinite(terms["loss"])
        assert (terms["registered_mm"] < 1e-3) == (len(moved) < 3)
    assert torch.allclose(moved[0], ct, atol=1e-6)
    assert torch.allclose(moved[1], ct, atol=1e-6)
    assert torch.equal(moved[2], moved[3])
    # Each CT of a batch is moved elsewhere.
    assert not torch.allclose(moved[2][0], moved[2][1], atol=1e-3)


def test_poses_of_ct_pairs_fill_their_range_and_leave_bone_in_the_cube() -> None:
    points = scenes.lopsided_cloud().means.expand(400, -1, -1)
    generator = torch.Generator().manual_seed(2)
    near = CtPairs(20.0, 10.0).draw(points, 96.0, generator)
    shifts = near[:, :3, 3]
    assert shifts.abs().max() <= 10.0
    assert shifts.amin(0).max() < -9.5
    assert shifts.amax(0).min() > 9.5
    angles = Rotation.from_matrix(near[:, :3, :3].double().numpy()).as_euler("xyz", degrees=True)
    assert np.abs(angles).max() < 20.001
    assert angles.max(0).min() > 19.0
    assert angles.min(0).max() < -19.0
    # As far as in the paper: what would leave the cube is drawn again.
    far = CtPairs(20.0, 50.0).draw(points, 96.0, generator)
    assert far[:, :3, 3].abs().max() > 45.0
    moved = points @ far[:, :3, :3].transpose(1, 2) + far[:, None, :3, 3]
    share = (moved.abs() < 48.0).all(-1).float().mean(1)
    assert share.min() >= bounds.LEFT_IN_CUBE
    # Where no pose leaves enough, that which leaves most.
    out = CtPairs(0.0, 1.0).draw(points[:4] + 60.0, 96.0, generator)
    assert torch.isfinite(out).all()


def test_the_papers_settings_are_its_own_and_the_defaults_are_as_before() -> None:
    paper = TrainingConfig.paper("vit12")
    assert (paper.model.regm.encoder, paper.model.regm.head) == ("vit12", "pose")
    assert paper.model.regm.passes == 1
    assert paper.ct_pairs == CtPairs(rotation_deg=20.0, translation_mm=50.0)
    default = TrainingConfig()
    assert default.ct_pairs is None
    assert (default.model.regm.encoder, default.model.regm.head) == ("small", "displacement")
    with pytest.raises(InputError, match="negative or too large"):
        CtPairs(-1.0, 5.0)
