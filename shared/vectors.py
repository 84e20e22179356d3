"""Types of embeddings, as numpy arrays."""

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
"""One embedding, shape [dimension]; also scores, shape [n]."""
Vectors = NDArray[np.float32]
"""Embeddings, shape [n, dimension]."""
