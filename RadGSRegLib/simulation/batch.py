"""Many simulated cases: ``python -m RadGSRegLib.simulation.batch --out DIR --count N``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..cases import read_ct, read_segmentation
from ..cases.labels import labels_on_ct
from ..errors import InputError
from ..phantom import MOBILE_LEVELS
from .case import SimulatedCase, simulate_case
from .files import write_simulated_case
from .parameters import PRESETS, SimulationParameters
from .phantom_case import simulate_phantom_case


def main(arguments: Sequence[str] | None = None) -> int:
    """Write ``--count`` cases; returns the exit status (0, or 2 for unusable input)."""
    parser = argparse.ArgumentParser(prog="python -m RadGSRegLib.simulation.batch")
    parser.add_argument("--out", type=Path, required=True, help="folder for the cases")
    parser.add_argument("--level", choices=list(PRESETS), default="realistic")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ct", type=Path, help="a CT; without it the phantom is used")
    parser.add_argument("--seg", type=Path, help="its label map")
    parser.add_argument("--label", help="number or name; for the phantom T12 to L5, or random")
    parser.add_argument("--spacing", type=float, help="voxel size of the phantom's CT, mm")
    parser.add_argument("--field", choices=["crop", "trunk", "random"], default="random")
    parser.add_argument("--prefix", default="", help="names start with this")
    options = parser.parse_args(arguments)
    try:
        parameters = SimulationParameters.preset(options.level)
        for index in range(options.count):
            seed = options.seed + index
            case = _one(options, parameters, seed)
            name = f"{options.prefix}{options.level}-{seed}"
            write_simulated_case(case, options.out / name)
            print(f"{name}: {case.case.label_name}, {case.truth['kvp']:.0f} kVp")
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _one(options: argparse.Namespace, parameters: SimulationParameters, seed: int) -> SimulatedCase:
    if options.ct is None:
        rng = np.random.default_rng(seed)
        spacing = options.spacing or float(rng.choice([1.0, 1.0, 1.2, 1.5, 1.5, 3.0]))
        field = str(rng.choice(["crop", "trunk"]))
        field = field if options.field == "random" else options.field
        target = options.label or str(rng.choice(MOBILE_LEVELS[1:5]))
        return simulate_phantom_case(seed, parameters, target, spacing, field)
    if options.seg is None or options.label is None:
        raise InputError(options.ct, "needs a label map and a label", "give --seg and --label")
    ct = read_ct(options.ct)
    label = int(options.label) if options.label.isdigit() else options.label
    labels, value, names = labels_on_ct(read_segmentation(options.seg), label, ct, options.seg)
    return simulate_case(ct, labels, value, parameters, seed, label_names=names)


if __name__ == "__main__":
    sys.exit(main())
