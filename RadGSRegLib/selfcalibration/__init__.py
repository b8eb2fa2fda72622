"""Cameras whose geometry is only nominal, refined together with the poses of several vertebrae."""

from .joint import CameraRefinement as CameraRefinement
from .joint import NominalSpread as NominalSpread
from .joint import refine_cameras as refine_cameras
from .verdict import judged as judged
from .verdict import with_spread as with_spread
