"""Variables whose value lies in the memory of compiled steps: read, written or shared, it is the latest one."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convc_runtime.model import Entry

from convc import keras
from convc.errors import ModelError
from convc.graph.ir import Graph
from convc.graph.parser import parse_graph
from convc.keras import layers
from convc.keras.engine.tensor import Variable
from convc.keras.training.session import Session, is_filled_with_zeros

RATE = 0.125
X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)
Y = np.stack([X[:, 0] - 2 * X[:, 1], X[:, 2] * 3], 1).astype(np.float32)


def line(layer: Any = None) -> Any:
    """A linear model of six weights and two biases, trained by plain gradient descent."""
    model = keras.Sequential([keras.Input((3,)), layer or layers.Dense(2, name="line")])
    model.compile(keras.optimizers.SGD(RATE), "mse")
    return model


def descent(kernel: Any, bias: Any, steps: int) -> tuple[Any, Any]:
    """What so many steps on all rows make of the weights, in float64."""
    kernel, bias = np.array(kernel, np.float64), np.array(bias, np.float64)
    for _ in range(steps):
        error = 2 * (X @ kernel + bias - Y) / Y.size
        kernel, bias = kernel - RATE * X.T @ error, bias - RATE * error.sum(0)
    return kernel, bias


def step(model: Any, count: int = 1) -> None:
    for _ in range(count):
        model.train_on_batch(X, Y)


def kernel_of(model: Any) -> Variable:
    return model.layers[-1].kernel


def from_file(model: Any, folder: Path, name: str) -> Any:
    model.save_weights(folder / name)
    other = line()
    other.load_weights(folder / name)
    return other.get_weights()[0]


def saved(model: Any, folder: Path) -> Any:
    model.save(folder / "model.keras")
    return keras.models.load_model(folder / "model.keras").get_weights()[0]


READERS: dict[str, Callable[[Any, Path], Any]] = {
    "value": lambda m, p: kernel_of(m).value,
    "numpy": lambda m, p: kernel_of(m).numpy(),
    "asarray": lambda m, p: np.asarray(kernel_of(m)),
    "operator": lambda m, p: (kernel_of(m) * 1.0).numpy(),
    "tensor": lambda m, p: keras.ops.convert_to_numpy(kernel_of(m)),
    "model": lambda m, p: m.get_weights()[0],
    "layer": lambda m, p: m.layers[-1].get_weights()[0],
    "trainable": lambda m, p: m.trainable_weights[0].numpy(),
    "deepcopy": lambda m, p: copy.deepcopy(kernel_of(m)).value,
    "clone": lambda m, p: copy.deepcopy(m).get_weights()[0],
    "weights file": lambda m, p: from_file(m, p, "a.weights.h5"),
    "safetensors": lambda m, p: from_file(m, p, "a.safetensors"),
    "model file": saved,
    "state": lambda m, p: m.training_state()[0]["weights/0"],
    "prediction": lambda m, p: (
        m.predict(np.eye(3, dtype=np.float32), verbose=0)
        - m.predict(np.zeros((3, 3), np.float32), verbose=0)
    ),
}


@pytest.mark.parametrize("way", READERS)
def test_a_variable_reads_as_the_latest_step_left_it(way: str, tmp_path: Path) -> None:
    if way in ("weights file", "model file"):
        pytest.importorskip("h5py")
    model, reader = line(), READERS[way]
    first: Any = model.get_weights()
    for count in (1, 2, 5):
        step(model, count - model.optimizer.iterations.numpy())
        kernel, _ = descent(first[0], first[1], count)
        for _ in range(2):  # the second time from what the first has left
            np.testing.assert_allclose(reader(model, tmp_path), kernel, rtol=1e-4, atol=1e-6)


def test_a_step_takes_the_arrays_of_variables_and_readers_get_their_own() -> None:
    model = line()
    variables = model.weights
    assert not any(v.has_value for v in variables), "nobody asked for the first values"
    step(model)
    assert not any(v.has_value for v in variables)
    held = kernel_of(model).value
    before = held.copy()
    assert kernel_of(model).value is held, "read again, nothing is copied"
    step(model)
    assert not kernel_of(model).has_value
    np.testing.assert_array_equal(held, before)
    assert not np.array_equal(kernel_of(model).value, before)


def test_readers_in_between_change_no_bits() -> None:
    found = []
    for reads in (False, True):
        keras.utils.set_random_seed(3)
        model = line()
        for _ in range(4):
            if reads:
                model.get_weights()
            step(model)
        found.append(model.get_weights())
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_versions_count_changes_and_no_readings() -> None:
    model = line()
    step(model)
    variable = kernel_of(model)
    version = variable.version
    for _ in range(2):
        assert variable.value.any()
        assert variable.version == version
        model._run.hide()  # as a step does that fails
    step(model)
    assert variable.version == version + 1


def test_values_assigned_before_and_between_steps_count() -> None:
    model = line()
    first: Any = [np.ones((3, 2), np.float32), np.zeros(2, np.float32)]

    class Assigning(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            self.model.get_weights()
            self.model.set_weights(first)

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if batch == 2:
                kernel_of(self.model).assign(kernel_of(self.model) * 0.0)

    model.fit(
        np.concatenate([X, X, X]),
        np.concatenate([Y, Y, Y]),
        batch_size=8,
        shuffle=False,
        verbose=0,
        callbacks=[Assigning()],
    )
    kernel, bias = descent(first[0], first[1], 2)
    kernel, bias = descent(kernel * 0, bias, 1)
    np.testing.assert_allclose(model.get_weights()[0], kernel, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.get_weights()[1], bias, rtol=1e-4, atol=1e-6)


def test_models_that_share_a_layer_hand_its_values_over() -> None:
    shared: Any = layers.Dense(2)
    a, b = line(shared), line(shared)
    first: Any = a.get_weights()
    for k in range(3):
        step(a if k % 2 == 0 else b, 2)
    kernel, bias = descent(first[0], first[1], 6)
    for model in (a, b):
        np.testing.assert_allclose(model.get_weights()[0], kernel, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(shared.bias.numpy(), bias, rtol=1e-4, atol=1e-6)


def test_a_model_compiled_again_or_dropped_leaves_its_values() -> None:
    model = line()
    first: Any = model.get_weights()
    step(model, 2)
    model.compile(keras.optimizers.SGD(RATE), "mse")
    step(model)
    layer: Any = model.layers[-1]
    del model
    gc.collect()
    kernel, _ = descent(first[0], first[1], 3)
    np.testing.assert_allclose(layer.kernel.numpy(), kernel, rtol=1e-4, atol=1e-6)


def test_evaluation_before_and_after_training_sees_the_values() -> None:
    model = line()
    kernel, bias = model.get_weights()
    for count in range(3):
        expected = np.mean((X @ kernel + bias - Y) ** 2)
        assert model.evaluate(X, Y, verbose=0) == pytest.approx(expected, rel=1e-4)
        np.testing.assert_allclose(model.get_weights()[0], kernel, rtol=1e-4, atol=1e-6)
        kernel, bias = descent(kernel, bias, 1)
        if count < 2:
            step(model)


def test_initializers_of_one_s_own_draw_in_the_order_of_the_layers() -> None:
    drawn = []

    def counting(shape: Any, dtype: Any = None) -> Any:
        drawn.append(shape)
        return np.full(shape, len(drawn), np.float32)

    dense: list[Any] = [layers.Dense(n, kernel_initializer=counting) for n in (4, 5, 2)]
    model = keras.Sequential([keras.Input((3,)), *dense])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    step(model)
    assert drawn == [(3, 4), (4, 5), (5, 2)]
    assert [layer.kernel.numpy().flat[0] for layer in dense] == [1, 2, 3]


def test_an_initializer_that_is_refused_can_be_mended() -> None:
    layer: Any = layers.Conv1D(2, 2, kernel_initializer=keras.initializers.Identity(), name="bad")
    model = keras.Sequential([keras.Input((3, 2)), layer])
    model.compile(keras.optimizers.SGD(RATE), "mse")
    x = np.ones((2, 3, 2), np.float32)
    for _ in range(2):
        with pytest.raises(ModelError, match="Identity: expected a shape of rank 2"):
            model.train_on_batch(x, x[:, :2])
    layer.kernel.assign(np.ones((2, 2, 2)))
    before = layer.bias.numpy()
    model.train_on_batch(x, x[:, :2])
    assert not np.array_equal(layer.bias.numpy(), before)


# ------------------------------------------------------------ sessions

COUNT = """graph count(state: float32[4], given: float32[4]) -> ("next/state") {
  "next/state" = add(state, given)  # float32[4]
}
"""
READ = """graph read(state: float32[4], given: float32[4]) -> (sum) {
  sum = add(state, given)  # float32[4]
}
"""


def session() -> Session:
    made = Session("counting", 1)
    for text in (COUNT, READ):
        graph: Graph = parse_graph(text)
        made.define(graph.name, graph)
    return made


GIVEN: dict[str, Any] = {"given": np.arange(4, dtype=np.float32)}


@pytest.mark.parametrize(
    "first", [np.arange(5, 9, dtype=np.float32), np.broadcast_to(np.float32(0), 4)]
)
@pytest.mark.parametrize("entry", ["count", "read"])
def test_what_is_lent_is_asked_for_by_the_first_entry_that_wants_it(first: Any, entry: str) -> None:
    made, asked, moved = session(), [], []

    def array() -> Any:
        asked.append(1)
        return first

    made.lend("state", array, lambda: moved.append(1))
    assert not asked
    assert "state" in made
    np.testing.assert_array_equal(made.read("state"), first)
    assert not moved
    found = made.step(entry, GIVEN)
    assert len(moved) == 1
    latest = first + GIVEN["given"] if entry == "count" else first
    np.testing.assert_array_equal(made.read("state"), latest)
    if entry == "read":
        np.testing.assert_array_equal(found[0], first + GIVEN["given"])
    count = len(asked)
    made.step("count", GIVEN)
    np.testing.assert_array_equal(made.read("state"), latest + GIVEN["given"])
    assert len(asked) == count
    assert len(moved) == 1


def test_what_is_written_takes_the_place_of_what_is_lent() -> None:
    made, moved = session(), []
    made.lend("state", lambda: np.ones(4, np.float32), lambda: moved.append(1))
    made.write("state", [1, 2, 3, 4])
    made.step("count", GIVEN)
    np.testing.assert_array_equal(made.read("state"), [1, 3, 5, 7])
    assert not moved


def test_what_is_written_where_it_lies_is_seen_by_every_entry() -> None:
    made: Any = session()
    made.write("state", np.zeros(4, np.float32))
    for first in (1, 2):
        made.step("count", GIVEN)
        np.testing.assert_array_equal(
            made.step("read", GIVEN)[0], made.read("state") + GIVEN["given"]
        )
        made.write("state", np.full(4, first))
        np.testing.assert_array_equal(made.step("read", GIVEN)[0], first + GIVEN["given"])
        made.step("count", GIVEN)
        np.testing.assert_array_equal(made.read("state"), first + GIVEN["given"])


def test_one_zero_seen_many_times_is_recognized() -> None:
    assert is_filled_with_zeros(np.broadcast_to(np.float32(0), (3, 4)))
    assert is_filled_with_zeros(np.zeros((), np.int64))
    for other in (np.float32(-0.0), np.float32(1e-45), np.float32(np.nan)):
        assert not is_filled_with_zeros(np.broadcast_to(other, (3, 4)))
    assert not is_filled_with_zeros(np.zeros(3, np.float32)[::1])
    assert not is_filled_with_zeros(np.zeros((0, 3), np.float32))


def test_a_variable_that_nobody_keeps_never_lets_go() -> None:
    with pytest.raises(AssertionError, match="nobody keeps"):
        Variable(np.zeros(2)).let_go()


def test_an_interrupted_step_counts_as_it_was_made(monkeypatch: Any) -> None:
    model = line()
    first = [np.array(a) for a in model.get_weights()]
    step(model)
    model.get_weights()
    called = Entry.__call__

    def interrupted(self: Any, *arrays: Any, **others: Any) -> Any:
        called(self, *arrays, **others)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Entry, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            step(model)
    assert int(model.optimizer.iterations) == 2
    for steps in (2, 3):
        for found, expected in zip(
            model.get_weights(), descent(first[0], first[1], steps), strict=True
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        step(model)
    assert model._run.iterations == int(model.optimizer.iterations) == 4


class Fleeting:
    """A keeper whose first value is gone by the time that it is looked at, as one of a thread that trains may be."""

    def __init__(self) -> None:
        self.asked = 0

    def refresh(self, variable: Variable) -> None:
        self.asked += 1
        variable.receive(np.full(2, self.asked, np.float32))
        if self.asked == 1:
            variable.let_go()

    def assigned(self, variable: Variable) -> None: ...

    def lost(self, variable: Variable) -> None: ...


def test_a_value_that_is_let_go_while_somebody_reads_it_is_asked_for_once_more() -> None:
    variable = Variable(np.zeros(2, np.float32))
    variable.keeper = Fleeting()
    assert variable.numpy().tolist() == [2, 2]


def test_no_other_thread_reads_or_predicts_while_a_step_replaces_values(monkeypatch: Any) -> None:
    model = line()
    step(model)
    called, free = Entry.__call__, []

    def watched(self: Any, *arrays: Any, **others: Any) -> Any:
        with ThreadPoolExecutor(1) as other:
            free.append(other.submit(model._run.session.lock.acquire, blocking=False).result())
        return called(self, *arrays, **others)

    monkeypatch.setattr(Entry, "__call__", watched)
    step(model)
    assert free == [False]


def by_hand(model: Any) -> None:
    with keras.GradientTape() as tape:
        loss = keras.ops.mean(keras.ops.square(model(X, training=True) - Y))
    weights = model.trainable_weights
    model.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("trained", [step, by_hand])
@pytest.mark.parametrize("later", [step, by_hand])
def test_a_copy_goes_on_with_what_the_optimizer_kept(
    copied: Callable[[Any], Any], trained: Callable[[Any], None], later: Callable[[Any], None]
) -> None:
    model = line()
    model.compile(keras.optimizers.Nadam(0.1), "mse")
    for _ in range(3):
        trained(model)
    other = copied(model)
    before = other.get_weights()
    for each in (model, model, other, other):
        later(each)
    for found, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert all((found != old).any() for found, old in zip(other.get_weights(), before, strict=True))
