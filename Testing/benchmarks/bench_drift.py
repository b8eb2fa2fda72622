"""What `calibration.drift` says of two runs of a C-arm, with and without drift between them.

    python Testing/benchmarks/bench_drift.py --pairs 20 [--views 4]

Pictures of two-plates in some views (`Testing/test_calibrate_command.py`, plain arithmetic), each
run with noise of its own and the phantom put down elsewhere (up to 4 degrees and 8 mm about and
along each axis). The second run's second view is as it was, or its detector lies some pixels lower,
or the C-arm stands there turned about the middle of the beads. Median and range of pairs of runs;
of two views against each other, of those two that by their covariances turned and moved most, with
the chance counted that one of so many does.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from RadGSRegLib.calibration import Drift, Exposure, KnownCamera, calibrate, drift
from RadGSRegLib.calibration.comparing import of_many
from RadGSRegLib.geometry import Camera, affine

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from test_calibrate_command import BEADS, DISTANCE, PIXEL, camera, picture

ANGLES = {
    "ap": (8.0, 5.0),
    "oblique": (50.0, -10.0),
    "lateral": (93.0, 4.0),
    "other": (-35.0, 12.0),
}


def run(seed: int, views: int = 2, low_px: float = 0.0, turn_deg: float = 0.0) -> list[KnownCamera]:
    """The cameras that a run of the device gives."""
    rng = np.random.default_rng(seed)
    turn = Rotation.from_euler("xyz", rng.uniform(-4, 4, 3), degrees=True).as_matrix()
    put = affine(turn, rng.uniform(-8, 8, 3))
    exposures = []
    for number, (name, angles) in enumerate(list(ANGLES.items())[:views]):
        view: Camera = camera(*angles)
        if number == 1:
            intrinsic = view.intrinsic.copy()
            intrinsic[1, 2] += low_px
            about = Rotation.from_euler("z", turn_deg, degrees=True).as_matrix()
            moved = view.world_to_camera @ affine(about, np.zeros(3))
            view = replace(view, intrinsic=intrinsic, world_to_camera=moved)
        view = replace(view, world_to_camera=view.world_to_camera @ put)
        pixels = picture(view, seed=10 * seed + number)
        exposures.append(Exposure(name, pixels, (PIXEL, PIXEL), DISTANCE + 12.0))
    done = calibrate(exposures, BEADS)
    return [
        KnownCamera(c.view.name, c.view.camera, c.view.covariance, c.view.covariance_with)
        for c in done
    ]


def row(title: str, told: list[Drift]) -> str:
    """What pairs of runs came to."""
    most = [max(d.pairs, key=lambda pair: pair.sigmas) for d in told]
    columns = (
        [d.at_patient_mm for d in told],
        [d.sigmas for d in told],
        [d.views[1].sigmas for d in told],
        [pair.turn_deg for pair in most],
        [of_many(pair.sigmas, len(d.pairs)) for pair, d in zip(most, told, strict=True)],
    )
    cells = [f"{np.median(c):.2f} ({min(c):.2f} to {max(c):.2f})" for c in columns]
    significant, matters = sum(d.significant for d in told), sum(d.matters for d in told)
    return f"| {title} | {' | '.join(cells)} | {significant} | {matters} |"


def main() -> None:
    """Print a row for each kind of drift."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--views", type=int, default=2, choices=range(2, len(ANGLES) + 1))
    args = parser.parse_args()
    count, views = args.pairs, args.views
    middle = BEADS.centres_mm.mean(axis=0)
    before = [run(2 * n, views) for n in range(count)]
    print(
        "| drift | at the patient, mm | sigma | sigma of the detector | turned, degrees "
        "| sigma | significant | uncertain |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    kinds = [("none", {})]
    kinds += [(f"detector {px:g} px lower", {"low_px": px}) for px in (1.0, 2.0, 4.0, 8.0)]
    kinds += [(f"turned by {deg:g} degrees", {"turn_deg": deg}) for deg in (0.1, 0.5, 2.0)]
    for title, change in kinds:
        told = [drift(before[n], run(2 * n + 1, views, **change), middle) for n in range(count)]
        print(row(title, told), flush=True)


if __name__ == "__main__":
    main()
