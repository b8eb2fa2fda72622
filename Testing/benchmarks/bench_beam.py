"""Volumes from X-rays alone: ours, a plain voxel fit, and RTK's SART and FDK, in one run.

    python Testing/benchmarks/bench_beam.py --cases clean,realistic,standardised \\
        --views 2,5,10,20,30,50 --seeds 80200,80201 --json rows.jsonl
    python Testing/benchmarks/bench_beam.py --table rows.jsonl

Simulates X-rays of a CT, all of a case from one seed, and reconstructs from N that are spread over
them, by every method alike: ours as `radgsreg reconstruct` does it (of two X-rays what is in a box,
of more the whole beam), voxels (`beam_voxels`; ``voxels-log`` takes minus the logarithm of grey
values), and RTK (`beam_rtk`), where grey values of an unknown display are scaled to [0, 1]. Of
standardised X-rays the others are given the line integrals of bones that a network drew; ours tells
bone from soft tissue in what it makes of the X-rays as they are (`tomography.bone`).

Compared are the correlation with the truth on a grid of 2 mm in a cube of 110 mm about the
vertebra, of attenuation and of what bone has above 120 HU; and PSNR and SSIM of renderings where
X-rays are held out, against the true line integrals of all tissue and of bone alone. The X-rays
held out choose nothing. Rows are appended to the file as they are done, and those that are there
already are not run again; delete the file when the code has changed. Tables have a row for each N,
with medians over seeds.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import beam_table
from beam_methods import METHODS, Work, run
from beam_scene import Patient, Scene, simulate_scene

from RadGSRegLib.errors import InputError
from RadGSRegLib.networks import Standardizer, load_standardizer, shipped_weights
from RadGSRegLib.simulation import PRESETS, SimulationParameters

DATA = Path(os.environ.get("RADGSREG_DATA", "../shared/data"))
_STANDARDISED = "+standardised"
_MIB_OF_MAXRSS = 2**20 if sys.platform == "darwin" else 2**10


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; cases, numbers of X-rays, seeds and methods as lists."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ct", type=Path, default=DATA / "ct/lumbar3mm_ct.nii.gz")
    parser.add_argument("--labels", type=Path, default=DATA / "ct/lumbar3mm_vertebrae.nii.gz")
    parser.add_argument("--label", type=int, default=29)
    parser.add_argument("--only-label", action="store_true", help="the vertebra by itself, in air")
    parser.add_argument(
        "--cases",
        help="any of clean, realistic, hard, each also with +standardised; "
        "standardised alone is realistic+standardised",
    )
    parser.add_argument("--realism", default="clean", help="instead of --cases: names of realism")
    parser.add_argument(
        "--standardize",
        nargs="?",
        const=shipped_weights("standard"),
        type=Path,
        metavar="WEIGHTS",
        help="with --realism: each once more from standardised X-rays",
    )
    parser.add_argument("--path", default="arbitrary")
    parser.add_argument("--views", default="2,5,10,20,30,50")
    parser.add_argument("--pool", type=int, default=50, help="X-rays that the N are spread over")
    parser.add_argument("--held-out", type=int, default=15)
    parser.add_argument("--field-mm", type=float, default=250.0)
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--seeds", "--seed", default="80000")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--steps", type=int, help="of our fit; as the command's unless given")
    parser.add_argument("--voxel-steps", type=int, default=150, help="of the plain voxel fit")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep rows as lines of JSON")
    parser.add_argument(
        "--table", type=Path, nargs="+", metavar="FILE", help="print tables of files and end"
    )
    args = parser.parse_args(given)
    if args.cases is None:
        kinds = args.realism.split(",")
        added = [] if args.standardize is None else [_STANDARDISED]
        args.cases = ",".join(kind + more for kind in kinds for more in ("", *added))
    args.cases = [
        "realistic" + _STANDARDISED if name == "standardised" else name
        for name in args.cases.split(",")
    ]
    args.views, args.seeds = ([int(n) for n in x.split(",")] for x in (args.views, args.seeds))
    args.methods = args.methods.split(",")
    for name in args.cases:
        if name.removesuffix(_STANDARDISED) not in PRESETS:
            parser.error(f"there is no case {name}")
    for name in args.methods:
        if name not in METHODS:
            parser.error(f"there is no method {name}; there are {', '.join(METHODS)}")
    if min(args.views) < 2 or max(args.views) > args.pool:
        parser.error(f"N lies between 2 and --pool, {args.pool}")
    return args


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """What all rows of a table have in common, as JSON values."""
    names = ("label", "only_label", "path", "pool", "held_out", "field_mm", "pixels", "steps")
    weights = args.standardize or shipped_weights("standard")
    assert weights is not None, "the program's own weights are missing"
    return {
        "ct": args.ct.name,
        **{name: getattr(args, name) for name in (*names, "voxel_steps")},
        "weights": weights.name,
    }


def scene_of(args: argparse.Namespace, patient: Patient, realism: str, seed: int) -> Scene:
    """The X-rays of a seed."""
    parameters = SimulationParameters.preset(realism).with_field(args.field_mm, args.pixels)
    parameters = replace(parameters, path=args.path, views=args.pool + args.held_out)
    return simulate_scene(patient, parameters, args.held_out, seed)


def planned(args: argparse.Namespace) -> list[dict[str, Any]]:
    """What tells all rows apart, in the order in which they are run."""
    settings = settings_of(args)
    # Cases with the same X-rays follow each other.
    kinds = list(dict.fromkeys(case.removesuffix(_STANDARDISED) for case in args.cases))
    return [
        {"settings": settings, "case": case, "views": count, "seed": seed, "method": method}
        for seed in args.seeds
        for kind in kinds
        for count in args.views
        for case in dict.fromkeys(args.cases)
        if case.removesuffix(_STANDARDISED) == kind
        for method in args.methods
        # Only of grey values there is a logarithm to take.
        if method != "voxels-log" or case in ("realistic", "hard")
    ]


def main(given: Sequence[str] | None = None) -> None:
    """Run what is not there yet, and print rows and tables."""
    args = arguments(given)
    if args.table:
        print(beam_table.tables(list(beam_table.read(args.table).values())))
        return
    if not _rtk_is_there() and {"sart", "fdk"} & {*args.methods}:
        print("itk-rtk is not installed: neither SART nor FDK")
        args.methods = [name for name in args.methods if name not in ("sart", "fdk")]
    there = {} if args.json is None else beam_table.read([args.json])
    rows = []
    patient: Patient | None = None
    network: Standardizer | None = None
    last: tuple[str, int] | None = None
    for row in planned(args):
        if (key := beam_table.key(row)) in there:
            rows.append(there[key])
            continue
        case, seed, standard = row["case"], row["seed"], row["case"].endswith(_STANDARDISED)
        if patient is None:
            patient = Patient.read(args.ct, args.labels, args.label, args.only_label)
        if standard and network is None:
            network = load_standardizer(args.standardize or shipped_weights("standard"))
        which = (case.removesuffix(_STANDARDISED), seed)
        if which != last:
            scene, last = scene_of(args, patient, *which), which
        work = Work(
            row["method"],
            tuple(scene.spread(row["views"])),
            seed,
            args.steps,
            args.voxel_steps,
            network if standard else None,
        )
        try:
            done = row | run(work, scene)
        except InputError as error:  # such as a view that shows no bone: no reason to end a table
            done = row | {"error": str(error)}
        rows.append(done)
        if args.json is not None:
            beam_table.append(args.json, done)
        shown = {name: value for name, value in done.items() if name != "settings"}
        print(json.dumps({k: _short(v) for k, v in shown.items()}), flush=True)
    print(beam_table.tables(rows))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MIB_OF_MAXRSS
    print(f"Peak resident memory of this process: {peak:.0f} MiB")


def _rtk_is_there() -> bool:
    try:
        importlib.metadata.distribution("itk-rtk")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
