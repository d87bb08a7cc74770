"""Small image data sets, out of Keras' cache folder or from the network."""

from convc.keras.datasets import cifar10, cifar100, fashion_mnist, mnist

__all__ = ["cifar10", "cifar100", "fashion_mnist", "mnist"]
