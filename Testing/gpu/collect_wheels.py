"""Collects what `measure.py` needs on a machine with a GPU and without a network.

    python Testing/gpu/collect_wheels.py fetch --to .wheels --python 3.12 [--load-mib 60]
    python Testing/gpu/collect_wheels.py install .wheels/load-* --to /tmp/site
    PYTHONPATH=/tmp/site python Testing/gpu/measure.py --out figures

The first line runs where there is a package index, the others on the machine. torch, built for
CUDA, must be there already: its wheels are gigabytes and come from an index of their own; so must
numpy, scipy and Pillow, or they are named with ``--also``. With ``--load-mib`` wheels are cut into
loads of at most so many MiB, to be brought one after the other, and joined again by ``install``.
gsplat is only needed for its own part, compiles itself with nvcc, and needs ninja, jaxtyping and
rich: ``--also gsplat ninja jaxtyping rich wadler-lindig``.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

# What the library loads, whatever it is asked to do, beside what the docstring names.
NEEDED = ("warp-lang", "SimpleITK", "pydicom")
PLATFORMS = tuple(f"manylinux_2_{n}_x86_64" for n in (39, 35, 34, 31, 28, 27, 24, 17)) + (
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
)
CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
_PIECE = re.compile(r"\.piece-(\d+)$")


def pinned(name: str) -> str:
    """The requirement, at the version that the tests were run with where there is one."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    known = {line.partition("==")[0].lower(): line for line in lines if "==" in line}
    return known.get(name.lower(), name)


def fetch(names: Sequence[str], python: str, to: Path) -> list[Path]:
    """Download wheels for a Python on Linux, without what they need in turn."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", python, "--implementation", "cp", "--dest", str(to)]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    subprocess.run([*command, *map(pinned, names)], check=True)
    return sorted(to.glob("*.whl"))


def cut(wheels: Sequence[Path], to: Path, load_bytes: int) -> list[Path]:
    """Cut wheels into loads (folders) of at most so many bytes."""
    loads: list[Path] = []
    room = 0
    for wheel in wheels:
        with wheel.open("rb") as whole:
            number = 0
            while True:
                if room == 0:
                    loads.append(to / f"load-{len(loads) + 1}")
                    loads[-1].mkdir(parents=True)
                    room = load_bytes
                piece = whole.read(room)
                if not piece:
                    break
                (loads[-1] / f"{wheel.name}.piece-{number:03}").write_bytes(piece)
                room, number = room - len(piece), number + 1
    if loads and not any(loads[-1].iterdir()):
        loads.pop().rmdir()
    return loads


def join(loads: Sequence[Path], to: Path) -> list[Path]:
    """Join the pieces of wheels again; wheels that are whole are taken as they are.

    Raises FileNotFoundError where a piece between others is missing.
    """
    pieces: dict[str, dict[int, Path]] = {}
    for path in (path for load in loads for path in load.iterdir()):
        cut_up = _PIECE.search(path.name)
        name = path.name[: cut_up.start()] if cut_up else path.name
        pieces.setdefault(name, {})[int(cut_up[1]) if cut_up else 0] = path
    for name, parts in pieces.items():
        if sorted(parts) != list(range(len(parts))):
            raise FileNotFoundError(f"of {name} there are only pieces {sorted(parts)}")
        with (to / name).open("wb") as whole:
            for number in range(len(parts)):
                whole.write(parts[number].read_bytes())
    return [to / name for name in sorted(pieces)]


def install(loads: Sequence[Path], to: Path) -> None:
    """Install loads into a folder, without a network."""
    with tempfile.TemporaryDirectory() as folder:
        wheels = join(loads, Path(folder))
        command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--upgrade"]
        subprocess.run([*command, "--target", str(to), *map(str, wheels)], check=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetch or install."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    fetching = actions.add_parser("fetch", help="where there is a package index")
    fetching.add_argument("--to", type=Path, required=True)
    fetching.add_argument("--python", default=f"{sys.version_info[0]}.{sys.version_info[1]}")
    fetching.add_argument("--also", nargs="*", default=[], metavar="PACKAGE")
    fetching.add_argument("--load-mib", type=float, default=1e6)
    installing = actions.add_parser("install", help="on the machine")
    installing.add_argument("loads", type=Path, nargs="+")
    installing.add_argument("--to", type=Path, required=True)
    asked = parser.parse_args(arguments)
    if asked.action == "install":
        install(asked.loads, asked.to)
        return
    with tempfile.TemporaryDirectory() as folder:
        wheels = fetch([*NEEDED, *asked.also], asked.python, Path(folder))
        for load in cut(wheels, asked.to, round(asked.load_mib * 2**20)):
            size = sum(path.stat().st_size for path in load.iterdir())
            print(f"{load}: {size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
