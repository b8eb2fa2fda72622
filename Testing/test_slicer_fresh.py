"""A Slicer where nothing is installed: every message leads to the button that installs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6.QtWidgets", reason="PySide6 does not load here", exc_type=ImportError)

import ball

TESTING = Path(__file__).resolve().parent
BUTTON = "Install what is missing"


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What `slicer_fresh` prints."""
    folder = ball.write_ball(tmp_path_factory.mktemp("fresh") / "case").parent
    done = subprocess.run(
        [sys.executable, TESTING / "slicer_fresh.py", folder],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_panel_never_shows_or_raises_a_raw_error(said: Any) -> None:
    assert said["errors"] == []
    assert len(said["texts"]) > 25
    for name, text in said["texts"].items():
        for raw in ("No module named", "ModuleNotFoundError", "Unexpected"):
            assert raw not in text, f"{name}: {text}"


@pytest.mark.parametrize("button", ["importButton", "installButton", "segmentFromClickButton"])
def test_what_needs_packages_names_the_button(said: Any, button: str) -> None:
    assert BUTTON in said["texts"][button]


def test_every_call_from_the_console_names_the_button(said: Any) -> None:
    for name, text in said["raised"].items():
        assert text.startswith("MissingPackagesError: "), f"{name}: {text}"
        assert BUTTON in text, f"{name}: {text}"
        assert "RadGSRegLogic().installDependencies()" in text


def test_the_form_and_the_documents_have_the_same_words() -> None:
    root = TESTING.parent
    form = (root / "RadGSReg" / "Resources" / "UI" / "RadGSReg.ui").read_text(encoding="utf-8")
    for text in (BUTTON, "About this installation"):
        assert f"<string>{text}</string>" in form
        for path in (root / "docs" / "tutorial.md", root / "README.md"):
            assert text in path.read_text(encoding="utf-8"), path


def test_the_readme_says_where_the_module_has_run() -> None:
    said = " ".join((TESTING.parent / "README.md").read_text(encoding="utf-8").split())
    assert "The module has been opened in 3D Slicer" in said
    assert "So far the module has been tested on" not in said
