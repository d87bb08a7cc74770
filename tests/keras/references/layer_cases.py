"""Small models of one layer each, written for either Keras; `make_layers.py` keeps what Keras computes with them.

A case is a function of the package that gives a model and its inputs. Weights are waves, so that both packages have
the same; a case that is trained is compared in its first losses too, which its gradients have made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.keras.references.cases import labels, wave

Case = Callable[[Any], tuple[Any, Any]]

CASES: dict[str, Case] = {}
UNTRAINED: set[str] = set()


def case(name: str, trained: bool = True) -> Callable[[Case], Case]:
    def kept(make: Case) -> Case:
        CASES[name] = make
        if not trained:
            UNTRAINED.add(name)
        return make

    return kept


def words() -> Any:
    """Five sentences of up to six words below 12, with zeros where they have ended; one is empty but for a word."""
    found = 1 + labels(5, 6, classes=11)
    for row, length in enumerate((6, 4, 1, 5, 2)):
        found[row, length:] = 0
    return found.astype(np.int32)


def numbers(*shape: int, start: float = 0.3) -> Any:
    return wave(*shape, start=start).astype(np.float32)


def of_layer(keras: Any, layer: Any, *shape: int) -> tuple[Any, Any]:
    """A layer on numbers of the shape (the batch first)."""
    start = keras.Input(shape[1:])
    return keras.Model(start, layer(start)), numbers(*shape)


@case("masked mean")
def _(keras: Any) -> tuple[Any, Any]:
    layers = keras.layers
    chain = [
        keras.Input((6,), dtype="int32"),
        layers.Embedding(12, 4, mask_zero=True),
        layers.Dropout(0.0),
        layers.GlobalAveragePooling1D(),
        layers.Dense(3),
    ]
    return keras.Sequential(chain), words()


@case("masked loss")
def _(keras: Any) -> tuple[Any, Any]:
    layers = keras.layers
    start = keras.Input((6,), dtype="int32")
    x = layers.Embedding(12, 4, mask_zero=True)(start)
    return keras.Model(start, layers.Dense(3)(x)), words()


@case("masks joined")
def _(keras: Any) -> tuple[Any, Any]:
    layers = keras.layers
    one, two = keras.Input((4, 3)), keras.Input((4, 3))
    masked = [layers.Masking()(one), layers.Masking(0.5)(two)]
    mean = layers.GlobalAveragePooling1D()
    found = [
        mean(layers.Concatenate(axis=1)(masked)),
        mean(layers.Concatenate()([masked[0], two])),
        mean(layers.Add()(masked)),
        mean(layers.LayerNormalization()(masked[1])),
    ]
    a, b = numbers(5, 4, 3), numbers(5, 4, 3, start=0.9)
    a[:, 2:], b[:, 0], b[3, 3] = 0, 0.5, 0.5
    return keras.Model([one, two], layers.Concatenate()(found)), [a, b]
