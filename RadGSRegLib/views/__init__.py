"""An X-ray made ready to be compared: cleaned, filtered, resampled, normalised.

`prepare_views` cleans X-rays (`cleaning`) and applies whatever makes them better (`ViewFilter`);
registration takes windows of the views (`window`), reconstruction the part that shows a box
(`blurred`, `sampled`), networks crops of virtual cameras (`resample`).
"""

from . import bounds
from .bounds import WHOLLY_VALID
from .contrast import local_contrast, ranks_and_contrast
from .filters import ViewFilter
from .normalization import Contrast, LocalNormalization, Normalized
from .polarity import guess_sign
from .prepare import prepare_view, prepare_views
from .resampling import blurred, pool_views, resample, sampled
from .scaling import rescaled
from .types import PreparedView, Window
from .windows import window

__all__ = [
    "WHOLLY_VALID",
    "Contrast",
    "LocalNormalization",
    "Normalized",
    "PreparedView",
    "ViewFilter",
    "Window",
    "blurred",
    "bounds",
    "guess_sign",
    "local_contrast",
    "pool_views",
    "prepare_view",
    "prepare_views",
    "ranks_and_contrast",
    "resample",
    "rescaled",
    "sampled",
    "window",
]
