"""Several vertebrae of one CT registered together, each with a pose and a verdict of its own."""

from .motions import relative_motions as relative_motions
from .types import SpineRegistration as SpineRegistration
from .unknowns import Setup as Setup
from .unknowns import Target as Target
from .unknowns import Unknowns as Unknowns
