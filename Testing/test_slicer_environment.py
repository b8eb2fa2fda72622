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


@pytest.mark.parametrize("answer", [None, True, False])
def test_the_pytorch_extension_is_offered_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, answer: bool | None
) -> None:
    """``answer``: the user's; None: a Slicer that has no extensions manager."""
    import slicer

    installed: list[Any] = []
    asked: list[str] = []

    class Manager:
        interactive = True

        def installExtensionFromServer(self, name: str, restart: bool) -> bool:  # noqa: N802
            installed.append((name, restart, self.interactive))
            return True

    packaging = types.ModuleType("slicer.packaging")
    packaging.pip_ensure = lambda *args, **options: None  # type: ignore[attr-defined]
    packaging.load_requirements = Path  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    monkeypatch.setattr("slicer.packaging", packaging, raising=False)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)  # cannot be imported
    application = types.SimpleNamespace()
    if answer is not None:
        application.extensionsManagerModel = Manager
    monkeypatch.setattr(slicer, "app", application, raising=False)
    monkeypatch.setattr(
        slicer.util,
        "confirmYesNoDisplay",
        lambda text: asked.append(text) or answer,
        raising=False,
    )
    monkeypatch.setattr(
        environment.importlib.util, "find_spec", lambda name: None if name == "torch" else object()
    )
    with pytest.raises(environment.MissingPackagesError) as caught:
        environment.installMissing()
    text = str(caught.value)
    assert "Install what is missing" in text
    assert "restart Slicer" in text
    assert installed == ([("PyTorch", False, False)] if answer else [])
    if answer is not None:
        assert "comes through the extension 'PyTorch'" in asked[0]
    if not answer:
        assert "Extensions Manager" in text


def test_what_cannot_be_imported_leads_to_the_button() -> None:
    error = ModuleNotFoundError("No module named 'gdcm.common'", name="gdcm.common")
    text = str(environment.explained(error))
    assert text.startswith("the Python package gdcm cannot be loaded; press 'Install what is miss")
