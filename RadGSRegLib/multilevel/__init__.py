"""Several vertebrae of one CT registered together, each with a pose and a verdict of its own."""

from .conduct import register_vertebrae as register_vertebrae
from .descent import descend as descend
from .displacements import BentGrid as BentGrid
from .displacements import bent_grid as bent_grid
from .displacements import least_jacobian as least_jacobian
from .equations import Equations as Equations
from .equations import Normal as Normal
from .equations import Shown as Shown
from .levels import least_shown as least_shown
from .motions import relative_motions as relative_motions
from .polyrigid import LedBack as LedBack
from .polyrigid import PolyrigidMap as PolyrigidMap
from .polyrigid import polyrigid_map as polyrigid_map
from .types import SpineRegistration as SpineRegistration
from .unknowns import Setup as Setup
from .unknowns import Target as Target
from .unknowns import Unknowns as Unknowns
