"""Why five beads of the real wrist miss each other by more than the other twelve.

    python Testing/benchmarks/bench_wrist_beads.py FOLDER

FOLDER has the pair's `views.json` (`both-clicks` of the wrist; the places of the beads are those of
`Testing/test_calibration_spots.py`). Each bead's centre is found in three ways: the fit of
`find_spots`, a circle through the steepest places of 48 rays, and the centre of mass under a plane.
A miss is half the signed distance of the two rays of a bead, mm. For each way: the misses of the
twelve in the forearm and of the five at the hand; the five without what they have in common; and
what a small turn of the second camera (three numbers, about its source, expected to be within a
degree) leaves of all, fitted to the twelve alone, to all but one, and to all.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, map_coordinates
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_calibration_spots import FOREARM, HAND

from RadGSRegLib.calibration import find_spots
from RadGSRegLib.cases import read_views
from RadGSRegLib.geometry import Array, Camera

STILL = len(FOREARM)
# What is expected of misses, mm, and of a turn, degrees, when one is fitted.
MISS_MM, TURN_DEG = 0.015, 1.0


def steepest(picture: NDArray[np.float64], place: Array) -> Array:
    """The centre of a circle through the steepest places of rays from a dark spot's centre."""
    reach = np.linspace(0.8, 6.5, 58)
    corner = np.rint(place).astype(int) - 12
    patch = picture[corner[1] : corner[1] + 25, corner[0] : corner[0] + 25]
    at = []
    for angle in np.linspace(0, 2 * np.pi, 48, endpoint=False):
        way = np.array([np.cos(angle), np.sin(angle)])
        column, row = (place - corner)[:, None] + way[:, None] * reach
        slope = np.gradient(gaussian_filter1d(map_coordinates(patch, [row, column]), 5.0))
        top = int(slope.argmax())
        if 3 < top < len(reach) - 4:
            near = slice(top - 3, top + 4)
            weight = np.maximum(slope[near], 0.0) ** 2
            at.append(way * (weight @ reach[near]) / weight.sum())
    edge = np.array(at)
    fit = least_squares(
        lambda t: np.hypot(*(edge - t[:2]).T) - t[2], [0.0, 0.0, 3.0], loss="soft_l1", f_scale=0.3
    )
    return np.asarray(place + fit.x[:2])


def mass(picture: NDArray[np.float64], place: Array) -> Array:
    """The centre of mass of what is darker than a plane through a ring about a spot."""
    centre = place.copy()
    for _ in range(10):
        column, row = (int(n) for n in centre)
        y, x = np.mgrid[row - 9 : row + 11, column - 9 : column + 11]
        grey, dx, dy = picture[y, x], x - centre[0], y - centre[1]
        away = np.hypot(dx, dy)
        plane = np.stack([np.ones_like(dx), dx, dy], axis=-1)
        ring = (away > 5) & (away < 8)
        level = plane @ np.linalg.lstsq(plane[ring], grey[ring], rcond=None)[0]
        weight = np.maximum(level - grey, 0.0) * np.clip(5.5 - away, 0, 1)
        centre = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
    return centre


def misses(places: list[Array], first: Camera, second: Camera) -> Array:
    """Half the signed distances (N,) of the rays of N beads, mm."""
    rays = first.ray_directions(places[0]), second.ray_directions(places[1])
    across = np.cross(*rays)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    return np.asarray(0.5 * across @ (second.source_world - first.source_world))


def turned(camera: Camera, vector: Array) -> Camera:
    """A camera turned about its source by a rotation vector in its own axes, radians."""
    move = np.eye(4)
    move[:3, :3] = Rotation.from_rotvec(vector).as_matrix()
    return replace(camera, world_to_camera=move @ camera.world_to_camera)


def fitted_turn(places: list[Array], first: Camera, second: Camera, some: Array) -> Array:
    """The turn that makes some of the beads meet."""

    def off(vector: Array) -> Array:
        left = misses([p[some] for p in places], first, turned(second, vector))
        return np.concatenate([left / MISS_MM, vector / np.radians(TURN_DEG)])

    return np.asarray(least_squares(off, np.zeros(3), x_scale=1e-3).x)


def told(name: str, values: Array) -> None:
    print(f"  {name}: {' '.join(f'{value:+.3f}' for value in values)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    views = read_views(parser.parse_args().folder / "views.json")
    cameras = [view.camera for view in views]
    disc = []
    for number, view in enumerate(views):
        spots, _ = find_spots(view.pixels, (2.0, 4.0))
        known = np.array([pair[number] for pair in FOREARM] + HAND[number], dtype=float)
        away = np.hypot(*(spots.centres_px[:, None] - known[None]).transpose(2, 0, 1))
        disc.append(spots.centres_px[away.argmin(axis=0)])
    ways = {"fit of a disc": disc}
    for name, way in (("steepest places", steepest), ("centre of mass", mass)):
        ways[name] = [
            np.array([way(view.pixels.astype(float), place) for place in places])
            for view, places in zip(views, disc, strict=True)
        ]
    everything = np.arange(STILL + len(HAND[0]))
    for name, places in ways.items():
        apart = [float(np.hypot(*(p - q).T).max()) for p, q in zip(places, disc, strict=True)]
        miss = misses(places, *cameras)
        print(f"{name}: from the disc's centres at the most {max(apart):.2f} px")
        told("forearm", miss[:STILL])
        told("hand", miss[STILL:])
        told("hand, less what its other four have", [
            miss[n] - np.delete(miss[STILL:], n - STILL).mean() for n in everything[STILL:]
        ])  # fmt: skip
        for kind, some in (("the twelve", everything[:STILL]), ("all", everything)):
            vector = fitted_turn(places, *cameras, some)
            left = misses(places, cameras[0], turned(cameras[1], vector))
            turn = " ".join(f"{angle:+.3f}" for angle in np.degrees(vector))
            print(f"  turned by {turn} degrees, fitted to {kind}: ", end="")
            print(f"forearm at the most {np.abs(left[:STILL]).max():.3f}")
            told("  hand", left[STILL:])
        left = []
        for n in everything:
            vector = fitted_turn(places, *cameras, np.delete(everything, n))
            left.append(misses(places, cameras[0], turned(cameras[1], vector))[n])
        told("each by a turn that is fitted to the others", left)


if __name__ == "__main__":
    main()
