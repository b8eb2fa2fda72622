"""How many training pairs are simulated in a second: together, and by the full simulator.

    python Testing/benchmarks/bench_pairs.py [--case CASE.json ...] [--device cuda] [--out FILE]

A pair is two views' crops of a new pose, 128 pixels of 1 mm, which networks see as 64 of 2 mm. Both
ways are measured in turns, in one run, on as many threads as there are cores (on CUDA: one): the
full simulator, which made the pairs before (`training.samples.simulate_fully`), and the batch
(`draw_samples`). Then each step's share of a pair of the batch, on one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from statistics import median
from typing import Any

import torch

from RadGSRegLib.cases import read_ct_case
from RadGSRegLib.phantom import LABELS, make_phantom, random_spine
from RadGSRegLib.simulation import batch, exposure, rays
from RadGSRegLib.system import one_torch_thread
from RadGSRegLib.system.parallel import core_count
from RadGSRegLib.training import samples
from RadGSRegLib.training.patient import patient_source
from RadGSRegLib.training.samples import SampleOptions, draw_samples, simulate_fully
from RadGSRegLib.training.subjects import Subject, make_subject

OPTIONS = SampleOptions()
STEPS = {
    "poses, bodies, device drawn": (batch, "draw_case"),
    "tables of bodies and rays": (rays, "_tables"),
    "rays": (rays, "_follow"),
    "spectrum": (exposure, "_transmitted"),
    "scatter": (exposure, "_with_scatter"),
    "blur": (exposure, "_blurred"),
    "noise": (exposure, "_detected"),
    "display": (exposure, "_displayed"),
    "cleaned and scaled": (samples, "prepare_pictures"),
}


def phantoms() -> Iterator[tuple[str, Callable[[], Subject]]]:
    """Vertebrae of the procedural spine: among seven at 2 mm, and with its neighbours cut off."""
    spine = make_phantom(random_spine(3), 2.0, "lumbar")
    yield "phantom, 2 mm, 7 vertebrae", lambda: make_subject(spine.ct, spine.labels, LABELS["L3"])
    bone = make_phantom(random_spine(5), 1.5, "L3")
    yield "phantom, 1.5 mm, 3 vertebrae", lambda: make_subject(bone.ct, bone.labels, LABELS["L3"])


def speed(
    run: Callable[[int], object], count: int, threads: int, device: str
) -> tuple[float, float]:
    """Calls of ``run`` in a second of wall time, and seconds of all cores that one takes."""
    with ThreadPoolExecutor(threads) as pool:
        begin, cores = time.perf_counter(), time.process_time()
        list(pool.map(run, range(count)))
        if device != "cpu":
            torch.cuda.synchronize()
        cores = time.process_time() - cores
        return count / (time.perf_counter() - begin), cores / count


@contextmanager
def clocks(device: str) -> Iterator[dict[str, float]]:
    """Seconds spent in each of `STEPS`, while in here."""
    spent = dict.fromkeys(STEPS, 0.0)
    kept: list[tuple[Any, str, Any]] = []

    def clocked(step: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(inner)
        def run(*arguments: Any) -> Any:
            begin = time.perf_counter()
            result = inner(*arguments)
            if device != "cpu":
                torch.cuda.synchronize()
            spent[step] += time.perf_counter() - begin
            return result

        return run

    for step, (place, name) in STEPS.items():
        kept.append((place, name, getattr(place, name)))
        setattr(place, name, clocked(step, getattr(place, name)))
    try:
        yield spent
    finally:
        for place, name, inner in kept:
            setattr(place, name, inner)


def measure(name: str, make: Callable[[], Subject], args: argparse.Namespace) -> dict[str, Any]:
    """Measure one vertebra."""
    begin = time.perf_counter()
    subject = make()
    subject.on(args.device)
    prepared = time.perf_counter() - begin
    threads = core_count() if args.device == "cpu" else 1
    kind = torch.device(args.device).type
    if args.together:
        samples._TOGETHER[kind] = args.together
    together = samples._TOGETHER[kind]

    def batched(n: int) -> object:
        seeds = range(n * together, (n + 1) * together)
        return draw_samples([subject] * together, OPTIONS, list(seeds), args.device)

    batched(0)
    full, fast = [], []
    for _ in range(args.rounds):
        full.append(
            speed(lambda n: simulate_fully(subject, OPTIONS, n), args.pairs, threads, "cpu")
        )
        count = max(4 * args.pairs // together, threads)
        calls, cores = speed(batched, count, threads, args.device)
        fast.append((together * calls, cores / together))
    with clocks(args.device) as spent:
        begin = time.perf_counter()
        for n in range(args.pairs):
            draw_samples([subject], OPTIONS, [n], args.device)
        whole = time.perf_counter() - begin
    steps = {step: 1e3 * seconds / args.pairs for step, seconds in spent.items()}
    steps["everything else"] = 1e3 * whole / args.pairs - sum(steps.values())
    return {
        "vertebra": name,
        "prepared_s": prepared,
        "full_per_s": median(a for a, _ in full),
        "batch_per_s": median(b for b, _ in fast),
        "ratio": median(b / a for (a, _), (b, _) in zip(full, fast, strict=True)),
        "full_core_ms": 1e3 * median(a for _, a in full),
        "batch_core_ms": 1e3 * median(b for _, b in fast),
        "ms": steps,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", type=Path, action="append", default=[], help="a case.json")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, default=16, help="of the full simulator, a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--together", type=int, help="pairs of a launch, if not as many as in training"
    )
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    sources = list(phantoms())
    for path in args.case:
        case = read_ct_case(path)
        label = f"{path.parent.name}, {case.ct.spacing.min():.3g} mm"
        sources.append((label, patient_source(case).subject))
    with one_torch_thread():
        rows = [measure(name, make, args) for name, make in sources]
    heads = ["vertebra", "full simulator, pairs/s", "batch, pairs/s", "ratio, median"]
    heads += ["full simulator, ms of a core", "batch, ms of a core", "prepared once, s"]
    print(f"| {' | '.join(heads)} |")
    print("| --- |" + " ---: |" * 6)
    for row in rows:
        print(
            f"| {row['vertebra']} | {row['full_per_s']:.1f} | {row['batch_per_s']:.0f} |"
            f" {row['ratio']:.1f} | {row['full_core_ms']:.0f} | {row['batch_core_ms']:.0f} |"
            f" {row['prepared_s']:.2f} |"
        )
    print("\n| step of a pair, one thread | " + " | ".join(r["vertebra"] for r in rows) + " |")
    print("| --- |" + " ---: |" * len(rows))
    for step in rows[0]["ms"]:
        parts = [(row["ms"][step], sum(row["ms"].values())) for row in rows]
        cells = " | ".join(f"{ms:.1f} ms, {100 * ms / all_ms:.0f} %" for ms, all_ms in parts)
        print(f"| {step} | {cells} |")
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
