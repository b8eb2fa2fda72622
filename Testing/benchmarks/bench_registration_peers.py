"""Whole registrations, ours and the baselines', on the same cases from the same clicks in one run.

    python Testing/benchmarks/bench_registration_peers.py --out DIR [--cases FOLDER]

FOLDER holds cases with truth (`radgsreg simulate` makes some; by default the shared cases). All
start from the triangulated clicks with the CT's axes parallel to the world's. The baselines get the
vertebra alone (soft tissue taken off), windows of the X-rays around the click, collimated pixels
filled in, and, unlike us, are told whether bone is bright. A baseline that is not installed is left
out, with a line that says so.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from peer_report import describe, machine, markdown, shared_data, write
from peer_views import Problem, correlation, local_similarity, resample

from RadGSRegLib.cases import Case, read_case
from RadGSRegLib.drr import excess_attenuation, project_volume
from RadGSRegLib.errors import InputError
from RadGSRegLib.evaluation import Truth, Yardstick, find_cases, read_truth, start_from_clicks
from RadGSRegLib.gaussians import warm_up
from RadGSRegLib.measures import SUCCESS_MM
from RadGSRegLib.registration import register_case
from RadGSRegLib.views import prepare_view

Array = NDArray[np.float64]
Peer = Callable[[Problem], Array]

OURS = "RadGSReg"


@dataclass(frozen=True)
class Run:
    """One registration: error (mm), seconds, and our own verdict (empty for baselines)."""

    method: str
    case: str
    level: str
    start_mm: float
    mtre_mm: float
    seconds: float
    status: str


def bone_is_bright(case: Case, truth: Truth) -> bool:
    """The polarity that both X-rays have in common, from the true pose: a gift to the baselines."""
    volume = excess_attenuation(case.ct, case.labels, case.label)
    total = 0.0
    for view in case.views[:2]:
        prepared = prepare_view(view)
        if prepared.sign:
            return prepared.sign > 0
        step = max(view.camera.columns // 128, 1)
        small = view.camera.window(
            0.0, 0.0, view.camera.columns // step, view.camera.rows // step, step
        )
        pose = small.world_to_camera @ truth.ct_to_world
        shadow = project_volume(volume, small.intrinsic, pose, small.size).numpy().astype(float)
        image = resample(np.asarray(prepared.pixels, float), view.camera, small)
        # around the vertebra only: farther out the trunk decides
        rows, columns = (np.flatnonzero(shadow.any(axis=a)) for a in (1, 0))
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        total += local_similarity(shadow[box], image[box])
    return total > 0


def baselines(iterations: int) -> tuple[dict[str, Peer], dict[str, Peer], list[str]]:
    """The quick baselines, the slow one, and a line for each that is not installed."""
    quick: dict[str, Peer] = {}
    slow: dict[str, Peer] = {}
    notes = []

    def missing(package: str, error: ImportError) -> None:
        notes.append(f"{package} is left out: it is not installed ({error}).")

    try:
        import peer_rtk

        quick["RTK Joseph + Py-BOBYQA, NCC"] = lambda p: peer_rtk.register(p, correlation)
        name = "RTK Joseph + Py-BOBYQA, local and gradient NCC"
        quick[name] = lambda p: peer_rtk.register(p, local_similarity)
    except ImportError as error:
        missing("itk-rtk or Py-BOBYQA", error)
    try:
        import peer_itk

        quick["itk-twoprojectionregistration"] = peer_itk.register
    except ImportError as error:
        missing("itk-twoprojectionregistration", error)
    try:
        import peer_diffdrr

        name = f"diffdrr Siddon, {iterations} steps of Adam"
        slow[name] = lambda p: peer_diffdrr.register(p, iterations)
    except ImportError as error:
        missing("diffdrr", error)
    return quick, slow, notes


def run_case(folder: Path, peers: dict[str, Peer], threads: int) -> list[Run]:
    """Ours and every baseline on one case, one after the other; reading files is not timed."""
    case = read_case(folder)
    truth = read_truth(folder / "truth.json")
    yardstick = Yardstick(case, truth)
    start = start_from_clicks(case)
    if start is None:
        raise InputError(folder, "has no clicks in two views", "the baselines start from them")
    bright = bone_is_bright(case, truth)
    begin_mm = yardstick.mtre(start)

    def run(method: str, seconds: float, pose: Array, status: str = "") -> Run:
        error = yardstick.mtre(pose)
        return Run(method, folder.name, truth.realism, begin_mm, error, seconds, status)

    torch.set_num_threads(1)  # our kernels bring their own
    began = time.perf_counter()
    result = register_case(case)
    out = [run(OURS, time.perf_counter() - began, result.ct_to_world, result.status)]
    torch.set_num_threads(threads)
    for method, peer in peers.items():
        began = time.perf_counter()
        pose = peer(Problem.of(case, [bright, bright]))
        out.append(run(method, time.perf_counter() - began, pose))
    return out


def summary(runs: list[Run]) -> list[dict[str, Any]]:
    """A row per method and level of realism; ``times_ours`` over the cases that both ran."""
    ours = {r.case: r.seconds for r in runs if r.method == OURS}
    rows = []
    for method in dict.fromkeys(r.method for r in runs):
        mine = [r for r in runs if r.method == method]
        levels = [*sorted({r.level for r in mine}), "all"]
        for level in levels if len(levels) > 2 else ["all"]:
            part = [r for r in mine if level in (r.level, "all")]
            errors = np.array([r.mtre_mm for r in part])
            rows.append(
                {
                    "method": method,
                    "level": level,
                    "cases": len(part),
                    "start_mm": float(np.median([r.start_mm for r in part])),
                    "median_mm": float(np.median(errors)),
                    "success": f"{int((errors < SUCCESS_MM).sum())} of {len(part)}",
                    "seconds": float(np.median([r.seconds for r in part])),
                    "times_ours": float(np.median([r.seconds / ours[r.case] for r in part])),
                }
            )
    return rows


def main() -> int:
    """Run, print and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument("--cases", type=Path, default=shared_data() / "cases")
    parser.add_argument("--most", type=int, help="only so many cases, evenly picked")
    parser.add_argument(
        "--diffdrr", type=int, default=1, help="how many cases diffdrr gets (it is slow)"
    )
    parser.add_argument("--iterations", type=int, default=100, help="diffdrr's steps")
    args = parser.parse_args()
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    place = machine(threads)
    quick, slow, notes = baselines(args.iterations)
    for note in notes:
        print(note)
    warm_up("cpu")
    runs: list[Run] = []
    try:
        cases = find_cases(args.cases)
        if args.most and args.most < len(cases):
            picked = np.linspace(0, len(cases) - 1, args.most).round().astype(int)
            cases = [cases[n] for n in picked]
        for number, folder in enumerate(cases):
            peers = {**quick, **slow} if number < args.diffdrr else quick
            for run in run_case(folder, peers, threads):
                runs.append(run)
                print(
                    f"{run.case}: {run.method}: {run.start_mm:.1f} -> {run.mtre_mm:.2f} mm in "
                    f"{run.seconds:.1f} s {run.status}",
                    flush=True,
                )
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    table = summary(runs)
    silent = sum(r.status == "ok" and r.mtre_mm >= SUCCESS_MM for r in runs)
    header = [
        "method",
        "level",
        "cases",
        "start's mTRE, mm",
        "median mTRE, mm",
        f"under {SUCCESS_MM:g} mm",
        "median s",
        "times as long as ours",
    ]
    text = "\n".join(
        [
            f"{len(cases)} cases, all from the same clicks. Ours wrongly sure of itself: {silent}.",
            "",
            describe(place),
            "",
            markdown(header, [list(row.values()) for row in table]),
            *(["", *notes] if notes else []),
        ]
    )
    print(text)
    content = {
        "machine": place,
        "table": table,
        "runs": [vars(r) for r in runs],
        "silent_failures": silent,
        "notes": notes,
    }
    write(args.out, "registration_peers", content, text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
