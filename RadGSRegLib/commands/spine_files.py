"""The files of several vertebrae: what `report.write_spine_results` writes, and the CT bent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..system import Progress

if TYPE_CHECKING:
    from ..multilevel import SpineRegistration
    from ..pipeline import PipelineResult

BENT = "spine_ct_to_world.h5"
# How far points of the map lie apart that are looked at for folds, mm.
_STEP_MM = 3.0


def write_spine(
    stage: Path,
    spine: SpineRegistration,
    results: Mapping[int, PipelineResult],
    progress: Progress,
) -> None:
    """Write the files of several vertebrae into the existing folder ``stage``; ``results`` of each
    by label, in the order along the spine."""
    from dataclasses import replace

    from ..cases import write_itk_bent
    from ..multilevel import bent_grid, least_jacobian, polyrigid_map, relative_motions
    from ..report import write_spine_results

    progress(0.0, "bending the CT")
    case, labels = spine.case, spine.case.labels
    bend = polyrigid_map(labels, {n: done.ct_to_world for n, done in spine.levels.items()})
    grid = bent_grid(bend, labels)
    write_itk_bent(grid.common_ct_to_world, grid.displacement, grid.index_to_ct, stage / BENT)
    notes = [*case.notes, *(f"left out: {why}" for why in spine.left_out.values())]
    if least_jacobian(bend, labels, _STEP_MM) <= 0.0:
        notes.append(f"{BENT} folds what lies between vertebrae; their own poses are right")
    write_spine_results(
        stage,
        replace(case, notes=tuple(notes)),
        results,
        relative_motions(spine),
        begun_with=spine.begun_with,
        joint_covariance=spine.joint_covariance,
        timing_s=spine.timing_s,
        progress=progress.part(0.2, 1.0),
    )
