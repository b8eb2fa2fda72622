"""What ``radgsreg calibrate`` writes beside its ``views.json``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import Intensity
from ..errors import InputError

if TYPE_CHECKING:
    from ..calibration import Beads, Calibrated, Calibration, Exposure
    from ..cases import DetectorGrid
    from ..report import Table


@dataclass(frozen=True)
class Pictures:
    """Exposures, the files that they are from, and what they are shown as."""

    exposures: list[Exposure]
    paths: list[Path]
    intensities: list[Intensity | None]


def beside(out: Path) -> Path:
    """The folder of what comes with a ``views.json``."""
    return out.with_name(f"{out.stem}_calibration")


def view_entries(
    args: argparse.Namespace, stage: Path, read: Pictures, done: Sequence[Calibration], beads: Beads
) -> list[Any]:
    """The entries of ``views.json``; corrected pictures are written where there is distortion."""
    from ..calibration import corrected
    from ..cases import View, file_stem, view_to_json, write_tiff

    entries = []
    for exposure, path, intensity, c in zip(
        read.exposures, read.paths, read.intensities, done, strict=True
    ):
        camera, spacing = c.view.camera, exposure.spacing_mm
        image = os.path.relpath(path.resolve(), args.out.absolute().parent.resolve())
        if c.view.distortion is not None:
            name = f"corrected_{file_stem(exposure.name)}.tif"
            straight = corrected(exposure.pixels, c.view.distortion)
            write_tiff(straight, spacing or (1.0, 1.0), stage / name)
            image = f"{beside(args.out).name}/{name}"
        view = View(
            exposure.name, exposure.pixels, camera, spacing or (1.0, 1.0),
            intensity=intensity or "display",
            metal_px=_shadows(c, beads), camera_covariance=c.view.covariance,
            camera_covariance_with=c.view.covariance_with,
        )  # fmt: skip
        entry = view_to_json(view, image)
        if spacing is None:
            del entry["pixel_spacing_mm"]
        if args.frame is not None and c.view.distortion is None:
            entry["frame"] = args.frame
        entries.append(entry)
    return entries


def _shadows(c: Calibration, beads: Beads) -> tuple[tuple[float, float, float], ...]:
    """The beads' shadows in the picture that ``views.json`` names: without distortion."""
    import numpy as np

    from ..calibration import in_picture, shadows_px

    circles = np.round(shadows_px(c.view.camera, beads), 3)
    inside = circles[in_picture(circles, c.view.camera.size)]
    return tuple((float(u), float(v), float(radius)) for u, v, radius in inside)


def view_record(c: Calibration, known_mm: float) -> dict[str, Any]:
    """What ``calibration.json`` says of a view."""
    import numpy as np

    view, bent = c.view, c.view.distortion
    return {
        "name": view.name,
        "rms_px": view.rms_px,
        "beads": view.pairs[:, 0].tolist(),
        "spots_px": c.spots.centres_px[view.pairs[:, 1]].tolist(),
        "residuals_px": view.residuals_px.tolist(),
        "source_world_mm": view.camera.source_world.tolist(),
        "focal_px": view.camera.focal_px,
        "sigma": np.sqrt(np.diag(view.covariance)).tolist(),
        "known_mm": known_mm,
        "distortion": None if bent is None else asdict(bent),
    }


def draw(
    stage: Path,
    done: Sequence[Calibration],
    read: Pictures,
    known_mm: Mapping[str, float],
    said: tuple[str, str, Sequence[str], Sequence[Table]],
) -> None:
    """The beads over each picture, and the page; ``said``: status, reason, notes and tables."""
    import numpy as np

    from ..cases import file_stem
    from ..report import BeadPicture, beads_png, calibration_html

    drawn = []
    for exposure, c in zip(read.exposures, done, strict=True):
        view, sigma = c.view, np.sqrt(np.diag(c.view.covariance))
        taken = view.pairs[:, 1]
        facts = [
            ("beads", f"{len(view.pairs)}"),
            ("between beads and shadows, px", f"{view.rms_px:.2f}"),
            ("known at the beads' middle, mm", f"{known_mm[view.name]:.2f}"),
            ("source, mm", ", ".join(f"{x:.1f}" for x in view.camera.source_world)),
            ("source, one standard deviation, mm", f"{np.linalg.norm(sigma[3:6]):.2f}"),
            ("focal length, px", f"{view.camera.focal_px:.1f} ± {sigma[6]:.1f}"),
        ]
        others = np.delete(c.spots.centres_px, taken, axis=0)[: len(c.shadows_px)]
        picture = BeadPicture(
            view.name, exposure.pixels, c.shadows_px, c.missing, others,
            c.spots.centres_px[taken], view.residuals_px, facts,
        )  # fmt: skip
        png = beads_png(picture)
        (stage / f"beads_{file_stem(view.name)}.png").write_bytes(png)
        drawn.append((picture, png))
    page = calibration_html(drawn, *said)
    (stage / "report.html").write_text(page, encoding="utf-8")


def write_exports(
    stage: Path,
    formats: Sequence[str],
    done: Sequence[Calibration],
    read: Pictures,
) -> None:
    """The cameras for other programs; pictures with distortion are written corrected."""
    from ..calibration import write_matrix, write_mayacam, write_opencv, write_rtk
    from ..cases import file_stem

    views = [c.view for c in done]
    each = {
        "matrix": (write_matrix, "matrix_{}.txt"),
        "opencv": (write_opencv, "opencv_{}.yml"),
        "mayacam": (write_mayacam, "mayacam_{}.txt"),
    }
    for name in dict.fromkeys(formats):
        if name == "rtk":
            write_rtk(stage / "rtk.xml", views, _rtk_grid(views, read), undistorted=True)
            continue
        write, place = each[name]
        for view in views:
            write(stage / place.format(file_stem(view.name)), view, undistorted=True)


def _rtk_grid(views: Sequence[Calibrated], read: Pictures) -> DetectorGrid:
    """Where pixels lie on the detector; InputError where one grid does not serve all pictures."""
    import numpy as np

    from ..cases import DetectorGrid

    spacing = read.exposures[0].spacing_mm
    kinds = {
        (e.spacing_mm, v.camera.size, bool(v.camera.intrinsic[0, 0] < 0))
        for e, v in zip(read.exposures, views, strict=True)
    }
    if spacing is None or len(kinds) > 1:
        what = "needs to know the pixels' size" if spacing is None else "is of pictures of one kind"
        raise InputError("--export rtk", what, "give --pixel-mm, or calibrate one device at a time")
    # Its v axis runs upwards: rows of a picture that is not mirrored run against it.
    up = -1.0 if views[0].camera.intrinsic[0, 0] < 0 else 1.0
    axes = np.diag([spacing[0], -up * spacing[1]])
    return DetectorGrid(-axes @ ((np.array(views[0].camera.size) - 1) / 2.0), axes)
