"""The order of the rooms of the Slicer side, and the size of what stands in them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

MODULE = Path(__file__).resolve().parents[1] / "RadGSReg"
PACKAGE = MODULE / "RadGSRegSlicer"

# A room may use those before it. ``scene`` and ``process`` know nothing of each other.
ORDER = (("scene", "process"), ("exchange",), ("operations",), ("review",), ("panel",))
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported_rooms(path: Path) -> Iterator[str]:
    """The rooms that a file imports from, wherever the import stands in it."""
    inside = path.relative_to(MODULE).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = inside[: len(inside) - node.level + 1] if node.level else ()
            start = [*above, *([node.module] if node.module else [])]
            names = [".".join([*start, alias.name]) for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "RadGSRegSlicer" and rest:
                yield rest.split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_uses_only_those_before_it(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    if room not in LEVEL:
        assert room in ("__init__.py", "selftest.py")
        return
    for other in set(imported_rooms(path)) - {room}:
        assert LEVEL[other] < LEVEL[room], f"{room} imports {other}"


def test_the_rooms_are_those_of_the_order() -> None:
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()} == set(
        LEVEL
    )


def test_only_the_panel_knows_widgets() -> None:
    for path in FILES:
        if path.relative_to(PACKAGE).parts[0] == "panel":
            continue
        uses = "import qt" in path.read_text(encoding="utf-8")
        assert not uses or path.name == "timers.py", path


@pytest.mark.parametrize("path", [MODULE / "RadGSReg.py", *FILES], ids=lambda path: path.name)
def test_files_are_small_and_functions_take_few_parameters(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= (400 if path.parent == MODULE else 350)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            names = [arg.arg for arg in given if arg.arg not in ("self", "cls")]
            assert len(names) <= 8, node.name


def test_every_room_says_what_is_in_it() -> None:
    for path in (PACKAGE / "__init__.py", *PACKAGE.glob("*/__init__.py")):
        assert (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").endswith(".")
