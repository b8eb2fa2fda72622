"""The type of most arrays: points, matrices and pixels in double precision."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
