"""Models that take text: what layers in Python make of it is what their graphs take."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import UnsupportedError
from convc.keras import layers
from convc.keras.tensorflow_names import NAMES

WORDS = np.array(["good film", "bad film", "good good story", "bad", "a story", "so bad"] * 4)
LABELS = np.array([1, 0, 1, 0, 1, 0] * 4)


def vectorizer(**settings: Any) -> Any:
    layer = layers.TextVectorization(max_tokens=12, **settings)
    layer.adapt(WORDS)
    return layer


def classifier(layer: Any) -> Any:
    keras.utils.set_random_seed(2)
    return keras.Sequential(
        [
            keras.Input((1,), dtype="string"),
            layer,
            layers.Embedding(12, 4, mask_zero=True),
            layers.GlobalAveragePooling1D(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


@pytest.mark.parametrize("length", [4, None])
def test_a_model_of_text_is_its_rest_on_the_numbers(length: int | None, tmp_path: Any) -> None:
    layer = vectorizer(output_sequence_length=length)
    model = classifier(layer)
    rest = keras.Sequential([keras.Input((None,), dtype="int64"), *model.layers[1:]])
    weights = model.get_weights()
    for each, data in ((model, WORDS), (rest, layer(WORDS))):
        each.set_weights(weights)
        each.compile("adam", "binary_crossentropy", metrics=["accuracy"])
        each.fit(data, LABELS, batch_size=8, epochs=3, shuffle=False, verbose=0)
    asked = np.array(["good story", "bad"])
    found = model.predict(asked, verbose=0)
    np.testing.assert_array_equal(found, rest.predict(layer(asked), verbose=0))
    np.testing.assert_array_equal(model(asked), found)
    assert model.evaluate(WORDS, LABELS, verbose=0)[1] > 0.4
    pytest.importorskip("h5py")
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(asked, verbose=0), found)


def test_columns_of_several_kinds() -> None:
    kind = layers.StringLookup(vocabulary=["x", "y"], output_mode="one_hot")
    number = layers.IntegerLookup(vocabulary=[3, 5], output_mode="multi_hot")
    inputs = {
        "kind": keras.Input((1,), name="kind", dtype="string"),
        "number": keras.Input((1,), name="number", dtype="int64"),
        "size": keras.Input((1,), name="size"),
    }
    columns = [kind(inputs["kind"]), number(inputs["number"]), inputs["size"]]
    model = keras.Model(inputs, layers.Concatenate()(columns))
    data = {"kind": ["y", "z"], "number": [5, 3], "size": [0.5, 1.5]}
    found = model.predict({k: np.array(v) for k, v in data.items()}, verbose=0)
    np.testing.assert_array_equal(found, [[0, 0, 1, 0, 0, 1, 0.5], [1, 0, 0, 0, 1, 0, 1.5]])
    assert list(model.graphs()["predict"].inputs) == ["size", kind.name, number.name]


def test_what_is_computed_within_a_model_has_no_text() -> None:
    inputs = keras.Input((2,))
    with pytest.raises(UnsupportedError, match="call it on an Input"):
        layers.IntegerLookup(vocabulary=[1])(keras.ops.cast(inputs, "int64"))


def test_strings_have_tensorflows_functions() -> None:
    text = NAMES["constant"](["A b!", "c"])
    assert text.shape == (2,)
    lowered = NAMES["strings.lower"](text)
    assert NAMES["strings.regex_replace"](lowered, "[^a-z ]", "").tolist() == ["a b", "c"]
    assert NAMES["strings.split"](text).to_list() == [["A", "b!"], ["c"]]
    assert NAMES["strings.unicode_split"]("ab", "UTF-8").to_list() == ["a", "b"]
    assert NAMES["strings.join"]([text, text])[1].numpy() == b"cc"
    assert NAMES["expand_dims"](text, -1).shape == (2, 1)
    assert NAMES["strings.length"](text).tolist() == [4, 1]
    assert NAMES["strings.reduce_join"](text, separator="-").numpy() == b"A b!-c"


def test_vocabularies_come_from_the_assets_of_a_file(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    lookup = layers.StringLookup(vocabulary=["b", "ü", "a"])
    i = keras.Input((1,), dtype="string")
    model = keras.Model(i, layers.Flatten()(layers.Embedding(5, 2)(lookup(i))))
    model.save(tmp_path / "ours.keras")
    # As Keras writes what a layer has learned: beside the config, a line for each word.
    with (
        zipfile.ZipFile(tmp_path / "ours.keras") as ours,
        zipfile.ZipFile(tmp_path / "theirs.keras", "w") as theirs,
    ):
        for name in ours.namelist():
            data = ours.read(name)
            if name == "config.json":
                data = data.replace(b'["b", "\\u00fc", "a"]', b"null")
                assert b"u00fc" not in data
            theirs.writestr(name, data)
        theirs.writestr("assets/layers/string_lookup/vocabulary.txt", "b\nü\na")
    again: Any = keras.models.load_model(tmp_path / "theirs.keras")
    x = np.array([["a"], ["ü"], ["?"]])
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
