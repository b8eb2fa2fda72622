"""An X-ray made ready to be compared: clean pixels, polarity, windows, local normalisation."""

from .normalization import Contrast, LocalNormalization, Normalized
from .prepare import PreparedView, Window, prepare_view, window

__all__ = [
    "Contrast",
    "LocalNormalization",
    "Normalized",
    "PreparedView",
    "Window",
    "prepare_view",
    "window",
]
