"""Several vertebrae of one CT registered together, each with a pose and a verdict of its own."""

from .conduct import register_vertebrae as register_vertebrae
from .descent import descend as descend
from .equations import Equations as Equations
from .equations import Normal as Normal
from .equations import Shown as Shown
from .types import SpineRegistration as SpineRegistration
from .unknowns import Setup as Setup
from .unknowns import Target as Target
from .unknowns import Unknowns as Unknowns
