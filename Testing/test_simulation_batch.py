"""Many cases simulated together, held against the full simulator, step by step and as a whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch.nn.functional import avg_pool2d

from RadGSRegLib.cases import View
from RadGSRegLib.geometry import Camera
from RadGSRegLib.phantom import LABELS, make_phantom, random_spine
from RadGSRegLib.simulation import (
    PRESETS,
    Scene,
    Wanted,
    case,
    exposure,
    parts,
    rays,
    simulate_together,
)
from RadGSRegLib.simulation.drawing import Drawn, Finish, draw_case
from RadGSRegLib.simulation.imaging import (
    add_noise,
    add_scatter,
    collimator_mask,
    random_display,
)
from RadGSRegLib.simulation.pixels import pixel_rays
from RadGSRegLib.simulation.shapes import cylinder_path, ellipsoid_path
from RadGSRegLib.system import median_among, tail_quantile
from RadGSRegLib.training import samples
from RadGSRegLib.training.pool import stack_samples
from RadGSRegLib.training.samples import SampleOptions, draw_samples, simulate_fully
from RadGSRegLib.training.subjects import Subject, make_subject
from RadGSRegLib.views import prepare_pictures, prepare_view

OPTIONS = SampleOptions()
REALISMS = ("realistic", "hard", "clean")


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A vertebra of a phantom, with all that is around it."""
    phantom = make_phantom(random_spine(3), 2.0, "lumbar")
    return make_subject(phantom.ct, phantom.labels, LABELS["L3"])


@pytest.fixture(scope="module")
def specimen() -> Subject:
    """A vertebra whose neighbours are cut off, on other voxels."""
    phantom = make_phantom(random_spine(5), 1.5, "L3")
    return make_subject(phantom.ct, phantom.labels, LABELS["L3"])


def _drawn(subject: Subject, realism: str, seed: int) -> Drawn:
    options = replace(OPTIONS, realism=realism)
    rng = np.random.default_rng(seed)
    rng.permutation(subject.surface_count)
    return draw_case(
        samples.sample_parameters(options, seed),
        subject.centroids,
        subject.label,
        rng,
        subject.on("cpu").surroundings,
        samples._Framing(options, seed),
    )


def _full_lengths(scene: Scene, drawn: Drawn, camera: Camera) -> list[np.ndarray]:
    """What the full simulator integrates: soft tissue, bone, steel, g/cm^2."""
    if drawn.trunk is not None:
        scene = replace(scene, rest=case._embed(scene.rest, drawn.ct_to_world[0], drawn.trunk))
    soft, bone = parts.line_integrals(parts.parts_on(scene, "cpu"), drawn.ct_to_world, camera)
    directions, source = pixel_rays(camera), camera.source_world
    steel = np.zeros_like(soft)
    for centre, axes, radii, density in drawn.ellipsoids:
        soft += (ellipsoid_path(source, directions, centre, axes, radii) * density).astype("f4")
    for start, end, radius, hollow in drawn.wires:
        steel += cylinder_path(source, directions, start, end, radius, hollow).astype("f4") * 7.874
    return [0.1 * soft, 0.1 * bone, 0.1 * steel]


@pytest.mark.parametrize("realism", REALISMS)
def test_mass_lengths_are_those_of_the_full_simulator(
    subject: Subject, specimen: Subject, realism: str
) -> None:
    for which, seed in ((subject, 1), (specimen, 2)):
        scene, drawn = which.on("cpu"), _drawn(which, realism, seed)
        assert bool(drawn.wires) == (realism == "hard")
        both = {every: rays.mass_lengths([(scene, drawn)], every) for every in (1, None)}
        for view, camera in enumerate(drawn.cameras.values()):
            wanted = _full_lengths(which.take_apart(), drawn, camera)
            for every, lengths in both.items():
                parts = (lengths.soft, lengths.bone, lengths.steel)
                # Rays through the rest that are fewer are off at its edges alone.
                bounds = (0.012, 0.012, 0.002) if every == 1 else (0.02, 0.012, 0.002)
                for ours, theirs, bound in zip(parts, wanted, bounds, strict=True):
                    error = np.abs(ours[view].numpy() - theirs).mean()
                    assert error <= bound * max(float(theirs.std()), 0.5)


def test_pictures_of_one_batch_are_of_one_size(subject: Subject) -> None:
    scene, drawn = subject.on("cpu"), _drawn(subject, "realistic", 1)
    camera = drawn.cameras["AP"]
    other = replace(drawn, cameras={"AP": camera.window(0.0, 0.0, 64, 64, 1.0)})
    with pytest.raises(ValueError, match="equally many pixels"):
        rays.mass_lengths([(scene, drawn), (scene, other)])


def test_what_a_batch_cannot_simulate_is_refused(subject: Subject) -> None:
    scene, p = subject.on("cpu"), PRESETS["realistic"]
    wanted = Wanted(scene, subject.label, p, 1, subject.surface_count)
    for parameters, problem in (
        (replace(p, display=False), "have a spectrum and are displayed, or neither"),
        (replace(p, polychromatic=False), "have a spectrum and are displayed, or neither"),
        (replace(p, pixel_mm=1.0), "pixels of the same size"),
    ):
        with pytest.raises(ValueError, match=problem):
            simulate_together([wanted, replace(wanted, parameters=parameters)])


def _network_input(sample: samples.Sample) -> torch.Tensor:
    """What a network sees of a pair at 64 pixels: (views, ranks and contrast, rows, columns)."""
    return stack_samples([sample], 2.0, None)[0].pictures[0]


def _correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


@pytest.mark.parametrize("realism", REALISMS)
def test_networks_see_what_the_full_simulator_shows(
    subject: Subject, specimen: Subject, realism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same pose, bodies and device, each simulator with noise of its own."""
    options = replace(OPTIONS, realism=realism)
    apart, alike = [], []
    for which in (subject, specimen):
        for seed in range(6):
            if _drawn(which, realism, seed).finish.collimator != "none":
                continue  # which has draws of its own: other pixels are valid
            (fast,) = draw_samples([which], options, [seed])
            full = simulate_fully(which, options, seed)
            for name in ("intrinsics", "extrinsics", "centred_to_box", "centres"):
                assert torch.equal(getattr(fast, name), getattr(full, name))
            assert torch.allclose(fast.targets, full.targets, atol=2e-3)
            assert float((fast.valid != full.valid).float().mean()) < 0.015
            ours, theirs = _network_input(fast), _network_input(full)
            bone = avg_pool2d(full.targets, 2) > 0.1 * full.targets.max()
            with monkeypatch.context() as patched:
                patched.setattr(exposure, "detect", lambda a, b, c, n: rays.detect(a, b, c, n + 7))
                (noisy,) = draw_samples([which], options, [seed])
            again = _network_input(noisy)
            # The two are as alike as two of the fast one with noise of their own. Measured: at
            # least 0.936 where a display leaves noise and little else, in the median 0.999.
            apart.append(
                [
                    _correlation(ours[:, n][where], theirs[:, n][where])
                    - _correlation(ours[:, n][where], again[:, n][where])
                    for n, where in ((0, bone >= 0), (1, bone))
                ]
            )
            alike.append(_correlation(ours[:, 1][bone], theirs[:, 1][bone]))
    assert len(alike) >= 6
    assert np.min(apart) > -0.03
    assert np.median(apart, axis=0).min() > -0.004
    assert np.median(alike) > 0.99


def test_another_pose_looks_otherwise(subject: Subject) -> None:
    """The bound above would be no bound if any two pairs were as alike."""
    first, second = draw_samples([subject] * 2, replace(OPTIONS, realism="realistic"), [0, 1])
    assert abs(_correlation(_network_input(first)[:, 1], _network_input(second)[:, 1])) < 0.9


def test_a_pair_follows_from_its_seed_alone(subject: Subject, specimen: Subject) -> None:
    whose, seeds = [subject, specimen, subject, subject, specimen], [4, 5, 6, 7, 14]
    together = draw_samples(whose, OPTIONS, seeds)
    for which, seed, sample in zip(whose, seeds, together, strict=True):
        (alone,) = draw_samples([which], OPTIONS, [seed])
        for name, tensor in vars(alone).items():
            assert torch.equal(tensor, getattr(sample, name)), (seed, name)
    again = draw_samples(whose[::-1], OPTIONS, seeds[::-1])[::-1]
    assert all(torch.equal(a.images, b.images) for a, b in zip(again, together, strict=True))
    assert not torch.equal(together[0].images, together[2].images)


def test_a_pair_does_not_depend_on_how_fine_others_are(subject: Subject, specimen: Subject) -> None:
    """Where the rest of a CT is about as fine as pixels, its rays alone are as many."""
    options = replace(OPTIONS, pixel_mm=1.2)
    whose, seeds = [subject, specimen], [0, 4]
    assert [which.on("cpu").every(1.2) for which in whose] == [2, 1]
    together = draw_samples(whose, options, seeds)
    for which, seed, sample in zip(whose, seeds, together, strict=True):
        alone = draw_samples([which], options, [seed])[0].images
        # On some processors sums are rounded as memory happens to lie.
        torch.testing.assert_close(alone, sample.images, rtol=0.0, atol=2e-4)


def test_without_warp_the_full_simulator_stands_in(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "batch_problem", lambda: "it does not start")
    (sample,) = draw_samples([subject], OPTIONS, [3])
    assert torch.equal(sample.images, simulate_fully(subject, OPTIONS, 3).images)
    (there,) = draw_samples([subject], OPTIONS, [3], "meta")
    for name in ("images", "valid", "targets"):
        assert getattr(there, name).is_meta


def test_what_a_patient_shares_is_made_once(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = subject.on("cpu")
    monkeypatch.setattr(Subject, "take_apart", lambda self: pytest.fail("taken apart again"))
    assert subject.on("cpu") is scene
    assert subject.with_axes(np.eye(4)).on("cpu") is scene
    assert scene.nbytes > 10**6
    draw_samples([subject], OPTIONS, [8])


@pytest.mark.parametrize("photons", [3.0, 60.0, 400.0, 20000.0])
def test_noise_has_the_mean_and_the_variance_of_counts(photons: float) -> None:
    electronic, level = 4.0, 0.25
    signal = torch.full((2, 128, 128), level)
    scale = torch.full((2,), photons / level)
    seeds = torch.tensor([1, 2], dtype=torch.int32)
    read = torch.full((2,), electronic)
    noisy = rays.detect(signal, scale, read, seeds) / level * photons
    deviation = (photons + electronic**2) ** 0.5
    for picture in noisy:
        assert float(picture.mean()) == pytest.approx(photons, abs=4.0 * deviation / 128)
        assert float(picture.std()) == pytest.approx(deviation, rel=4.0 / 2**0.5 / 128 + 0.002)
    # Neighbours, and pictures of other seeds, know nothing of each other.
    flat = (noisy - photons) / deviation
    for a, b in ((flat[0], flat[1]), (flat[0, :, 1:], flat[0, :, :-1])):
        assert abs(float((a * b).mean())) < 0.04
    # The third moment of counts: a normal variate stands for many only.
    skew = float((flat**3).mean())
    assert skew == pytest.approx(photons / deviation**3, abs=0.08)
    alone = rays.detect(signal[1:], scale[1:], read[1:], seeds[1:])
    assert torch.equal(alone[0] / level * photons, noisy[1])
    none = rays.detect(signal, torch.zeros(2), read, seeds)
    assert torch.equal(none, signal)


def _signal(seed: int) -> np.ndarray:
    """A smooth body with detail, from 2 % to the direct beam."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.standard_normal((96, 96)), 12.0)
    fine = gaussian_filter(rng.standard_normal((96, 96)), 2.0)
    depth = np.clip(1.5 + 60.0 * smooth + 2.0 * fine, 0.0, 4.0)
    return np.exp(-depth).astype(np.float32)


def _cases(
    seeds: range, bits: tuple[int, ...] = (16,), collimator: str = "none"
) -> tuple[exposure.Chains, list[Finish]]:
    """The chains of cases with one picture each, drawn with ``seeds``, and their finishes."""
    made = []
    p = PRESETS["hard"]
    for seed in seeds:
        rng = np.random.default_rng(seed)
        finish = Finish(
            float(rng.uniform(*p.scatter)),
            float(rng.uniform(*p.photons)),
            float(rng.uniform(*p.electronic)),
            float(rng.uniform(0.1, 1.6)),
            collimator,
            random_display(rng, bits),
        )
        camera = Camera(np.diag([700.0, 700.0, 1.0]), np.eye(4), 96, 96)
        drawn = Drawn({}, {"AP": camera}, np.zeros(3), 80.0, 4.0, None, [], [], finish)
        made.append((p, drawn, seed))
    return exposure.Chains.of(made, "cpu"), [drawn.finish for _, drawn, _ in made]


def _numbers(chains: exposure.Chains) -> dict[str, torch.Tensor]:
    return {name: values[:, None, None] for name, values in chains.numbers.items()}


def test_scatter_and_blur_are_those_of_the_full_simulator() -> None:
    signals = np.stack([_signal(seed) for seed in range(4)])
    chains, finishes = _cases(range(4))
    width = exposure.SCATTER_MM / 1.5
    ratios = _numbers(chains)["scatter"]
    scattered = exposure._with_scatter(torch.from_numpy(signals), ratios, width).numpy()
    blurred = exposure._blurred(
        torch.from_numpy(signals), chains.numbers["blur"], chains.reach
    ).numpy()
    for n, (signal, finish) in enumerate(zip(signals, finishes, strict=True)):
        wanted = add_scatter(signal, finish.scatter, width) - signal
        # Its shape is the same; its strength is a median of fewer pixels.
        got = scattered[n] - signal
        ratio = float((got * wanted).sum() / (wanted**2).sum())
        assert ratio == pytest.approx(1.0, abs=0.12)
        assert np.allclose(got, ratio * wanted, atol=2e-4 * wanted.max())
        sigma = finish.blur_mm / PRESETS["hard"].pixel_mm
        assert np.allclose(blurred[n], gaussian_filter(signal, sigma), atol=1e-5)


@pytest.mark.parametrize("bits", [8, 12])
def test_the_display_is_that_of_the_full_simulator(bits: int) -> None:
    signals = np.stack([_signal(seed) for seed in range(12)])
    chains, finishes = _cases(range(12), (bits,))
    grey = exposure._displayed(torch.from_numpy(signals), _numbers(chains), None).numpy()
    assert {finish.curve.bone_bright for finish in finishes} == {True, False}
    assert len({finish.curve.sigmoid > 0 for finish in finishes}) == 2
    for n, (signal, finish) in enumerate(zip(signals, finishes, strict=True)):
        wanted = finish.curve(signal).astype(float)
        assert np.abs(grey[n] - wanted).max() <= 1.0 + 2e-4 * 2**bits
        assert (grey[n] == wanted).mean() > 0.95


def test_collimators_close_the_beam() -> None:
    signals = np.stack([_signal(seed) for seed in range(3)])
    chains, finishes = _cases(range(3), (12,), "round")
    assert chains.collimators is not None
    masks = chains.collimators.numpy()
    assert ((masks >= 0) & (masks <= 1)).all()
    assert 0.05 < (masks == 0).mean() < 0.6
    grey = exposure._displayed(torch.from_numpy(signals), _numbers(chains), chains.collimators)
    for n, (signal, finish) in enumerate(zip(signals, finishes, strict=True)):
        wanted = np.rint(finish.curve(signal, masks[n] > 0.5) * masks[n])
        assert np.abs(grey[n].numpy() - wanted).max() <= 2.0


def test_photons_are_counted_as_in_the_full_simulator() -> None:
    """The deviation of what is added, by how bright it is."""
    signal = _signal(1)
    chains, (finish,) = _cases(range(1))
    got, wanted = [], []
    for seed in range(12):
        chains.seeds[:] = seed
        got.append(exposure._detected(torch.from_numpy(signal)[None], chains)[0].numpy())
        rng = np.random.default_rng(seed)
        wanted.append(add_noise(signal, finish.photons, finish.electronic, rng))
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 1.0)):
        inside = (signal >= low) & (signal < high)
        ours, theirs = (np.std(np.stack(x)[:, inside] - signal[inside]) for x in (got, wanted))
        assert ours == pytest.approx(theirs, rel=0.06)


def test_pictures_are_made_ready_as_views_are() -> None:
    rng = np.random.default_rng(3)
    pictures = []
    for seed in range(6):
        picture = np.rint(4000 * _signal(seed) + rng.normal(0, 20, (96, 96))).clip(0, 4095)
        if seed == 1:  # a collimator
            picture *= collimator_mask("round", 96, 96, rng) > 0.5
        if seed == 2:  # burnt out in the middle, and a few pixels too few to count
            picture[40:60, 30:50] = 4095
            picture[5, 5:14] = 0
        if seed == 3:  # a winding area, and both ends
            picture[10:90, 10], picture[89, 10:90], picture[50:90, 89] = 0, 0, 0
            picture[20:40, 40:60] = 4095
        if seed == 4:
            picture[:] = 7
        pictures.append(picture.astype(np.float32))
    stack = torch.from_numpy(np.stack(pictures))
    displayed = torch.tensor([True] * 5 + [False])
    pixels, valid = prepare_pictures(stack, displayed, 1.5)
    camera = Camera(np.diag([700.0, 700.0, 1.0]), np.eye(4), 96, 96)
    for n, picture in enumerate(pictures):
        kind: Any = "display" if displayed[n] else "attenuation"
        wanted = prepare_view(View("AP", picture, camera, (1.5, 1.5), kind))
        assert np.array_equal(valid[n].numpy() > 0, wanted.valid), n
        assert np.allclose(pixels[n].numpy(), wanted.pixels, atol=1e-5), n
    assert not any(bool(valid[n].all()) for n in (1, 2, 3))
    assert bool(valid[2][5, 5:14].all())
    assert not bool(valid[2][50, 40])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(0, 2**16),
    st.floats(0.0, 0.03),
    st.booleans(),
)
def test_tails_are_quantiles(count: int, seed: int, share: float, upper: bool) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((2, 200)).astype(np.float32)
    among = np.zeros((2, 200), dtype=bool)
    for row in among:
        row[rng.permutation(200)[:count]] = True
    got = tail_quantile(
        torch.from_numpy(values),
        torch.from_numpy(among),
        torch.full((2,), share),
        -0.03 if upper else 0.03,
    )
    middle = median_among(torch.from_numpy(values), torch.from_numpy(among))
    for n in range(2):
        wanted = np.quantile(values[n, among[n]], 1.0 - share if upper else share)
        assert float(got[n]) == pytest.approx(wanted, abs=2e-5)
        assert float(middle[n]) == pytest.approx(np.median(values[n, among[n]]), abs=1e-6)
