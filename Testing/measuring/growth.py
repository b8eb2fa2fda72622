"""How a time grows with a size: the exponent of a power law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Growth:
    """``seconds`` at ``sizes``, rising.

    ``exponent``: of the power law fitted by least squares of the logarithms over all sizes;
    ``last``: that between the two largest sizes, where a fixed share no longer hides anything.
    """

    sizes: tuple[float, ...]
    seconds: tuple[float, ...]
    exponent: float
    last: float

    @property
    def steepest(self) -> float:
        """The larger of the two."""
        return max(self.exponent, self.last)


def fitted(sizes: Sequence[float], seconds: Sequence[float]) -> Growth:
    """Fit ``seconds = a size^exponent``.

    Raises ValueError for fewer than two sizes or for any that is not positive.
    """
    x, y = np.asarray(sizes, dtype=float), np.asarray(seconds, dtype=float)
    if len(x) < 2 or x.shape != y.shape or min(x.min(), y.min()) <= 0.0:
        raise ValueError("a power law needs two sizes or more, and positive numbers")
    order = np.argsort(x)
    x, y = x[order], y[order]
    exponent = float(np.polyfit(np.log(x), np.log(y), 1)[0])
    last = float(np.log(y[-1] / y[-2]) / np.log(x[-1] / x[-2]))
    return Growth(tuple(x.tolist()), tuple(y.tolist()), exponent, last)
