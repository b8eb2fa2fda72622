"""What is said once for all methods of a run."""

from dataclasses import dataclass

from ..errors import InputError

# How many of their usual steps the iterative baselines take.
_SHARES = {"fast": 0.4, "normal": 1.0, "careful": 2.0}


@dataclass(frozen=True)
class Settings:
    """``effort`` ("fast", "normal" or "careful"), ``seed`` and torch ``device`` of all methods."""

    effort: str = "normal"
    seed: int = 0
    device: str = "cpu"

    def steps(self, usual: int) -> int:
        """Return how many steps an iterative baseline takes; InputError for an unknown effort."""
        if self.effort not in _SHARES:
            known = ", ".join(_SHARES)
            raise InputError("--effort", f"'{self.effort}' is unknown", f"use {known}")
        return max(2, round(_SHARES[self.effort] * usual))
