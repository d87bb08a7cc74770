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


CASES: dict[str, Make] = {
    "lstm": chain(lambda k: k.LSTM(4, return_sequences=True)),
    "lstm-backwards": chain(lambda k: k.LSTM(4, go_backwards=True)),
    "lstm-relu": chain(lambda k: k.LSTM(4, activation="relu", use_bias=False)),
    "lstm-elu": chain(lambda k: k.LSTM(4, activation="elu")),
    "gru-backwards": chain(lambda k: k.GRU(4, return_sequences=True, go_backwards=True)),
    "gru-no-bias": chain(lambda k: k.GRU(4, use_bias=False)),
    "gru-reset-first": chain(lambda k: k.GRU(4, reset_after=False)),
    "rnn": chain(
        lambda k: k.SimpleRNN(4, return_sequences=True),
        lambda k: k.SimpleRNN(3, activation="sigmoid"),
    ),
    "bidirectional": chain(
        lambda k: k.Bidirectional(k.LSTM(4, return_sequences=True)),
        lambda k: k.Bidirectional(k.GRU(2)),
    ),
    "states": with_states,
}


def computed(keras: Any, name: str) -> dict[str, list[float]]:
    """A case's prediction, and the losses of its first steps towards a wave."""
    keras.backend.clear_session()
    model = CASES[name](keras)
    weights = [np.asarray(w) for w in model.get_weights()]
    waves = [wave(*w.shape, start=0.2 + k) * 0.5 for k, w in enumerate(weights)]
    model.set_weights([np.asarray(w, np.float32) for w in waves])
    x = np.asarray(wave(5, 6, 3, start=0.4), np.float32)
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
