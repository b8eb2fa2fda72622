"""Where to begin: cameras that meet what was clicked, and the vertebrae that can be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..cases import Case, View, clicked_centre
from ..geometry import Array, transform_points, translation
from ..multilevel import least_shown
from ..vertebrae import vertebra_level
from . import bounds

_POINTS = 300


def meeting_clicks(views: Sequence[View], nominal: Sequence[str]) -> Array:
    """Return the motions (V, 4, 4), world to nominal, that let each nominal camera show the point
    which clicks mean best where it was clicked; none without clicks in two views or more."""
    centre = clicked_centre(views)
    out = np.tile(np.eye(4), (len(views), 1, 1))
    if centre is None:
        return out
    for number, view in enumerate(views):
        if view.center_px is None or view.name not in nominal:
            continue
        camera = view.camera
        ray = camera.ray_directions(np.array([view.center_px]))[0]
        depth = float(camera.world_to_camera[2] @ np.append(centre, 1.0))
        along = depth / float(camera.view_direction_world @ ray)
        out[number] = translation(camera.source_world + along * ray - centre)
    return out


def with_cameras(case: Case, world_to_nominal: Array) -> Case:
    """Return the case with its cameras moved from where they were meant to be."""
    views = []
    for view, shift in zip(case.views, world_to_nominal, strict=True):
        camera = view.camera
        moved = replace(camera, world_to_camera=camera.world_to_camera @ shift)
        views.append(replace(view, camera=moved))
    return replace(case, views=tuple(views))


def whole(case: Case) -> dict[int, Array]:
    """Return the labels of vertebrae that the CT holds whole, with some points (N, 3) of each, mm:
    the target first, then the nearest to it."""
    array = case.labels.array
    points_ct: dict[int, Array] = {}
    for value in np.unique(array[array > 0]):
        label = int(value)
        places = np.argwhere(array == value)
        name = case.label_names.get(label)
        other_bone = name is not None and vertebra_level(name) in (None, "S1")
        if label == case.label or not (other_bone or cut_off(places, array.shape)):
            some = places[:: max(len(places) // _POINTS, 1), ::-1]
            points_ct[label] = case.labels.physical_points(some)

    def away(label: int) -> float:
        if label == case.label:
            return -1.0
        return float(np.linalg.norm(points_ct[label].mean(axis=0) - case.centre_ct))

    return {label: points_ct[label] for label in sorted(points_ct, key=away)}


def in_every_view(case: Case, points_ct: Mapping[int, Array], ct_to_world: Array) -> list[int]:
    """Return those labels that all X-rays would show, were the spine as in the CT with its target
    at a pose (4, 4); the target is always among them."""
    kept = [
        label
        for label, points in points_ct.items()
        if label == case.label
        or least_shown(case.views, transform_points(ct_to_world, points))[0] >= bounds.SHOWN_SHARE
    ]
    return kept[: bounds.MOST_VERTEBRAE]


def cut_off(places: NDArray[np.int64], shape: tuple[int, ...]) -> bool:
    """Return whether voxels (N, 3) of a grid end at its border as if there were more of them: with
    more than a tip, by the largest of their sections along that axis."""
    for axis, length in enumerate(shape):
        sections = np.bincount(places[:, axis], minlength=length)
        if max(sections[0], sections[-1]) > bounds.CUT_SHARE * sections.max():
            return True
    return False
