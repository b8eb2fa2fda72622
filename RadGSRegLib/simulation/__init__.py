"""X-ray physics and display: realistic biplanar X-rays, with truth, from a CT and its labels."""

from .batch import Wanted as Wanted
from .batch import batch_problem as batch_problem
from .batch import simulate_together as simulate_together
from .bead_case import SimulatedBeads as SimulatedBeads
from .bead_case import simulate_beads as simulate_beads
from .beads import BeadPhantom as BeadPhantom
from .case import Prepared as Prepared
from .case import SimulatedCase as SimulatedCase
from .case import simulate_case as simulate_case
from .files import write_grids as write_grids
from .files import write_simulated_beads as write_simulated_beads
from .files import write_simulated_case as write_simulated_case
from .grid_plate import GridPicture as GridPicture
from .grid_plate import simulate_grids as simulate_grids
from .materials import SOFT_LIMIT_HU as SOFT_LIMIT_HU
from .parameters import PRESETS as PRESETS
from .parameters import SimulationParameters as SimulationParameters
from .paths import path_cameras as path_cameras
from .phantom_case import simulate_phantom_case as simulate_phantom_case
from .scene import Scene as Scene
from .scene import centroid as centroid
from .scene import covers_body as covers_body
from .scene import take_apart as take_apart
from .spectrum import tungsten_spectrum as tungsten_spectrum
from .voxels import SceneOnDevice as SceneOnDevice
from .voxels import scene_on_device as scene_on_device
