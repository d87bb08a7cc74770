"""Recurrent layers: Keras' numbers forwards and in training, in kernels whose number doesn't grow with the steps."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np
import pytest

from convc import driver, keras
from convc.errors import ModelError
from convc.keras import layers
from tests.keras.references.make_recurrent import CASES, FILE, computed

STORED: dict[str, Any] = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", CASES)
def test_layer_computes_and_learns_as_in_keras(name: str) -> None:
    found, wanted = computed(keras, name), STORED[name]
    np.testing.assert_allclose(found["values"], wanted["values"], 2e-5, 2e-6)
    np.testing.assert_allclose(found["losses"], wanted["losses"], 2e-6)


def network(
    kind: str, steps: int, units: int = 12, *, masked: bool = False, **settings: Any
) -> Any:
    layer = functools.partial(getattr(layers, kind), **settings)
    first = [layers.Masking()] if masked else []
    return keras.Sequential(
        [keras.Input((steps, 3)), *first, layer(units, return_sequences=True), layer(units)]
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("LSTM", {}),
        ("GRU", {}),
        ("SimpleRNN", {}),
        ("GRU", {"reset_after": False}),
        ("LSTM", {"recurrent_dropout": 0.2, "recurrent_activation": "hard_sigmoid"}),
        ("GRU", {"reset_after": False, "recurrent_dropout": 0.2, "unroll": True}),
    ],
)
def test_the_program_does_not_grow_with_the_steps(
    kind: str, settings: dict[str, Any], masked: bool
) -> None:
    kernels = []
    for steps in (3, 300):
        graphs = network(kind, steps, masked=masked, **settings).graphs()
        made = driver.compile_graphs("net", graphs, driver.host_target())
        kernels.append(sorted(dict(k.notes)["ops"] for k in made.program.kernels.values()))
    assert kernels[0] == kernels[1]


def sequences(count: int, steps: int, seed: int) -> Any:
    """Sequences of 3 features, of which half of the steps are zeros."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, steps, 3)) * random.integers(0, 2, (count, steps, 1))
    return x.astype(np.float32)


def trained() -> list[Any]:
    keras.utils.set_random_seed(3)
    model = network("LSTM", 20, 20, masked=True)
    model.compile("adam", "mse")
    x, y = sequences(21, 20, 0), np.random.default_rng(1).normal(size=(21, 20))
    model.fit(x, y.astype(np.float32), 21, 3, verbose=0)
    return [np.asarray(w) for w in model.get_weights()]


def test_one_seed_gives_one_training_whatever_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for threads in (1, 2, 3, 7):
        monkeypatch.setitem(keras.backend._settings, "threads", threads)
        found.append(trained())
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("masked", [False, True])
def test_rows_are_computed_alike_alone_and_in_blocks(masked: bool) -> None:
    model = network("GRU", 9, 20, masked=masked)
    x = sequences(21, 9, 1)
    whole = model.predict(x, batch_size=21, verbose=0)
    alone = np.concatenate([model.predict(x[k : k + 1], verbose=0) for k in range(21)])
    np.testing.assert_allclose(whole, alone, 1e-6, 1e-7)


def predicted(layer: Any, x: Any, mask: Any = None) -> Any:
    start = keras.Input(x.shape[1:])
    found = layer(start, mask=mask(start)) if mask else layer(layers.Masking()(start))
    return keras.Model(start, found).predict(x, verbose=0)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
@pytest.mark.parametrize("backwards", [False, True])
def test_steps_that_do_not_count_change_nothing(kind: str, backwards: bool) -> None:
    """What is left of a sequence without them gives the same, wherever they stood."""
    keras.utils.set_random_seed(1)
    layer = getattr(layers, kind)(5, go_backwards=backwards)
    x = sequences(4, 6, 2)
    for row in x:
        counted = row[np.any(row != 0, axis=1)]
        alone = predicted(layer, counted[None])
        np.testing.assert_allclose(predicted(layer, row[None]), alone, 1e-6, 1e-7)


def test_a_mask_may_be_given_in_booleans_or_numbers() -> None:
    layer, x = layers.LSTM(5), sequences(4, 6, 3)
    wanted = predicted(layer, x)
    for dtype in ("bool", "int32", "float32"):

        def mask(start: Any, dtype: str = dtype) -> Any:
            found = keras.ops.any(keras.ops.not_equal(start, 0.0), -1)
            return keras.ops.cast(found, dtype)

        np.testing.assert_array_equal(predicted(layer, x, mask), wanted)
    assert not np.array_equal(predicted(layer, x, lambda start: start[:, :, 0] < 9), wanted)


def test_a_mask_of_another_shape_is_refused() -> None:
    start = keras.Input((6, 3))
    with pytest.raises(ModelError, match=r"mask: expected the inputs' \(batch, steps\)"):
        layers.LSTM(5)(start, mask=keras.ops.not_equal(start, 0.0))


def test_zero_output_for_mask_is_kept_in_configs() -> None:
    layer: Any = layers.GRU(5, zero_output_for_mask=True)
    copy: Any = layers.GRU.from_config(layer.get_config())
    assert copy.zero_output_for_mask
    again: Any = layers.Bidirectional(layers.GRU(5, return_sequences=True))
    assert again.forward_layer.zero_output_for_mask
    assert again.backward_layer.zero_output_for_mask
    assert not again.layer.zero_output_for_mask


def test_a_stateful_layer_goes_on_where_it_ended() -> None:
    def made(stateful: bool, rows: Any) -> Any:
        keras.utils.set_random_seed(4)
        return keras.Sequential(
            [keras.Input(batch_shape=(rows, 5, 3)), layers.LSTM(4, stateful=stateful)]
        )

    x = np.random.RandomState(0).rand(2, 10, 3).astype(np.float32)
    kept, whole = made(True, 2), made(False, None)
    whole.set_weights(kept.get_weights())
    for _ in range(2):
        kept.predict(x[:, :5], verbose=0)
        second = kept.predict(x[:, 5:], verbose=0)
        kept.layers[0].reset_state()
        cell = layers.LSTM(4)
        np.testing.assert_allclose(
            second, run_of(cell, whole.get_weights(), x), rtol=1e-5, atol=1e-6
        )
    kept.compile("sgd", "mse")
    kept.fit(x[:, :5], np.zeros((2, 4)), batch_size=2, shuffle=False, verbose=0)
    assert np.abs(kept.layers[0].kept_states[0].numpy()).max() > 0
    kept.reset_states()
    assert np.abs(kept.layers[0].kept_states[0].numpy()).max() == 0


def run_of(layer: Any, weights: Any, x: Any) -> Any:
    layer.build(x.shape)
    layer.set_weights(weights)
    return np.asarray(layer(x))


def test_a_stateful_layer_says_what_it_needs() -> None:
    with pytest.raises(ModelError, match=r"Input\(batch_shape"):
        keras.Sequential([keras.Input((5, 3)), layers.LSTM(4, stateful=True)])


def test_a_cell_makes_one_step() -> None:
    cell, x = layers.LSTMCell(3), np.ones((2, 4), np.float32)
    y, states = cell(x, cell.get_initial_state(2))
    layer = layers.RNN(cell, return_state=True)
    np.testing.assert_allclose(layer(x[:, None])[0], y, rtol=1e-6)
    assert [s.shape for s in states] == [(2, 3), (2, 3)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], return_sequences=True),
        lambda: layers.Bidirectional(layers.RNN(layers.GRUCell(3))),
        lambda: layers.LSTM(3, dropout=0.5, recurrent_dropout=0.5),
    ],
)
def test_a_config_makes_the_layer_again(make: Any, tmp_path: Any) -> None:
    model = keras.Sequential([keras.Input((5, 3)), make()])
    x = np.random.RandomState(0).rand(2, 5, 3)
    again = keras.Sequential.from_config(model.get_config())
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    pytest.importorskip("h5py")
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


def test_an_open_number_of_steps_is_not_unrolled_before_data_come() -> None:
    model = keras.Sequential(
        [
            keras.Input((None, 3)),
            layers.RNN(layers.GRUCell(2, reset_after=False), return_sequences=True),
        ]
    )
    assert model.output_shape == (None, None, 2)
    assert len(model.graph_of_variables(nominal=True)[0].nodes) < 60
    assert model.predict(np.ones((2, 7, 3)), verbose=0).shape == (2, 7, 2)
