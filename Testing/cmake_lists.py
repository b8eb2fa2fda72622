"""The lists of files in the CMakeLists.txt of the module and of the library.

CMake gets every file by name (a build that globs misses new files). Run this file to bring the
lists up to date with the files that git knows or would add; a test holds that they are.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

SCRIPTS = "PYTHON_SCRIPTS"
RESOURCES = "PYTHON_RESOURCES"
MODELS = "MODELS"


def files_of(folder: str) -> list[str]:
    """The files under a folder of the checkout, relative to it, without ignored ones."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", folder]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / line for line in listed.splitlines()]
    return sorted({p.relative_to(ROOT / folder).as_posix() for p in paths if p.is_file()})


def wanted(folder: str) -> dict[str, list[str]]:
    """What the lists of a folder's CMakeLists.txt have to hold."""
    files = [f for f in files_of(folder) if f not in ("CMakeLists.txt", "ruff.toml")]
    scripts = [f for f in files if f.endswith(".py")]
    if folder == "RadGSReg":  # the module itself comes first
        scripts.sort(key=lambda name: ("/" in name, name))
    lists = {SCRIPTS: scripts, RESOURCES: [f for f in files if not f.endswith(".py")]}
    if MODELS in _kinds(folder):
        lists[MODELS] = files_of("Resources/Models")
    return lists


def _kinds(folder: str) -> tuple[str, ...]:
    """The lists that a folder's CMakeLists.txt has."""
    return (SCRIPTS, RESOURCES, MODELS) if folder == "RadGSRegLib" else (SCRIPTS, RESOURCES)


def _pattern(kind: str) -> re.Pattern[str]:
    return re.compile(rf"(set\(\w+_{kind}\n)(.*?)(  \)\n)", re.DOTALL)


def listed(folder: str) -> dict[str, list[str]]:
    """What the lists of a folder's CMakeLists.txt hold."""
    text = (ROOT / folder / "CMakeLists.txt").read_text(encoding="utf-8")
    out = {}
    for kind in _kinds(folder):
        match = _pattern(kind).search(text)
        if match is None:
            raise ValueError(f"{folder}/CMakeLists.txt has no list {kind}")
        out[kind] = match[2].replace("${MODULE_NAME}", "RadGSReg").split()
    return out


def update(folder: str) -> bool:
    """Rewrite the lists; returns whether anything changed."""
    path = ROOT / folder / "CMakeLists.txt"
    old = text = path.read_text(encoding="utf-8")
    for kind, names in wanted(folder).items():
        lines = "".join(f"  {name}\n" for name in names)
        match = _pattern(kind).search(text)
        if match is None:
            raise ValueError(f"{folder}/CMakeLists.txt has no list {kind}")
        text = text[: match.start(2)] + lines + text[match.end(2) :]
    if text != old:
        path.write_text(text, encoding="utf-8")
    return text != old


if __name__ == "__main__":
    for name in ("RadGSReg", "RadGSRegLib"):
        print(f"{name}: {'updated' if update(name) else 'up to date'}")
    sys.exit(0)
