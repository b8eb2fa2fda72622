"""``radgsreg track``: a bone followed through a run of fluoroscopy."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from ..system import ExitStatus, Interrupt, Progress
from .arguments import add_common, add_effort, add_out, add_path, explain_views
from .command import Command, Outcome
from .running import results_folder, torch_device, with_inputs

if TYPE_CHECKING:
    from ..tracking import Track


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser, "case", "CASE.json", "the case; its X-rays are runs (see docs/tracking.md)")
    add_out(parser)
    add_path(parser, "--start", "START.json", "an approximate ct_to_world in the first frame")
    parser.add_argument(
        "--frames",
        metavar="FIRST:LAST",
        type=frames_range,
        default=(0, None),
        help="follow these frames only, both included, counted from 0 (default: all)",
    )
    add_effort(parser, "how much to search and refine in the frame that is registered first")
    add_common(parser)
    explain_views(parser)


def frames_range(text: str) -> tuple[int, int | None]:
    """Read FIRST:LAST; either may be left out."""
    first, colon, last = text.partition(":")
    fits = colon and all(part == "" or part.isdecimal() for part in (first, last))
    low, high = int(first or 0) if fits else 0, int(last) if fits and last else None
    if not fits or (high is not None and high < low):
        raise argparse.ArgumentTypeError(f"{text!r} is not FIRST:LAST, two frames from 0")
    return low, high


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Follow the case's bone, and write everything."""
    from ..cases import read_run, read_start

    progress(0.0, "reading the case")
    frames = read_run(args.case)
    start = None if args.start is None else read_start(args.start)
    with results_folder(args.out, interrupt) as stage:
        from ..registration import registration_options
        from ..tracking import TrackOptions, track_case

        inputs = with_inputs(frames.case.inputs, args.start)
        frames = replace(frames, case=replace(frames.case, inputs=inputs))
        first, last = args.frames
        asked = TrackOptions(registration_options(args.effort, seed=args.seed), first, last)
        part = progress.part(0.02, 0.85)
        track = track_case(frames, start, asked, part, device=torch_device(args.device))

        from ..report import write_track_results

        write_track_results(stage, frames, track.to_record(), progress.part(0.85, 1.0))
    return track_outcome(track, args.out)


def track_outcome(track: Track, out: str) -> Outcome:
    """Say what came of a run."""
    shown = [frame for frame in track.frames if frame.has_picture]
    trusted = track.status == "ok"
    total = track.timing_s["total"]
    summary = [f"status: {track.status}: {track.reason}"]
    summary.append(f"{len(track.frames)} frames in {total:.0f} s; begun with frame {track.anchor}")
    known = [f.expected_error_mm for f in shown if f.status == "ok" and f.expected_error_mm]
    if known:
        summary.append(f"largest expected error of a frame that is ok: {max(known):.2f} mm")
    first = next((f for f in shown if f.status != "ok"), None)
    if first is not None:
        summary.append(f"frame {first.index}: {first.status}: {first.reason}")
    summary += [f"note: {note}" for note in track.case.notes]
    summary.append(f"results: {out} (open {out}/report.html)")
    if not trusted:
        summary.append("do not rely on frames that are not ok; look at the film")
    statuses = {str(f.index): f.status for f in track.frames}
    facts = {
        "status": track.status,
        "reason": track.reason,
        "frames": statuses,
        "out": str(out),
    }
    status = ExitStatus.OK if trusted else ExitStatus.NOT_TRUSTED
    return Outcome(status, tuple(summary), facts)


COMMAND = Command("track", "follow a bone through a run of X-rays", add_arguments, run)
