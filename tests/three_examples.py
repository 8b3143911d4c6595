"""Features, a kernel and labels whose losses the authors' code has computed, too.

Values that tests hold to were computed in float64 NumPy, apart from the package, and
agree with the code of the papers' authors or with pytorch-metric-learning.
"""

import numpy as np

FEATURES = np.array([[-0.8, 1.4, -0.1], [2.3, -0.8, -0.1], [0.1, 0.9, 1.0]])
KERNEL = np.array([[-1.8, 1.2, -1.1, 0.6], [-0.4, 0.0, 0.2, -0.3], [-0.1, 1.6, 0, 2.7]])
LABELS = np.array([2, 1, 3])
COSINES = (FEATURES @ KERNEL) / np.outer(
    np.linalg.norm(FEATURES, axis=1), np.linalg.norm(KERNEL, axis=0)
)
LOGITS = np.array([[0.2, -1, 1.5, 0.4], [0.3, 0.1, -0.6, 2], [-4.5, 0.5, 11, 0.9]])
# Five examples, two of which share a class, for what ties a batch together.
FIVE = np.array(
    [
        [0.6, -0.8, 1.2],
        [-0.5, 1.0, 0.7],
        [0.9, 0.3, -0.4],
        [0.5, -0.9, 1.0],
        [-0.2, 0.4, -1.1],
    ]
)
FIVE_LABELS = np.array([2, 1, 3, 2, 0])
