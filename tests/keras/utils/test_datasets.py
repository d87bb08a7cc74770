"""Data sets of windows, parts and texts; words as numbers; models as drawings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc import keras
from convc.errors import ConvcError
from convc.keras import layers, utils
from convc.keras.preprocessing.text import Tokenizer, tokenizer_from_json


def test_windows_of_a_series_and_their_targets() -> None:
    """The example of Keras' documentation: windows of 3 steps, two apart in time, one after the other."""
    series = np.arange(10)
    data = utils.timeseries_dataset_from_array(
        series[:-1], series[1:], sequence_length=3, sampling_rate=2, sequence_stride=2, batch_size=2
    )
    batches = list(data)
    np.testing.assert_array_equal(batches[0][0], [[0, 2, 4], [2, 4, 6]])
    np.testing.assert_array_equal(batches[0][1], [1, 3])
    np.testing.assert_array_equal(batches[1][0], [[4, 6, 8]])
    assert len(data) == 2
    plain = utils.timeseries_dataset_from_array(series, None, 4, batch_size=3, end_index=6)
    np.testing.assert_array_equal(next(iter(plain)), [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]])
    with pytest.raises(ConvcError, match="sequence_length 11"):
        utils.timeseries_dataset_from_array(series, None, 11)


def test_windows_train_a_model() -> None:
    series = np.sin(np.arange(60) / 5).astype(np.float32)[:, None]
    data = utils.timeseries_dataset_from_array(
        series[:-4], series[4:, 0], 4, batch_size=8, shuffle=True
    )
    model = keras.Sequential([keras.Input((4, 1)), layers.Flatten(), layers.Dense(1)])
    model.compile("adam", "mse")
    history = model.fit(data.map(lambda x, y: (x * 2, y)), epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2


def test_a_data_set_in_two() -> None:
    x, y = np.arange(10.0), np.arange(10)
    left, right = utils.split_dataset((x, y), left_size=0.8)
    assert (len(left), len(right)) == (8, 2)
    assert right[1] == (9.0, 9)
    first = next(iter(left.batch(3)))
    np.testing.assert_array_equal(first[0], [0, 1, 2])
    shuffled, _ = utils.split_dataset(x, left_size=6, shuffle=True, seed=1)
    assert sorted(shuffled) != list(shuffled)
    with pytest.raises(ConvcError, match="left_size must be a share"):
        utils.split_dataset(x, left_size=2.5)


def test_texts_in_folders(tmp_path: Path) -> None:
    for folder in ("neg", "pos"):
        (tmp_path / folder).mkdir()
        for k in range(3):
            (tmp_path / folder / f"{k}.txt").write_text(f"{folder} {k}")
    data = utils.text_dataset_from_directory(tmp_path, batch_size=4, shuffle=False, verbose=False)
    assert data.class_names == ["neg", "pos"]
    texts, classes = next(iter(data))
    assert list(texts) == ["neg 0", "neg 1", "neg 2", "pos 0"]
    assert classes.tolist() == [0, 0, 0, 1]
    one, two = utils.text_dataset_from_directory(
        tmp_path, validation_split=0.5, subset="both", seed=1, verbose=False
    )
    assert sorted([*next(iter(one))[0], *next(iter(two))[0]]) == sorted(
        f"{f} {k}" for f in ("neg", "pos") for k in range(3)
    )


def test_a_tokenizer_counts_words() -> None:
    """The numbers that Keras 2.15's Tokenizer gives."""
    tokenizer = Tokenizer(num_words=4, oov_token="<OOV>")
    tokenizer.fit_on_texts(["I love my dog", "I, love my cat", "You love my dog!"])
    assert tokenizer.word_index == {
        "<OOV>": 1, "love": 2, "my": 3, "i": 4, "dog": 5, "cat": 6, "you": 7,
    }  # fmt: skip
    assert tokenizer.texts_to_sequences(["my dog loves my manatee"]) == [[3, 1, 1, 3, 1]]
    counts = tokenizer.texts_to_matrix(["love love my"], mode="count")
    np.testing.assert_array_equal(counts, [[0, 0, 2, 1]])
    again = tokenizer_from_json(tokenizer.to_json())
    assert again.sequences_to_texts([[2, 3]]) == ["love my"]


def test_a_model_as_a_drawing(tmp_path: Path) -> None:
    start = keras.Input((4,), name="start")
    x = layers.Dense(3, "relu", name="one")(start)
    model = keras.Model(start, layers.Add(name="both")([x, layers.Dense(3, name="two")(start)]))
    text = utils.model_to_dot(model, show_shapes=True, show_layer_activations=True).to_string()
    assert '"start" -> "one";' in text
    assert '"two" -> "both";' in text
    assert "activation: relu|in: (None, 4)|out: (None, 3)" in text
    utils.plot_model(model, tmp_path / "model.dot")
    assert (tmp_path / "model.dot").read_text().startswith("digraph")


def test_parts_of_a_step() -> None:
    found: Any = utils.unpack_x_y_sample_weight((1, 2))
    assert found == (1, 2, None)
    assert utils.pack_x_y_sample_weight(1, 2) == (1, 2)
