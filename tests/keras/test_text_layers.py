"""Layers that turn words and numbers into classes, against what Keras 3.15 with TensorFlow gives for the same data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ConvcError
from convc.keras import layers

DOCUMENTS = ["The quick, brown fox!", "the lazy dog's dog", "A fox; a dog & the END", "b a"]
ASKED = ["the fox is a dog", "dog end"]

TEXTS: list[tuple[dict[str, Any], list[str], Any]] = [
    ({}, ["", "[UNK]", "the", "a", "fox", "dog", "quick", "lazy", "end", "dogs", "brown", "b"],
     [[2, 4, 1, 3, 5], [5, 8, 0, 0, 0]]),
    ({"max_tokens": 6}, ["", "[UNK]", "the", "a", "fox", "dog"], [[2, 4, 1, 3, 5], [5, 1, 0, 0, 0]]),
    ({"output_sequence_length": 3}, ["", "[UNK]", "the", "a", "fox", "dog"], [[2, 4, 1], [5, 8, 0]]),
    ({"output_mode": "multi_hot"}, ["[UNK]", "the", "a", "fox", "dog", "quick"],
     [[1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0]]),
    ({"output_mode": "tf_idf"}, ["[UNK]", "the", "a", "fox", "dog", "quick"],
     [[0.9827, 0.6931, 0.8473, 0.8473, 0.8473, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0.8473, 0, 0, 1.0986, 0, 0, 0]]),
    ({"ngrams": 2, "max_tokens": 9}, ["", "[UNK]", "the", "a", "fox", "dog", "the quick", "the lazy", "the end"],
     [[2, 4, 1, 3, 5, 1, 1, 1, 1], [5, 1, 1, 0, 0, 0, 0, 0, 0]]),
    ({"standardize": "lower", "split": "character"}, ["", "[UNK]", " ", "o", "e", "d", "a", "t", "h", "g", "x", "n"],
     [[7, 8, 4, 2, 12, 3, 10, 2, 23, 18, 2, 6, 2, 5, 3, 9], [5, 3, 9, 2, 4, 11, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]]),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "vocabulary", "wanted"), TEXTS)
def test_text_becomes_numbers_as_in_keras(
    settings: dict[str, Any], vocabulary: list[str], wanted: Any
) -> None:
    layer = layers.TextVectorization(**settings)
    layer.adapt(DOCUMENTS)
    assert layer.get_vocabulary()[: len(vocabulary)] == vocabulary
    np.testing.assert_allclose(layer(ASKED), wanted, atol=1e-4)
    again = layers.TextVectorization.from_config(layer.get_config())
    np.testing.assert_array_equal(again(ASKED), layer(ASKED))


def test_items_are_looked_up_and_found_again() -> None:
    layer = layers.StringLookup(vocabulary=["a", "b"])
    np.testing.assert_array_equal(layer([["a", "z"], ["b", "a"]]), [[1, 0], [2, 1]])
    back = layers.StringLookup(vocabulary=["a", "b"], invert=True)
    assert back([0, 1, 2]).tolist() == ["[UNK]", "a", "b"]
    one_hot = layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")
    np.testing.assert_array_equal(one_hot(["a", "z"]), [[0, 1, 0], [1, 0, 0]])
    numbers = layers.IntegerLookup()
    numbers.adapt([[5, 5, 7], [7, 5, 9]])
    assert numbers.get_vocabulary() == [-1, 5, 7, 9]
    np.testing.assert_array_equal(numbers([5, 9, 1]), [1, 3, 0])
    both = layers.IntegerLookup(vocabulary=[5, 7], output_mode="multi_hot")
    np.testing.assert_array_equal(both([[5, 5], [7, 1]]), [[0, 1, 0], [1, 0, 1]])
    strict = layers.StringLookup(vocabulary=["a"], num_oov_indices=0)
    with pytest.raises(ConvcError, match="'z' isn't in the vocabulary"):
        strict(["z"])


def test_classes_become_rows_within_models_too() -> None:
    x = np.array([[3, 1], [0, 0]])
    wanted = {
        "multi_hot": [[0, 1, 0, 1], [1, 0, 0, 0]],
        "count": [[0, 1, 0, 1], [2, 0, 0, 0]],
    }
    for mode, rows in wanted.items():
        layer = layers.CategoryEncoding(4, output_mode=mode)
        np.testing.assert_array_equal(layer(x).numpy(), rows)
        start = keras.Input((2,), dtype="int32")
        model = keras.Model(start, layer(start))
        np.testing.assert_array_equal(model.predict(x, verbose=0), rows)
    one_hot = layers.CategoryEncoding(4, output_mode="one_hot")(x[:, :1])
    np.testing.assert_array_equal(one_hot.numpy(), [[0, 0, 0, 1], [1, 0, 0, 0]])


def test_values_fall_into_bins() -> None:
    layer = layers.Discretization([0.0, 1.0, 2.0])
    values = np.array([[-1.0, 0.0, 1.5, 2.0, 7.0]], np.float32)
    np.testing.assert_array_equal(layer(values).numpy(), [[0, 1, 2, 3, 3]])
    learned = layers.Discretization(num_bins=4)
    learned.adapt(np.arange(101.0))
    # Of Keras 3.15: from a summary of the data.
    found: Any = learned.bin_boundaries
    np.testing.assert_allclose(found, [24.250011, 49.500061, 74.750053], 1e-6)
