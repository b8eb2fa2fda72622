"""Scores and renderings of a pose while a person corrects it by hand."""

from .rendering import XrayRenderer
from .scoring import PoseScore, PoseScorer

__all__ = ["PoseScore", "PoseScorer", "XrayRenderer"]
