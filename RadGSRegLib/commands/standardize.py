"""``radgsreg standardize``: realistic X-rays to DRRs of their bones."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..system import ExitStatus, Interrupt, Progress
from .arguments import add_device, add_out, add_path, add_progress, check_model, explain_views
from .command import Command, Outcome
from .running import results_folder, standard_weights, torch_device, with_inputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser, "input", "CASE_OR_VIEWS.json", "X-rays, or a case, whose CT is not looked at")
    add_out(parser)
    add_path(parser, "--model", "M", "trained weights (default: those that come with the program)")
    add_device(parser, "what the network runs on")
    add_progress(parser)
    explain_views(parser)


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Standardise the X-rays, and write them as views of their own, with a picture of each."""
    from ..cases import (
        Ledger,
        read_views_with_axes,
        software_versions,
        views_path,
        write_json,
        write_views,
    )

    progress(0.0, "reading the X-rays")
    ledger = Ledger()
    views, axes = read_views_with_axes(views_path(args.input), ledger)
    model = args.model or standard_weights("--model")
    inputs = with_inputs(ledger.inputs, args.model)
    with results_folder(args.out, interrupt) as stage:
        import numpy as np

        from .. import pipeline
        from ..networks import Standardization, load_standardizer, standard_record, unlike_views
        from ..report import standard_png, unlike_stems
        from ..system import one_torch_thread
        from ..views import prepare_views

        network = load_standardizer(model, torch_device(args.device))
        began = time.perf_counter()
        bones = Standardization(network, pipeline.centre_of_views(views))
        with one_torch_thread():
            done = []
            for number, view in enumerate(prepare_views(views)):
                progress(0.1 + 0.7 * number / len(views), f"standardising {view.name}")
                done.append((view, bones(view)))
        seconds = time.perf_counter() - began
        progress(0.8, "writing")
        standard = [
            # What was not shown is told from what shows no bone.
            replace(
                view,
                pixels=np.where(after.valid, after.values, np.float32(-1.0)),
                intensity="attenuation",
                bone_alone=True,
                device="",
            )
            for view, (_, after) in zip(views, done, strict=True)
        ]
        write_views(stage, standard, axes)
        stems = unlike_stems([view.name for view in views])
        for (before, after), stem in zip(done, stems, strict=True):
            (stage / f"standard_{stem}.png").write_bytes(standard_png(before, after))
        unlike = unlike_views([bones])
        status, reason = _verdict(unlike)
        record: dict[str, Any] = {
            "schema": "radgsreg/standardised",
            "version": 1,
            "status": status,
            "reason": reason,
            "views": standard_record(bones),
            "timing_s": {"total": seconds},
            "inputs": inputs,
            "software": software_versions(),
            "parameters": {
                "model": {"date": network.card.get("date"), "shipped": args.model is None},
                "views": [view.name for view in views],
                "notes": list(ledger.notes),
            },
        }
        write_json(record, stage / "standardised.json")
    lines = (
        f"standardised {len(views)} X-rays",
        f"status: {status}: {reason}",
        *(f"note: {note}" for note in ledger.notes),
        f"results: {args.out}",
    )
    facts = {"out": str(args.out), "status": status, "reason": reason}
    return Outcome(ExitStatus.NOT_TRUSTED if unlike else ExitStatus.OK, lines, facts)


def _verdict(unlike: Sequence[str]) -> tuple[str, str]:
    if not unlike:
        return "ok", "all X-rays are like those that the network was trained on"
    word = "is" if len(unlike) == 1 else "are"
    return "uncertain", f"{', '.join(unlike)} {word} unlike anything that it was trained on"


COMMAND = Command(
    "standardize", "realistic X-rays to DRRs of their bones", add_arguments, run, check_model
)
