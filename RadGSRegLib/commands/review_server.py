"""``radgsreg review-server``: the process that scores and renders poses for a window.

Both sides speak lines of JSON (see `review.server`), so that nothing else may reach standard
output. The window starts it; a person has no use for it.
"""

import argparse
import contextlib
import sys

from ..errors import InputError
from ..system import ExitStatus, Interrupt, Progress
from .arguments import add_path
from .command import Command, Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser, "case", "CASE.json", "the case")
    add_path(parser, "pose", "POSE.json", "the ct_to_world to begin with")
    add_path(parser, "folder", "FOLDER", "where pictures are written")


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Load, say so, and answer until the input ends."""
    out = sys.stdout
    # Whatever a library prints must not get between the answers.
    with contextlib.redirect_stdout(sys.stderr):
        from ..review import ReviewServer, say, serve

        def tell(fraction: float, message: str) -> None:
            say(out, {"progress": fraction, "message": message})

        try:
            server = ReviewServer(args.case, args.pose, args.folder, Progress(tell))
        except (InputError, ValueError) as error:
            say(out, {"error": str(error)})
            return Outcome(ExitStatus.INPUT)
        say(out, {"ready": True, "views": server.views, "registered": server.registered})
        serve(server, sys.stdin, out)
    return Outcome(ExitStatus.OK)


COMMAND = Command(
    "review-server", "scores and renderings for a window", add_arguments, run, hidden=True
)
