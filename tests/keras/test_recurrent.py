"""Recurrent layers: Keras' numbers forwards and in training, in kernels whose number doesn't grow with the steps."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from convc import driver, keras
from convc.keras import layers
from tests.keras.references.make_recurrent import CASES, FILE, computed

STORED: dict[str, Any] = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", CASES)
def test_layer_computes_and_learns_as_in_keras(name: str) -> None:
    found, wanted = computed(keras, name), STORED[name]
    np.testing.assert_allclose(found["values"], wanted["values"], 2e-5, 2e-6)
    np.testing.assert_allclose(found["losses"], wanted["losses"], 2e-6)


def network(kind: str, steps: int, units: int = 12) -> Any:
    layer = getattr(layers, kind)
    return keras.Sequential(
        [keras.Input((steps, 3)), layer(units, return_sequences=True), layer(units)]
    )


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_the_program_does_not_grow_with_the_steps(kind: str) -> None:
    kernels = []
    for steps in (3, 300):
        graphs = network(kind, steps).graphs()
        made = driver.compile_graphs("net", graphs, driver.host_target())
        kernels.append(sorted(dict(k.notes)["ops"] for k in made.program.kernels.values()))
    assert kernels[0] == kernels[1]


def trained() -> list[Any]:
    keras.utils.set_random_seed(3)
    model = network("LSTM", 20, 20)
    model.compile("adam", "mse")
    random = np.random.default_rng(0)
    x, y = random.normal(size=(21, 20, 3)), random.normal(size=(21, 20))
    model.fit(x.astype(np.float32), y.astype(np.float32), 21, 3, verbose=0)
    return [np.asarray(w) for w in model.get_weights()]


def test_one_seed_gives_one_training_whatever_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for threads in (1, 2, 3, 7):
        monkeypatch.setitem(keras.backend._settings, "threads", threads)
        found.append(trained())
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_rows_are_computed_alike_alone_and_in_blocks() -> None:
    model = network("GRU", 9, 20)
    x = np.random.default_rng(1).normal(size=(21, 9, 3)).astype(np.float32)
    whole = model.predict(x, batch_size=21, verbose=0)
    alone = np.concatenate([model.predict(x[k : k + 1], verbose=0) for k in range(21)])
    np.testing.assert_allclose(whole, alone, 1e-6, 1e-7)
