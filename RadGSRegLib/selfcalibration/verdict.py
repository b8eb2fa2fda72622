"""What refined cameras mean for a registration that was made with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..cases import ROOM_NOMINAL, Case, View
from ..geometry import CAMERA_PARAMETERS, Array, transform_points
from ..registration import Registration, doubted, with_room
from . import bounds
from .joint import CameraRefinement
from .spread import by_nominal_intrinsics


def judged(
    registration: Registration, refinement: CameraRefinement, case: Case | None = None
) -> Registration:
    """Return a registration of the refined case with what is known of its cameras; ``case`` is that
    of its vertebra, where it is another one than the case's own.

    Its covariance and expected error gain what the cameras leave open, in the frame that vertebrae
    and cameras share; it is `ok` no more where the cameras are not to be trusted, or where they
    leave too much. The reason and ``quality["cameras"]`` say what was refined.
    """
    if refinement.problem:
        return _unrefined(registration, refinement)
    place, points, problem = 0, refinement.points_from_centre, doubt(refinement)
    if case is not None and case.label != refinement.case.label:
        points = case.surface_ct[:: max(len(case.surface_ct) // len(points), 1)]
        points = np.asarray(points - registration.centre_ct, dtype=float)
        order = list(refinement.ct_to_world)
        if case.label in order:
            place = order.index(case.label)
        else:
            problem = problem or "the cameras were refined without this vertebra"
    by_cameras = bounds.WIDER**2 * refinement.spread.by_cameras[place]
    frame = "in the room" if refinement.room_known else "beside the other vertebrae"
    done = doubted(registration, by_cameras, points, (frame, _words(refinement)), problem)
    quality = {**done.quality, "cameras": camera_record(refinement)}
    if not refinement.room_known:
        quality["room_nominal"] = list(refinement.refined)
    return replace(
        done,
        reason=with_room(done.reason, quality),
        quality=quality,
        timing_s=_with(done.timing_s, refinement.seconds),
        parameters={
            **done.parameters,
            "nominal_geometry": list(refinement.nominal),
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
    return f"{said}; {ROOM_NOMINAL}"


def doubt(refinement: CameraRefinement) -> str:
    """Why the refined cameras are not to be trusted; nothing where they are."""
    numbers = (*refinement.sigmas, refinement.settled_mm, *refinement.spread.targets.ravel())
    if not np.isfinite(numbers).all():
        return "the refined cameras have no finite numbers; check the X-rays and the geometry"
    worst = int(np.argmax(refinement.sigmas))
    if refinement.sigmas[worst] > bounds.MOST_SIGMAS:
        name = refinement.case.views[worst].name
        turned, shifted = refinement.turned_deg[worst], refinement.shifted_mm[worst]
        return (
            f"the refined camera of {name} lies too far from where it was meant to be "
            f"({turned:.1f} degrees and {shifted:.0f} mm); check the geometry, the level and the "
            "clicks"
        )
    if len(refinement.case.views) - len(refinement.refined) == 1:
        return (
            "one calibrated camera beside nominal ones tells the place along its beam only to "
            "millimetres; calibrate a second one"
        )
    if refinement.settled_mm > bounds.SETTLED_MM:
        return f"cameras and vertebrae still moved by {refinement.settled_mm:.1f} mm at the end"
    return ""


def with_spread(refinement: CameraRefinement) -> list[View]:
    """Return the refined case's views with how sure their refined cameras are beside the vertebrae
    (in the room, where a camera is held in it): `View.camera_covariance` and
    ``camera_covariance_with``. Focal length and principal point, which are not refined, count as
    nominal, each view's by itself.

    Refined ones that are not to be trusted are nominal again.
    """
    views, nominal = refinement.case.views, bool(doubt(refinement))
    refined = [n for n, view in enumerate(views) if view.name in refinement.refined]

    return [
        replace(
            view,
            nominal=nominal,
            camera_covariance=_camera_covariance(refinement, n, n),
            camera_covariance_with={
                views[m].name: _camera_covariance(refinement, n, m) for m in refined if m > n
            },
        )
        if n in refined
        else view
        for n, view in enumerate(views)
    ]


def _camera_covariance(refinement: CameraRefinement, a: int, b: int) -> Array:
    """That (9, 9) of the camera of one view with another's, or of one alone."""
    case, view = refinement.case, refinement.case.views[a]
    out = np.zeros((CAMERA_PARAMETERS, CAMERA_PARAMETERS))
    out[:6, :6] = bounds.WIDER**2 * refinement.spread.cameras[a, b]
    if a == b and view.name in refinement.refined:
        centre = transform_points(refinement.ct_to_world[case.label], case.centre_ct[None])[0]
        out += by_nominal_intrinsics(view.camera, centre)
    return out


def camera_record(refinement: CameraRefinement) -> dict[str, Any]:
    """What ``registration.json`` says of refined cameras and of the vertebrae beside them."""
    case = refinement.case
    source_mm = [
        np.sqrt(np.diag(_camera_covariance(refinement, n, n))[3:6]) for n in range(len(case.views))
    ]
    views = {
        view.name: {
            "extrinsic": view.camera.world_to_camera.tolist(),
            "refined": view.name in refinement.refined,
            "turned_deg": turned,
            "shifted_mm": shifted,
            "source_sigma_mm": source_mm[n].tolist(),
        }
        for n, (view, turned, shifted) in enumerate(
            zip(case.views, refinement.turned_deg, refinement.shifted_mm, strict=True)
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
