"""Whether source, patient and detector stand as they must: wrong units, signs and directions."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..geometry import Array, Camera, invert_rigid
from . import bounds
from .clicks import clicked_centre, meeting, middle_of_views
from .types import View


def sight_angle_deg(a: Camera, b: Camera) -> float:
    """The angle between two lines of sight, degrees in [0, 180]."""
    u, v = a.view_direction_world, b.view_direction_world
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(u, v)), u @ v)))


def patient_place(views: Sequence[View]) -> Array | None:
    """About where the patient is, world mm (3,): where clicks meet, else the images' middles.

    None where the views differ too little in direction to say.
    """
    pairs = combinations([view.camera for view in views], 2)
    angles = [sight_angle_deg(a, b) for a, b in pairs]
    if not any(min(angle, 180 - angle) >= bounds.MEETING_DEG for angle in angles):
        return None
    clicked = [view for view in views if view.center_px is not None]
    place_world = clicked_centre(views) if len(clicked) == len(views) else None
    return middle_of_views(views) if place_world is None else place_world


def depth_mm(camera: Camera, point_world: Array) -> float:
    """How far a point (3,), world mm, lies from the source along the line of sight."""
    return float(camera.world_to_camera[2] @ np.append(point_world, 1.0))


def detector_mm(view: View) -> tuple[float, float]:
    """How far the detector is from the source, by columns and by rows."""
    x, y = view.pixel_spacing_mm
    focal = np.abs(np.diag(view.camera.intrinsic))
    return float(focal[0] * x), float(focal[1] * y)


def opposite(camera: Camera) -> Camera:
    """The camera that projects alike, with everything in front of the source behind it."""
    flip = np.diag([-1.0, 1.0, 1.0])
    pose = camera.world_to_camera.copy()
    pose[:3] = -flip @ pose[:3]
    return replace(camera, intrinsic=camera.intrinsic @ flip, world_to_camera=pose)


def usual_spacing(view: View, place_world: Array | None) -> tuple[float, float]:
    """A pixel's size (column step, row step), mm, where it is not given.

    The detector is taken to stand as far behind the patient as is usual.
    """
    depth = abs(depth_mm(view.camera, place_world)) if place_world is not None else 0.0
    focal = np.abs(np.diag(view.camera.intrinsic))[:2]
    x, y = bounds.USUAL_MAGNIFICATION * (depth or bounds.LEAST_SOURCE_MM) / focal
    return float(x), float(y)


def check_standing(views: Sequence[View], source: Path) -> None:
    """InputError where the patient cannot be between a view's source and its detector.

    Tells of a focal length in mm, an extrinsic in metres or one that goes the other way. Likewise
    where two sources are in one place, and where all extrinsics seem to go the other way.
    """
    _check_places(views, source)
    _check_direction(views, source)


def _check_places(views: Sequence[View], source: Path) -> None:
    place_world = patient_place(views)
    for view in views:
        title = f'view "{view.name}"'
        by_columns, by_rows = detector_mm(view)
        if not 1 / bounds.SAME_FOCAL < by_columns / by_rows < bounds.SAME_FOCAL:
            raise InputError(
                source,
                f"{title}: its detector is {by_columns:.0f} mm from the source by columns, but "
                f"{by_rows:.0f} mm by rows (focal length in pixels times pixel spacing)",
                "check pixel_spacing_mm [column step, row step] and the intrinsic",
            )
        if place_world is None:
            continue
        depth = depth_mm(view.camera, place_world)
        _check_distances(view, depth, title, source)
        low, high = bounds.CENTRE_RANGE
        column, row = view.camera.project(place_world[None])[0] / view.camera.size
        if not (low <= column <= high and low <= row <= high):
            raise InputError(
                source,
                f"{title}: the views do not meet in its picture: the point nearest to their lines "
                f"of sight is {column:.1f} widths and {row:.1f} heights from its first pixel",
                "check the extrinsics: they map one world, in mm, to each camera",
            )
    for a, b in combinations(views, 2):
        apart = float(np.linalg.norm(a.camera.source_world - b.camera.source_world))
        if apart < bounds.SAME_SOURCE_MM:
            raise InputError(
                source,
                f'views "{a.name}" and "{b.name}" are taken from the same place, so they do not '
                "show depth",
                "the extrinsic must map world to camera, in mm",
            )


def _check_direction(views: Sequence[View], source: Path) -> None:
    """InputError where lines of sight pass each other, but would meet with all extrinsics inverted.

    A rig whose cameras are given from camera to world may well look possible: its sources are
    apart, and something lies before them. Not where the inverse could not be either.
    """
    apart = _apart_mm(views)
    if apart <= bounds.REVERSED_MM:
        return
    most = bounds.REVERSED_SHARE * apart
    if any(view.center_px is None for view in views):
        most = min(most, bounds.REVERSED_MIDDLES_MM)
    turned = []
    for view in views:
        inverse = invert_rigid(view.camera.world_to_camera)
        turned.append(replace(view, camera=replace(view.camera, world_to_camera=inverse)))
    try:
        _check_places(turned, source)
    except InputError:
        return
    inverted = _apart_mm(turned)
    if patient_place(turned) is not None and inverted < most:
        raise InputError(
            source,
            f"the views' lines of sight miss the point where they should meet by {apart:.0f} mm, "
            f"but by {inverted:.0f} mm if all extrinsics are inverted",
            "the extrinsic must map world to camera, not camera to world",
        )


def _apart_mm(views: Sequence[View]) -> float:
    """How far lines of sight, to what was clicked or else to the middles, miss their meeting."""
    clicked = all(view.center_px is not None for view in views)
    try:
        return meeting(views, clicked=clicked)[1]
    except InputError:  # parallel ones do not say
        return 0.0


def _check_distances(view: View, depth: float, title: str, source: Path) -> None:
    """InputError unless the patient, ``depth`` mm from the source, is well before the detector."""
    detector = min(detector_mm(view))
    where = f"{title}: the patient, where the views meet, lies"
    if depth <= -bounds.LEAST_SOURCE_MM:
        raise InputError(
            source,
            f"{where} {-depth:.0f} mm behind the source",
            "the extrinsic must map world to camera, with z from the source to the detector",
        )
    if depth < bounds.LEAST_SOURCE_MM or detector > bounds.MOST_MAGNIFICATION * depth:
        raise InputError(
            source,
            f"{where} only {abs(depth):.3g} mm from the source, the detector {detector:.0f} mm",
            "is the extrinsic in metres or cm? It must be in mm (or check pixel_spacing_mm)",
        )
    if detector <= depth:
        focal = float(abs(view.camera.intrinsic[0, 0]))
        remedy = "check the intrinsic, pixel_spacing_mm and the extrinsic"
        if focal > depth:
            remedy = (
                f"is the focal length {focal:.5g} in mm? The intrinsic must be in pixels (mm "
                "divided by the pixel spacing)"
            )
        raise InputError(
            source,
            f"{title}: the detector ({detector:.0f} mm from the source) is nearer than the "
            f"patient, where the views meet ({depth:.0f} mm)",
            remedy,
        )
