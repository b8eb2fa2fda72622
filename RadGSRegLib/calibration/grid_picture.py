"""Distortion from a picture of a flat, regular grid of beads or holes on the detector.

The grid's nodes, numbered, are where a homography of their numbers puts them, bent. Nodes are
numbered from a middle one outwards: each neighbour is looked for where the steps so far, which
change slowly, lead; what is missing is passed by, and what is false lies on no step.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial import cKDTree

from ..errors import InputError
from ..geometry import Array, Distortion, distort
from . import bounds
from .resection import no_distortion
from .spots import find_spots
from .types import Spots


def _steps(places: Array, tree: cKDTree) -> tuple[Array, Array]:
    """The two shortest steps (2,) of a grid about right angles, as most neighbours have them."""
    apart, near = tree.query(places, k=min(5, len(places)))
    steps = (places[near[:, 1:]] - places[:, None]).reshape(-1, 2)
    length = float(np.median(apart[:, 1:3]))
    steps = steps[np.abs(np.linalg.norm(steps, axis=1) / length - 1.0) < bounds.GRID_STEP]
    angle = np.arctan2(steps[:, 1], steps[:, 0])
    turn = np.angle(np.mean(np.exp(4j * angle))) / 4.0  # the same for all four neighbours
    along = length * np.array([np.cos(turn), np.sin(turn)])
    return along, np.array([-along[1], along[0]])


def _grown(places: Array, seed: int, tree: cKDTree) -> dict[tuple[int, int], int]:
    """The number of the spot at each node (i, j), from a seed at (0, 0) outwards."""
    nodes = {(0, 0): seed}
    local = {(0, 0): _steps(places, tree)}
    used = {seed}
    queue = deque([(0, 0)])
    while queue:
        i, j = node = queue.popleft()
        along, down = local[node]
        for (di, dj), step in (
            ((1, 0), along),
            ((-1, 0), -along),
            ((0, 1), down),
            ((0, -1), -down),
        ):
            beside = (i + di, j + dj)
            if beside in nodes:
                continue
            off, spot = tree.query(places[nodes[node]] + step)
            if off > bounds.GRID_STEP * float(np.linalg.norm(step)) or int(spot) in used:
                continue
            nodes[beside] = int(spot)
            used.add(int(spot))
            new = places[spot] - places[nodes[node]]
            # The grid bends slowly: half of what is new, so that one misplaced spot leads nowhere.
            moved = 0.5 * (new - step) * (1 if di + dj > 0 else -1)
            local[beside] = (along + moved, down) if di else (along, down + moved)
            queue.append(beside)
    return nodes


def numbered_grid(places_px: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The nodes (M, 2) of a grid that spots (N, 2) show, and which spot (M,) is at each.

    Of several seeds near the middle the one whose grid is largest counts. Raises ValueError where
    too few nodes join.
    """
    places = np.asarray(places_px, dtype=float)
    if len(places) < bounds.GRID_NODES:
        raise ValueError(f"a grid needs {bounds.GRID_NODES} spots, and there are {len(places)}")
    tree = cKDTree(places)
    middle = np.argsort(np.linalg.norm(places - np.median(places, axis=0), axis=1))[:8]
    grids = [_grown(places, int(seed), tree) for seed in middle]
    best = max(grids, key=len)
    if len(best) < bounds.GRID_NODES:
        raise ValueError(f"only {len(best)} of {len(places)} spots join to a regular grid")
    return np.array(list(best.keys())), np.array(list(best.values()))


def _on_plane(h: Array, nodes: Array) -> Array:
    """Pixels (N, 2) of nodes (N, 2) by a homography's eight numbers."""
    below = 1.0 + nodes @ h[6:]
    return np.asarray(np.stack([nodes @ h[0:2] + h[4], nodes @ h[2:4] + h[5]], 1) / below[:, None])


def grid_distortion(view: str, spots: Spots, size: tuple[int, int]) -> tuple[Distortion, float]:
    """The distortion that a picture of a regular grid shows, and what it leaves (rms, px).

    About the middle of the picture, in units of half its larger side. The grid may be turned,
    tilted and of any step, with nodes missing and false spots.

    Args:
        view: what the picture is called, for complaints.
        spots: of the picture.
        size: (columns, rows) of the picture.

    Returns:
        The distortion, and the root mean square distance of nodes from where it puts them.

    Raises:
        InputError: naming the view, where the spots make no grid.
    """
    try:
        nodes, which = numbered_grid(spots.centres_px)
    except ValueError as error:
        raise InputError(view, str(error), "use a picture of a flat, regular grid alone") from error
    pixels = spots.centres_px[which]
    none = no_distortion(size)
    scale = max(float(np.abs(nodes).max()), 1.0)
    flat = np.column_stack([nodes, np.ones(len(nodes))])
    linear = np.linalg.lstsq(flat, pixels, rcond=None)[0]
    start = np.concatenate([linear[0], linear[1], linear[2], np.zeros(2)])
    h0 = np.array([start[0], start[2], start[1], start[3], *start[4:6], 0.0, 0.0])

    def bent(x: Array) -> Distortion:
        return replace(none, radial=(float(x[8]), float(x[9])), spiral=(float(x[10]), float(x[11])))

    def apart(x: Array, keep: Array) -> Array:
        return np.ravel(distort(_on_plane(x[:8], nodes[keep]), bent(x)) - pixels[keep])

    x = np.concatenate([h0, np.zeros(4)])
    keep = np.ones(len(nodes), dtype=bool)
    unit = np.array([*[none.unit_px / scale] * 4, *[none.unit_px] * 2, *[0.01 / scale] * 2])
    scales = np.concatenate([unit, np.full(4, 0.01)])
    for loss in ("huber", "huber", "linear", "linear"):
        x = least_squares(apart, x, args=(keep,), x_scale=scales, loss=loss).x
        off = np.linalg.norm(apart(x, np.ones(len(nodes), dtype=bool)).reshape(-1, 2), axis=1)
        spread = max(float(np.median(off)) / 1.1774, bounds.LEAST_NOISE_PX)
        keep = off < np.sqrt(2.0) * bounds.OUTLIER_SIGMAS * spread
    if keep.sum() < bounds.GRID_NODES:
        raise InputError(view, "shows a grid that no homography and distortion explain")
    return bent(x), float(np.sqrt(np.mean(off[keep] ** 2)))


def grid_distortion_of(view: str, picture: NDArray[np.float32]) -> tuple[Distortion, float]:
    """`grid_distortion` of a picture (rows, columns), whose spots are searched for.

    Raises InputError naming it also where the grid is farther from the model than a pixel.
    """
    rows, columns = picture.shape
    least, most = (share * max(rows, columns) for share in bounds.GRID_RADIUS)
    spots, _ = find_spots(picture, (least + 1.0, most), most=bounds.GRID_SPOTS)
    distortion, left_px = grid_distortion(view, spots, (columns, rows))
    if left_px > bounds.MOST_RMS_PX:
        raise InputError(
            view,
            f"shows a grid that lies {left_px:.1f} px from a barrel, pincushion or S shape",
            "use a sharp picture of a flat grid, taken as the X-rays were",
        )
    return distortion, left_px
