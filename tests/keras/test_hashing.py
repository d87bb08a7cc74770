"""Hashed bins: those that Keras 3.15 has on TensorFlow."""

import numpy as np
import pytest

from convc import keras
from convc.keras import layers
from convc.keras.layers.fingerprints import fingerprint, keyed


def test_fingerprints_are_tensorflows() -> None:
    # `tf.strings.to_hash_bucket_fast` and `_strong` of TensorFlow 2.21 gave these, and equal ones for 145 lengths.
    assert fingerprint(b"convc") == 0x6B3749B30EA27A14
    assert fingerprint(bytes(range(20))) == 0x8DD7E7F1BF16A0E9
    assert fingerprint(bytes(range(50))) == 0xAB2B921FF69CC9F4
    assert fingerprint(bytes(range(200))) == 0x074C7FCC26D66FB3
    assert keyed(b"convc", (133, 137)) == 0x25CC024CABD2408B


@pytest.mark.parametrize(
    ("settings", "values", "bins"),
    [
        ({"num_bins": 3}, ["A", "B", "C", "D", "E"], [1, 0, 1, 1, 2]),
        ({"num_bins": 3, "mask_value": ""}, ["A", "B", "", "C", "D"], [1, 1, 0, 2, 2]),
        ({"num_bins": 3, "salt": [133, 137]}, ["A", "B", "C", "D", "E"], [1, 2, 1, 0, 2]),
    ],
)
def test_bins_are_those_of_keras_documentation(settings, values, bins) -> None:  # type: ignore[no-untyped-def]
    assert layers.Hashing(**settings)(np.array(values)[:, None]).tolist() == [[b] for b in bins]


def test_crosses_and_unknown_items() -> None:
    crossing = layers.HashedCrossing(num_bins=5)
    pairs = (np.array(["A", "B", "A", "B", "A"]), np.array([101, 101, 101, 102, 102]))
    assert crossing(pairs).tolist() == [1, 4, 1, 1, 3]
    lookup = layers.StringLookup(num_oov_indices=3, vocabulary=["x", "y"])
    assert lookup(["x", "m", "n", "o", "y"]).tolist() == [
        3,
        *(fingerprint(c) % 3 for c in (b"m", b"n", b"o")),
        4,
    ]
    numbers = layers.IntegerLookup(num_oov_indices=2, vocabulary=[12, 36])
    assert numbers([12, 36, 7, 8]).tolist() == [2, 3, 1, 0]


def test_hashing_is_a_part_of_models() -> None:
    inputs = keras.Input((1,), dtype="string")
    hashed = layers.Hashing(4)(inputs)
    model = keras.Model(inputs, layers.Embedding(4, 2)(hashed))
    table = model.layers[-1].get_weights()[0]
    found = model.predict(np.array(["a", "b"]), verbose=0)
    wanted = [table[fingerprint(c) % 4] for c in (b"a", b"b")]
    np.testing.assert_array_equal(found[:, 0], wanted)
