"""What a command is, and what it answers."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..system import ExitStatus, Interrupt, Progress


@dataclass(frozen=True)
class Outcome:
    """The exit status, what to tell a person (lines), and the same for a program (JSON values)."""

    exit_status: ExitStatus
    summary: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    """One command of ``radgsreg``.

    ``add_arguments`` gets the command's own parser; ``check`` refuses what needs no look into any
    file (InputError), before anything is loaded; ``run`` does the work. ``hidden``: not in the
    list of commands, because another program calls it.
    """

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Progress, Interrupt], Outcome]
    check: Callable[[argparse.Namespace], None] = lambda args: None
    hidden: bool = False
