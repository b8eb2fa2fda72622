"""The paper's experiments: models of all stages, folds and ablations, and its tables."""

from .design import ABLATIONS as ABLATIONS
from .design import Design as Design
from .design import minutes_of as minutes_of
from .design import plan as plan
from .run import phantom_cases as phantom_cases
from .run import reproduce as reproduce
from .run import smallest as smallest
