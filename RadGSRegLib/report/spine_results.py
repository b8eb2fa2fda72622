"""The result files of several vertebrae: all together, and each vertebra's own in a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..cases import (
    Case,
    LevelRecord,
    RelativeMotion,
    SpineRecord,
    level_folders,
    level_names,
    write_spine_json,
)
from ..geometry import Array
from ..system import Progress
from . import overlay
from .results import draw_views, write_results
from .spine import level_outlines, spine_overlay_png
from .spine_page import spine_report_html

if TYPE_CHECKING:
    from ..pipeline import PipelineResult


def write_spine_results(
    folder: Path,
    case: Case,
    results: Mapping[int, PipelineResult],
    motions: Sequence[RelativeMotion],
    *,
    begun_with: int,
    joint_covariance: Array,
    timing_s: Mapping[str, float],
    progress: Progress | None = None,
) -> SpineRecord:
    """Write everything that several vertebrae come to into the existing ``folder``.

    That is a folder per vertebra with what `write_results` writes, and beside them ``spine.json``,
    ``report.html`` and an ``overlay_<view>.png`` with all outlines.

    Args:
        folder: where to; write inside a `cases.OutputFolder`, so that the files appear together.
        case: the CT and the X-rays; its label does not matter.
        results: of each label, in the order along the spine.
        motions: how neighbours have moved, as `multilevel.relative_motions` says.
        begun_with: the label that was looked for first.
        joint_covariance: (6 K, 6 K) of the twists in the order of ``results``, radians and mm.
        timing_s: the stages of all together, and "total".
        progress: told of the share done; may cancel.

    Returns:
        What ``spine.json`` holds.

    Raises:
        ValueError: for a label that is not there, and for what `cases.write_spine_json` refuses.
        Cancelled: when ``progress`` says so.
    """
    report = progress or Progress()
    record = _record(case, results, motions, begun_with, joint_covariance, timing_s)
    levels = {label: result.registration for label, result in results.items()}
    outlines = []
    for number, view in enumerate(case.views):
        report(0.25 * number / len(case.views), f"drawing all vertebrae on {view.name}")
        outlines.append(level_outlines(case, levels, view))
    overlays = [spine_overlay_png(v, o) for v, o in zip(case.views, outlines, strict=True)]
    for name, png in zip(overlay.picture_names(case.views), overlays, strict=True):
        (folder / name).write_bytes(png)
    for number, (label, level) in enumerate(zip(results, record.levels.values(), strict=True)):
        low, high = (0.25 + 0.75 * n / len(results) for n in (number, number + 1))
        draw, rest = report.part(low, 0.5 * (low + high)), report.part(0.5 * (low + high), high)
        own, alone = folder / level.folder, replace(case, label=label)
        own.mkdir()
        shadows = [on_view[number].shadow for on_view in outlines]
        views = draw_views(alone, levels[label], draw, shadows)
        write_results(own, alone, results[label], views=views, progress=rest)
    write_spine_json(record, folder / "spine.json")
    page = spine_report_html(case, record, overlays)
    (folder / "report.html").write_text(page, encoding="utf-8")
    return record


def _record(
    case: Case,
    results: Mapping[int, PipelineResult],
    motions: Sequence[RelativeMotion],
    begun_with: int,
    joint_covariance: Array,
    timing_s: Mapping[str, float],
) -> SpineRecord:
    names = level_names(case.label_names, list(results))
    folders = level_folders(names)
    first = results[begun_with].registration
    of_case = {k: v for k, v in case.to_parameters().items() if k not in ("label", "label_name")}
    return SpineRecord(
        levels={
            names[label]: LevelRecord(
                label=label,
                status=result.registration.status,
                reason=result.registration.reason,
                ct_to_world=result.registration.ct_to_world,
                covariance=result.registration.covariance,
                expected_error_mm=result.registration.quality.get("expected_error_mm"),
                folder=folders[label],
            )
            for label, result in results.items()
        },
        begun_with=names[begun_with],
        relative_motions=tuple(motions),
        joint_covariance=joint_covariance,
        timing_s=dict(timing_s),
        inputs=dict(case.inputs),
        parameters={
            **first.parameters,
            "seed": first.seed,
            "case": {"labels": list(results), "label_names": list(names.values()), **of_case},
            "notes": list(case.notes),
        },
    )
