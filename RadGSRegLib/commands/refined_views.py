"""The X-rays with refined cameras, as a file that other commands read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .running import REFINED_VIEWS

if TYPE_CHECKING:
    from ..selfcalibration import CameraRefinement


def write_refined_views(case: Path, out: Path, stage: Path, refinement: CameraRefinement) -> None:
    """Write the views of a ``case.json`` with refined cameras into the staging folder of ``out``.

    Pictures are named where they are, seen from ``out``; what else is said of refined cameras is
    that of `selfcalibration.with_spread`.
    """
    from ..cases import read_json_object, view_to_json, views_path, write_json
    from ..selfcalibration import with_spread

    path = views_path(case)
    file = read_json_object(path)
    entries: list[dict[str, Any]] = []
    for entry, view in zip(file["views"], with_spread(refinement), strict=True):
        picture = (path.parent / entry["image"]).resolve()
        image = Path(os.path.relpath(picture, out.resolve())).as_posix()
        written = view_to_json(view, image)
        if "frame" in entry:
            written["frame"] = entry["frame"]
        entries.append(written)
    axes = {key: file[key] for key in ("patient_axes",) if key in file}
    views = {"schema": file["schema"], "version": file["version"], **axes, "views": entries}
    write_json(views, stage / REFINED_VIEWS)
