"""Boston housing: 506 districts of 13 numbers, and what houses cost there in 1,000 dollars.

Source: D. Harrison, D. Rubinfeld (1978), http://lib.stat.cmu.edu/datasets/boston.
"""

from __future__ import annotations

from convc.keras.datasets.splits import Parts, divided, located, read

SHA256 = "f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5"


def load_data(path: str = "boston_housing.npz", test_split: float = 0.2, seed: int = 113) -> Parts:
    """(x_train, y_train), (x_test, y_test) out of an .npz file with x and y."""
    found = read(located(path, "boston_housing.npz", SHA256), ("x", "y"))
    return divided(found, test_split, seed)
