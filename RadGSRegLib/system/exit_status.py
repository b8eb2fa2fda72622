"""The exit statuses of ``radgsreg``: part of the contract, for both sides of a child process."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """How a command ended. Any other status is a crash."""

    OK = 0
    """Done."""
    BUG = 1
    """An error of the program: one line on standard error (RADGSREG_TRACEBACK=1: all of it)."""
    INPUT = 2
    """Unusable arguments or input: one line on standard error, nothing written."""
    NOT_TRUSTED = 3
    """The job ran, its results are written, and they are not to be trusted."""
    CANCELLED = 130
    """Cancelled, nothing written."""
