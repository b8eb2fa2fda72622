"""What refined cameras mean for a registration that was made with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..geometry import CAMERA_PARAMETERS, Array
from ..registration import Registration, doubted
from . import bounds
from .joint import CameraRefinement


def judged(registration: Registration, refinement: CameraRefinement) -> Registration:
    """Return a registration of the refined case with what is known of its cameras.

    Its covariance and expected error gain what the cameras leave open, in the frame that vertebrae
    and cameras share; it is `ok` no more where the cameras are not to be trusted, or where they
    leave too much. The reason and ``quality["cameras"]`` say what was refined.
    """
    if refinement.problem:
        return _unrefined(registration, refinement)
    by_cameras = bounds.WIDER**2 * refinement.spread.by_cameras[0]
    points = refinement.points_from_centre
    problem = doubt(refinement)
    done = doubted(registration, by_cameras, points, _words(refinement), problem)
    return replace(
        done,
        quality={**done.quality, "cameras": camera_record(refinement)},
        timing_s=_with(done.timing_s, refinement.seconds),
        parameters={
            **done.parameters,
            "nominal_geometry": list(refinement.refined),
            "refine_cameras": True,
        },
    )


def _unrefined(registration: Registration, refinement: CameraRefinement) -> Registration:
    """What a registration says whose cameras could not be refined."""
    return replace(
        registration,
        reason=f"{registration.reason}; the cameras were not refined: {refinement.problem}",
        quality={**registration.quality, "cameras": {"problem": refinement.problem}},
        timing_s=_with(registration.timing_s, refinement.seconds),
        parameters={**registration.parameters, "refine_cameras": True},
    )


def _with(timing_s: dict[str, float], seconds: float) -> dict[str, float]:
    total = timing_s.get("total", 0.0) + seconds
    return {"refine_cameras": seconds, **timing_s, "total": total}


def _words(refinement: CameraRefinement) -> str:
    """What was refined, for the reason."""
    names = ", ".join(refinement.refined)
    said = f"the cameras of {names} were refined with {len(refinement.ct_to_world)} vertebrae"
    if refinement.room_known:
        return said
    return f"{said}; where all of them are together in the room stays nominal"


def doubt(refinement: CameraRefinement) -> str:
    """Why the refined cameras are not to be trusted; nothing where they are."""
    if refinement.most_sigmas > bounds.MOST_SIGMAS:
        turned, shifted = max(refinement.turned_deg), max(refinement.shifted_mm)
        return (
            f"the refined cameras lie too far from where they were meant to be (up to {turned:.1f} "
            f"degrees and {shifted:.0f} mm); check the geometry, the level and the clicks"
        )
    if refinement.settled_mm > bounds.SETTLED_MM:
        return f"cameras and vertebrae still moved by {refinement.settled_mm:.1f} mm at the end"
    return ""


def camera_covariances(refinement: CameraRefinement) -> dict[str, Array]:
    """How sure each refined camera is beside the vertebrae, by the views' names: (9, 9), in the
    order of `geometry.CAMERA_PARAMETERS`; focal length and principal point count as exact."""
    out = {}
    for view, spread in zip(refinement.case.views, refinement.spread.cameras, strict=True):
        covariance = np.zeros((CAMERA_PARAMETERS, CAMERA_PARAMETERS))
        covariance[:6, :6] = bounds.WIDER**2 * spread
        out[view.name] = covariance
    return out


def camera_record(refinement: CameraRefinement) -> dict[str, Any]:
    """What ``registration.json`` says of refined cameras and of the vertebrae beside them."""
    case = refinement.case
    views = {
        view.name: {
            "extrinsic": view.camera.world_to_camera.tolist(),
            "refined": view.name in refinement.refined,
            "turned_deg": turned,
            "shifted_mm": shifted,
            "source_sigma_mm": (bounds.WIDER * np.sqrt(np.diag(spread)[3:])).tolist(),
        }
        for view, turned, shifted, spread in zip(
            case.views,
            refinement.turned_deg,
            refinement.shifted_mm,
            refinement.spread.cameras,
            strict=True,
        )
    }
    names = [view.name for view in case.views]
    vertebrae = {
        case.label_names.get(label, str(label)): {
            "label": label,
            "ct_to_world": pose.tolist(),
            "scores": dict(zip(names, refinement.scores[label], strict=True)),
        }
        for label, pose in refinement.ct_to_world.items()
    }
    said = doubt(refinement)
    return {
        "views": views,
        "vertebrae": vertebrae,
        "settled_mm": refinement.settled_mm,
        **({"doubt": said} if said else {}),
    }
