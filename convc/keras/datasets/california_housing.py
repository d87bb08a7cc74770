"""California housing: 20,640 districts of 8 numbers, and the median price of a house there in dollars.

Source: R. Pace, R. Barry (1997), Sparse Spatial Autoregressions.
"""

from __future__ import annotations

from convc.errors import UsageError
from convc.keras.datasets.splits import Parts, divided, located, read

SHA256 = "1a2e3a52e0398de6463aebe6f4a8da34fb21fbb6b934cf88c3425e766f2a1a6f"
SMALL = 600


def load_data(
    version: str = "large",
    path: str = "california_housing.npz",
    test_split: float = 0.2,
    seed: int = 113,
) -> Parts:
    """(x_train, y_train), (x_test, y_test) out of an .npz file with x and y; "small" takes its first 600 rows."""
    if version not in ("small", "large"):
        raise UsageError(
            f"california_housing: version must be 'small' or 'large'; received {version!r}"
        )
    found = read(located(path, "california_housing.npz", SHA256), ("x", "y"))
    rows = SMALL if version == "small" else None
    return divided([array[:rows] for array in found], test_split, seed)
