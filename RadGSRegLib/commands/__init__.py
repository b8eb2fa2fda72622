"""The commands of ``radgsreg``: one file each, with its arguments, its check and its run.

A new command is a new file with a `Command`, and its entry here. Importing them loads nothing
heavy: what a command needs, its ``run`` imports, torch only once the input has been read, so that
refusals come fast.
"""

from . import (
    beads,
    calibrate,
    demo,
    evaluate,
    info,
    levels,
    pretrain,
    reconstruct,
    register,
    reproduce,
    review_server,
    segment,
    simulate,
    standardize,
    surface,
    track,
)
from .command import Command, Outcome
from .running import rendered_by

COMMANDS: dict[str, Command] = {
    module.COMMAND.name: module.COMMAND
    for module in (
        demo,
        register,
        track,
        reconstruct,
        simulate,
        segment,
        surface,
        levels,
        standardize,
        beads,
        calibrate,
        evaluate,
        pretrain,
        reproduce,
        info,
        review_server,
    )
}
"""All commands by name, in the order in which the help lists them."""

__all__ = ["COMMANDS", "Command", "Outcome", "rendered_by"]
