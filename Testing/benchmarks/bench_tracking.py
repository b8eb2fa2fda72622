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
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from RadGSRegLib.cases import Case, read_ct, read_segmentation, run_of
from RadGSRegLib.evaluation import FrameTruth, Truth, frame_rows, track_drift_mm, track_figures
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
    """What came of a run, against its truth; ``spent``: seconds of the clock and the processor."""
    points_ct = np.array(truth["points_ct"])
    frames = tuple(
        FrameTruth(np.array(frame["ct_to_world"]), bool(frame["blank"]))
        for frame in truth["frames"]
    )
    known = Truth(np.array(truth["ct_to_world"]), points_ct, "", frames=frames)
    rows = frame_rows(track, known, points_ct)
    drift = track_drift_mm(track, known, points_ct)
    following = spent[0] - track.timing_s["register"]
    return {
        "rows": [{**asdict(row), "silent_failure": row.is_silent_failure} for row in rows],
        **asdict(track_figures(rows, drift, spent[0])),
        "seconds": spent[0],
        "cpu_s": spent[1],
        "following_per_s": (len(rows) - 1) / max(following, 1e-9),
        "frames_per_cpu_s": len(rows) / spent[1],
        "anchor": track.anchor,
        "said": track.reason,
    }


def _line(row: dict[str, Any]) -> str:
    gaps = [f for f in row["rows"] if f["blank"]]
    gap = (
        f"{max(f['smoothed_mm'] for f in gaps):.1f} "
        f"({max(f['smoothed_mm'] / f['smoothed_expected_mm'] for f in gaps):.1f} deviations)"
        if gaps
        else ""
    )
    within = row["within_twice_expected"]
    return (
        f"| {row['seed']} | {_mm(row['median_mm'])}, {_mm(row['largest_mm'])} | "
        f"{_mm(row['smoothed_largest_mm'])} | {row['ok']} of {row['shown']} | "
        f"{'' if within is None else f'{100 * within:.0f} %'} | "
        f"{row['silent_failures']} | {_mm(row['drift_mm'])} | {gap} | "
        f"{row['frames_per_s']:.2f}, {row['following_per_s']:.2f} | "
        f"{row['frames_per_cpu_s']:.2f} | "
        f"{row['said']} |"
    )


def _mm(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


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
