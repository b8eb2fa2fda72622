"""One X-ray alone, registered: errors across and along its line of sight, and what was expected.

    python Testing/benchmarks/bench_one_view.py [--cases l3-clean-1 ...] [--json rows.jsonl]
    python Testing/benchmarks/bench_one_view.py --seeds 81724 81732 [--realism realistic]
        [--anatomy phantom|trunk|ct] [--clicks | --clicks-alone] [--label-off 1]
    python Testing/benchmarks/bench_one_view.py --table rows.jsonl more.jsonl

Each view of the shared cases (or of simulated phantoms, or of the 3 mm CT of the shared data) by
itself, from the case's start (off by up to 20 degrees about and 50 mm along each axis), from that
and a click (``--clicks``) or from a click and no start. A row has the mean distances of the
surface, mm: across the line of sight, along it (with the sign of the shift away from the source),
what was expected of both, mTRE, status, and seconds of the clock and of the processor.
``--label-off 1``: the start is at the vertebra below,
-1: above; the label stays. The table has the share of poses below 1 mm (SMSR), medians, and the
share of errors within once and twice the expected ones. Silent failures: `ok` with 2 mm or more.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from RadGSRegLib.cases import Case, labels_of, read_case, read_ct, read_segmentation, read_start
from RadGSRegLib.geometry import Array, Rigid, centroid
from RadGSRegLib.measures import mtre
from RadGSRegLib.registration import RegistrationOptions, register_case
from RadGSRegLib.simulation import SimulationParameters, simulate_case, simulate_phantom_case

DATA = Path(os.environ.get("RADGSREG_DATA", "../shared/data"))
L3_OF_THE_CT = 29


def cases(args: argparse.Namespace) -> Iterator[tuple[str, Case, Array, Array, Array]]:
    """Yield names, cases, true poses (4, 4), starts (4, 4) and points (N, 3) of the surface."""
    for seed in range(*args.seeds) if args.seeds else ():
        parameters = SimulationParameters.preset(args.realism)
        if args.anatomy == "ct":
            ct = read_ct(DATA / "ct/lumbar3mm_ct.nii.gz")
            labels = read_segmentation(DATA / "ct/lumbar3mm_vertebrae.nii.gz")
            array = ct.with_array(labels.array[0])
            made = simulate_case(ct, array, L3_OF_THE_CT, parameters, seed)
        else:
            field = "crop" if args.anatomy == "phantom" else "trunk"
            made = simulate_phantom_case(seed, parameters, field=field)
        truth = made.truth
        pose, start = (np.array(truth[key]) for key in ("ct_to_world", "start_ct_to_world"))
        yield f"{args.anatomy}-{args.realism}-{seed}", made.case, pose, start, truth["points_ct"]
    if args.seeds:
        return
    for folder in sorted((DATA / "cases").iterdir()):
        if not args.cases or folder.name in args.cases:
            truth = json.loads((folder / "truth.json").read_text())
            start = read_start(folder / "start.json")
            pose = np.array(truth["ct_to_world"])
            yield folder.name, read_case(folder / "case.json"), pose, start, truth["points_ct"]


def one_level_off(case: Case, true: Array, start: Array, side: int) -> Array:
    """A start (4, 4) moved from a case's vertebra to the next one up (-1) or down (1)."""
    centres = {
        label: centroid(case.ct, case.labels.array == label) for label in labels_of(case, "all")
    }
    below = sorted(centres, key=lambda label: -centres[label][2])
    beside = below[below.index(case.label) + side]
    moved = np.array(start)
    moved[:3, 3] += true[:3, :3] @ (centres[beside] - centres[case.label])
    return moved


def errors_mm(pose: Array, true: Array, points_ct: Array, source_world: Array) -> Array:
    """How far the surface is off across the line of sight (mean), and along it (with a sign)."""
    there = Rigid(true).apply(points_ct)
    sight = there.mean(axis=0) - source_world
    sight /= np.linalg.norm(sight)
    off = Rigid(pose).apply(points_ct) - there
    along = off @ sight
    across = np.linalg.norm(off - along[:, None] * sight, axis=1)
    return np.array([across.mean(), along.mean()])


def rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the figures of each view."""
    options = RegistrationOptions()
    for name, whole, true, start, listed in cases(args):
        points = np.asarray(listed)
        begun = one_level_off(whole, true, start, args.label_off) if args.label_off else start
        for view in whole.views:
            clicks = args.clicks or args.clicks_alone
            clicked = replace(view, center_px=view.center_px if clicks else None)
            case = replace(whole, views=(clicked,))
            began, busy = time.perf_counter(), time.process_time()
            done = register_case(case, None if args.clicks_alone else begun, options)
            spent = time.perf_counter() - began, time.process_time() - busy
            across, along = errors_mm(done.ct_to_world, true, points, view.camera.source_world)
            quality = done.quality
            yield {
                "group": name.rpartition("-")[0],
                "view": f"{name} {view.name}",
                "status": done.status,
                "mtre_mm": mtre(points, done.ct_to_world, true),
                "across_mm": float(across),
                "along_mm": float(along),
                "expected_mm": [quality["in_plane_error_mm"], quality["depth_error_mm"]],
                "profile_mm": quality["depth_profile_mm"],
                "score": quality["weakest_score"],
                "seconds": spent,
                "reason": done.reason,
            }


def table(told: Sequence[dict[str, Any]]) -> None:
    """Print what rows come to, by their groups."""
    print("\n| cases | views | SMSR | mTRE, median | across: median, 95 %, most | ", end="")
    print("along: median, rms, most | across within 1, 2 | along within 1, 2 | ok, silent | s |")
    print("| --- " * 10 + "|")
    groups = dict.fromkeys(row["group"] for row in told)
    for group in [*groups, "all"]:
        own = [row for row in told if group in ("all", row["group"])]
        off, across, along = (
            np.abs([row[key] for row in own]) for key in ("mtre_mm", "across_mm", "along_mm")
        )
        expected = np.array([row["expected_mm"] for row in own]).T
        within = [
            ", ".join(f"{100 * np.mean(error <= k * said):.0f} %" for k in (1, 2))
            for error, said in zip((across, along), expected, strict=True)
        ]
        sure = [row for row in own if row["status"] == "ok"]
        silent = sum(row["mtre_mm"] >= 2.0 for row in sure)
        seconds = np.median([row["seconds"] for row in own], axis=0)
        print(
            f"| {group} | {len(own)} | {100 * np.mean(off < 1.0):.0f} % | {np.median(off):.2f} | "
            f"{np.median(across):.2f}, {np.percentile(across, 95):.2f}, {across.max():.2f} | "
            f"{np.median(along):.1f}, {np.sqrt(np.mean(along**2)):.1f}, {along.max():.1f} | "
            f"{within[0]} | {within[1]} | {len(sure)}, {silent} | "
            f"{seconds[0]:.0f} ({seconds[1]:.0f}) |"
        )


def main() -> None:
    """Print a row for each view, then what they come to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="*", default=[])
    parser.add_argument("--seeds", nargs=2, type=int, default=[])
    parser.add_argument("--realism", default="realistic")
    parser.add_argument("--anatomy", choices=("phantom", "trunk", "ct"), default="phantom")
    parser.add_argument("--clicks", action="store_true")
    parser.add_argument("--clicks-alone", action="store_true")
    parser.add_argument("--label-off", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", nargs="+", type=Path, default=[])
    args = parser.parse_args()
    if args.table:
        lines = [line for path in args.table for line in path.read_text().splitlines()]
        table([json.loads(line) for line in lines])
        return
    told = []
    print("| view | status | mTRE | across (expected) | along (expected) | score | s (cpu) |")
    print("| --- " * 7 + "|")
    for row in rows(args):
        told.append(row)
        expected = row["expected_mm"]
        print(
            f"| {row['view']} | {row['status']} | {row['mtre_mm']:.2f} | {row['across_mm']:.2f} "
            f"({expected[0]:.2f}) | {row['along_mm']:+.2f} ({expected[1]:.2f}) | "
            f"{row['score']:.2f} | {row['seconds'][0]:.0f} ({row['seconds'][1]:.0f}) |",
            flush=True,
        )
        if args.json is not None:
            with args.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    table(told)


if __name__ == "__main__":
    main()
