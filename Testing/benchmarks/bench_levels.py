"""The levels that X-rays tell: how often right, and how often named where nothing tells them.

    python Testing/benchmarks/bench_levels.py [--seeds 77900 50] [--model LEVELS.safetensors]

Phantoms that no training has used, whole trunks with up to three vertebrae above T12, are X-rayed
four times each: about a vertebra drawn from T12 to L5, realistic and hard, with a detector of 298
mm; and about L2 or L3 with one of 180 mm, which leaves sacrum and ribs out of most pictures. No
click, no CT, no start. Prints the shares, with the counts: of cases in which some view shows an
anchor ("whole"), a part of one at most ("cut"), or nothing of any ("none").
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from levels_scenes import Shot, shoot, shown_in_all, whole_spine

from RadGSRegLib.cases import middle_of_views
from RadGSRegLib.networks import load_levels, name_levels, shipped_weights
from RadGSRegLib.phantom import MOBILE_LEVELS
from RadGSRegLib.system import one_torch_thread
from RadGSRegLib.views import prepare_views

RIGHT_MM = 15.0


def shots(seed: int) -> list[tuple[str, str, Shot]]:
    """(kind, target, X-rays) of one phantom."""
    rng = np.random.default_rng([seed, 3])
    phantom = whole_spine(seed, int(rng.integers(0, 4)))
    out = []
    for number, (kind, realism, detector, levels) in enumerate(
        (
            ("wide", "realistic", 298.0, MOBILE_LEVELS),
            ("wide", "hard", 298.0, MOBILE_LEVELS),
            ("narrow", "realistic", 180.0, ("L2", "L3")),
            ("narrow", "hard", 180.0, ("L2", "L3")),
        )
    ):
        target = str(rng.choice(levels))
        shot = shoot(phantom, target, 10 * seed + number, realism=realism, detector_mm=detector)
        out.append((f"{kind}, {realism}", target, shot))
    return out


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs=2, default=(77900, 50), metavar=("FIRST", "N"))
    parser.add_argument("--model", type=Path, default=shipped_weights("levels"))
    args = parser.parse_args()
    network = load_levels(args.model)
    count: Counter[tuple[str, str]] = Counter()
    seconds = []
    for seed in range(args.seeds[0], args.seeds[0] + args.seeds[1]):
        for kind, target, shot in shots(seed):
            began = time.perf_counter()
            with one_torch_thread():
                spine = name_levels(prepare_views(shot.views), network, middle_of_views(shot.views))
            seconds.append(time.perf_counter() - began)
            group = f"anchor {shot.anchor}"
            for name in (group, f"{group}, {kind}"):
                count[name, "cases"] += 1
                count[name, "named"] += any(v.level for v in spine.vertebrae)
                count[name, f"by {spine.anchor}"] += 1
                for level in shown_in_all(shot):
                    if level not in ("T9", "T10"):
                        first = spine.likeliest(level)[:1]
                        right = any(_at(v.place_world, shot, level) for v in first)
                        count[name, "levels"] += 1
                        count[name, "levels right"] += right
                        count[name, "candidates"] += any(
                            _at(v.place_world, shot, level) for v in spine.vertebrae
                        )
                        if level == target:
                            count[name, "targets"] += 1
                            count[name, "targets right"] += right
                for vertebra in spine.vertebrae:
                    if vertebra.level:
                        there = vertebra.level in shot.places
                        right = there and _at(vertebra.place_world, shot, vertebra.level)
                        count[name, "names"] += 1
                        count[name, "names right"] += right
            print(seed, kind, target, shot.anchor, _told(spine), flush=True)
    print(f"\n{len(seconds)} cases, {np.median(seconds):.2f} s each (median)\n")
    for name in sorted({key[0] for key in count}):
        row = {key[1]: value for key, value in count.items() if key[0] == name}
        print(f"{name}: {row['cases']} cases, {row['named']} with names", end="")
        for whole in ("targets", "levels", "names"):
            total, right = row.get(whole, 0), row.get(f"{whole} right", 0)
            share = f" ({100.0 * right / total:.1f} %)" if total else ""
            print(f"; {whole} right {right} of {total}{share}", end="")
        print(f"; candidates at {row.get('candidates', 0)} of the levels;", end=" ")
        print({key: n for key, n in row.items() if key.startswith("by ")})


def _at(place: np.ndarray, shot: Shot, level: str) -> bool:
    return bool(np.linalg.norm(place - shot.places[level]) <= RIGHT_MM)


def _told(spine: object) -> str:
    names = " ".join(v.level or "?" for v in spine.vertebrae)  # type: ignore[attr-defined]
    anchors = ", ".join(f"{n} {x:.2f}" for n, x in spine.anchors.items())  # type: ignore[attr-defined]
    return f"{names} ({anchors})"


if __name__ == "__main__":
    main()
