"""A wish to be done by then."""

import time


class Deadline:
    """``passed`` once ``limit_s`` seconds have gone by since it was made; None: never."""

    def __init__(self, limit_s: float | None) -> None:
        self._limit_s = limit_s
        self._began = time.perf_counter()
        self.struck = False
        """Whether it was asked after its end."""

    @property
    def passed(self) -> bool:
        """Whether time is up."""
        if self.left_s is not None and self.left_s <= 0.0:
            self.struck = True
        return self.struck

    @property
    def left_s(self) -> float | None:
        """The seconds that are left, 0 from its end on; None: no end."""
        if self._limit_s is None:
            return None
        return max(self._began + self._limit_s - time.perf_counter(), 0.0)

    @property
    def share(self) -> float:
        """The share of its time that has gone by, in [0, 1]; 0 where it has no end."""
        if self._limit_s is None:
            return 0.0
        gone = time.perf_counter() - self._began
        return 1.0 if gone >= self._limit_s else gone / self._limit_s
