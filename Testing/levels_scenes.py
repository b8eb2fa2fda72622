"""Whole spines X-rayed, with the truth about levels: for tests and for the benchmark of levels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from RadGSRegLib.cases import View
from RadGSRegLib.geometry import Array, transform_points
from RadGSRegLib.phantom import LABELS, Phantom, make_phantom, random_spine, region_box
from RadGSRegLib.simulation import PRESETS, simulate_case
from RadGSRegLib.views import prepare_views

# The body of S1 below its end plate, in the sacrum's frame, and points on that end plate.
S1_MM = np.array([0.0, 6.0, -14.0])
END_PLATE_MM = np.array([[0, 0, 0], [20, 0, 0], [-20, 0, 0], [0, 14, 0], [0, -14, 0]], dtype=float)
# Along the ribs of T12, in its frame; the first of each side is beside the vertebra.
RIBS_MM = np.array([[s * x, 16 + y, z] for s in (1, -1) for x, y, z in (
    (37, 14, -3), (52, 26, -10), (70, 23, -23), (86, 20, -36), (106, -8, -56)
)], dtype=float)  # fmt: skip
_ABOVE_MM = 32.0


@dataclass(frozen=True)
class Shot:
    """Two X-rays of a spine: ``places`` (3,) world mm by level, and whether an anchor is in them:
    "whole", "none", or "cut" where a part of one is."""

    views: tuple[View, ...]
    places: dict[str, Array]
    anchor: str


def whole_spine(seed: int, thoracic: int, spacing_mm: float = 2.5) -> Phantom:
    """A trunk from so many vertebrae above T12 down to the pelvis."""
    spine = random_spine(seed)
    lower, upper = region_box(spine, "trunk")
    upper = upper + np.array([0.0, 0.0, _ABOVE_MM * max(thoracic - 1, 0)])
    return make_phantom(spine, spacing_mm, (lower, upper), thoracic=thoracic)


def shoot(
    phantom: Phantom,
    target: str,
    seed: int,
    *,
    realism: str = "realistic",
    detector_mm: float = 298.0,
    size_px: int = 160,
) -> Shot:
    """X-ray a spine with the C-arm about a target, and say what is in the pictures."""
    base = PRESETS[realism]
    pixel = detector_mm / size_px
    more = (pixel / base.pixel_mm) ** 2
    parameters = replace(
        base,
        size_px=size_px,
        pixel_mm=pixel,
        principal_px=base.principal_px * base.pixel_mm / pixel,
        photons=(base.photons[0] * more, base.photons[1] * more),
    )
    done = simulate_case(
        phantom.ct,
        phantom.labels,
        LABELS[target],
        parameters,
        seed,
        label_names=phantom.label_names,
    )
    poses = {int(n): np.asarray(p) for n, p in done.truth["neighbours"].items()}
    poses[LABELS[target]] = np.asarray(done.truth["ct_to_world"])
    by_level = {phantom.label_names[number]: pose for number, pose in poses.items()}
    places = {}
    for level, pose in by_level.items():
        number = next(n for n, name in phantom.label_names.items() if name == level)
        kji = np.argwhere(phantom.labels.array == number)
        centre = phantom.labels.physical_points(kji[:, ::-1].mean(0)[None].astype(float))
        if level == "S1":
            centre = transform_points(phantom.poses["S1"], S1_MM[None])
        places[level] = transform_points(pose, centre)[0]
    views = tuple(replace(view, center_px=None) for view in done.case.views)
    return Shot(views, places, _anchor(views, phantom, by_level, places))


def _anchor(
    views: tuple[View, ...], phantom: Phantom, poses: dict[str, Array], places: dict[str, Array]
) -> str:
    """Whether any view shows the sacrum or the last rib."""
    plate = transform_points(poses["S1"] @ phantom.poses["S1"], END_PLATE_MM)
    ribs = transform_points(poses["T12"] @ phantom.poses["T12"], RIBS_MM)
    whole, part = False, False
    for view, prepared in zip(views, prepare_views(views), strict=True):
        valid = np.asarray(prepared.valid)
        sacrum = _inside(view, valid, places["S1"][None]).any()
        last = _inside(view, valid, places["T12"][None]).any()
        of_ribs = _inside(view, valid, ribs)
        whole |= bool(sacrum or (last and of_ribs[[0, 5]].any()))
        part |= bool(sacrum or last or of_ribs.any() or _inside(view, valid, plate).any())
    return "whole" if whole else "cut" if part else "none"


def _inside(view: View, valid: Array, points: Array) -> Array:
    column, row = np.rint(view.camera.project(points)).astype(int).T
    there = (column >= 0) & (column < view.camera.columns) & (row >= 0) & (row < view.camera.rows)
    out = np.zeros(len(points), dtype=bool)
    out[there] = valid[row[there], column[there]]
    return out


def shown_in_all(shot: Shot, margin_mm: float = 0.0) -> list[str]:
    """The levels whose centres are in every view."""
    out = []
    prepared = prepare_views(shot.views)
    for level, place in shot.places.items():
        shown = [
            _inside(view, np.asarray(ready.valid), place[None])[0]
            for view, ready in zip(shot.views, prepared, strict=True)
        ]
        if all(shown):
            out.append(level)
    return out
