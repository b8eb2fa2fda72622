"""``radgsreg levels``: which vertebrae X-rays show, and of which level each is."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..system import ExitStatus, Interrupt, Progress
from .arguments import add_device, add_out, add_path, add_progress, check_model, explain_views
from .command import Command, Outcome
from .running import levels_weights, results_folder, torch_device, with_inputs

if TYPE_CHECKING:
    from ..cases import View
    from ..geometry import Array
    from ..spine import SpineLevels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser, "input", "CASE_OR_VIEWS.json", "X-rays, or a case, whose CT is not looked at")
    add_out(parser)
    add_path(parser, "--model", "M", "trained weights (default: those that come with the program)")
    add_device(parser, "what the network runs on")
    add_progress(parser)
    explain_views(parser)


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Look at the X-rays, and write the levels and a picture for each view."""
    from ..cases import middle_of_views, software_versions, write_json

    progress(0.0, "reading the X-rays")
    views, axes, inputs, notes = _read(args.input)
    if axes is None:
        raise InputError(
            args.input,
            '"patient_axes" is "any", so that nothing says where the head is',
            "say how the patient lies",
        )
    model = args.model or levels_weights("--model")
    inputs = with_inputs(inputs, args.model)
    with results_folder(args.out, interrupt) as stage:
        from ..networks import load_levels, name_levels
        from ..report import Mark, levels_png, picture_names
        from ..spine import levels_to_record
        from ..system import one_torch_thread
        from ..views import prepare_views

        network = load_levels(model, torch_device(args.device))
        began = time.perf_counter()
        progress(0.3, "looking for vertebrae")
        with one_torch_thread():
            spine = name_levels(prepare_views(views), network, middle_of_views(views), axes)
        seconds = time.perf_counter() - began
        progress(0.6, "drawing")
        marks = [Mark(v.place_world, v.level or "?", v.level is not None) for v in spine.vertebrae]
        for view, name in zip(views, picture_names(views), strict=True):
            (stage / name).write_bytes(levels_png(view, marks, _anchored(spine)))
        record: dict[str, Any] = {
            "schema": "radgsreg/levels",
            "version": 1,
            **levels_to_record(spine),
            "timing_s": {"total": seconds},
            "inputs": inputs,
            "software": software_versions(),
            "parameters": {
                "model": {"date": network.card.get("date"), "shipped": args.model is None},
                "views": [view.name for view in views],
                "notes": list(notes),
            },
        }
        for entry, vertebra in zip(record["vertebrae"], spine.vertebrae, strict=True):
            entry["centre_px"] = {
                view.name: [
                    round(float(x), 2) for x in view.camera.project(vertebra.place_world[None])[0]
                ]
                for view in views
            }
        write_json(record, stage / "levels.json")
    names = [vertebra.level or "?" for vertebra in spine.vertebrae]
    lines = (
        f"{len(names)} vertebrae, from top to bottom: {' '.join(names)}"
        if names
        else "no vertebra is to be seen in two views",
        _anchored(spine),
        *(f"note: {note}" for note in notes),
        f"results: {args.out}",
    )
    facts = {"out": str(args.out), "levels": names, "anchor": spine.anchor}
    return Outcome(ExitStatus.OK, lines, facts)


def _anchored(spine: SpineLevels) -> str:
    """What the names hang on, or why there are none."""
    if spine.anchor is None:
        return "levels unknown: neither the sacrum nor the last rib is seen for sure"
    return f"levels counted from the {spine.anchor} ({100.0 * spine.anchors[spine.anchor]:.0f} %)"


def _read(
    path: Path,
) -> tuple[Sequence[View], Array | None, Mapping[str, str], Sequence[str]]:
    """Read X-rays, how the patient lies in their world, the files' digests and the remarks."""
    from ..cases import Ledger, read_views_with_axes, views_path

    ledger = Ledger()
    views, axes = read_views_with_axes(views_path(path), ledger)
    return views, axes, ledger.inputs, ledger.notes


COMMAND = Command(
    "levels", "which vertebrae X-rays show, and their levels", add_arguments, run, check_model
)
