"""Volumes from any number of X-rays taken anywhere, without a CT: the whole beam."""

from .algebraic import solve as solve
from .reconstruct import reconstruct_beam as reconstruct_beam
from .shape_guide import ShapeGuide as ShapeGuide
from .types import BeamOptions as BeamOptions
