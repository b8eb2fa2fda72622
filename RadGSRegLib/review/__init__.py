"""Scores and renderings of a pose while a person corrects it by hand."""

from .rendering import XrayRenderer as XrayRenderer
from .scoring import PoseScorer as PoseScorer
from .scoring import Registered as Registered
from .server import ReviewServer as ReviewServer
from .server import say as say
from .server import serve as serve
