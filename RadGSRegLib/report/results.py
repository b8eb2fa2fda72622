"""The result files of the contract, pictures and report included, written into one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cases import (
    Case,
    RegistrationRecord,
    View,
    software_versions,
    write_itk_transform,
    write_registration_json,
    write_volume_nifti,
)
from ..gaussians import GaussianCloud, write_ply
from ..geometry import Volume
from ..measures import reconstruction_quality
from ..system import Progress
from . import overlay
from .epipolar import epipolar_png
from .page import ReportPictures, report_html
from .shadow import Shadow, cast_shadow

if TYPE_CHECKING:
    from ..pipeline import PipelineResult
    from ..registration import Registration


def write_results(
    folder: Path,
    case: Case,
    result: PipelineResult,
    *,
    truth: Mapping[str, float] | None = None,
    views: ReportPictures | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write everything the contract promises of a registration into the existing ``folder``.

    ``truth`` are figures against a known pose, for the report's head; ``views`` what `draw_views`
    has drawn of the same registration, where that was done before. Returns the figures of the
    reconstruction that went into the report. Write inside a `cases.OutputFolder`, so that the
    files appear together.
    """
    report = progress or Progress()
    registration = result.registration
    record = RegistrationRecord(
        status=registration.status,
        ct_to_world=registration.ct_to_world,
        covariance=registration.covariance,
        quality={**registration.quality, "reason": registration.reason},
        timing_s=dict(result.timing_s),
        ran_on=dict(result.ran_on),
        inputs=case.inputs,
        software=software_versions(),
        parameters={
            **registration.parameters,
            "seed": registration.seed,
            "case": case.to_parameters(),
            "notes": list(case.notes),
        },
        published=dict(result.published),
    )
    report(0.0, "writing the pose")
    write_registration_json(record, folder / "registration.json")
    write_itk_transform(
        registration.ct_to_world, folder / "ct_to_world.tfm", registration.centre_ct
    )
    report(0.1, "writing the reconstruction")
    write_reconstruction(folder, result.cloud_world, result.volume_world)
    report(0.3, "drawing")
    drawn = views or draw_views(case, registration, report.part(0.3, 0.8))
    report(0.8, "drawing the reconstruction")
    slices = overlay.slices_png(
        result.volume_world, case.ct, case.labels, case.label, registration.ct_to_world
    )
    pictures = replace(drawn, slices=slices)
    for name, png in zip(overlay.picture_names(case.views), pictures.overlays, strict=True):
        (folder / name).write_bytes(png)
    figures = _reconstruction_figures(case, registration.ct_to_world, result)
    report(0.95, "writing the report")
    page = report_html(
        case,
        registration,
        pictures,
        software=record.software,
        timing_s=result.timing_s,
        reconstruction=figures,
        truth=truth,
    )
    (folder / "report.html").write_text(page, encoding="utf-8")
    return figures


def write_reconstruction(folder: Path, cloud_world: GaussianCloud, volume_world: Volume) -> None:
    """Write Gaussians and volume into the existing ``folder``, each whole from the moment it is
    there: a program may be reading what was written before."""
    volume, cloud = folder / "reconstruction.nii.gz", folder / "gaussians.ply"
    part = volume.with_name(f".part.{volume.name}")
    write_volume_nifti(volume_world, part)
    part.replace(volume)
    part = cloud.with_name(f".part.{cloud.name}")
    write_ply(part, cloud_world)
    part.replace(cloud)


def draw_views(
    case: Case,
    registration: Registration,
    progress: Progress | None = None,
    shadows: Sequence[Shadow | None] | None = None,
) -> ReportPictures:
    """Draw overlays and comparisons of every view; ``shadows``: what the vertebra casts onto each
    as `shadow_in_view` says, where that is known already."""
    report = progress or Progress()
    overlays, comparisons, looked_at = [], [], []
    for number, view in enumerate(case.views):
        report(number / len(case.views), f"drawing {view.name}")
        if shadows is None:
            shadow = shadow_in_view(case, registration.ct_to_world, view)
        else:
            shadow = shadows[number]
        if shadow is None:
            overlays.append(overlay.plain_png(view))
            comparisons.append(b"")
            continue
        shown = overlay.windowed(view, shadow, overlay.polarity(view, shadow))
        looked_at.append(shown)
        overlays.append(overlay.overlay_png(view, shadow, shown))
        comparisons.append(overlay.comparison_png(view, shadow, shown))
    whole = len(looked_at) == len(case.views)
    epipolar = epipolar_png(case.views, looked_at, registration) if whole else None
    return ReportPictures(overlays, comparisons, epipolar=epipolar)


def shadow_in_view(case: Case, ct_to_world: ArrayLike, view: View) -> Shadow | None:
    """Cast the case's vertebra onto a view; None where a failed registration has put it behind the
    source."""
    try:
        return cast_shadow(case.ct, case.labels, case.label, ct_to_world, view.camera)
    except ValueError:
        return None


def _reconstruction_figures(
    case: Case, ct_to_world: NDArray[np.float64], result: PipelineResult
) -> dict[str, Any]:
    """SSIM and PSNR against the moved CT where the two overlap, and the fit's own figures."""
    figures: dict[str, Any] = {}
    try:
        quality = reconstruction_quality(
            result.volume_world, case.ct, case.labels, case.label, ct_to_world
        )
        figures["SSIM against the moved CT"] = quality["ssim"]
        figures["PSNR against the moved CT_db"] = quality["psnr_db"]
    except ValueError:
        pass  # a failed pose can lie outside the reconstruction: then there is nothing to compare
    return {**figures, **result.reconstruction_quality}
