# ruff: noqa: E402 (the stand-in for Slicer's start must run before the module is imported)
"""What the child process runs in, and how missing packages are found and installed."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer_startup

slicer_startup.start()

from RadGSRegSlicer.process import environment


def test_the_child_finds_the_library_from_anywhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [environment.pythonExecutable(), "-c", "import RadGSRegLib; print(RadGSRegLib.__file__)"],
        cwd=tmp_path,
        env=environment.childEnvironment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).parent.parent == environment.libraryFolder()


def test_an_existing_python_path_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    paths = environment.childEnvironment()["PYTHONPATH"].split(os.pathsep)
    assert paths == [str(environment.libraryFolder()), "elsewhere"]


def test_inside_slicer_it_is_pythonslicer(monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    monkeypatch.setattr(slicer, "app", object(), raising=False)
    monkeypatch.setattr(environment.shutil, "which", lambda name: f"/slicer/bin/{name}")
    assert environment.pythonExecutable() == "/slicer/bin/PythonSlicer"
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="PythonSlicer"):
        environment.pythonExecutable()


def test_missing_packages_are_found_without_importing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def find(name: str) -> object | None:
        asked.append(name)
        return None if name in ("warp", "torch") else object()

    monkeypatch.setattr(environment.importlib.util, "find_spec", find)
    assert environment.missingPackages() == ["warp-lang", "torch"]
    assert {"PIL", "SimpleITK", "numpy"} <= set(asked)
    with pytest.raises(environment.MissingPackagesError, match="not installed: warp-lang, torch;"):
        environment.requirePackages()


@pytest.mark.parametrize("agrees", [True, False])
def test_install_asks_slicer_and_pytorch_for_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, agrees: bool
) -> None:
    installed: list[Any] = []
    there = {"warp": False, "torch": False}

    def ensure(requirements: Any, requester: str) -> None:
        installed.append((requirements, requester))
        there["warp"] = True

    class Logic:
        def installTorch(self, **how: Any) -> object | None:  # noqa: N802
            installed.append(how)
            there["torch"] = agrees
            return object() if agrees else None

    packaging = types.ModuleType("slicer.packaging")
    packaging.pip_ensure = ensure  # type: ignore[attr-defined]
    packaging.load_requirements = Path  # type: ignore[attr-defined]
    torch_utils = types.ModuleType("PyTorchUtils")
    torch_utils.PyTorchUtilsLogic = Logic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    monkeypatch.setattr("slicer.packaging", packaging, raising=False)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", torch_utils)
    monkeypatch.setattr(
        environment.importlib.util,
        "find_spec",
        lambda name: object() if there.get(name, True) else None,
    )
    if agrees:
        environment.installMissing()
        assert environment.missingPackages() == []
    else:
        with pytest.raises(environment.MissingPackagesError, match="PyTorch was not installed"):
            environment.installMissing()
    assert installed[0] == (environment.REQUIREMENTS, "RadGSReg")
    assert installed[1] == {"askConfirmation": True, "torchVersionRequirement": ">=2.4"}


def test_a_user_who_declines_is_no_surprise(monkeypatch: pytest.MonkeyPatch) -> None:
    def decline(requirements: Any, requester: str) -> None:
        raise RuntimeError("User declined package installation")

    packaging = types.ModuleType("slicer.packaging")
    packaging.pip_ensure = decline  # type: ignore[attr-defined]
    packaging.load_requirements = Path  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    monkeypatch.setattr("slicer.packaging", packaging, raising=False)
    with pytest.raises(environment.MissingPackagesError, match="User declined"):
        environment.installMissing()
