"""What a long computation tells, and whether it is still to go on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..reconstruction import Deadline
from ..system import Progress


@dataclass(frozen=True)
class Watch:
    """Hears the share done of some work, under one message, and knows when its time is up."""

    report: Progress
    message: str
    deadline: Deadline = field(default_factory=lambda: Deadline(None))

    def __call__(self, share: float) -> None:
        """Report the share done; raises `Cancelled` when asked to stop."""
        self.report(share, self.message)

    @property
    def late(self) -> bool:
        """Whether time is up: what can be left out is to be left out."""
        return self.deadline.passed

    def part(self, start: float, stop: float) -> Watch:
        """Return that of a stretch of the work."""
        return replace(self, report=self.report.part(start, stop))
