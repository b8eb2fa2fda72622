"""Fitted clouds kept on disk: equal to the last digit, bounded, and never in the way."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.gaussians import (
    FitOptions,
    GaussianCloud,
    bounds,
    fit_vertebra,
    fit_vertebra_once,
    kept,
    write_ply,
)
from RadGSRegLib.geometry import Volume


def _ball(radius: float = 4.0) -> Volume:
    z, y, x = np.mgrid[-6:7, -6:7, -6:7]
    array = 0.02 * (x**2 + y**2 + z**2 < radius**2)
    return Volume(array.astype(np.float32), np.eye(4))


def _quickly(*args: Any, **options: Any) -> GaussianCloud:
    return fit_vertebra(*args, **options, options=FitOptions(volume_steps=1, view_steps=1, views=2))


def _equal(one: GaussianCloud, other: GaussianCloud) -> bool:
    pairs = zip(one.tensors, other.tensors, strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RADGSREG_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often something was fitted."""
    calls: list[int] = []

    def counted(*args: Any, **options: Any) -> GaussianCloud:
        calls.append(1)
        return _quickly(*args, **options)

    monkeypatch.setattr(kept, "fit_vertebra", counted)
    return calls


def test_the_second_time_nothing_is_fitted_and_all_is_equal(folder: Path, fits: list[int]) -> None:
    fitted = _quickly(_ball(), 40)
    first, second = fit_vertebra_once(_ball(), 40), fit_vertebra_once(_ball(), 40)
    assert len(fits) == 1
    assert _equal(first, fitted)
    assert _equal(second, fitted)


@pytest.mark.parametrize("change", ["voxels", "grid", "count", "seed", "code", "device"])
def test_whatever_differs_is_fitted_anew(
    change: str, folder: Path, fits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_vertebra_once(_ball(), 40)
    volume, count, seed = _ball(), 40, 0
    if change == "voxels":
        volume = _ball(4.5)
    elif change == "grid":
        volume = Volume(volume.array, np.diag([1.0, 1.0, 1.1, 1.0]))
    elif change == "count":
        count = 41
    elif change == "seed":
        seed = 1
    elif change == "code":
        monkeypatch.setattr(kept, "_code", lambda: b"another version")
    else:
        monkeypatch.setattr(kept, "device_name", lambda device: "cuda:0 (a card)")
    fit_vertebra_once(volume, count, seed=seed)
    assert len(fits) == 2
    assert len(list(folder.iterdir())) == 2


def test_what_is_kept_goes_to_the_device_that_asks(
    folder: Path, fits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "device_name", lambda device: "cuda:0 (a card)")
    fit_vertebra_once(_ball(), 40)
    cloud = fit_vertebra_once(_ball(), 40, device="meta")
    assert len(fits) == 1
    assert cloud.device == torch.device("meta")


def test_off_means_that_nothing_is_kept(
    tmp_path: Path, fits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("RADGSREG_CACHE", "off")
    for _ in range(2):
        fit_vertebra_once(_ball(), 40)
    assert len(fits) == 2
    assert not list(tmp_path.rglob("*.ply"))
    monkeypatch.delenv("RADGSREG_CACHE")
    assert kept.kept_folder() is not None
    # A user without a home.
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setattr(sys, "platform", "linux")
    assert kept.kept_folder() is None


def test_what_is_broken_is_fitted_again_and_mended(folder: Path, fits: list[int]) -> None:
    fitted = fit_vertebra_once(_ball(), 40)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert _equal(fit_vertebra_once(_ball(), 40), fitted)
    assert len(fits) == 2
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_made_is_no_error(
    tmp_path: Path, fits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RADGSREG_CACHE", str(tmp_path / "file" / "kept"))
    assert len(fit_vertebra_once(_ball(), 40)) > 10
    assert len(fits) == 1


def test_what_was_used_least_recently_makes_room(
    folder: Path, fits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    radii = (3.0, 3.5, 4.0)
    for n, radius in enumerate(radii[:2]):
        fit_vertebra_once(_ball(radius), 40)
        for path in folder.iterdir():
            if path.stat().st_mtime > 1000.0:
                os.utime(path, (n, n))
    size = sum(path.stat().st_size for path in folder.iterdir())
    monkeypatch.setattr(bounds, "KEPT_BYTES", size + 10)
    fit_vertebra_once(_ball(radii[0]), 40)
    fit_vertebra_once(_ball(radii[2]), 40)
    assert len(list(folder.iterdir())) == 2
    assert len(fits) == 3
    fit_vertebra_once(_ball(radii[0]), 40)
    assert len(fits) == 3
    fit_vertebra_once(_ball(radii[1]), 40)
    assert len(fits) == 4


def test_the_folder_is_the_users_alone_and_holds_no_names(folder: Path, fits: list[int]) -> None:
    fit_vertebra_once(_ball(), 40)
    if os.name == "posix":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (path,) = folder.iterdir()
    assert len(path.stem) == 64
    assert set(path.stem) <= set("0123456789abcdef")


def test_a_fit_that_was_cancelled_or_refused_leaves_nothing(folder: Path) -> None:
    with pytest.raises(Cancelled):
        fit_vertebra_once(_ball(), 40, progress=lambda fraction, message: False)
    nothing = Volume(np.zeros((4, 4, 4), np.float32), np.eye(4))
    with pytest.raises(InputError):
        fit_vertebra_once(nothing, 40)
    assert not folder.exists()


def test_another_process_may_be_first_or_clear_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(*args: Any, **options: Any) -> GaussianCloud:
        cloud = _quickly(*args, **options)
        folder.mkdir(parents=True)
        write_ply(folder / f"{kept._key(_ball(), 40, 0, 'cpu')}.ply", cloud)
        return cloud

    monkeypatch.setattr(kept, "fit_vertebra", overtaken)
    cloud = fit_vertebra_once(_ball(), 40)
    assert _equal(fit_vertebra_once(_ball(), 40), cloud)
    (path,) = folder.iterdir()
    # Listed, and gone before it is looked at.
    monkeypatch.setattr(Path, "glob", lambda *_: iter([path, folder / "gone.ply"]))
    monkeypatch.setattr(bounds, "KEPT_BYTES", 1)
    kept._make_room(folder)
    assert not path.exists()
