"""Networks that learn reconstruction and registration (math.md section 3)."""

from .anchors import NUMBERS, Anchors, grid_cloud, project
from .crops import PIXEL_MM, SIZE_PX, Frame, make_frame
from .cubes import excess_cube, sample_cube
from .detector import STRIDE, Detector, DetectorConfig, is_lateral, look
from .model import ModelConfig, RadGSReg, load_model, save_model
from .patient import CENTRE, is_trained_for, patient_cloud
from .places import PLACES, Sighting
from .recm import Prediction, RecM, RecMConfig
from .regm import RegM, RegMConfig, move_volume
from .rigid import geodesic_angle
from .shapes import Shapes
from .shipped import shipped_name, shipped_weights
from .start import LearnedStart, Seen, learned_start, see
from .tensor_file import load_tensors, save_tensors
from .views import ViewBatch, crop_views, make_batch

__all__ = [
    "CENTRE",
    "NUMBERS",
    "PIXEL_MM",
    "PLACES",
    "SIZE_PX",
    "STRIDE",
    "Anchors",
    "Detector",
    "DetectorConfig",
    "Frame",
    "LearnedStart",
    "ModelConfig",
    "Prediction",
    "RadGSReg",
    "RecM",
    "RecMConfig",
    "RegM",
    "RegMConfig",
    "Seen",
    "Shapes",
    "Sighting",
    "ViewBatch",
    "crop_views",
    "excess_cube",
    "geodesic_angle",
    "grid_cloud",
    "is_lateral",
    "is_trained_for",
    "learned_start",
    "load_model",
    "load_tensors",
    "look",
    "make_batch",
    "make_frame",
    "move_volume",
    "patient_cloud",
    "project",
    "sample_cube",
    "save_model",
    "save_tensors",
    "see",
    "shipped_name",
    "shipped_weights",
]
