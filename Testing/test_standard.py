"""Standardised X-rays: the network and its file, the filter, training, what trusts it, commands."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from RadGSRegLib import cli, pipeline
from RadGSRegLib.cases import View, middle_of_views, read_views, write_views
from RadGSRegLib.drr import project_volume
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Volume
from RadGSRegLib.networks import (
    StandardConfig,
    Standardization,
    Standardizer,
    load_standardizer,
    save_standardizer,
    shipped_weights,
    unlike_views,
)
from RadGSRegLib.registration import registration_options
from RadGSRegLib.simulation import (
    SimulatedCase,
    SimulationParameters,
    simulate_phantom_case,
    write_simulated_case,
)
from RadGSRegLib.simulation.materials import mass_attenuation, split_hu
from RadGSRegLib.simulation.pixels import CLEAN_KEV
from RadGSRegLib.tomography.algebraic import Penalty, solve
from RadGSRegLib.tomography.beams import whole_beams
from RadGSRegLib.training.bone_views import SHOWN_PX, WIDE_PX, bone_views, show_bones
from RadGSRegLib.training.compute import Compute
from RadGSRegLib.training.config import StandardOptions
from RadGSRegLib.training.pool import SamplePool
from RadGSRegLib.training.samples import draw_samples
from RadGSRegLib.training.spines import spine_sources
from RadGSRegLib.training.standard import ConditionalGan, StandardTrainer, asked, masked_l1
from RadGSRegLib.views import prepare_views

CONFIG = StandardConfig(pixel_mm=3.0, width=8)
BRIEF = StandardOptions(
    steps=6, batch=4, pairs=4, first_pairs=4, validate=4, validate_every=3, checkpoint_every=3
)


def network(seed: int = 0) -> Standardizer:
    """An untrained network."""
    torch.manual_seed(seed)
    return Standardizer(CONFIG).eval()


@lru_cache(maxsize=1)
def simulated() -> SimulatedCase:
    """Two realistic X-rays of a phantom that nothing was trained on, with the truth."""
    return simulate_phantom_case(81001, spacing_mm=2.0)


@lru_cache(maxsize=1)
def pool() -> SamplePool:
    sources = spine_sources(1, 5000, cuts=1, pairs=4, spacing_mm=4.0, varied=True)
    return SamplePool(sources, bone_views(CONFIG), 1, None)


def shipped() -> Standardizer:
    weights = shipped_weights("standard")
    assert weights is not None
    return load_standardizer(weights)


def bone_lines(case: SimulatedCase, view: View, step: int = 4) -> np.ndarray:
    """The line integrals (rows / step, columns / step) of a case's own vertebra, by the projector
    that registers and not by the one that simulates."""
    bone = split_hu(case.case.ct.array.astype(np.float32))[1] * case.case.mask
    volume = case.case.ct.with_array(
        (bone * float(mass_attenuation("bone", CLEAN_KEV)) / 10.0).astype(np.float32)
    )
    first = (step - 1) / 2.0
    columns, rows = (n // step for n in view.camera.size)
    camera = view.camera.window(first, first, columns, rows, float(step))
    pose = np.asarray(case.truth["ct_to_world"])
    lines = project_volume(
        volume, camera.intrinsic, camera.world_to_camera @ pose, camera.size, step_mm=1.0
    )
    return np.asarray(lines)


# The network and its file


@pytest.mark.parametrize(("pixel_mm", "width"), [(0.0, 16), (1.5, 4), (1.5, 12)])
def test_a_network_that_cannot_be_is_refused(pixel_mm: float, width: int) -> None:
    with pytest.raises(InputError, match="standardisation"):
        StandardConfig(pixel_mm=pixel_mm, width=width)


def test_a_file_gives_the_network_back(tmp_path: Path) -> None:
    made = network()
    known = torch.randn(400, CONFIG.features)
    made.learn_familiar(known, torch.randn(100, CONFIG.features), 0.99)
    path = tmp_path / "bones.safetensors"
    save_standardizer(path, made, {"what": "a test"})
    back = load_standardizer(path)
    pictures, valid = torch.randn(1, 2, 32, 48), torch.ones(1, 32, 48)
    with torch.no_grad():
        (bone, features), (again, others) = made(pictures, valid), back(pictures, valid)
    # Weights are kept in half precision, what tells the strange from the familiar is not.
    assert torch.allclose(bone, again, atol=0.02 * float(bone.abs().max()))
    assert torch.equal(made.whitening, back.whitening)
    assert float(back.limit) == float(made.limit) > 0
    assert torch.allclose(made.strangeness(features), back.strangeness(others), rtol=0.05)
    assert back.card["what"] == "a test"
    assert "a test" in path.with_suffix(".md").read_text()


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    levels = shipped_weights("levels")
    assert levels is not None
    with pytest.raises(InputError, match=r"not a model of standardisation.*pretrain --standard"):
        load_standardizer(levels)
    made = network()
    with torch.no_grad():
        made.generator.final_conv.weight.fill_(float("nan"))
    save_standardizer(tmp_path / "bad.safetensors", made, {})
    with pytest.raises(InputError, match="not finite"):
        load_standardizer(tmp_path / "bad.safetensors")


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.2, 5.0))
def test_strangeness_is_mahalanobis(seed: int, spread: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(CONFIG.features, CONFIG.features, generator=rng) * spread
    draw = torch.randn(20000, CONFIG.features, generator=rng) @ mixing
    made = network()
    made.learn_familiar(draw[:15000], draw[15000:], 0.99)
    few = draw[15000:15050]
    covariance = np.cov(draw[:15000].double().numpy().T)
    centred = few.double().numpy() - draw[:15000].double().numpy().mean(0)
    squares = np.einsum("ni,ij,nj->n", centred, np.linalg.inv(covariance), centred)
    expected = np.sqrt(squares / CONFIG.features)
    # The smallest of many directions are shrunk most.
    assert np.corrcoef(made.strangeness(few).numpy(), expected)[0, 1] > 0.8
    assert float((made.strangeness(draw[15000:]) > made.limit).float().mean()) == pytest.approx(
        0.01, abs=0.005
    )
    away = few + 40.0 * mixing[0]
    assert bool((made.strangeness(away) > made.strangeness(few)).all())


def test_before_it_has_learned_everything_is_strange() -> None:
    assert bool((network().strangeness(torch.randn(3, CONFIG.features)) > network().limit).all())


# The filter


def test_a_filtered_view_is_line_integrals_on_its_own_pixels() -> None:
    views = simulated().case.views
    bones = Standardization(network(), middle_of_views(views))
    before, after = prepare_views(views), prepare_views(views, [bones])
    for old, new in zip(before, after, strict=True):
        assert new.bone_alone
        assert new.gain_known
        assert new.offset_known
        assert new.sign == 1
        assert new.values.shape == old.values.shape
        assert (new.values >= 0).all()
        assert (new.values[~new.valid] == 0).all()
        assert new.camera == old.camera
    assert set(bones.said) == {view.name for view in views}
    assert unlike_views([bones]) == tuple(view.name for view in views)  # it has learned nothing


def test_an_x_ray_at_the_patient_is_refused() -> None:
    views = simulated().case.views
    bones = Standardization(network(), views[0].camera.source_world)
    with pytest.raises(InputError, match="at or behind the source"):
        prepare_views(views, [bones])


# Training


def test_what_is_taught_is_all_bone_and_nothing_else() -> None:
    options = replace(bone_views(CONFIG), size_px=64, realism="clean", rotation_deg=0.0)
    subject = pool().subject(0)
    (sample,) = draw_samples([subject], options, [7])
    bone = split_hu(subject.ct.array.astype(np.float32))[1]
    matter = float(mass_attenuation("bone", CLEAN_KEV)) / 10.0
    world = Volume((bone * matter).astype(np.float32), subject.ct.index_to_physical)
    assert sample.targets.shape == (6, 64, 64)
    # Vertebrae move a little against each other: what is compared is how much there is of bone.
    # A clean picture's CT is the only thing that the rays meet.
    ct_to_box = sample.centred_to_box.numpy().astype(float)
    ct_to_box[:3, 3] -= ct_to_box[:3, :3] @ subject.centre_ct
    for view in range(6):
        lines = project_volume(
            world,
            sample.intrinsics[view].numpy().astype(float),
            sample.extrinsics[view].numpy().astype(float) @ ct_to_box,
            (64, 64),
            step_mm=2.0,
        )
        expected, mine = np.asarray(lines), sample.targets[view].numpy()
        assert mine.sum() == pytest.approx(expected.sum(), rel=0.1)
        assert np.corrcoef(mine.ravel(), expected.ravel())[0, 1] > 0.85


def test_pictures_are_disguised_alike_for_the_same_seed() -> None:
    samples = pool().samples([0, 1, 2, 3])
    one, again, other = (
        show_bones(samples, CONFIG, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert one.pictures.shape == (4, 2, SHOWN_PX, SHOWN_PX)
    assert samples[0].images.shape == (6, WIDE_PX, WIDE_PX)
    assert torch.equal(one.pictures, again.pictures)
    assert torch.equal(one.bone, again.bone)
    assert not torch.equal(one.bone, other.bone)
    assert bool((one.pictures[one.valid[:, None].expand_as(one.pictures) == 0] == 0).all())


def test_training_learns_and_the_judge_teaches_only_by_its_opinion(tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = replace(BRIEF, steps=24, batch=2, judged_after=0.5, rate=5e-3, validate_every=24)
    trainer = StandardTrainer(Standardizer(CONFIG), pool(), options, folder=tmp_path)
    shown = trainer.shown_of(pool(), 0, 4)
    before = float(masked_l1(asked(trainer.pair.network, shown)[0], shown))
    judge = [p.clone() for p in trainer.pair.judge.parameters()]
    trainer.run()
    after = float(masked_l1(asked(trainer.pair.network, shown)[0], shown))
    assert after < 0.9 * before
    moved = [not torch.equal(a, b) for a, b in zip(judge, trainer.pair.judge.parameters())]  # noqa: B905
    assert any(moved)


def test_neither_of_the_two_is_moved_by_the_others_loss() -> None:
    torch.manual_seed(0)
    trainer = StandardTrainer(Standardizer(CONFIG), pool(), BRIEF)
    pair, shown = trainer.pair, trainer.shown_of(pool(), 0, 2)

    def gradients(loss: torch.Tensor) -> tuple[list[torch.Tensor | None], ...]:
        pair.zero_grad(set_to_none=True)
        loss.backward()
        of = [[p.grad for p in part.parameters()] for part in (pair.network, pair.judge)]
        return tuple([None if g is None else g.clone() for g in some] for some in of)

    bone, _ = pair.network(shown.pictures, shown.valid)
    network_all, judge_all = gradients(trainer._adversarial(bone, shown))
    soft = torch.nn.functional.softplus
    true, drawn = pair.opinion(shown, shown.bone), pair.opinion(shown, bone.detach())
    network_told, judge_told = gradients(0.5 * soft(-true).mean() + 0.5 * soft(drawn).mean())
    # The judge learns from what it is told alone, the network from being judged alone.
    assert all(g is None for g in network_told)
    assert any(g is not None and bool(g.any()) for g in network_all)
    for mine, told in zip(judge_all, judge_told, strict=True):
        assert mine is not None
        assert told is not None
        assert torch.allclose(mine, told, atol=1e-6)
    assert all(p.requires_grad for p in pair.judge.parameters())


class _StoppedError(Exception):
    """As a kill would."""


def test_a_killed_training_goes_on(tmp_path: Path) -> None:
    def trainer(folder: Path) -> StandardTrainer:
        torch.manual_seed(0)
        options = replace(BRIEF, steps=4, checkpoint_every=2, validate_every=4)
        return StandardTrainer(Standardizer(CONFIG), pool(), options, folder=folder)

    whole = trainer(tmp_path / "whole")
    whole.run()
    killed = trainer(tmp_path / "killed")
    learn = killed._learn

    def learn_or_stop(share: float) -> None:
        if killed.step == 3:
            raise _StoppedError
        learn(share)

    killed._learn = learn_or_stop  # type: ignore[method-assign]
    with pytest.raises(_StoppedError):
        killed.run()
    again = trainer(tmp_path / "killed")
    again.run()
    assert again.step == 4
    for name, tensor in whole.pair.state_dict().items():
        assert torch.equal(tensor, again.pair.state_dict()[name]), name


def test_it_runs_in_half_precision() -> None:
    torch.manual_seed(0)
    trainer = StandardTrainer(
        Standardizer(CONFIG), pool(), BRIEF, compute=Compute("cpu", "bfloat16")
    )
    history = trainer.run()
    assert np.isfinite(history.entries[-1]["l1"])
    assert isinstance(trainer.pair, ConditionalGan)


# What trusts it


def test_a_registration_to_drawn_bones_alone_is_never_ok(tmp_path: Path) -> None:
    case = simulate_phantom_case(81002, "clean", spacing_mm=3.0)
    options = registration_options("fast")
    plain = pipeline.register_case(case.case, None, options)
    assert plain.status == "ok"
    drawn = [replace(view, bone_alone=True) for view in case.case.views]
    path = write_views(tmp_path, drawn)
    again = pipeline.register_case(replace(case.case, views=read_views(path)), None, options)
    assert again.status == "uncertain"
    assert "as a network drew them" in again.reason


def test_some_standardised_views_among_others_are_refused() -> None:
    frontal, lateral = prepare_views(simulated().case.views)
    with pytest.raises(InputError, match=f"{frontal.name}.*bone alone"):
        whole_beams([replace(frontal, bone_alone=True), lateral], np.zeros(3), 32)


def test_what_is_standardised_is_not_standardised_again() -> None:
    views = simulated().case.views
    bones = Standardization(network(), middle_of_views(views))
    once = prepare_views(views, [bones])[0]
    with pytest.raises(InputError, match="standardised already"):
        bones(once)


def test_bones_are_pulled_to_nothing_and_not_to_tissue() -> None:
    from RadGSRegLib.drr import SystemMatrix
    from RadGSRegLib.reconstruction import cube

    views = simulated().case.views
    grid = cube(middle_of_views(views), 96.0, 8.0)
    few = whole_beams(
        prepare_views(views, [Standardization(network(), middle_of_views(views))]),
        middle_of_views(views),
        32,
    )
    assert few.bone_alone
    matrix = SystemMatrix(few.cameras, grid.index_to_world, grid.size[::-1])
    start = torch.full(grid.size[::-1], 0.018)
    nothing = torch.zeros_like(few.values)
    with_tissue, alone = (
        solve(matrix, nothing, nothing, start, 1, penalty=Penalty(0.0, 0.3, tissue))
        for tissue in (True, False)
    )
    assert float((with_tissue - 0.0206).abs().mean()) < 0.001
    assert float(alone.mean()) < 0.009


@pytest.mark.slow
def test_bone_of_a_volume_says_what_it_rests_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parameters = replace(
        SimulationParameters.preset("realistic").with_field(250.0, 64), path="arbitrary", views=5
    )
    views = simulate_phantom_case(81003, parameters, spacing_mm=3.0, field="trunk").case.views
    model = tmp_path / "untrained.safetensors"
    save_standardizer(model, network(), {})
    path = write_views(_made(tmp_path, "in"), views)
    out = tmp_path / "out"
    quick = ["--steps", "2", "--gaussians", "600", "--spacing", "4", "--box-mm", "64"]
    status = cli.main(
        ["reconstruct", str(path), "--out", str(out), "--standardize", str(model), *quick]
    )
    record = json.loads((out / "reconstruction.json").read_text())
    quality = record["quality"]
    assert status == 3
    assert record["status"] == "uncertain"
    assert set(quality["bone"]["left_out"]) == {view.name for view in views}
    volume, bone = (
        sitk.ReadImage(str(out / name)) for name in ("reconstruction.nii.gz", "bone_density.nii.gz")
    )
    assert volume.GetSize() == bone.GetSize()
    assert np.allclose(volume.GetOrigin(), bone.GetOrigin())
    assert all(said["unlike"] for said in quality["standardised"].values())
    assert record["parameters"]["standardize"] is True
    assert model.name in record["inputs"]
    # Once more without a network: the bone of before is no result of it.
    assert cli.main(["reconstruct", str(path), "--out", str(out), *quick]) == 3
    assert not (out / "bone_density.nii.gz").exists()
    two = write_views(_made(tmp_path, "two"), views[:2])
    more = ["--standardize", str(model)]
    assert cli.main(["reconstruct", str(two), "--out", str(tmp_path / "none"), *more]) == 2
    assert "three X-rays" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_what_the_network_did_not_see_is_not_fitted(tmp_path: Path) -> None:
    frontal, lateral = simulated().case.views
    pixels = np.ones_like(frontal.pixels)
    pixels[:, :40] = -1.0
    bone = replace(frontal, pixels=pixels, intensity="attenuation", bone_alone=True)
    path = write_views(tmp_path, [bone, lateral])
    back = read_views(path)[0]
    assert back.bone_alone
    prepared = prepare_views([back])[0]
    assert not prepared.valid[:, :40].any()
    assert prepared.valid[:, 40:].all()
    assert prepared.bone_alone
    entries = json.loads(path.read_text())
    entries["views"][0]["intensity"] = "display"
    path.write_text(json.dumps(entries))
    with pytest.raises(InputError, match="bone_alone"):
        read_views(path)


# The shipped weights


def test_shipped_weights_draw_the_vertebrae_of_a_phantom() -> None:
    case = simulated()
    views = case.case.views
    bones = Standardization(shipped(), middle_of_views(views))
    for view, drawn in zip(views, prepare_views(views, [bones]), strict=True):
        lines = bone_lines(case, view)
        rows, columns = lines.shape
        mine = drawn.values[: 4 * rows, : 4 * columns].reshape(rows, 4, columns, 4).mean((1, 3))
        grey = prepare_views([view])[0].pixels
        grey = grey[: 4 * rows, : 4 * columns].reshape(rows, 4, columns, 4).mean((1, 3))
        near = lines > 0.02
        assert np.corrcoef(mine[near], lines[near])[0, 1] > 0.5
        assert (
            abs(np.corrcoef(grey[near], lines[near])[0, 1])
            < np.corrcoef(mine[near], lines[near])[0, 1]
        )
    assert unlike_views([bones]) == ()


def test_the_shipped_answer_does_not_hang_on_polarity_or_side() -> None:
    view = simulated().case.views[0]
    bones = Standardization(shipped(), middle_of_views(simulated().case.views))
    dark = float(view.pixels.max()) - view.pixels
    changed = {"dark": dark, "mirrored": view.pixels[:, ::-1], "both": dark[:, ::-1]}
    plain = prepare_views([view], [bones])[0].values
    for name, pixels in changed.items():
        other = replace(view, pixels=np.ascontiguousarray(pixels))
        drawn = prepare_views([other], [bones])[0].values
        back = drawn if name == "dark" else drawn[:, ::-1]
        assert np.corrcoef(plain.ravel(), back.ravel())[0, 1] > 0.95, name


def test_what_is_no_x_ray_of_a_trunk_is_said_to_be_unlike() -> None:
    views = simulated().case.views
    rng = np.random.default_rng(0)
    shape = views[0].pixels.shape
    v, u = np.mgrid[: shape[0], : shape[1]]
    strange = {
        "noise": rng.normal(0.0, 1.0, shape),
        "stripes": np.sin(u / 3.0),
        "checks": np.sign(np.sin(u / 9.0) * np.sin(v / 9.0)),
    }
    bones = Standardization(shipped(), middle_of_views(views))
    pictures = [
        replace(views[0], name=name, pixels=(1000.0 * pixels).astype(np.float32))
        for name, pixels in strange.items()
    ]
    prepare_views(pictures, [bones])
    assert set(unlike_views([bones])) == set(strange)


# Commands


def test_the_command_writes_views_that_can_be_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = simulated()
    path = write_views(tmp_path / _made(tmp_path, "in"), case.case.views)
    out = tmp_path / "out"
    status = cli.main(["standardize", str(path), "--out", str(out)])
    said = capsys.readouterr().out
    record = json.loads((out / "standardised.json").read_text())
    assert status == (0 if record["status"] == "ok" else 3)
    assert f"status: {record['status']}" in said
    assert record["schema"] == "radgsreg/standardised"
    assert set(record["views"]) == {view.name for view in case.case.views}
    for view, was in zip(read_views(out / "views.json"), case.case.views, strict=True):
        assert view.bone_alone
        assert view.intensity == "attenuation"
        assert np.allclose(view.camera.intrinsic, was.camera.intrinsic)
        assert (out / f"standard_{view.name}.png").read_bytes().startswith(b"\x89PNG")
    # Once more into the same folder, and never over what was read.
    assert cli.main(["standardize", str(path), "--out", str(out)]) == status
    assert cli.main(["standardize", str(out / "views.json"), "--out", str(out)]) == 2


def _made(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    return made


def test_standardise_is_of_no_use_with_a_ct_as_prior(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = cli.main(
        ["reconstruct", "case.json", "--out", str(tmp_path / "x"), "--ct-prior", "--standardize"]
    )
    assert status == 2
    assert "--standardize" in capsys.readouterr().err


@pytest.mark.slow
def test_the_register_command_looks_at_standardised_x_rays_first(tmp_path: Path) -> None:
    folder = write_simulated_case(simulated(), tmp_path / "case").parent
    out = tmp_path / "out"
    asked_for = ["register", str(folder / "case.json"), "--effort", "fast", "--out"]
    status = cli.main([*asked_for, str(out), "--standardize"])
    record = json.loads((out / "registration.json").read_text())
    assert status == (0 if record["status"] == "ok" else 3)
    said = record["quality"]["standardised"]
    assert said["status"] != "ok"
    assert set(said["views"]) == {"AP", "LA"}
    assert record["timing_s"]["standardise"] == pytest.approx(said["seconds"])
    assert record["timing_s"]["total"] > said["seconds"]
    assert record["parameters"]["standardize"] is True
    assert "standard.safetensors" in record["inputs"]
    # Again as it was, from its own record; and not with what only its owner has.
    again = ["register", str(folder / "case.json"), "--config", str(out / "registration.json")]
    assert cli.main([*again, "--out", str(tmp_path / "again")]) == status
    redone = json.loads((tmp_path / "again" / "registration.json").read_text())
    assert redone["ct_to_world"] == record["ct_to_world"]
    record["parameters"]["standardize"] = "named"
    (tmp_path / "own.json").write_text(json.dumps(record))
    again[3] = str(tmp_path / "own.json")
    assert cli.main([*again, "--out", str(tmp_path / "third")]) == 2


def test_a_pose_in_standardised_x_rays_is_only_proposed() -> None:
    from RadGSRegLib.measures import mtre
    from RadGSRegLib.networks import standardised_start
    from RadGSRegLib.registration import registration_options

    simulation = simulated()
    case, truth = simulation.case, simulation.truth
    bones = Standardization(shipped(), pipeline.centre_of_views(case.views))
    options = registration_options("fast")
    proposer, alone = standardised_start(case, bones, None, options)
    assert proposer.name == "standardised"
    assert all(np.allclose(c.ct_to_world, alone.ct_to_world) for c in proposer.candidates)
    assert alone.status != "ok"
    both = pipeline.register_case(case, None, options, proposers=[proposer])
    assert "standardised" in both.timing_s
    error = mtre(np.asarray(truth["points_ct"]), both.ct_to_world, np.asarray(truth["ct_to_world"]))
    assert both.status != "ok" or error < 2.0
