"""The documents keep their promises: commands, links, examples, and one list of versions."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest

from RadGSRegLib import __version__
from RadGSRegLib.cases import read_registration_json, read_spine_json, read_start
from RadGSRegLib.cli import build_parser
from RadGSRegLib.geometry import is_rigid

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


def test_commands_of_the_readme_parse() -> None:
    parser = build_parser()
    seen = set()
    for line in "\n".join(blocks(README, "console")).splitlines():
        for part in line.split("&&"):
            words = shlex.split(part)
            if words and words[0].endswith("radgsreg"):
                seen.add(parser.parse_args(words[1:]).command)
    wanted = {"demo", "register", "reconstruct", "simulate", "evaluate", "info"}
    more = {
        "segment",
        "track",
        "pretrain",
        "levels",
        "standardize",
        "surface",
        "beads",
        "calibrate",
    }
    assert seen == wanted | more


def test_ci_runs_what_the_readme_says() -> None:
    """The same install and the same tests; a bare machine follows the README's line."""
    lines = [x for x in blocks(README, "console") if "[test]" in x]
    assert len(lines) == 1
    _, install, test = (part.strip() for part in lines[0].split("&&"))
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert install.removeprefix(".venv/bin/pip install") in ci
    assert "check " + test.removeprefix(".venv/bin/") in ci


def test_python_examples_name_what_exists() -> None:
    import importlib

    for block in blocks(README, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("RadGSRegLib"):
                module = importlib.import_module(node.module or "")
                for name in node.names:
                    try:
                        importlib.import_module(f"{node.module}.{name.name}")
                    except ModuleNotFoundError:
                        assert hasattr(module, name.name)


def test_json_examples_are_what_the_library_reads(tmp_path: Path) -> None:
    examples = [json.loads(block) for block in blocks(FILES, "json")]
    by_key = {next(iter(example)): example for example in examples}
    assert set(by_key["ct"]) == {"ct", "segmentation", "label", "views"}
    schemas = {example["schema"]: example for example in examples if "schema" in example}
    views = schemas["radgsreg/views"]["views"]
    assert all(is_rigid(np.array(view["extrinsic"], dtype=float)) for view in views)
    path = tmp_path / "start.json"
    path.write_text(json.dumps(by_key["ct_to_world"]), encoding="utf-8")
    assert is_rigid(read_start(path))
    path = tmp_path / "registration.json"
    path.write_text(json.dumps(schemas["radgsreg/registration"]), encoding="utf-8")
    assert read_registration_json(path).status == "ok"
    path = tmp_path / "spine.json"
    path.write_text(json.dumps(schemas["radgsreg/spine"]), encoding="utf-8")
    assert read_spine_json(path).status == "uncertain"


def test_one_version_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {__version__}\n" in citation
    assert __version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_constraints_concern_what_is_required() -> None:
    """Every pinned package is a direct dependency: others are left to pip."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    names = {re.split(r"[><=;\[ ]", line)[0].lower() for line in required}
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = re.findall(r"^([\w-]+)==[\d.]+$", text, re.MULTILINE)
    assert pinned
    assert {name.lower() for name in pinned} <= names
