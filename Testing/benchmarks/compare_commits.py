"""The registrations of this source tree beside those of another commit, in one run.

    python Testing/benchmarks/compare_commits.py CASES_DIR --against COMMIT [--starts clicks,model]

For work that must change no result. Each case is registered in turn by both trees, each in a
process of its own, from clicks, from its start.json, and without either by the shipped weights
(``model``). Prints how far the poses differ (the largest entry of their difference; mm and unitless
alike), whether status and reason are equal, and the ratio of the seconds; exits with 1 where a pose
differs by more than ``--tolerance`` or a verdict differs. CASES_DIR may be given more than once; a
number N in its place stands for N phantoms simulated from ``--seed`` on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def tree_of(commit: str) -> Iterator[Path]:
    """A checkout of a commit, or the folder itself where one is named; gone afterwards."""
    if Path(commit).is_dir():
        yield Path(commit).resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


class Tree:
    """A process that registers cases with the code of one source tree."""

    def __init__(self, tree: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("compare_worker.py")), str(tree)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tree,
        )

    def __call__(self, case: Path, start: str) -> dict[str, Any]:
        """What the tree's code says of a case."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(case), start]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of a tree ended at {case}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def phantoms(count: int, seed: int, folder: Path) -> Path:
    """A folder of realistic phantoms, written with this tree's code."""
    command = [sys.executable, "-m", "RadGSRegLib", "simulate", "--out", str(folder / "phantoms")]
    subprocess.run([*command, "--count", str(count), "--seed", str(seed)], check=True, cwd=ROOT)
    return folder / "phantoms"


def main() -> int:
    """The comparison; 0 where nothing differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("cases", nargs="+", help="folders of cases, or a number of phantoms")
    parser.add_argument("--against", required=True, help="a commit, or the folder of a checkout")
    parser.add_argument("--starts", default="clicks,start,model")
    parser.add_argument("--tolerance", type=float, default=1e-9)
    parser.add_argument("--seed", type=int, default=31000)
    parser.add_argument("--only", default="", help="names of cases, or parts of them, by commas")
    args = parser.parse_args()
    differences, ratios, unequal = [], [], 0
    with tree_of(args.against) as other, tempfile.TemporaryDirectory() as made:
        folders = [
            phantoms(int(name), args.seed, Path(made)) if name.isdigit() else Path(name)
            for name in args.cases
        ]
        paths = sorted(path for folder in folders for path in folder.resolve().rglob("case.json"))
        wanted = args.only.split(",")
        before, after = Tree(other), Tree(ROOT)
        first = (paths[0], args.starts.split(",")[0])
        for tree in (before, after):
            tree(*first)  # kernels are loaded by the first
        turn = 0
        for path in paths:
            if not any(part in path.parent.name for part in wanted):
                continue
            for start in args.starts.split(","):
                if start == "start" and not path.with_name("start.json").is_file():
                    continue
                turn += 1
                order = (before, after) if turn % 2 else (after, before)
                found = {tree: tree(path, start) for tree in order}
                old, new = found[before], found[after]
                differ = float(np.abs(np.subtract(new["pose"], old["pose"])).max())
                same = (old["status"], old["reason"]) == (new["status"], new["reason"])
                differences.append(differ)
                ratios.append(new["seconds"] / old["seconds"])
                unequal += not same
                verdict = new["status"] if same else f"{old['status']} -> {new['status']}"
                print(
                    f"{path.parent.name:24s} {start:7s} {differ:8.1e} {verdict:10s} "
                    f"{old['seconds']:5.1f} s {new['seconds']:5.1f} s {ratios[-1]:5.2f}",
                    flush=True,
                )
        before.close()
        after.close()
    print(
        f"{len(differences)} registrations: poses differ by {max(differences):.1e} at most, "
        f"{unequal} verdicts differ, time ratio {median(ratios):.3f} in the median"
    )
    return int(max(differences) > args.tolerance or unequal > 0)


if __name__ == "__main__":
    sys.exit(main())
