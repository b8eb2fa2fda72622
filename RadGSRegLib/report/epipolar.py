"""Where each X-ray alone puts the bone's centre, and the epipolar lines of where the others do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patheffects import withStroke

from ..cases import View
from ..geometry import Array, Camera, invert_rigid, transform_points
from .canvas import blank_figure, png_bytes

if TYPE_CHECKING:
    from ..registration import Registration

# So far to either side of the centre, mm at the bone.
_REACH_MM = 14.0
# A shorter line has no direction.
_LEAST_PX = 1.0
_PER_ROW = 4
_ALONE, _OTHERS, _INK = "#22d3ee", "#f472b6", "#334155"
_HALO = (withStroke(linewidth=2.6, foreground="#000000aa"),)


def epipolar_png(
    views: Sequence[View], shown: Sequence[Array], registration: Registration
) -> bytes | None:
    """Draw each view around the bone's centre: a cross where it alone puts it, and lines through
    where each other view does. None where a result does not say that of two views or more.

    ``shown``: the X-rays as `overlay.windowed` shows them.
    """
    told = registration.quality.get("views", {})
    shifts = [told.get(view.name, {}).get("alone_px") for view in views]
    if len(views) < 2 or any(shift is None for shift in shifts):
        return None
    centre = transform_points(registration.ct_to_world, registration.centre_ct[None])
    alone = [v.camera.project(centre)[0] + s for v, s in zip(views, shifts, strict=True)]
    columns = min(len(views), _PER_ROW)
    rows = -(-len(views) // columns)
    figure = blank_figure(3.5 * columns, 3.75 * rows, constrained=True)
    for number, (view, image) in enumerate(zip(views, shown, strict=True)):
        axes = figure.add_subplot(rows, columns, number + 1)
        depth = float(transform_points(view.camera.world_to_camera, centre)[0, 2])
        reach = _REACH_MM * view.camera.focal_px / depth
        middle = view.camera.project(centre)[0]
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        for other, place in zip(views, alone, strict=True):
            if other is not view:
                ends = view.camera.project(_along(other.camera, place, centre[0]))
                # From the same source its ray is a point.
                if np.linalg.norm(ends[1] - ends[0]) > _LEAST_PX:
                    axes.axline(ends[0], ends[1], color=_OTHERS, linewidth=1.3, path_effects=_HALO)
        axes.plot(
            *alone[number], "+", color=_ALONE, markersize=13, markeredgewidth=1.8,
            path_effects=_HALO,
        )  # fmt: skip
        # 1 mm at the bone.
        left, low = middle[0] - 0.9 * reach, middle[1] + 0.9 * reach
        axes.plot(
            [left, left + reach / _REACH_MM], [low, low], color="white", linewidth=2.5,
            path_effects=_HALO,
        )  # fmt: skip
        axes.set(
            xticks=[],
            yticks=[],
            xlim=(middle[0] - reach, middle[0] + reach),
            ylim=(middle[1] + reach, middle[1] - reach),
        )
        axes.set_title(f"{view.name} (bar: 1 mm)", fontsize=10, color=_INK)
    return png_bytes(figure, 100)


def _along(camera: Camera, pixel: Array, near_world: Array) -> Array:
    """Two points (2, 3) of the ray through a pixel, about where it passes a place (3,)."""
    back = camera.world_to_camera[:3, :3].T @ np.linalg.solve(camera.intrinsic, [*pixel, 1.0])
    ray = back / np.linalg.norm(back)
    source = invert_rigid(camera.world_to_camera)[:3, 3]
    passing = source + ray * float(ray @ (near_world - source))
    return np.stack([passing - 2.0 * _REACH_MM * ray, passing + 2.0 * _REACH_MM * ray])
