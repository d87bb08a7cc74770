"""CIFAR-100: 60,000 photographs of 32 x 32 pixels in 100 classes, which form 20 coarse ones.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009),
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from convc.keras.datasets.cache import Split
from convc.keras.datasets.cifar import Source, as_split, read_batch
from convc.keras.engine.arguments import choice

SOURCE = Source(
    "cifar-100-python",
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
)


def load_data(label_mode: str = "fine") -> tuple[Split, Split]:
    """(x_train, y_train), (x_test, y_test): uint8[50000, 32, 32, 3], uint8[50000, 1] and 10,000 for testing.

    `label_mode` is "fine" (100 classes) or "coarse" (20). With the image data format "channels_first", images are
    [n, 3, 32, 32].
    """
    key = f"{choice('cifar100.load_data', 'label_mode', label_mode, ('fine', 'coarse'))}_labels"
    folder = SOURCE.folder()
    return as_split(*read_batch(folder / "train", key)), as_split(*read_batch(folder / "test", key))
