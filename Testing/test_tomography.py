"""Volumes from X-rays alone: the parts of the whole beam's reconstruction, and the whole of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from RadGSRegLib.cases import View, write_views
from RadGSRegLib.cases.views import check_views
from RadGSRegLib.cli import main
from RadGSRegLib.drr import SystemMatrix
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.gaussians import GaussianCloud, rasterize
from RadGSRegLib.geometry import Camera, Volume
from RadGSRegLib.reconstruction import DensityControl, cube
from RadGSRegLib.simulation import SimulationParameters, path_cameras
from RadGSRegLib.system import Progress
from RadGSRegLib.tomography import BeamOptions, reconstruct_beam, solve
from RadGSRegLib.tomography.beams import whole_beams
from RadGSRegLib.tomography.cloud_fit import CoarseVoxels, fit_cloud
from RadGSRegLib.tomography.display import Display, fit_display, ranked
from RadGSRegLib.tomography.drawing import draw_clouds, values_at
from RadGSRegLib.tomography.previews import Previews
from RadGSRegLib.tomography.verdict import verdict, widest_gap_deg
from RadGSRegLib.views import prepare_views

CENTRE = np.array([3.0, -5.0, 8.0])
PARAMETERS = SimulationParameters.preset("clean").with_field(180.0, 32)
QUICK = BeamOptions(steps=6, gaussians=1500, pixels=32, spacing_mm=4.0, box_mm=80.0)


def body() -> GaussianCloud:
    """A trunk of wide Gaussians with small dense ones in it, world mm."""
    generator = np.random.default_rng(3)
    wide = generator.uniform(-60.0, 60.0, (60, 3)) * [1.2, 0.8, 1.0]
    small = generator.uniform(-45.0, 45.0, (40, 3))
    means = torch.from_numpy(np.concatenate([wide, small]) + CENTRE).float()
    scales = torch.cat([torch.full((60, 3), 24.0), torch.full((40, 3), 5.0)])
    densities = torch.cat([torch.full((60,), 0.006), torch.full((40,), 0.02)])
    quaternions = torch.zeros(100, 4)
    quaternions[:, 0] = 1.0
    return GaussianCloud(means, scales, quaternions, densities)


def about_centre(count: int, path: str = "arbitrary", pixels: int = 32) -> list[Camera]:
    """Cameras of a path about `CENTRE`."""
    parameters = PARAMETERS.with_field(180.0, pixels)
    shift = np.eye(4)
    shift[:3, 3] = -CENTRE
    cameras = path_cameras(parameters, path, count, np.random.default_rng(0)).values()
    return [Camera(c.intrinsic, c.world_to_camera @ shift, *c.size) for c in cameras]


def exact(camera: Camera) -> np.ndarray:
    """Line integrals (rows, columns) of the body."""
    image = rasterize(body(), camera.intrinsic, camera.world_to_camera, camera.size)
    return np.asarray(image.numpy(), dtype=np.float32)


def shown(cameras: list[Camera], intensity: str = "attenuation") -> list[View]:
    """X-rays of the body; on a display each with a window and a polarity of its own curve."""
    out = []
    generator = np.random.default_rng(5)
    for number, camera in enumerate(cameras):
        pixels = exact(camera)
        if intensity == "display":
            near = pixels.min() - generator.uniform(0.0, 0.3)
            window = (pixels - near) / (pixels.max() + generator.uniform(0.0, 0.5) - near)
            pixels = np.rint(4000.0 * (1.0 - window**0.8)).astype(np.float32)
        spacing = (PARAMETERS.pixel_mm, PARAMETERS.pixel_mm)
        out.append(View(f"V{number:02d}", pixels, camera, spacing, intensity))
    return out


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_conjugate_gradients_find_what_the_lines_say(generator: torch.Generator) -> None:
    cameras = about_centre(30)
    grid = cube(CENTRE, 120.0, 12.0)
    matrix = SystemMatrix(cameras, grid.index_to_world, (10, 10, 10))
    true = torch.zeros(10, 10, 10)
    true[3:7, 2:8, 3:6] = 0.02
    lines = matrix.forward(true)
    weight = torch.ones_like(lines)
    rough = solve(matrix, lines, weight, torch.zeros_like(true), 1, inner=2)
    fine = solve(matrix, lines, weight, torch.zeros_like(true), 6, inner=8)
    errors = [float((x - true).norm() / true.norm()) for x in (rough, fine)]
    assert errors[1] < 0.1 < errors[0]
    assert float(fine.min()) >= 0.0


def test_pixels_without_weight_say_nothing() -> None:
    cameras = about_centre(12)
    grid = cube(CENTRE, 120.0, 20.0)
    matrix = SystemMatrix(cameras, grid.index_to_world, (6, 6, 6))
    lines = matrix.forward(torch.full((6, 6, 6), 0.02))
    weight = torch.ones_like(lines)
    weight[:, :8] = 0.0
    spoiled = torch.where(weight > 0, lines, torch.full_like(lines, 99.0))
    start = torch.zeros(6, 6, 6)
    right, still = (solve(matrix, x, weight, start, 2) for x in (lines, spoiled))
    assert torch.equal(right, still)


def test_whole_pictures_of_any_size_share_a_pixel() -> None:
    cameras = about_centre(3)
    views = shown(cameras)
    wide = cameras[1].window(-8.0, -8.0, 96, 96, 0.5)
    views[1] = replace(views[1], pixels=np.ones((96, 96), np.float32), camera=wide)
    beams = whole_beams(prepare_views(views), CENTRE, 32)
    assert beams.values.shape[0] == 3
    assert beams.values.shape[1] % 4 == 0
    assert beams.pixel_mm >= 180.0 / 32 - 0.1
    for view, camera in zip(views, beams.cameras, strict=True):
        at = camera.project(CENTRE[None])
        before = view.camera.project(CENTRE[None])
        assert np.allclose(camera.ray_directions(at), view.camera.ray_directions(before))
    thin = beams.thinned(2)
    assert thin.values.shape[1:] == tuple(n // 2 for n in beams.values.shape[1:])
    # A pixel of the thinned picture looks where the middle of its four did.
    fine = beams.cameras[0].ray_directions(np.array([[4.5, 6.5]]))
    coarse = thin.cameras[0].ray_directions(np.array([[2.0, 3.0]]))
    assert np.allclose(fine, coarse, atol=1e-9)


def test_a_shutter_is_left_out_and_a_dark_trunk_is_not() -> None:
    views = shown(about_centre(3), "display")
    pixels = views[0].pixels.copy()
    pixels[:, :9] = pixels.max()
    beams = whole_beams(prepare_views([replace(views[0], pixels=pixels), *views[1:]]), CENTRE, 32)
    assert not beams.weight[0, :, :8].any()
    assert beams.weight[0, :, 12:].mean() > 0.95
    assert beams.weight[1:].mean() > 0.95


def test_ranks_do_not_change_with_the_curve_and_turn_with_the_sign() -> None:
    views = shown(about_centre(4), "display")
    bent = [replace(v, pixels=np.sqrt(v.pixels)) for v in views]
    straight, curved = (whole_beams(prepare_views(v), CENTRE, 32) for v in (views, bent))
    one = torch.ones(4, dtype=torch.long)
    a, b = ranked(straight, one).values, ranked(curved, one).values
    assert torch.allclose(a, b, atol=1e-3)
    assert torch.allclose(ranked(straight, -one).values, 1.0 - a, atol=1e-3)


def test_a_display_undoes_what_it_shows() -> None:
    views = shown(about_centre(4), "display")
    beams = whole_beams(prepare_views(views), CENTRE, 32)
    generator = torch.Generator().manual_seed(1)
    lines = 2.0 + 4.0 * torch.rand((4, 32, 32), generator=generator)
    display = Display.start(beams)
    display.near.add_(torch.rand(4, generator=generator) - 0.8)
    display.knots.add_(torch.rand(display.knots.shape, generator=generator))
    ranks = display.ranks(lines, beams.pixel_mm)
    inside = (ranks > 0.0) & (ranks < 1.0)
    back = display.lines(ranks, lines, beams.pixel_mm)
    assert float(inside.float().mean()) > 0.5
    assert torch.allclose(back[inside], lines[inside], atol=0.02)


def test_a_display_settles_on_views_that_were_not_fitted() -> None:
    views = shown(about_centre(4), "display")
    beams = whole_beams(prepare_views(views), CENTRE, 32)
    lines = torch.from_numpy(np.stack([exact(v.camera) for v in views])) + 2.0
    display = Display.start(beams)
    display.near.copy_(torch.tensor([1.0, 1.4, 1.8, 2.2]))
    ranks = display.ranks(lines, beams.pixel_mm)
    inside = ((ranks > 0.02) & (ranks < 0.98)).float()
    other = display.settled(ranks, inside, lines, beams.device, beams.pixel_mm)
    assert torch.allclose(other.near, display.near, atol=0.1)
    assert torch.allclose(other.log_span, display.log_span, atol=0.1)


def test_the_fit_of_a_display_comes_nearer() -> None:
    views = shown(about_centre(10), "display")
    beams = whole_beams(prepare_views(views), CENTRE, 32)
    shown_ = ranked(beams, -torch.ones(10, dtype=torch.long))
    grid = cube(CENTRE, 400.0, 25.0)
    matrix = SystemMatrix(beams.cameras, grid.index_to_world, (16, 16, 16))
    start = torch.full((16, 16, 16), 0.01)
    losses = [
        fit_display(shown_, matrix, start, Display.start(beams), steps, rate=0.1)[2]
        for steps in (1, 60)
    ]
    assert losses[1] < 0.6 * losses[0]


def test_drawn_clouds_hold_what_the_voxels_held() -> None:
    grid, inner = cube(CENTRE, 200.0, 8.0), cube(CENTRE, 80.0, 2.0)
    voxels = torch.zeros(25, 25, 25)
    voxels[6:19, 6:19, 6:19] = 0.02
    cloud, count = draw_clouds(voxels, grid, inner, 4000, 2.0)
    assert 0 < count < len(cloud) <= 4000
    assert float(cloud.mass()) == pytest.approx(float(voxels.sum()) * 8.0**3, rel=0.2)


def test_drawn_clouds_have_no_seam_where_the_lattices_meet() -> None:
    grid, inner = cube(CENTRE, 200.0, 8.0), cube(CENTRE, 80.0, 4.0)
    voxels = torch.zeros(25, 25, 25)
    voxels[3:22, 3:22, 3:22] = 0.02
    voxels[8:17, 8:17, 10:13] = 0.03
    cloud, _ = draw_clouds(voxels, grid, inner, 4000, 4.0)
    shown = torch.from_numpy(inner.voxelize(cloud).array)
    places = inner.lower + 4.0 * (np.indices(inner.size).reshape(3, -1)[::-1].T + 0.5)
    wanted = values_at(voxels, grid, places).view(inner.size)
    off = (shown - wanted).abs()
    assert float(off.max()) < 0.2 * 0.02
    rim = torch.ones(inner.size, dtype=torch.bool)
    rim[2:-2, 2:-2, 2:-2] = False
    assert float(off[rim].mean()) < 0.03 * 0.02
    assert float(shown.mean()) == pytest.approx(float(wanted.mean()), rel=0.01)


def test_a_wide_lattice_takes_the_mean_of_the_voxels_between(generator: torch.Generator) -> None:
    grid, inner = cube(CENTRE, 192.0, 4.0), cube(CENTRE, 48.0, 4.0)
    voxels = 0.015 + 0.01 * torch.rand((48, 48, 48), generator=generator)
    cloud, count = draw_clouds(voxels, grid, inner, 8000, 4.0)
    outer = cloud.select(torch.arange(count, len(cloud)))
    assert float(outer.scales.mean()) > 5.0
    far = ((outer.means - torch.from_numpy(CENTRE)).abs() < 70.0).all(1)
    far &= ((outer.means - torch.from_numpy(CENTRE)).abs() > 45.0).any(1)
    densities = outer.densities[far]
    assert float(densities.std() / densities.mean()) < 0.2
    assert float(cloud.scales[:count].max()) < float(cloud.scales[count:].min())
    inside = (cloud.means[:count].numpy() > inner.lower) & (
        cloud.means[:count].numpy() < inner.upper
    )
    assert inside.all()


def test_the_first_steps_of_the_fit_lose_nothing_of_what_was_drawn(
    generator: torch.Generator,
) -> None:
    beams = whole_beams(prepare_views(shown(about_centre(12))), CENTRE, 32)
    noise = torch.randn(beams.values.shape, generator=generator)
    beams = beams.with_values(beams.values + 0.05 * beams.values.std() * noise)
    grid, inner = cube(CENTRE, 240.0, 8.0), cube(CENTRE, 80.0, 4.0)
    true, voxels = inner.voxelize(body()).array, torch.from_numpy(grid.voxelize(body()).array)
    cloud, _ = draw_clouds(voxels, grid, inner, 3000, beams.pixel_mm)
    control, options = DensityControl(3000), replace(QUICK, gaussians=3000)
    fit = fit_cloud(cloud, beams, CoarseVoxels(voxels, grid, inner), options, control)
    drawn, fitted = (correlation(inner.voxelize(c).array, true) for c in (cloud, fit.cloud))
    assert fitted > drawn - 0.001


def test_values_are_trilinear() -> None:
    grid = cube(CENTRE, 40.0, 10.0)
    voxels = torch.arange(64.0).view(4, 4, 4)
    middle = grid.index_to_world @ [1.0, 2.0, 3.0, 1.0]
    between = grid.index_to_world @ [1.5, 2.0, 3.0, 1.0]
    values = values_at(voxels, grid, np.stack([middle[:3], between[:3]]))
    assert values.tolist() == pytest.approx([57.0, 57.5])


def test_more_views_show_more_of_a_trunk() -> None:
    inner = cube(CENTRE, 80.0, 4.0)
    true = inner.voxelize(body()).array
    scores = []
    for count in (4, 24):
        result = reconstruct_beam(shown(about_centre(count)), centre_world=CENTRE, options=QUICK)
        assert result.volume.array.shape == true.shape
        scores.append(correlation(result.volume.array, true))
    assert scores[1] > 0.85
    assert scores[1] > scores[0]


def test_an_unknown_display_of_either_polarity_is_undone() -> None:
    views = shown(about_centre(20), "display")
    turned = [replace(v, pixels=4000.0 - v.pixels) for v in views]
    true = cube(CENTRE, 80.0, 4.0).voxelize(body()).array
    volumes = [
        reconstruct_beam(some, centre_world=CENTRE, options=QUICK).volume.array
        for some in (views, turned)
    ]
    assert all(correlation(volume, true) > 0.6 for volume in volumes)
    assert correlation(*volumes) > 0.95


def test_views_held_out_judge_and_are_not_fitted() -> None:
    views = shown(about_centre(12))
    options = replace(QUICK, hold_out=3)
    quality = reconstruct_beam(views, centre_world=CENTRE, options=options).quality
    held = [name for name, of in quality["views"].items() if of["held_out"]]
    assert len(held) == 3
    assert quality["held_out_psnr_db"] > 15.0
    spoiled = [replace(v, pixels=v.pixels * 0.0) if v.name in held else v for v in views]
    again = reconstruct_beam(spoiled, centre_world=CENTRE, options=options).quality
    assert again["agreement"] == quality["agreement"]


def test_swapped_views_are_named_and_nothing_is_ok() -> None:
    views = shown(about_centre(24, pixels=64))
    views[3], views[12] = (
        replace(views[3], pixels=views[12].pixels),
        replace(views[12], pixels=views[3].pixels),
    )
    options = replace(QUICK, pixels=64)
    quality = reconstruct_beam(views, centre_world=CENTRE, options=options).quality
    assert {"V03", "V12"} <= set(quality["odd_views"])
    assert len(quality["odd_views"]) <= 3
    assert quality["status"] == "uncertain"
    assert "V03" in quality["reason"]


def test_all_geometry_wrong_is_never_ok() -> None:
    views = shown(about_centre(20, pixels=64))
    pairs = zip(views, [*views[7:], *views[:7]], strict=True)
    shuffled = [replace(view, pixels=other.pixels) for view, other in pairs]
    options = replace(QUICK, pixels=64)
    quality = reconstruct_beam(shuffled, centre_world=CENTRE, options=options).quality
    assert quality["status"] == "uncertain"


def test_line_integrals_and_two_displays_go_together() -> None:
    cameras = about_centre(12)
    known, grey = shown(cameras), shown(cameras, "display")
    views = [*known[:6], *grey[6:9], *(replace(v, device="other") for v in grey[9:])]
    views.insert(3, replace(known[1], name="known"))
    views.insert(10, replace(grey[0], name="new", device="third"))
    options = replace(QUICK, hold_out=2)  # of 14 the fourth and the eleventh
    result = reconstruct_beam(views, centre_world=CENTRE, options=options)
    true = cube(CENTRE, 80.0, 4.0).voxelize(body()).array
    assert correlation(result.volume.array, true) > 0.5
    assert result.quality["views"]["known"]["held_out"]
    assert "new" not in result.quality["views"]  # nothing is known of its display


def test_a_display_is_judged_by_views_held_out() -> None:
    views = shown(about_centre(14), "display")
    options = replace(QUICK, hold_out=4)
    quality = reconstruct_beam(views, centre_world=CENTRE, options=options).quality
    assert quality["held_out_psnr_db"] > 10.0


def test_the_same_seed_gives_the_same_volume() -> None:
    views = shown(about_centre(6))
    first, second = (
        reconstruct_beam(views, centre_world=CENTRE, options=QUICK).volume.array for _ in range(2)
    )
    assert np.array_equal(first, second)


def test_no_minutes_still_give_a_volume() -> None:
    options = replace(QUICK, minutes=0.0, steps=10**6)
    result = reconstruct_beam(shown(about_centre(6)), centre_world=CENTRE, options=options)
    assert result.quality["steps"] == 0
    assert result.volume.array.max() > 0.0
    assert result.quality["status"] == "uncertain"


def test_it_stops_when_asked() -> None:
    heard: list[float] = []

    def stop(share: float, message: str) -> None:
        heard.append(share)
        if share > 0.5:
            raise Cancelled

    with pytest.raises(Cancelled):
        reconstruct_beam(shown(about_centre(5)), centre_world=CENTRE, options=QUICK, progress=stop)
    assert heard == sorted(heard)


def test_it_tells_of_the_volume_so_far() -> None:
    """After the coarse voxels, and then as often as the clock says; it changes no result."""
    views = shown(about_centre(6))
    told: list[Volume] = []
    watched = Progress(None, on_volume=told.append)
    result = reconstruct_beam(views, centre_world=CENTRE, options=QUICK, progress=watched)
    assert len(told) == 1
    plain = reconstruct_beam(views, centre_world=CENTRE, options=QUICK)
    assert np.array_equal(plain.volume.array, result.volume.array)
    assert told[0].size == result.volume.size
    np.testing.assert_allclose(told[0].index_to_physical, result.volume.index_to_physical)
    assert correlation(told[0].array, result.volume.array) > 0.8


def test_previews_come_now_and_then() -> None:
    told: list[Volume] = []
    now = [0.0]
    previews = Previews(
        Progress(None, on_volume=told.append).part(0.2, 0.4), CENTRE, 60.0, 1.0, lambda: now[0]
    )
    for second in range(0, 50, 5):
        now[0] = float(second)
        previews.cloud(body)
    assert len(told) == 2
    assert told[0].size == (30, 30, 30)
    np.testing.assert_allclose(told[0].spacing, 2.0)
    silent = Previews(Progress(), CENTRE, 60.0, 1.0, lambda: 99.0 + len(told))
    silent.cloud(lambda: pytest.fail("made though nothing watches"))


@pytest.mark.parametrize(("path", "count", "widest"), [("circular", 9, 20.0), ("arc", 35, 6.0)])
def test_gaps_of_paths(path: str, count: int, widest: float) -> None:
    gap = widest_gap_deg(about_centre(count, path), CENTRE)
    assert 180.0 / count / 2.0 <= gap <= widest + 1e-6


def test_the_verdict_says_what_is_wrong() -> None:
    assert verdict(40, 10.0, 0.9, [], False)[0] == "ok"
    assert "V3 contradicts" in verdict(40, 10.0, 0.9, ["V3"], False)[1]
    assert "V3, V4 contradict" in verdict(40, 10.0, 0.9, ["V3", "V4"], False)[1]
    for agreed in (0.2, float("nan")):
        assert "do not agree" in verdict(40, 10.0, agreed, [], False)[1]
    assert "stopped" in verdict(40, 10.0, 0.9, [], True)[1]
    assert verdict(5, 10.0, 0.9, [], False) == (
        "uncertain",
        "5 X-rays do not show a volume; 20 are needed",
    )
    assert "90 degrees" in verdict(40, 90.0, 0.9, [], False)[1]


@pytest.mark.parametrize(
    ("options", "count", "word"),
    [
        (replace(QUICK, hold_out=4), 6, "2 are left to fit"),
        (QUICK, 2, "2 are left to fit"),
    ],
)
def test_too_few_views_are_refused(options: BeamOptions, count: int, word: str) -> None:
    with pytest.raises(InputError, match=word):
        reconstruct_beam(shown(about_centre(count)), centre_world=CENTRE, options=options)


@pytest.mark.parametrize(
    "bad",
    [
        {"gaussians": 3},
        {"steps": 0},
        {"box_mm": 2.0},
        {"minutes": -1.0},
        {"spacing_mm": float("nan")},
        {"weight_tv": True},
    ],
)
def test_bad_options_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        BeamOptions(**bad)


def test_a_source_in_the_patient_is_refused() -> None:
    views = shown(about_centre(3))
    with pytest.raises(InputError, match="at or behind the source"):
        reconstruct_beam(views, centre_world=views[1].camera.source_world, options=QUICK)


def test_commands_simulate_and_reconstruct_many_views(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orbit, out = tmp_path / "orbit", tmp_path / "volume"
    simulate = ["simulate", "--out", str(orbit), "--realism", "clean", "--views", "18"]
    assert main([*simulate, "--path", "arc", "--field-mm", "150", "--pixels", "32"]) == 0
    views = json.loads((orbit / "views.json").read_text())["views"]
    assert [view["name"] for view in views][:2] == ["V01", "V02"]
    assert len(views) == 18
    assert views[0]["size"] == [32, 32]
    sizes = ["--steps", "3", "--gaussians", "900", "--spacing", "4", "--box-mm", "72"]
    command = ["reconstruct", str(orbit / "views.json"), "--out", str(out), "--hold-out", "2"]
    code = main([*command, *sizes])
    record = json.loads((out / "reconstruction.json").read_text())
    assert code == (0 if record["status"] == "ok" else 3)
    assert record["status"] in ("ok", "uncertain")
    assert record["reason"] in capsys.readouterr().out
    assert sum(view["held_out"] for view in record["quality"]["views"].values()) == 2
    assert record["quality"]["steps"] == 3
    assert 50.0 < record["peak_memory_mb"] < 100_000.0
    assert sitk.ReadImage(str(out / "reconstruction.nii.gz")).GetSize() == (18, 18, 18)


def test_the_command_tells_of_previews_and_leaves_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "orbit").mkdir()
    write_views(tmp_path / "orbit", shown(about_centre(6)))
    sizes = ["--steps", "3", "--gaussians", "900", "--spacing", "4", "--box-mm", "72"]
    command = ["reconstruct", str(tmp_path / "orbit" / "views.json"), *sizes]
    told: list[tuple[list[str], tuple[int, ...]]] = []
    tell = Progress.reconstruction

    def look(self: Progress, folder: Path) -> None:
        size = sitk.ReadImage(str(folder / "reconstruction.nii.gz")).GetSize()
        told.append((sorted(file.name for file in folder.iterdir()), size))
        tell(self, folder)

    monkeypatch.setattr(Progress, "reconstruction", look)
    out = tmp_path / "out"
    assert main([*command, "--out", str(out), "--progress"]) in (0, 3)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told == [(["reconstruction.nii.gz"], (18, 18, 18))]
    assert len([line for line in lines if "reconstruction" in line]) == 1
    names = {file.name for file in out.iterdir()}
    assert names == {"reconstruction.nii.gz", "gaussians.ply", "reconstruction.json"}

    def stop(self: Progress, folder: Path) -> None:
        raise Cancelled

    monkeypatch.setattr(Progress, "reconstruction", stop)
    assert main([*command, "--out", str(tmp_path / "no"), "--progress"]) == 130
    assert not (tmp_path / "no").exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["orbit", "out"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--path", "arc"], "of use only with --views"),
        (["--views", "1"], "not a whole number"),
        (["--views", "3", "--field-mm", "-4"], "not a length"),
    ],
)
def test_simulate_refuses_odd_paths(
    options: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "--out", str(tmp_path / "x"), *options]) == 2
    assert word in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("given", [["--ct-prior"], ["--method", "learned", "--model", "m"]])
def test_sizes_go_with_xrays_alone(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m").write_bytes(b"")
    given = [str(tmp_path / "m") if word == "m" else word for word in given]
    command = ["reconstruct", str(tmp_path), "--out", str(tmp_path / "x"), "--spacing", "2"]
    assert main([*command, *given]) == 2
    assert "--spacing" in capsys.readouterr().err


def test_views_close_together_are_welcome_among_many(tmp_path: Path) -> None:
    near = about_centre(9, "arc")
    near[4] = turned(near[3], 2.0)
    views = shown(near)
    check_views(views, tmp_path)
    with pytest.raises(InputError, match="are equal"):
        check_views(views[3:5], tmp_path)
    with pytest.raises(InputError, match="same picture"):
        check_views([*views, replace(views[0], name="again")], tmp_path)
    close = shown([near[3], near[4], turned(near[3], -2.0)])
    with pytest.raises(InputError, match="one line"):
        check_views(close, tmp_path)


def turned(camera: Camera, degrees: float) -> Camera:
    """The camera as it stands after the patient has turned about the world's z through `CENTRE`."""
    angle = np.radians(degrees)
    there, back = np.eye(4), np.eye(4)
    there[:3, 3], back[:3, 3] = CENTRE, -CENTRE
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    moved = camera.world_to_camera @ there @ turn @ back
    return Camera(camera.intrinsic, moved, *camera.size)
