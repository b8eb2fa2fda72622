"""Scores and renderings of a pose while a person corrects it by hand."""

from .rendering import XrayRenderer
from .scoring import PoseScore, PoseScorer
from .server import ReviewServer, say, serve

__all__ = ["PoseScore", "PoseScorer", "ReviewServer", "XrayRenderer", "say", "serve"]
