"""Cameras whose geometry is only nominal, refined together with the poses of several vertebrae."""

from .joint import CameraRefinement as CameraRefinement
from .joint import NominalSpread as NominalSpread
from .joint import refine_cameras as refine_cameras
from .verdict import camera_covariances as camera_covariances
from .verdict import doubt as doubt
from .verdict import judged as judged
