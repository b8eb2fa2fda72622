"""Runs of fluoroscopy: how well a bone is followed, how fast, and what is said of it.

    python Testing/benchmarks/bench_tracking.py --seeds 82310 82313 [--frames 60] [--blank 25:35]
        [--motion-mm 5] [--motion-deg 3] [--anatomy phantom|trunk|ct] [--realism realistic]
        [--trouble none|late|one-plane] [--size-px 488] [--steps 4 3]

Simulated runs of two planes (`simulation.simulate_run`), from clicks in the first frame. For each
seed: the errors (mTRE, mm) of frames as measured and of frames as smoothed, how many frames are
`ok`, the drift (the length of the mean error of the surface's centre over the last ten frames less
that over the first ten), frames a second of the clock and of the processor with the first
registration and without, blank frames, and how far off the smoothed pose is in these, in the
deviations that it says. Silent failures: `ok` with 2 mm or more, and `ok` of a blank frame.

``--trouble``: *late*: the second view shows each frame one later than the first, as planes that are
not in step; *one-plane*: the first view alone, from the true start. ``--anatomy``: the phantom's
L3 with its neighbours' edges, a trunk of it, or the 3 mm CT of the shared data.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from RadGSRegLib.cases import Case, read_ct, read_segmentation, run_of
from RadGSRegLib.geometry import Array, transform_points
from RadGSRegLib.simulation import (
    Motion,
    SimulationParameters,
    simulate_phantom_case,
    simulate_run,
)
from RadGSRegLib.tracking import Track, bounds, track_case

DATA = Path(__file__).resolve().parents[2].parent / "shared/data"
_OF_THE_CT = {26: "S1", 27: "L5", 28: "L4", 29: "L3", 30: "L2", 31: "L1", 32: "T12", 33: "T11"}


def anatomy(seed: int, args: argparse.Namespace) -> Case:
    """A CT with named labels whose own vertebra is L3; its X-rays are of no use."""
    small = SimulationParameters.preset("clean").with_field(200.0, 16)
    if args.anatomy != "ct":
        field = "crop" if args.anatomy == "phantom" else "trunk"
        return simulate_phantom_case(seed, small, field=field).case
    ct = read_ct(args.data / "ct/lumbar3mm_ct.nii.gz")
    labels = read_segmentation(args.data / "ct/lumbar3mm_vertebrae.nii.gz")
    return Case(ct, ct.with_array(labels.array[0]), 29, (), label_names=_OF_THE_CT)


def measured(seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One seed's figures."""
    known = anatomy(seed, args)
    motion = Motion(args.frames, args.motion_mm, args.motion_deg, args.blank)
    parameters = SimulationParameters.preset(args.realism)
    seen_mm = parameters.size_px * parameters.pixel_mm
    seen_mm *= parameters.source_isocentre_mm / parameters.source_detector_mm
    parameters = parameters.with_field(seen_mm, args.size_px)
    simulated = simulate_run(
        known.ct,
        known.labels,
        known.label,
        motion,
        parameters,
        seed,
        label_names=dict(known.label_names),
    )
    names = [view.name for view in simulated.case.views]
    pictures = [[frame[name] for name in names] for frame in simulated.pictures()]
    case, start = simulated.case, None
    if args.trouble == "late":
        pictures = [[frame[0], pictures[max(n - 1, 0)][1]] for n, frame in enumerate(pictures)]
    if args.trouble == "one-plane":
        pictures = [frame[:1] for frame in pictures]
        case = replace(case, views=case.views[:1])
        start = np.array(simulated.truth["ct_to_world"])
    began, busy = time.perf_counter(), time.process_time()
    track = track_case(run_of(case, pictures), start)
    spent = time.perf_counter() - began, time.process_time() - busy
    return {"seed": seed, **figures(track, simulated.truth, spent)}


def figures(track: Track, truth: dict[str, Any], spent: tuple[float, float]) -> dict[str, Any]:
    """What came of a run, against its truth."""
    points = np.array(truth["points_ct"])
    true = [np.array(frame["ct_to_world"]) for frame in truth["frames"]]
    blank = [bool(frame["blank"]) for frame in truth["frames"]]

    def apart(pose: Array, number: int) -> Array:
        return transform_points(pose, points) - transform_points(true[number], points)

    def mtre(pose: Array, number: int) -> float:
        return float(np.linalg.norm(apart(pose, number), axis=1).mean())

    rows = [
        {
            "frame": frame.index,
            "status": frame.status,
            "found": frame.found,
            "blank": blank[frame.index],
            "mtre_mm": None if frame.ct_to_world is None else mtre(frame.ct_to_world, frame.index),
            "smoothed_mm": mtre(frame.smoothed_ct_to_world, frame.index),
            "smoothed_expected_mm": frame.smoothed_error_mm,
            "expected_mm": frame.expected_error_mm,
            "score": min(frame.scores.values(), default=None),
            "reason": frame.reason,
        }
        for frame in track.frames
    ]
    shown = [f for f in track.frames if f.ct_to_world is not None]
    means = [apart(f.ct_to_world, f.index).mean(0) for f in shown if f.ct_to_world is not None]
    drift = np.linalg.norm(np.mean(means[-10:], 0) - np.mean(means[:10], 0)) if shown else np.nan
    following = spent[0] - track.timing_s["register"]
    return {
        "rows": rows,
        "drift_mm": float(drift),
        "seconds": spent[0],
        "cpu_s": spent[1],
        "frames_per_s": len(rows) / spent[0],
        "following_per_s": (len(rows) - 1) / max(following, 1e-9),
        "frames_per_cpu_s": len(rows) / spent[1],
        "anchor": track.anchor,
        "said": track.reason,
    }


def silent(row: dict[str, Any]) -> bool:
    """Whether a frame is `ok` and should not be."""
    return row["status"] == "ok" and (row["blank"] or row["mtre_mm"] >= 2.0)


def _line(row: dict[str, Any]) -> str:
    frames = row["rows"]
    errors = [f["mtre_mm"] for f in frames if f["mtre_mm"] is not None] or [np.nan]
    ok = [f for f in frames if f["status"] == "ok"]
    smoothed = [f["smoothed_mm"] for f in frames if not f["blank"]]
    gaps = [f for f in frames if f["blank"]]
    gap = (
        f"{max(f['smoothed_mm'] for f in gaps):.1f} "
        f"({max(f['smoothed_mm'] / f['smoothed_expected_mm'] for f in gaps):.1f} deviations)"
        if gaps
        else ""
    )
    within = np.mean([f["mtre_mm"] <= 2.0 * f["expected_mm"] for f in ok]) if ok else np.nan
    return (
        f"| {row['seed']} | {np.median(errors):.2f}, {max(errors):.2f} | {max(smoothed):.2f} | "
        f"{len(ok)} of {len(frames) - len(gaps)} | {100 * within:.0f} % | "
        f"{sum(map(silent, frames))} | {row['drift_mm']:.2f} | {gap} | "
        f"{row['frames_per_s']:.2f}, {row['following_per_s']:.2f} | "
        f"{row['frames_per_cpu_s']:.2f} | "
        f"{row['said']} |"
    )


def _blank(text: str) -> tuple[int, int]:
    first, _, end = text.partition(":")
    return int(first), int(end)


def main() -> None:
    """Print a row for each seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs=2, default=(82310, 82313), metavar=("A", "B"))
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--blank", type=_blank, default=(0, 0), metavar="A:B")
    parser.add_argument("--motion-mm", type=float, default=5.0)
    parser.add_argument("--motion-deg", type=float, default=3.0)
    parser.add_argument("--anatomy", choices=("phantom", "trunk", "ct"), default="phantom")
    parser.add_argument("--realism", default="realistic")
    parser.add_argument("--trouble", choices=("none", "late", "one-plane"), default="none")
    parser.add_argument(
        "--steps",
        type=int,
        nargs=2,
        metavar=("MIDDLE", "FINE"),
        help="steps of the last two stages, in place of those of the bounds",
    )
    parser.add_argument("--size-px", type=int, default=488)
    parser.add_argument("--data", type=Path, default=DATA, help="the shared data")
    parser.add_argument("--rows", type=Path, help="lines of JSON to add to")
    args = parser.parse_args()
    if args.steps is not None:
        bounds.MIDDLE_STEPS, bounds.FINE_STEPS = args.steps
    print(
        "| seed | measured: median, most | smoothed, most | ok | within twice the expected | "
        "silent failures | drift | blank: smoothed, most | frames/s, without the first | "
        "per CPU s | said |"
    )
    print("| --- " * 11 + "|")
    for seed in range(*args.seeds):
        row = measured(seed, args)
        print(_line(row), flush=True)
        if args.rows is not None:
            with args.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
