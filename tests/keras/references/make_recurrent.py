"""Computes `recurrent.json` with Keras: `python -m tests.keras.references.make_recurrent`, where it is installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.keras.references.cases import wave

FILE = Path(__file__).with_name("recurrent.json")
Make = Callable[[Any], Any]


def chain(*names: Callable[[Any], Any]) -> Make:
    return lambda keras: keras.Sequential(
        [keras.Input((6, 3)), *(layer(keras.layers) for layer in names)]
    )


def with_states(keras: Any) -> Any:
    """States that go from layer to layer, so that their gradients count."""
    layers = keras.layers
    x = keras.Input((6, 3))
    _, h, c = layers.LSTM(4, return_state=True)(x)
    z = layers.LSTM(4, return_sequences=True)(x, initial_state=[h, c])
    return keras.Model(x, layers.GRU(4)(z, initial_state=h))


def masked(*names: Callable[[Any], Any]) -> Make:
    return chain(lambda k: k.Masking(), *names)


def tokens(*names: Callable[[Any], Any]) -> Make:
    return lambda keras: keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            keras.layers.Embedding(12, 4, mask_zero=True),
            *(layer(keras.layers) for layer in names),
        ]
    )


def masked_with_states(given: bool, **settings: bool) -> Make:
    """First states that no output shows, with the mask given or (then Keras gives none) not, and all last states."""

    def make(keras: Any) -> Any:
        layers = keras.layers
        x = keras.Input((6, 3))
        first = layers.Dense(4)(layers.Flatten()(x))
        mask = {"mask": keras.ops.any(keras.ops.not_equal(x, 0.0), -1)} if given else {}
        layer = layers.LSTM(4, return_state=True, **settings)
        y, h, c = layer(layers.Masking()(x), initial_state=[first, first], **mask)
        found = [layers.Flatten()(v) for v in (y, h, c)]
        return keras.Model(x, layers.Concatenate()(found))

    return make


def own_cell(layers: Any, units: int) -> Any:
    """A cell as people write them: its state and the number of steps, which scales the output."""

    class Counting(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.state_size = [units, 1]
            self.output_size = units

        def build(self, shape: Any) -> None:
            self.w = self.add_weight(shape=(shape[-1], units), name="w")
            self.u = self.add_weight(shape=(units, units), name="u")

        def call(self, x: Any, states: Any) -> Any:
            h, count = states
            h = abs(x @ self.w + h @ self.u)
            return h / (count + 1.0), [h, count + 1.0]

    return Counting()


CASES: dict[str, Make] = {
    "lstm": chain(lambda k: k.LSTM(4, return_sequences=True)),
    "lstm-backwards": chain(lambda k: k.LSTM(4, go_backwards=True)),
    "lstm-relu": chain(lambda k: k.LSTM(4, activation="relu", use_bias=False)),
    "lstm-elu": chain(lambda k: k.LSTM(4, activation="elu")),
    "gru-backwards": chain(lambda k: k.GRU(4, return_sequences=True, go_backwards=True)),
    "gru-no-bias": chain(lambda k: k.GRU(4, use_bias=False)),
    "gru-reset-first": chain(lambda k: k.GRU(4, reset_after=False)),
    "gru-reset-first-twice": chain(
        lambda k: k.GRU(
            4, reset_after=False, use_bias=False, go_backwards=True, return_sequences=True
        ),
        lambda k: k.GRU(3, reset_after=False, recurrent_activation="hard_sigmoid"),
    ),
    "lstm-hard-unrolled": chain(
        lambda k: k.LSTM(4, recurrent_activation="hard_sigmoid", unroll=True)
    ),
    "rnn": chain(
        lambda k: k.SimpleRNN(4, return_sequences=True),
        lambda k: k.SimpleRNN(3, activation="sigmoid"),
    ),
    "bidirectional": chain(
        lambda k: k.Bidirectional(k.LSTM(4, return_sequences=True)),
        lambda k: k.Bidirectional(k.GRU(2)),
    ),
    "states": with_states,
    "masked-lstm": masked(
        lambda k: k.LSTM(4, return_sequences=True), lambda k: k.LSTM(3, go_backwards=True)
    ),
    "masked-gru-backwards": masked(lambda k: k.GRU(4, return_sequences=True, go_backwards=True)),
    "masked-gru-reset-first": masked(lambda k: k.GRU(4, reset_after=False, return_sequences=True)),
    "masked-rnn-zeros": masked(
        lambda k: k.SimpleRNN(4, return_sequences=True, zero_output_for_mask=True),
        lambda k: k.GRU(4, zero_output_for_mask=True),
    ),
    "lstm-cell": chain(lambda k: k.RNN(k.LSTMCell(4), return_sequences=True)),
    "gru-cell-reset-first": masked(lambda k: k.RNN(k.GRUCell(4, reset_after=False))),
    "stacked-cells": masked(
        lambda k: k.RNN([k.LSTMCell(4), k.SimpleRNNCell(3), k.GRUCell(4)], go_backwards=True)
    ),
    "bidirectional-cells": chain(lambda k: k.Bidirectional(k.RNN(k.LSTMCell(3)))),
    "own-cell": masked(lambda k: k.RNN(own_cell(k, 4), return_sequences=True)),
    "conv-lstm": chain(
        lambda k: k.Reshape((3, 2, 3, 1)),
        lambda k: k.ConvLSTM2D(2, 2, padding="same", return_sequences=True),
        lambda k: k.ConvLSTM2D(2, (1, 2), activation="relu", use_bias=False),
    ),
    "conv-lstm-1d": chain(
        lambda k: k.Reshape((6, 3, 1)),
        lambda k: k.ConvLSTM1D(2, 2, strides=2, unit_forget_bias=False),
    ),
    "masked-tokens": tokens(lambda k: k.LSTM(4), lambda k: k.Dense(1, activation="sigmoid")),
    "masked-bidirectional": tokens(
        lambda k: k.Bidirectional(k.LSTM(4, return_sequences=True)),
        lambda k: k.Bidirectional(k.GRU(2)),
    ),
    "masked-bidirectional-reset-first": masked(
        lambda k: k.Bidirectional(k.GRU(4, reset_after=False, return_sequences=True)),
        lambda k: k.GRU(2, reset_after=False),
    ),
    "masked-bidirectional-sum": masked(
        lambda k: k.Bidirectional(k.SimpleRNN(4, return_sequences=True), merge_mode="sum")
    ),
    "masked-states": masked_with_states(True, return_sequences=True),
    "masked-states-last": masked_with_states(True, go_backwards=True),
    "masked-states-alone": masked_with_states(False),
}


COUNTED = np.array(
    [
        [1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1],
        [0, 1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0],
    ]
)
"""The steps that masked cases count."""


def inputs(name: str, tokens: bool) -> Any:
    """A wave, or numbers from 1 to 11; zeros in the steps that aren't counted."""
    if tokens:
        return (np.arange(30).reshape(5, 6) * 7 % 11 + 1).astype(np.int32) * COUNTED
    x = np.asarray(wave(5, 6, 3, start=0.4), np.float32)
    return x * COUNTED[:, :, None].astype(np.float32) if name.startswith("masked") else x


def computed(keras: Any, name: str) -> dict[str, list[float]]:
    """A case's prediction, and the losses of its first steps towards a wave."""
    keras.backend.clear_session()
    model = CASES[name](keras)
    weights = [np.asarray(w) for w in model.get_weights()]
    waves = [wave(*w.shape, start=0.2 + k) * 0.5 for k, w in enumerate(weights)]
    model.set_weights([np.asarray(w, np.float32) for w in waves])
    x = inputs(name, len(model.inputs[0].shape) == 2)
    found = np.asarray(model.predict(x, verbose=0), np.float64)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    target = np.asarray(wave(*found.shape, start=0.8), np.float32)
    history = model.fit(x, target, len(found), 4, shuffle=False, verbose=0)
    losses = [float(v) for v in history.history["loss"]]
    return {"values": found.ravel()[:40].tolist(), "losses": losses}


def main() -> None:
    import keras

    made = {
        name: {k: [float(f"{v:.7g}") for v in vs] for k, vs in computed(keras, name).items()}
        for name in CASES
    }
    lines = [
        f"{json.dumps(name)}:{json.dumps(found, separators=(',', ':'))}"
        for name, found in made.items()
    ]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
