"""The files of several vertebrae: a folder each, ``spine.json``, a page, and the CT bent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..system import Progress

if TYPE_CHECKING:
    from ..multilevel import RelativeMotion, SpineRegistration
    from ..pipeline import PipelineResult

SPINE, BENT = "spine.json", "spine_ct_to_world.h5"


def refuse_anything(folder: str) -> None:
    """Refuse a folder that holds anything but hidden files: folders of vertebrae of two results
    would stand beside each other."""
    place = Path(folder)
    if place.is_dir() and any(not entry.name.startswith(".") for entry in place.iterdir()):
        raise InputError(folder, "is not empty", "name a new or an empty folder for the vertebrae")


def write_spine(
    stage: Path,
    spine: SpineRegistration,
    results: Mapping[int, PipelineResult],
    progress: Progress,
) -> None:
    """Write the files of several vertebrae into the existing folder ``stage``; ``results`` of each
    by label."""
    from dataclasses import replace

    from ..cases import software_versions, write_itk_bent, write_json
    from ..multilevel import bent_grid, least_jacobian, polyrigid_map, relative_motions
    from ..report import (
        MotionRow,
        picture_names,
        spine_html,
        spine_overlays,
        unlike_stems,
        write_results,
    )

    names = [spine.name(label) for label in spine.levels]
    folders = dict(zip(spine.levels, unlike_stems(names), strict=True))
    for number, (label, result) in enumerate(results.items()):
        own = stage / folders[label]
        own.mkdir()
        done = progress.part(0.8 * number / len(results), 0.8 * (number + 1) / len(results))
        result = replace(result, registration=spine.levels[label])
        write_results(own, spine.case_of(label), result, progress=done)
    progress(0.8, "bending the CT")
    labels = spine.case.labels
    poses = {label: done.ct_to_world for label, done in spine.levels.items()}
    bend = polyrigid_map(labels, poses)
    grid = bent_grid(bend, labels)
    write_itk_bent(grid.common_ct_to_world, grid.displacement, grid.index_to_ct, stage / BENT)
    fold = least_jacobian(bend, labels, 3.0)
    progress(0.9, "drawing")
    motions = relative_motions(spine)
    overlays = spine_overlays(spine.case, spine.levels)
    for name, png in zip(picture_names(spine.case.views), overlays, strict=True):
        (stage / name).write_bytes(png)
    rows = [
        MotionRow(spine.name(m.upper), spine.name(m.lower), m.turn_deg, m.shift_mm, m.sigma)
        for m in motions
    ]
    case = spine.case
    said = [*case.notes, *(f"left out: {why}" for why in spine.left_out.values())]
    if fold <= 0.0:
        said.append(
            f"where vertebrae come close, {BENT} folds soft tissue; the bones' own poses are right"
        )
    software = software_versions()
    page = spine_html(
        replace(case, notes=tuple(said)),
        spine.levels,
        spine.status,
        overlays,
        rows,
        folders,
        spine.timing_s,
        software.get("radgsreg", ""),
    )
    (stage / "report.html").write_text(page, encoding="utf-8")
    write_json(_record(spine, folders, motions, said, software), stage / SPINE)


def _record(
    spine: SpineRegistration,
    folders: Mapping[int, str],
    motions: list[RelativeMotion],
    notes: list[str],
    software: Mapping[str, str],
) -> dict[str, Any]:
    """What ``spine.json`` says."""
    return {
        "schema": "radgsreg/spine",
        "version": 1,
        "status": spine.status,
        "begun_with": spine.name(spine.begun_with),
        "levels": {
            spine.name(label): {
                "label": label,
                "folder": folders[label],
                "status": done.status,
                "reason": done.reason,
                "ct_to_world": done.ct_to_world,
                "covariance": done.covariance,
                "expected_error_mm": done.quality["expected_error_mm"],
            }
            for label, done in spine.levels.items()
        },
        "left_out": {spine.name(label): why for label, why in spine.left_out.items()},
        "relative_motions": [
            {
                "upper": spine.name(motion.upper),
                "lower": spine.name(motion.lower),
                "matrix": motion.matrix,
                "turn_deg": motion.turn_deg,
                "shift_mm": motion.shift_mm,
                "sigma_turn_deg": motion.sigma[:3],
                "sigma_shift_mm": motion.sigma[3:],
            }
            for motion in motions
        ],
        "joint_covariance": {
            "order": [spine.name(label) for label in spine.levels],
            "matrix": spine.joint_covariance,
        },
        "timing_s": dict(spine.timing_s),
        "inputs": dict(spine.case.inputs),
        "software": dict(software),
        "notes": notes,
    }
