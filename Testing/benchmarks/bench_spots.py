"""How well beads' shadows are met in drawn pictures, and how well other ways of finding them do.

python Testing/benchmarks/bench_spots.py [--pictures 3] [--ways]
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from skimage.feature import canny
from skimage.measure import EllipseModel
from skimage.transform import hough_circle, hough_circle_peaks

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bead_pictures import Drawing, picture, scored, together

from RadGSRegLib.calibration import find_spots

CLEAN = Drawing(side=768, beads=50)
CLUTTER = replace(CLEAN, clutter=1.0, photons=10000)
KINDS = {
    "clean": CLEAN,
    "2,000 photons": replace(CLEAN, photons=2000),
    "bones": replace(CLUTTER, photons=20000),
    "bones, 3,000 photons": replace(CLUTTER, photons=3000),
    "bones, bent, bright": replace(CLUTTER, curve="bent", dark_metal=False),
    "bones, clipped": replace(CLUTTER, curve="clipped"),
    "bones, collimator": replace(CLUTTER, collimator=True),
    "bones, close": replace(CLUTTER, apart=1.1, beads=120),
    "bones, small": replace(CLUTTER, radii=(2.0, 2.5), blur=1.2),
    "bones, large": replace(CLUTTER, radii=(8.0, 14.0), beads=30, per_px=0.08),
}


def hough(image: Any, radii: tuple[float, float], most: int) -> tuple[Any, Any]:
    """Centres and radii of the circles that edges vote for."""
    flat = image - gaussian_filter(image, 4 * radii[1])
    edges = canny(flat / flat.std(), 1.0, 0.7, 0.9, use_quantiles=True)
    sizes = np.unique(np.round(np.linspace(0.75 * radii[0], radii[1], 6)).astype(int))
    near = int(radii[0])
    _, u, v, size = hough_circle_peaks(
        hough_circle(edges, sizes), sizes, near, near, threshold=0.3, total_num_peaks=most
    )
    return np.column_stack([u, v]).astype(float), size.astype(float)


def ellipse(image: Any, centre: Any, radius: float, sign: int) -> Any:
    """The centre of the ellipse through the steepest places of 32 rays, outliers left out."""
    angle, along = np.arange(32) * np.pi / 16, np.arange(0.2 * radius, 1.8 * radius + 2, 0.25)
    u, v = (c + along[:, None] * f(angle) for c, f in zip(centre, (np.cos, np.sin), strict=True))
    slope = -sign * np.gradient(map_coordinates(image, [v, u], order=1, mode="nearest"), axis=0)
    top, ray = np.clip(slope.argmax(0), 1, len(along) - 2), np.arange(32)
    a, b, c = (slope[top + n, ray] for n in (-1, 0, 1))
    edge = along[top] + 0.25 * np.clip(0.5 * (a - c) / (a - 2 * b + c + 1e-12), -1, 1)
    points = centre + edge[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    for _ in range(3):
        model = EllipseModel.from_estimate(points)
        if not model:
            return centre
        left = np.abs(model.residuals(points))
        points = points[left <= max(2.5 * float(np.median(left)), 0.1)]
        if len(points) < 12:
            break
    return np.array(model.center)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=3)
    parser.add_argument("--ways", action="store_true", help="the other ways too")
    given = parser.parse_args()
    print("| picture | recall | wrong | RMS, px | radius | s |")
    for name, drawing in KINDS.items():
        limits = 0.9 * drawing.radii[0], 1.1 * drawing.radii[1]
        rows: dict[str, list[Any]] = {"spots": [], "Hough": [], "ellipse": []}
        seconds = dict.fromkeys(rows, 0.0)
        for seed in range(given.pictures):
            image, centres, radii = picture(drawing, seed)
            start = time.perf_counter()
            spots, sign = find_spots(image, limits)
            seconds["spots"] += time.perf_counter() - start
            rows["spots"].append(scored(spots.centres_px, spots.radii_px, centres, radii))
            if not given.ways:
                continue
            start = time.perf_counter()
            places, sizes = hough(image, limits, 450)
            seconds["Hough"] += time.perf_counter() - start
            rows["Hough"].append(scored(places, sizes, centres, radii))
            start = time.perf_counter()
            pairs = zip(spots.centres_px, spots.radii_px, strict=True)
            places = np.array([ellipse(image, c, r, sign) for c, r in pairs])
            seconds["ellipse"] += time.perf_counter() - start
            rows["ellipse"].append(scored(places, spots.radii_px, centres, radii))
        for way, scores in rows.items():
            if scores:
                s = together(scores)
                print(
                    f"| {name}: {way} | {s.recall:.3f} | {s.wrong / given.pictures:.1f} "
                    f"| {s.rms_px:.3f} | {s.of_radius.mean():.2f} "
                    f"| {seconds[way] / given.pictures:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
