"""A trained model on cases with truth, without any click: alone, and with the refinement after it.

    python Testing/benchmarks/bench_networks.py MODEL.safetensors CASES_DIR [PREFIX]

Per case: the error of the model's own best pose and of its nearest place, SSIM and PSNR of its
reconstruction on the vertebra's box, seconds; then error, status and seconds of the registration
that starts there, and SSIM and PSNR of the model's Gaussians at the pose found (patient-specific
models only). Writes a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from RadGSRegLib import pipeline
from RadGSRegLib.cases import Case, read_case
from RadGSRegLib.evaluation.metrics import mtre
from RadGSRegLib.evaluation.volumes import reconstruction_quality
from RadGSRegLib.gaussians import GaussianCloud
from RadGSRegLib.geometry.pose import translation
from RadGSRegLib.networks import RadGSReg, learned_start, load_model
from RadGSRegLib.reconstruction.box import box_of_cloud

COLUMNS = (
    "case",
    "start mm",
    "nearest mm",
    "SSIM",
    "PSNR dB",
    "s",
    "refined mm",
    "status",
    "s",
    "SSIM",
    "PSNR dB",
)


def without_clicks(case: Case) -> Case:
    """The case with nothing that says where the vertebra is."""
    return replace(case, views=tuple(replace(v, center_px=None) for v in case.views))


def quality(cloud_world: GaussianCloud, case: Case, pose: np.ndarray) -> tuple[float, float]:
    """SSIM and PSNR against the CT at its true pose; 0 where they do not overlap."""
    volume = box_of_cloud(cloud_world, 1.0).voxelize(cloud_world)
    try:
        found = reconstruction_quality(volume, case.ct, case.labels, case.label, pose)
    except ValueError:
        return 0.0, 0.0
    return found["ssim"], found["psnr_db"]


def one(path: Path, model: RadGSReg) -> list[Any]:
    """A row of the table."""
    case = read_case(path / "case.json")
    truth = json.loads((path / "truth.json").read_text())
    pose = np.asarray(truth["ct_to_world"])
    bare = without_clicks(case)
    began = time.perf_counter()
    start = learned_start(bare, model)
    seen_s = time.perf_counter() - began
    errors = [mtre(truth["points_ct"], c.ct_to_world, pose) for c in start.candidates]
    found = pipeline.register_case(bare, learned=start.candidates)
    whole_s = time.perf_counter() - began
    refined = mtre(truth["points_ct"], found.ct_to_world, pose)
    after: tuple[Any, Any] = ("", "")
    if model.is_patient_specific:
        to_world = found.ct_to_world @ translation(found.centre_ct)
        after = quality(model.recm.anchors.cloud().transformed(to_world), case, pose)
    alone = quality(start.cloud, case, pose)
    return [
        path.name,
        errors[0],
        min(errors),
        *alone,
        seen_s,
        refined,
        found.status,
        whole_s,
        *after,
    ]


def main() -> None:
    """Run all cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("cases", type=Path)
    parser.add_argument("prefix", nargs="?", default="")
    asked = parser.parse_args()
    model = load_model(asked.model)
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS))
    rows = []
    for path in sorted(asked.cases.glob(f"{asked.prefix}*/case.json")):
        row = one(path.parent, model)
        rows.append(row)
        shown = [f"{v:.2f}" if isinstance(v, float) else str(v) for v in row]
        print("| " + " | ".join(shown) + " |", flush=True)
    good = sum(row[6] < 2.0 for row in rows)
    silent = sum(row[6] >= 2.0 and row[7] == "ok" for row in rows)
    median = statistics.median(row[1] for row in rows)
    print(f"\n{good} of {len(rows)} under 2 mm, {silent} silent failures, start {median:.1f} mm")


if __name__ == "__main__":
    main()
