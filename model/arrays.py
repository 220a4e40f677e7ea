"""Types of arrays that several packages name."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
