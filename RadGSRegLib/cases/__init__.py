"""Reading and writing of cases, X-rays and results, as promised in the outside contract."""

from .types import Case, Intensity, View

__all__ = ["Case", "Intensity", "View"]
