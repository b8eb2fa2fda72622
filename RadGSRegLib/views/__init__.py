"""An X-ray made ready to be compared: cleaned, filtered, resampled, normalised.

`prepare_views` cleans X-rays (`cleaning`) and applies whatever makes them better (`ViewFilter`);
registration takes windows of the views (`window`), reconstruction the part that shows a box
(`blurred`, `sampled`), networks crops of virtual cameras (`resample`).
"""

from . import bounds as bounds
from .batch import prepare_pictures as prepare_pictures
from .bounds import LEAST_SHARE as LEAST_SHARE
from .bounds import WHOLLY_VALID as WHOLLY_VALID
from .contrast import local_contrast as local_contrast
from .contrast import ranks_and_contrast as ranks_and_contrast
from .filters import ViewFilter as ViewFilter
from .gradients import gradient_correlation as gradient_correlation
from .homography import resample as resample
from .normalization import Contrast as Contrast
from .normalization import LocalNormalization as LocalNormalization
from .normalization import Normalized as Normalized
from .polarity import guess_sign as guess_sign
from .polarity import sign_choices as sign_choices
from .prepare import prepare_view as prepare_view
from .prepare import prepare_views as prepare_views
from .resampling import blurred as blurred
from .resampling import pool_views as pool_views
from .resampling import sampled as sampled
from .scaling import rescaled as rescaled
from .types import PreparedView as PreparedView
from .types import Window as Window
from .types import Windows as Windows
from .windowing import window as window
from .windowing import windows as windows
