"""Geometry on tensors: batches of rigid transforms and of pictures' lenses, on any device.

The same conventions as `geometry`, which is for one thing at a time on the CPU. Nothing here goes
back to the host but what `save_tensors` writes: tensors and JSON values in one file.
"""

from .host import reads_are_free as reads_are_free
from .host import without_host_reads as without_host_reads
from .lenses import Lenses as Lenses
from .rigid import applied as applied
from .rigid import compose_about as compose_about
from .rigid import exp_se3 as exp_se3
from .rigid import inverse_affine as inverse_affine
from .rigid import inverse_linear as inverse_linear
from .rigid import inverse_rigid as inverse_rigid
from .rigid import log_se3 as log_se3
from .rigid import orthonormalized as orthonormalized
from .rigid import rotation_vector as rotation_vector
from .rigid import skew as skew
from .rigid import twist_about as twist_about
from .tensor_file import load_tensors as load_tensors
from .tensor_file import save_tensors as save_tensors
