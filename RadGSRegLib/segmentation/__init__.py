"""Segment a vertebra from one click, without a trained model and without a download."""

from .click import VertebraSegmentation as VertebraSegmentation
from .click import segment_vertebra as segment_vertebra
