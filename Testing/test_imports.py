"""Who may import whom, and what the command line may not load before it must."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the import rules of the library in a folder."""
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    code = (
        "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports; "
        "sys.exit(lint_imports(config_filename='pyproject.toml', cache_dir=None))"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def test_the_rules_of_the_rooms_hold() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_package_has_a_place_and_a_front_door() -> None:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = rules["tool"]["importlinter"]["contracts"]
    packages = {path.parent.name for path in (ROOT / "RadGSRegLib").glob("*/__init__.py")}
    layers = next(c["layers"] for c in contracts if c["type"] == "layers")
    placed = {name for layer in layers for name in layer.replace("|", " ").split()}
    assert packages <= placed
    guarded = {c["allowed_importers"][0] for c in contracts if c["type"] == "protected"}
    assert guarded == {f"RadGSRegLib.{name}" for name in packages}


BROKEN = {
    "The front door of geometry": ("evaluation", "from ..geometry.pose import skew"),
    "One direction of data": ("geometry", "from .. import registration"),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is said of a library with one more module for each rule to break."""
    folder = tmp_path_factory.mktemp("broken")
    shutil.copy(ROOT / "pyproject.toml", folder)
    only_code = shutil.ignore_patterns("__pycache__", "*.html", "Models")
    shutil.copytree(ROOT / "RadGSRegLib", folder / "RadGSRegLib", ignore=only_code)
    for importer, statement in BROKEN.values():
        (folder / "RadGSRegLib" / importer / "guest.py").write_text(statement + "\n")
    done = lint(folder)
    assert done.returncode != 0
    return done.stdout


@pytest.mark.parametrize("rule", BROKEN)
def test_a_rule_that_is_broken_is_told(rule: str, told: str) -> None:
    assert f"{rule} BROKEN" in told
    # By its own module and no other's.
    assert f"{len(BROKEN)} broken" in told
    assert f"RadGSRegLib.{BROKEN[rule][0]}.guest" in told


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_command_line_starts_light() -> None:
    loaded = loaded_by("import RadGSRegLib.cli; RadGSRegLib.cli.build_parser()")
    assert not loaded & {"torch", "warp", "numpy", "scipy", "SimpleITK", "matplotlib", "rich"}


def test_reading_cases_needs_no_torch() -> None:
    assert not loaded_by("import RadGSRegLib.cases") & {"torch", "warp", "matplotlib"}


def test_errors_and_the_door_of_the_report_load_nothing_heavy() -> None:
    """3D Slicer measures without torch; a registration draws on a thread that loads what draws."""
    statement = "import RadGSRegLib.measures; from RadGSRegLib.report import Drawing"
    assert not loaded_by(statement) & {"torch", "warp", "matplotlib"}


def test_nothing_of_slicer_is_loaded() -> None:
    modules = "cases, gaussians, pipeline, registration, report.page, simulation"
    names = ", ".join(f"RadGSRegLib.{name.strip()}" for name in modules.split(","))
    assert not loaded_by(f"import {names}") & {"slicer", "vtk", "vtkmodules", "qt", "ctk"}
