"""Segment a vertebra from one click, without a trained model and without a download."""

from .click import VertebraSegmentation, segment_vertebra

__all__ = ["VertebraSegmentation", "segment_vertebra"]
