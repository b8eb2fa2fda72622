"""Fixtures shared by all tests."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before numpy and torch are loaded, for this process and those that tests start: a worker has one
# core, on which the threads of OpenBLAS and torch only wait for each other (a product of
# 238,000 x 3 by 3 x 3 took 87 ms instead of 2 beside other work). The library's own threads stay.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests leave nothing in the user's folders; the workers of one session share what they fit.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["RADGSREG_CACHE"] = tempfile.mkdtemp(prefix="radgsreg-tests-")
    atexit.register(shutil.rmtree, os.environ["RADGSREG_CACHE"], ignore_errors=True)

import pytest
import torch
from hypothesis import settings

settings.register_profile("radgsreg", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("radgsreg")

# Few tests, but long ones: begun last, they would keep one worker busy after the other's end.
LONG = {
    "test_demo.py",
    "test_networks_shipped.py",
    "test_registration_cases.py",
    "test_registration_register.py",
    "test_segmentation.py",
    "test_slicer_scenario.py",
    "test_slicer_selftest.py",
    "test_training_loop.py",
    "test_training_pretrain.py",
    "test_training_xrays.py",
}


def pytest_configure(config: pytest.Config) -> None:
    """Keep the order of `pytest_collection_modifyitems` also where workers share the files."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of long tests."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared test data; tests that need it are skipped where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("RADGSREG_DATA", default))
    if not (folder / "cases").is_dir():
        pytest.skip(f"no shared data at {folder}; set RADGSREG_DATA to run this test")
    return folder


@pytest.fixture
def widget() -> Iterator[Any]:
    """The module's panel on the stand-in for Qt, in a new scene; none of its handlers may fail."""
    import qt_standin
    import slicer_startup

    slicer_startup.start_panel()
    widget = slicer_startup.make_widget()
    yield widget
    widget.cleanup()
    slicer_startup.stop_panel()
    assert qt_standin.errors == []


@pytest.fixture
def application() -> Iterator[Any]:
    """A new scene with layout manager; nothing may be written to the application's log."""
    import qt_standin
    import slicer_application
    import slicer_startup

    scene = slicer_startup.start_panel()
    slicer_application.errors.clear()
    slicer_application.takeDisplaysAlong(scene)
    layout = slicer_application.StandInLayoutManager(scene, slicer_application.SIZES)
    layout.node.SetViewArrangement(3)
    yield layout
    qt_standin.processEvents()
    assert slicer_application.errors == []
    assert qt_standin.errors == []


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A quick program in the library's place (`panel_scene.Library`)."""
    import panel_scene

    return panel_scene.quick_library(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def brief_fit() -> Iterator[None]:
    """Gaussians are fitted briefly (`brief`): not for tests of how well they fit."""
    import brief

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(*brief.NOT_KEPT)
        brief.shorten(patch.setattr)
        yield


@pytest.fixture
def brief_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in child processes."""
    import brief

    monkeypatch.setenv(*brief.NOT_KEPT)
    paths = [str(brief.write_for_children(tmp_path / "brief")), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded generator."""
    return torch.Generator().manual_seed(2026)
