"""Files have one subject, and functions few parameters."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY, SLICER = ROOT / "RadGSRegLib", ROOT / "RadGSReg" / "RadGSRegSlicer"


@pytest.mark.parametrize(("folder", "most"), [(LIBRARY, 400), (SLICER, 350)])
def test_no_file_is_too_long(folder: Path, most: int) -> None:
    files = sorted(folder.rglob("*.py"))
    assert len(files) > 20
    lengths = {str(f.relative_to(ROOT)): len(f.read_text().splitlines()) for f in files}
    assert {name: length for name, length in lengths.items() if length > most} == {}


def _is_kernel(function: ast.FunctionDef) -> bool:
    """Warp's kernels are given each array on its own."""
    return any("wp." in ast.unparse(decorator) for decorator in function.decorator_list)


@pytest.mark.parametrize("folder", [LIBRARY, SLICER])
def test_no_function_has_more_than_eight_parameters(folder: Path) -> None:
    many = []
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and not _is_kernel(node):
                names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
                names += [a.arg for a in node.args.kwonlyargs]
                if len([name for name in names if name not in ("self", "cls")]) > 8:
                    many.append(f"{file.relative_to(ROOT)}: {node.name}")
    assert many == []
