"""Reconstructions without a CT that are interrupted and go on."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_tomography import CENTRE, QUICK, about_centre, body, shown

from RadGSRegLib.cases import View, write_views
from RadGSRegLib.cli import main
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.reconstruction import DensityControl, Reconstruction, cube
from RadGSRegLib.tomography import BeamOptions, reconstruct_beam, work
from RadGSRegLib.tomography.beams import whole_beams
from RadGSRegLib.tomography.cloud_fit import CoarseVoxels, fit_cloud
from RadGSRegLib.tomography.fit_state import fresh_state
from RadGSRegLib.views import prepare_views

# 14 steps: the views held out are looked at in between.
OPTIONS = replace(QUICK, steps=14, hold_out=2, gaussians=900)
SIZES = ["--gaussians", "900", "--spacing", "4", "--box-mm", "72"]


@pytest.fixture(scope="module")
def views() -> list[View]:
    return shown(about_centre(8), "display")


@pytest.fixture(autouse=True)
def kept_at_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "EVERY_S", 0.0)


class StopAt:
    """Asks to stop at the so-manieth report of the fit."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __call__(self, fraction: float, message: str) -> bool:
        self.times -= message.startswith("fitting")
        return self.times >= 0


def same(one: Reconstruction, other: Reconstruction) -> None:
    for a, b in zip(one.cloud.tensors, other.cloud.tensors, strict=True):
        assert torch.equal(a, b)
    assert np.array_equal(one.volume.array, other.volume.array)
    assert one.quality == other.quality


@pytest.fixture(scope="module")
def whole(views: list[View]) -> Reconstruction:
    return reconstruct_beam(views, centre_world=CENTRE, options=OPTIONS)


@pytest.fixture(scope="module")
def stopped(views: list[View], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a reconstruction that was stopped before its tenth step."""
    folder = tmp_path_factory.mktemp("work") / "kept"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "EVERY_S", 0.0)
        with pytest.raises(Cancelled):
            reconstruct_beam(
                views, centre_world=CENTRE, options=OPTIONS, progress=StopAt(9), work=folder
            )
    assert {file.name for file in folder.iterdir()} == {work.OWNER, work.COARSE, work.FIT}
    return folder


@pytest.fixture
def folder(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "kept"))


def no_coarse_volume(*_: object) -> None:
    pytest.fail("the coarse volume is made again")


def test_what_was_interrupted_ends_as_if_it_had_not_been(
    views: list[View], whole: Reconstruction, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("RadGSRegLib.tomography.reconstruct.coarse_volume", no_coarse_volume)
    heard = StopAt(10**6)
    again = reconstruct_beam(
        views, centre_world=CENTRE, options=OPTIONS, progress=heard, work=folder
    )
    assert heard.times == 10**6 - 5
    same(again, whole)
    # Nothing is left to do, and the same comes out.
    same(reconstruct_beam(views, centre_world=CENTRE, options=OPTIONS, work=folder), whole)
    further = replace(OPTIONS, steps=17)
    more = reconstruct_beam(views, centre_world=CENTRE, options=further, work=folder)
    assert more.quality["steps"] == 17


def test_more_minutes_go_on(
    views: list[View], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("RadGSRegLib.tomography.reconstruct.coarse_volume", no_coarse_volume)
    none = replace(OPTIONS, minutes=1e-6)
    assert reconstruct_beam(views, centre_world=CENTRE, options=none, work=folder).quality[
        "steps"
    ] in (8, 9)
    some = replace(OPTIONS, minutes=1e3)
    quality = reconstruct_beam(views, centre_world=CENTRE, options=some, work=folder).quality
    assert quality["steps"] == 14


def test_an_unfinished_coarse_volume_is_not_kept(views: list[View], tmp_path: Path) -> None:
    none = replace(OPTIONS, minutes=1e-6)
    reconstruct_beam(views, centre_world=CENTRE, options=none, work=tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {work.OWNER}


@pytest.mark.parametrize(
    ("options", "centre", "word"),
    [
        (replace(OPTIONS, gaussians=800), CENTRE, "other options"),
        (replace(OPTIONS, seed=1), CENTRE, "other options"),
        (OPTIONS, CENTRE + 1.0, "other place"),
    ],
)
def test_a_folder_of_something_else_is_refused(
    views: list[View], folder: Path, options: BeamOptions, centre: np.ndarray, word: str
) -> None:
    with pytest.raises(InputError, match=f"holds another reconstruction, with {word}"):
        reconstruct_beam(views, centre_world=centre, options=options, work=folder)


def test_a_folder_of_other_xrays_is_refused(views: list[View], folder: Path) -> None:
    pixels = views[2].pixels.copy()
    pixels[7, 9] += 1.0
    camera = replace(views[2].camera, intrinsic=1.001 * views[2].camera.intrinsic)
    for other in (replace(views[2], pixels=pixels), replace(views[2], camera=camera)):
        several = [*views[:2], other, *views[3:]]
        with pytest.raises(InputError, match="with other X-rays"):
            reconstruct_beam(several, centre_world=CENTRE, options=OPTIONS, work=folder)
    text = (folder / work.OWNER).read_text()
    assert views[0].name not in text


@pytest.mark.parametrize("name", [work.COARSE, work.FIT, work.OWNER])
@pytest.mark.parametrize("kind", ["cut", "other"])
def test_damaged_files_are_refused(views: list[View], folder: Path, name: str, kind: str) -> None:
    path = folder / name
    if kind == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        # A file of this program, but not this one.
        shutil.copy(folder / (work.COARSE if name == work.FIT else work.FIT), path)
    with pytest.raises(InputError, match=f"{name}: (is damaged|cannot be read)"):
        reconstruct_beam(views, centre_world=CENTRE, options=OPTIONS, work=folder)


def test_gaussians_that_were_split_are_taken_up() -> None:
    """Another number of Gaussians than the fit began with, and one step is the same."""
    first, second = (fresh_state(body(), 1.0, (0.1, 0.1, 0.1, 0.1), 0) for _ in range(2))
    first.free.step(first.free.cloud().means.square().sum(), 1.0)
    first.free.keep(torch.arange(3, 90), body().select(torch.arange(7)))
    first.gathered = torch.arange(94.0)
    second.take_up(*first.kept())
    for state in (first, second):
        state.free.step(state.free.cloud().means.square().sum(), 0.5)
    assert len(second.free.cloud()) == 94
    for a, b in zip(first.free.cloud().tensors, second.free.cloud().tensors, strict=True):
        assert torch.equal(a, b)
    tensors, facts = first.kept()
    with pytest.raises(ValueError, match="number"):
        second.take_up({**tensors, "gathered": torch.zeros(3)}, facts)


def test_the_best_cloud_stays_as_it_was_judged() -> None:
    """Steps that come later do not move it; the first of these is the best."""
    lines = whole_beams(prepare_views(shown(about_centre(4))), CENTRE, 32)
    grid, inner = cube(CENTRE, 200.0, 20.0), cube(CENTRE, 80.0, 4.0)
    coarse = CoarseVoxels(torch.zeros(10, 10, 10), grid, inner)
    values = iter(range(100))
    options = BeamOptions(steps=3, gaussians=500)
    fit = fit_cloud(
        body(), lines, coarse, options, DensityControl(500), judge=lambda _: float(next(values))
    )
    assert (fit.steps, fit.best_step) == (3, 0)
    for tensor, true in zip(fit.cloud.tensors, body().tensors, strict=True):
        torch.testing.assert_close(tensor, true)


def test_the_command_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "orbit").mkdir()
    write_views(tmp_path / "orbit", shown(about_centre(6)))
    command = ["reconstruct", str(tmp_path / "orbit" / "views.json"), *SIZES]
    kept = ["--work", str(tmp_path / "kept")]
    for steps in ("2", "4"):
        assert main([*command, "--steps", steps, *kept, "--out", str(tmp_path / steps)]) in (0, 3)
    assert main([*command, "--steps", "2", *kept, "--out", str(tmp_path / "kept")]) == 2
    assert "--work: and --out lie in each other" in capsys.readouterr().err
    assert main([*command, "--seed", "3", *kept, "--out", str(tmp_path / "no")]) == 2
    assert "holds another reconstruction, with other options" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    assert main([*command, "--ct-prior", *kept, "--out", str(tmp_path / "no")]) == 2
    assert "--work" in capsys.readouterr().err


def test_two_views_keep_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pair").mkdir()
    frontal, *_, lateral = shown(about_centre(4, "arc"))
    write_views(tmp_path / "pair", [frontal, lateral])
    command = ["reconstruct", str(tmp_path / "pair" / "views.json"), "--work", str(tmp_path / "w")]
    assert main([*command, "--out", str(tmp_path / "no")]) == 2
    assert "keeps nothing of two X-rays" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()
