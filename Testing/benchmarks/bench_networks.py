"""A trained model on cases with truth: alone, fitted to the X-rays, and with the refinement after.

    python Testing/benchmarks/bench_networks.py MODEL.safetensors CASES_DIR [PREFIX] [--clicks]

Without ``--clicks`` nothing says where the vertebra is. Per case: error of the first pose, SSIM and
PSNR of the reconstruction on the vertebra's box, and Dice of its mask where the model has a decoder
(else nan), for the networks alone and with their Gaussians
moved as one piece to fit the X-rays; seconds of each, and error of the nearest place; then
error, status and seconds of the registration that starts there. Writes a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from RadGSRegLib import pipeline
from RadGSRegLib.cases import Case, read_case
from RadGSRegLib.measures import mtre, reconstruction_quality, shape_dice
from RadGSRegLib.networks import RadGSReg, Seen, learned_start, load_model
from RadGSRegLib.reconstruction import box_of_cloud

COLUMNS = (
    "case",
    "alone mm",
    "SSIM",
    "PSNR dB",
    "Dice",
    "s",
    "fitted mm",
    "SSIM",
    "PSNR dB",
    "Dice",
    "s",
    "nearest mm",
    "refined mm",
    "status",
    "s",
)


def without_clicks(case: Case) -> Case:
    """The case with nothing that says where the vertebra is."""
    return replace(case, views=tuple(replace(v, center_px=None) for v in case.views))


def quality(seen: Seen, case: Case, pose: np.ndarray) -> tuple[float, float, float]:
    """SSIM, PSNR and Dice against the CT at its true pose; 0 where they do not overlap."""
    cloud, inside = seen.cloud_world, seen.inside_world
    volume = box_of_cloud(cloud, 1.0).voxelize(cloud)
    overlap = nan if inside is None else shape_dice(inside, case.labels, case.label, pose)
    try:
        found = reconstruction_quality(volume, case.ct, case.labels, case.label, pose)
    except ValueError:
        return 0.0, 0.0, overlap
    return found["ssim"], found["psnr_db"], overlap


def one(path: Path, model: RadGSReg, clicks: bool) -> list[Any]:
    """A row of the table."""
    case = read_case(path / "case.json")
    truth = json.loads((path / "truth.json").read_text())
    pose = np.asarray(truth["ct_to_world"])
    case = case if clicks else without_clicks(case)

    def error(found: np.ndarray) -> float:
        return mtre(truth["points_ct"], found, pose)

    began = time.perf_counter()
    alone = learned_start(case, model, fit=False)
    alone_s = time.perf_counter() - began
    began = time.perf_counter()
    fitted = learned_start(case, model)
    seen_s = time.perf_counter() - began
    found = pipeline.register_case(case, proposers=[fitted.proposer()])
    whole_s = time.perf_counter() - began
    return [
        path.name,
        error(alone.candidates[0].ct_to_world),
        *quality(alone.seen, case, pose),
        alone_s,
        error(fitted.candidates[0].ct_to_world),
        *quality(fitted.seen, case, pose),
        seen_s,
        min(error(c.ct_to_world) for c in fitted.candidates),
        error(found.ct_to_world),
        found.status,
        whole_s,
    ]


def main() -> None:
    """Run all cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("cases", type=Path)
    parser.add_argument("prefix", nargs="?", default="")
    parser.add_argument("--clicks", action="store_true", help="keep the cases' clicks")
    asked = parser.parse_args()
    paths = sorted(asked.cases.glob(f"{asked.prefix}*/case.json"))
    if not paths:
        parser.error(f"there is no {asked.cases}/{asked.prefix}*/case.json")
    model = load_model(asked.model)
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS))
    rows = []
    for path in paths:
        row = one(path.parent, model, asked.clicks)
        rows.append(row)
        shown = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in row]
        print("| " + " | ".join(shown) + " |", flush=True)
    numbers = np.array([[v for v in row if isinstance(v, float)] for row in rows])
    names = [n for n in COLUMNS if n not in ("case", "status")]
    for what, how in (("mean", np.mean), ("median", np.median)):
        values = ", ".join(f"{n} {v:.2f}" for n, v in zip(names, how(numbers, axis=0), strict=True))
        print(f"\n{what}: {values}")
    good = sum(row[12] < 2.0 for row in rows)
    silent = sum(row[12] >= 2.0 and row[13] == "ok" for row in rows)
    print(f"\n{good} of {len(rows)} under 2 mm, {silent} silent failures")


if __name__ == "__main__":
    main()
