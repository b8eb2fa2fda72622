"""The published order on cases with truth: both poses, their distance, and verdicts.

    python Testing/benchmarks/bench_published.py MODEL CASES_DIR [PREFIX] [--clicks] [--other-level]

MODEL is a file, or a folder with CASE.safetensors for every case (others are left out). Without
``--clicks`` nothing says where the vertebra is. Per case: error and verdict of the networks' pose
as it is, seconds to it; error, verdict and seconds of the refined one; the distance of the two, mm
and degrees, and that of the nearest place in shares of the model's held-out error. Below: how many
right poses (< 2 mm) would lose their `ok` if so many times that error were allowed.

With ``--other-level`` the label is a neighbour's (of higher number where there is one, else lower)
and clicks are where they were. Errors are then from where the spine as one piece would put that
neighbour, which may have moved by some mm itself.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bench_networks import without_clicks

from RadGSRegLib.cases import Case, read_case
from RadGSRegLib.measures import mtre
from RadGSRegLib.methods import register_published
from RadGSRegLib.networks import RadGSReg, load_model

COLUMNS = (
    "case",
    "alone mm",
    "verdict",
    "s",
    "refined mm",
    "verdict",
    "s",
    "apart mm",
    "deg",
    "of held-out",
)
ALLOWED = (2.0, 3.0, 4.0, 6.0, 8.0, 10.0)


def neighbour_of(case: Case) -> Case | None:
    """The case with the label of a neighbour; None where there is none."""
    for step in (1, -1):
        if (np.asarray(case.labels.array) == case.label + step).any():
            return replace(case, label=case.label + step)
    return None


def one(case: Case, truth: dict[str, Any], model: RadGSReg) -> list[Any]:
    """What comes of a case, in the order of the columns but the first."""
    out: list[Any] = []
    for refine in (False, True):
        done = register_published(case, model, refine=refine)
        registration = done.registration
        error = mtre(case.surface_ct, registration.ct_to_world, truth["ct_to_world"])
        seconds = done.timing_s["total"] if refine else done.published["seconds"]
        out += [error, registration.status, seconds]
    published = done.published
    share = published["nearest_mm"] / (published["held_out_mm"] or float("nan"))
    return [*out, published["distance_mm"], published["distance_deg"], share]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("cases", type=Path)
    parser.add_argument("prefix", nargs="?", default="")
    parser.add_argument("--clicks", action="store_true")
    parser.add_argument("--other-level", action="store_true")
    args = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + " --- |" * len(COLUMNS))
    rows = []
    for path in sorted(args.cases.glob(f"{args.prefix}*/case.json")):
        name = path.parent.name
        file = args.model / f"{name}.safetensors" if args.model.is_dir() else args.model
        case: Case | None = read_case(path)
        if args.other_level:
            case = neighbour_of(read_case(path))
        if case is None or not file.is_file():
            continue
        if not args.clicks:
            case = without_clicks(case)
        truth = json.loads((path.parent / "truth.json").read_text())
        row = one(case, truth, load_model(file))
        rows.append(row)
        shown = [f"{v:.2f}" if isinstance(v, float) else str(v) for v in row]
        print(f"| {name} | " + " | ".join(shown) + " |", flush=True)
    for n, what in ((0, "alone"), (3, "refined")):
        errors, verdicts = [row[n] for row in rows], [row[n + 1] for row in rows]
        ok = verdicts.count("ok")
        far = sum(e >= 2.0 and v == "ok" for e, v in zip(errors, verdicts, strict=True))
        seconds = np.median([row[n + 2] for row in rows])
        print(f"{what}: median {np.median(errors):.2f} mm, {ok} of {len(rows)} ok, ", end="")
        print(f"{far} of them 2 mm off or more, median {seconds:.2f} s")
    shares = [row[-1] for row in rows if args.other_level or row[3] < 2.0]
    for allowed in ALLOWED:
        beyond = sum(share > allowed for share in shares)
        print(f"beyond {allowed:g} times the held-out error: {beyond} of {len(shares)}")
    print(f"largest: {max(shares, default=0.0):.2f}")


if __name__ == "__main__":
    main()
