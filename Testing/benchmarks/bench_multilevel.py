"""Several vertebrae registered together: how well, how fast, and what is said when one is missing.

    python Testing/benchmarks/bench_multilevel.py --seeds 81620 81628 [--anatomy phantom|ct]
        [--realism realistic] [--field-mm 250] [--trouble none|absent|level|swapped]

Cases of the built-in phantom's trunk (or of the 3 mm CT of the shared data, target L3, with
``--anatomy ct``), the spine moved and each vertebra moved in itself; L1 to L5 are registered as
``register --labels`` does, from clicks on L3. Printed for each seed: the error (mTRE, mm) and the
verdict of each vertebra, the error that it says to expect, seconds of the clock and of the
processor (`register_vertebrae` alone; the first call of a run, which loads kernels, is repeated).

``--trouble``: *absent*: one of L1, L2, L4, L5 in turn is replaced by soft tissue before the X-rays
are made, so that they show a patient who lacks it; *level*: there is no click, and the start is the
true pose one level too high or too low; *swapped*: the names of two neighbouring vertebrae are
exchanged in the segmentation. Silent failures: `ok` with 2 mm or more (or of an absent vertebra).
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from RadGSRegLib.cases import Case, labels_of, read_ct, read_segmentation
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Array, centroid, transform_points
from RadGSRegLib.multilevel import register_vertebrae
from RadGSRegLib.simulation import SimulationParameters, simulate_case, simulate_phantom_case

LEVELS = ("L1", "L2", "L3", "L4", "L5")
DATA = Path(__file__).resolve().parents[2].parent / "shared/data"
_SOFT_TISSUE_HU = 40.0
_OF_THE_CT = {
    26: "S1",
    27: "L5",
    28: "L4",
    29: "L3",
    30: "L2",
    31: "L1",
    32: "T12",
    33: "T11",
}


def anatomy(seed: int, args: argparse.Namespace) -> Case:
    """A CT with named labels whose own vertebra is L3; its X-rays are of no use."""
    small = SimulationParameters.preset("clean").with_field(args.field_mm, 16)
    if args.anatomy == "phantom":
        return simulate_phantom_case(seed, small, field="trunk").case
    ct = read_ct(args.data / "ct/lumbar3mm_ct.nii.gz")
    labels = read_segmentation(args.data / "ct/lumbar3mm_vertebrae.nii.gz")
    # Both files have the same grid.
    return Case(ct, ct.with_array(labels.array[0]), 29, (), label_names=_OF_THE_CT)


def troubled(
    seed: int, args: argparse.Namespace
) -> tuple[Case, dict[int, Array], Array | None, int | None]:
    """The case to register, the true poses of its labels, the start, and the absent label."""
    known = anatomy(seed, args)
    labels = labels_of(known, ",".join(LEVELS))
    parameters = SimulationParameters.preset(args.realism).with_field(args.field_mm, 488)
    ct, absent = known.ct, None
    if args.trouble == "absent":
        others = [label for label in labels if label != known.label]
        absent = others[seed % len(others)]
        array = np.array(ct.array, dtype=np.float32)
        # With the half of its surface's voxels that a mask leaves out.
        near = ndimage.binary_dilation(known.labels.array == absent, iterations=2)
        gone = near & np.isin(known.labels.array, (0, absent)) & (array > _SOFT_TISSUE_HU)
        array[gone] = _SOFT_TISSUE_HU
        ct = ct.with_array(array)
    simulated = simulate_case(
        ct, known.labels, known.label, parameters, seed, label_names=dict(known.label_names)
    )
    case, truth = replace(simulated.case, ct=known.ct), simulated.truth
    true = {int(label): np.array(pose) for label, pose in truth["neighbours"].items()}
    true[case.label] = np.array(truth["ct_to_world"])
    start = None
    if args.trouble == "level":
        beside = labels[labels.index(case.label) + (1 if seed % 2 else -1)]
        centres = [centroid(case.ct, case.labels.array == k) for k in (case.label, beside)]
        start = true[case.label].copy()
        start[:3, 3] += start[:3, :3] @ (centres[1] - centres[0])
        views = tuple(replace(view, center_px=None) for view in case.views)
        case = replace(case, views=views)
    if args.trouble == "swapped":
        upper, lower = labels[:2]
        names = dict(case.label_names)
        names[upper], names[lower] = names[lower], names[upper]
        case = replace(case, label_names=names)
    return case, true, start, absent


def measured(seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One seed's figures."""
    case, true, start, absent = troubled(seed, args)
    labels = labels_of(case, ",".join(LEVELS))
    try:
        if args.warm:
            register_vertebrae(case, labels, start)
            args.warm = False
        began, busy = time.perf_counter(), time.process_time()
        spine = register_vertebrae(case, labels, start)
    except InputError as error:
        return {"seed": seed, "refused": str(error)}
    row: dict[str, Any] = {
        "seed": seed,
        "seconds": time.perf_counter() - began,
        "cpu_s": time.process_time() - busy,
        "timing_s": dict(spine.timing_s),
        "left_out": dict(spine.left_out),
        "absent": None if absent is None else case.label_names[absent],
        "levels": {},
    }
    for label, registration in spine.levels.items():
        surface = replace(case, label=label).surface_ct
        points = surface[:: max(len(surface) // 1000, 1)]
        apart = transform_points(registration.ct_to_world, points)
        apart = apart - transform_points(true[label], points)
        row["levels"][case.label_names[label]] = {
            "mtre_mm": float(np.linalg.norm(apart, axis=1).mean()),
            "status": registration.status,
            "expected_mm": float(registration.quality["expected_error_mm"]),
            "score": float(registration.quality["weakest_score"]),
            "reason": registration.reason,
            "absent": label == absent,
        }
    return row


def silent(level: dict[str, Any]) -> bool:
    """Whether a vertebra is `ok` and should not be."""
    return level["status"] == "ok" and (level["absent"] or level["mtre_mm"] >= 2.0)


def _line(row: dict[str, Any]) -> str:
    if "refused" in row:
        return f"| {row['seed']} | refused: {row['refused']} | | |"
    said = ", ".join(
        f"{name} {level['mtre_mm']:.2f} ({level['expected_mm']:.2f}) {level['status']}"
        + (" ABSENT" if level["absent"] else "")
        + (" SILENT" if silent(level) else "")
        for name, level in row["levels"].items()
    )
    out = "; ".join(row["left_out"].values())
    return f"| {row['seed']} | {said} | {out} | {row['seconds']:.1f}, {row['cpu_s']:.1f} |"


def main() -> None:
    """Print a row for each seed and the figures of all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs=2, default=(81620, 81628), metavar=("A", "B"))
    parser.add_argument("--anatomy", choices=("phantom", "ct"), default="phantom")
    parser.add_argument("--realism", default="realistic")
    parser.add_argument("--field-mm", type=float, default=250.0)
    parser.add_argument("--trouble", choices=("none", "absent", "level", "swapped"), default="none")
    parser.add_argument("--data", type=Path, default=DATA, help="the shared data")
    parser.add_argument("--rows", type=Path, help="lines of JSON to add to")
    args = parser.parse_args()
    args.warm = True
    print("| seed | each vertebra, mm (expected), verdict | left out | seconds, CPU s |")
    print("| --- | --- | --- | --- |")
    rows = []
    for seed in range(*args.seeds):
        row = measured(seed, args)
        rows.append(row)
        print(_line(row), flush=True)
        if args.rows is not None:
            with args.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    levels = [level for row in rows for level in row.get("levels", {}).values()]
    shown = [level for level in levels if not level["absent"]]
    if shown:
        errors = [level["mtre_mm"] for level in shown]
        within = np.mean([level["mtre_mm"] <= 2.0 * level["expected_mm"] for level in shown])
        seconds = [row["seconds"] for row in rows if "levels" in row]
        print(
            f"\n{len(levels)} vertebrae: median {np.median(errors):.2f} mm, most "
            f"{max(errors):.2f}; {sum(level['status'] == 'ok' for level in levels)} ok, "
            f"{sum(silent(level) for level in levels)} silent failures; "
            f"within twice the expected error {100 * within:.0f} %; "
            f"median {np.median(seconds):.1f} s, most {max(seconds):.1f} s"
        )


if __name__ == "__main__":
    main()
