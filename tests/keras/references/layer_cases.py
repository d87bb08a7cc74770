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


@case("einsum dense")
def _(keras: Any) -> tuple[Any, Any]:
    layer = keras.layers.EinsumDense("abc,cde->abde", (None, 2, 5), "tanh", bias_axes="e")
    return of_layer(keras, layer, 3, 4, 6)


@case("einsum dense with more axes")
def _(keras: Any) -> tuple[Any, Any]:
    layer = keras.layers.EinsumDense("...x,xy->...y", output_shape=4, bias_axes="y")
    return of_layer(keras, layer, 3, 2, 4, 6)


def attended(keras: Any, layer: Any, **settings: Any) -> tuple[Any, Any]:
    """A layer that takes a list [query, value, key]."""
    inputs = [keras.Input((4, 3)), keras.Input((5, 3)), keras.Input((5, 3))]
    found = layer(inputs, **settings)
    arrays = [numbers(6, 4, 3), numbers(6, 5, 3, start=0.5), numbers(6, 5, 3, start=0.7)]
    return keras.Model(inputs, found), arrays


@case("attention")
def _(keras: Any) -> tuple[Any, Any]:
    return attended(keras, keras.layers.Attention(use_scale=True))


@case("attention by sums, causal")
def _(keras: Any) -> tuple[Any, Any]:
    layer = keras.layers.Attention(use_scale=True, score_mode="concat")
    return attended(keras, layer, use_causal_mask=True)


@case("additive attention")
def _(keras: Any) -> tuple[Any, Any]:
    return attended(keras, keras.layers.AdditiveAttention())


@case("attention over words")
def _(keras: Any) -> tuple[Any, Any]:
    layers = keras.layers
    start = keras.Input((6,), dtype="int32")
    x = layers.Embedding(12, 4, mask_zero=True)(start)
    found = layers.Attention()([x, x])
    return keras.Model(start, layers.GlobalAveragePooling1D()(found)), words()


@case("heads")
def _(keras: Any) -> tuple[Any, Any]:
    layers = keras.layers
    query, value = keras.Input((4, 6)), keras.Input((5, 3))
    found = layers.MultiHeadAttention(2, 3, value_dim=4, output_shape=7)(query, value)
    return keras.Model([query, value], found), [numbers(3, 4, 6), numbers(3, 5, 3, start=0.9)]


@case("heads over words")
def _(keras: Any) -> tuple[Any, Any]:
    layers = keras.layers
    start = keras.Input((6,), dtype="int32")
    x = layers.Embedding(12, 4, mask_zero=True)(start)
    y = layers.MultiHeadAttention(2, 2)(x, x, use_causal_mask=True)
    y = layers.LayerNormalization()(layers.Add()([x, y]))
    return keras.Model(start, layers.GlobalAveragePooling1D()(y)), words()


@case("heads over rows and columns")
def _(keras: Any) -> tuple[Any, Any]:
    start = keras.Input((2, 3, 4))
    layer = keras.layers.MultiHeadAttention(2, 3, attention_axes=(2,), use_bias=False)
    both = keras.layers.MultiHeadAttention(1, 2)
    return keras.Model(start, both(layer(start, start), start)), numbers(3, 2, 3, 4)


@case("grouped heads")
def _(keras: Any) -> tuple[Any, Any]:
    start = keras.Input((4, 6))
    layer = keras.layers.GroupQueryAttention(3, 4, 2)
    return keras.Model(start, layer(start, start, use_causal_mask=True)), numbers(3, 4, 6)


@case("volumes transposed")
def _(keras: Any) -> tuple[Any, Any]:
    layers = keras.layers
    start = keras.Input((2, 3, 2, 2))
    x = layers.Conv3DTranspose(3, 3, strides=(2, 1, 2), padding="same")(start)
    return keras.Model(start, layers.Conv3DTranspose(2, (2, 1, 3))(x)), numbers(2, 2, 3, 2, 2)
