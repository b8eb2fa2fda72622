"""How far a result lies from the truth: errors of a pose, of a volume and of a shape."""

from .pose import CAPTURE_BIN_MM as CAPTURE_BIN_MM
from .pose import SUBMILLIMETRE_MM as SUBMILLIMETRE_MM
from .pose import SUCCESS_MM as SUCCESS_MM
from .pose import capture_bins as capture_bins
from .pose import capture_range_mm as capture_range_mm
from .pose import centre_error_mm as centre_error_mm
from .pose import describe as describe
from .pose import drift_mm as drift_mm
from .pose import in_plane_and_depth_mm as in_plane_and_depth_mm
from .pose import is_false_alarm as is_false_alarm
from .pose import is_silent_failure as is_silent_failure
from .pose import mtre as mtre
from .pose import rotation_error_deg as rotation_error_deg
from .pose import success_rate as success_rate
from .pose import target_points as target_points
from .shape import dice as dice
from .shape import mask_like as mask_like
from .shape import mask_ml as mask_ml
from .shape import shape_dice as shape_dice
from .volume import SSIM_WINDOW as SSIM_WINDOW
from .volume import box_of as box_of
from .volume import psnr as psnr
from .volume import reconstruction_quality as reconstruction_quality
from .volume import resample as resample
from .volume import scale_to_unit as scale_to_unit
from .volume import ssim as ssim
