"""A wish to be done by then."""

import time


class Deadline:
    """``passed`` once ``limit_s`` seconds have gone by since it was made; None: never."""

    def __init__(self, limit_s: float | None) -> None:
        self._end = None if limit_s is None else time.perf_counter() + limit_s
        self.struck = False
        """Whether anybody was told that it had passed."""

    @property
    def passed(self) -> bool:
        """Whether time is up."""
        if self._end is not None and time.perf_counter() >= self._end:
            self.struck = True
        return self.struck
