"""Where clicks in X-rays, or the middles of X-rays, say that something is."""

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from ..geometry import Array, Camera, triangulate
from .types import View

Pixel = tuple[float, float]


def clicked_centre(views: Sequence[View], furthest_mm: float = np.inf) -> Array | None:
    """The point (3,), world mm, that clicks (`View.center_px`) mean; None for fewer than two.

    Raises InputError where the clicked views are parallel, or where the clicks' rays pass each
    other more than ``furthest_mm`` apart.
    """
    clicked = [(view.camera, view.center_px) for view in views if view.center_px is not None]
    if len(clicked) < 2:
        return None
    centre, distance = _meeting(clicked)
    if distance > furthest_mm:
        raise InputError(
            "views",
            f"the clicks' rays pass each other {distance:.0f} mm apart",
            "check center_px and the geometry",
        )
    return centre


def middle_of_views(views: Sequence[View]) -> Array:
    """The point (3,), world mm, where the rays through the images' middles meet.

    Raises InputError where the views are parallel.
    """
    return meeting(views, clicked=False)[0]


def meeting(views: Sequence[View], *, clicked: bool) -> tuple[Array, float]:
    """The point (3,), world mm, nearest to the rays through clicks (of the views that have one) or
    through the images' middles, and how far they miss it (root mean square), mm.

    Raises InputError where the rays are parallel.
    """
    if clicked:
        return _meeting([(v.camera, v.center_px) for v in views if v.center_px is not None])
    cameras = [view.camera for view in views]
    return _meeting([(c, ((c.columns - 1) / 2.0, (c.rows - 1) / 2.0)) for c in cameras])


def _meeting(pixels: Sequence[tuple[Camera, Pixel]]) -> tuple[Array, float]:
    try:
        return triangulate([camera for camera, _ in pixels], [pixel for _, pixel in pixels])
    except ValueError as error:
        raise InputError("views", str(error), "give views from different sides") from None
