"""Who may import whom, and what the command line may not load before it must."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_the_rules_of_the_rooms_hold() -> None:
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from importlinter.cli import lint_imports; "
            "sys.exit(lint_imports(config_filename='pyproject.toml', cache_dir=None))",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


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
